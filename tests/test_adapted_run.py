"""A run whose encoder has low-rank adapters, from training to prediction."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors import safe_open
from shared import refusal, saved_parameters, tiny_config

from rpcl_jax.evaluate import evaluate_run
from rpcl_jax.models.adapters import combine, separate_adapters
from rpcl_jax.models.ecpe import PairExtractor
from rpcl_jax.models.pretrained import load_pretrained
from rpcl_jax.models.text_encoder import TextEncoder, TextEncoderConfig
from rpcl_jax.predict import Predictor
from rpcl_jax.readers.corpus import load_corpus
from rpcl_jax.readers.semeval import conversation_object
from rpcl_jax.run.config import check_config
from rpcl_jax.run.export import export_run
from rpcl_jax.run.model_folder import load_model
from rpcl_jax.train import train_and_evaluate
from rpcl_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.slow


def adapted_config(encoder):
    config = tiny_config()
    config.modalities, config.epochs = "t", 2
    config.text.pretrained, config.text.lora_rank = str(encoder), 2
    return config


@pytest.fixture(scope="module")
def adapted(small_bert, tmp_path_factory):
    """The folder of a finished run, its result, and conversations."""
    run = tmp_path_factory.mktemp("adapted") / "run"
    config = adapted_config(small_bert)
    result = train_and_evaluate(config, run)
    conversations = [conversation_object(d) for d in load_corpus(config).splits["test"]]
    return run, result, conversations


def names_of(folder):
    with safe_open(folder / "model.safetensors", framework="numpy") as opened:
        return set(opened.keys())


def test_checkpoints_have_the_adapters_and_not_the_encoder(adapted):
    run, result, _ = adapted
    saved = saved_parameters(run)
    of_encoder = [name for name in saved if "text_encoder" in name]
    assert any(name.startswith("params/") for name in of_encoder)
    assert any(name.startswith("optimizer_state/") for name in of_encoder)
    assert all(name.endswith(("lora_a", "lora_b")) for name in of_encoder)
    b = [value for name, value in saved.items() if name.endswith("lora_b")]
    assert all(np.abs(value).max() > 0 for value in b)  # each began at 0
    assert {name for name in names_of(run) if name.startswith("text_encoder.")} == {
        name.removeprefix("params/").replace("/", ".")
        for name in of_encoder
        if name.startswith("params/")
    }
    assert evaluate_run(run)["test"] == result["test"]


def test_a_killed_run_continues_to_the_same_bits(adapted, small_bert, tmp_path):
    """After the first of its two epochs, as in tests/test_train.py for a trained encoder."""
    run, result, _ = adapted
    begun = tmp_path / "run"
    config = adapted_config(small_bert)

    def stop(*_):
        raise KeyboardInterrupt

    save = Checkpoints.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", lambda *args: (save(*args), stop()))
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config, begun)
    again = train_and_evaluate(config, begun)
    assert again["test"] == result["test"]
    one, other = saved_parameters(begun), saved_parameters(run)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_step_computes_no_gradient_of_the_encoder():
    """Adapters make the forward pass longer, and the whole step shorter."""
    ids = np.zeros((64, 32), np.int32)

    def operations(rank):
        module = TextEncoder(TextEncoderConfig(50, 128, 4, 2, 512, 32, lora_rank=rank))
        params = jax.eval_shape(module.init, jax.random.key(0), ids, ids, ids)["params"]

        def loss(trained, frozen):
            return (module.apply({"params": combine(trained, frozen)}, ids, ids, ids) ** 2).sum()

        trained = separate_adapters(params) if rank else (params, {})
        return jax.jit(jax.grad(loss)).lower(*trained).compile().cost_analysis()["flops"]

    assert operations(2) < 0.75 * operations(0)


def test_exported_merged(adapted, tmp_path):
    run, _, conversations = adapted
    wanted = Predictor(run)(conversations)
    assert any(conversation["pair_confidences"] for conversation in wanted)
    export_run(run, tmp_path / "model", "card")
    assert not any("lora" in name for name in names_of(tmp_path / "model"))
    found = Predictor(tmp_path / "model")(conversations)
    assert_alike(found, wanted)
    # It needs neither the run nor the encoder.
    loaded = load_model(tmp_path / "model")
    assert isinstance(loaded.model, PairExtractor)
    assert loaded.encoder.config.lora_rank == 0


def assert_alike(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert one["emotion-cause_pairs"] == other["emotion-cause_pairs"]
        # They have three digits.
        np.testing.assert_allclose(one["pair_confidences"], other["pair_confidences"], atol=1.1e-3)


def test_exported_without_the_encoder(adapted, small_bert, tmp_path):
    run, _, conversations = adapted
    model = tmp_path / "model"
    export_run(run, model, "card", with_encoder=False)
    names = names_of(model)
    of_encoder = {name for name in names if name.startswith("text_encoder.")}
    assert of_encoder
    assert all(".lora_" in name for name in of_encoder)
    # The name is what is public of the folder's, which is not found from here.
    message = refusal(Predictor, model)
    assert "give the folder or hub name of its text encoder as --encoder" in message

    described = json.loads((model / "config.json").read_text())
    assert described["encoder_elsewhere"]["name"] == small_bert.name
    found = Predictor(model, encoder=small_bert)(conversations)
    wanted = Predictor(run)(conversations)
    for one, other in zip(found, wanted, strict=True):
        assert one["pair_confidences"] == other["pair_confidences"]

    other = tmp_path / "other"
    shutil.copytree(small_bert, other)
    _change_a_weight(other)
    assert f"{other}: not the text encoder" in refusal(Predictor, model, encoder=other)


def _change_a_weight(folder):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"][0] += 1e-3
    save_file(tensors, folder / "model.safetensors")


def test_a_run_refuses_another_encoder(adapted, small_bert, tmp_path):
    run, _, _ = adapted
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    other = tmp_path / "other"
    shutil.copytree(small_bert, other)
    _change_a_weight(other)
    described = json.loads((copy / "config.json").read_text())
    described["encoder_elsewhere"]["name"] = str(other)
    (copy / "config.json").write_text(json.dumps(described))
    assert "not the text encoder" in refusal(Predictor, copy)


def test_a_trained_encoder_cannot_be_left_out(reads_text, tmp_path):
    message = refusal(export_run, reads_text, tmp_path / "model", "card", with_encoder=False)
    assert "its text encoder was trained" in message
    assert "has a text encoder of its own" in refusal(Predictor, reads_text, encoder=tmp_path)


def test_a_frozen_encoder_can_be_left_out(small_bert, tmp_path):
    config = adapted_config(small_bert)
    config.text.lora_rank, config.text.finetune, config.epochs = 0, False, 1
    config.text.cache = str(tmp_path / "cache")
    train_and_evaluate(config, tmp_path / "run")
    model = tmp_path / "model"
    export_run(tmp_path / "run", model, "card", with_encoder=False)
    assert not any(name.startswith("text_encoder") for name in names_of(model))
    conversations = [conversation_object(d) for d in load_corpus(config).splits["test"]]
    wanted = Predictor(tmp_path / "run")(conversations)
    found = Predictor(model, encoder=small_bert)(conversations)
    for one, other in zip(found, wanted, strict=True):
        assert one["pair_confidences"] == other["pair_confidences"]


@pytest.mark.parametrize(("field", "value"), [("pretrained", ""), ("finetune", False)])
def test_adapters_need_a_pretrained_encoder_that_is_not_frozen(field, value):
    config = adapted_config("somewhere")
    check_config(config)
    config.text[field] = value
    assert refusal(check_config, config).startswith("config.text.lora_rank: 2 adapts")


def test_the_pretrained_encoder_stays_as_it_is(adapted, small_bert):
    run, _, _ = adapted
    _, pretrained, _ = load_pretrained(small_bert)
    trained = Predictor(run)._run.params["text_encoder"]
    _, kept = separate_adapters(trained)
    jax.tree.map(np.testing.assert_array_equal, kept, pretrained)
