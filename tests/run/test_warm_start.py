"""Going on from a model: what its parameters become, and from what a run cannot go on."""

import dataclasses
import json
import shutil
from functools import partialmethod

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from shared import refusal, run_main, saved_parameters, tiny_config, tiny_flags
from small_model import SPLITS, TABLES

from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.batching.tokenizer import read_word_pieces
from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.data.synthetic import generate_corpus
from rpcl_jax.models.pretrained import load_tokenizer
from rpcl_jax.readers.conversations import write_conversations
from rpcl_jax.run.config import build_model
from rpcl_jax.run.export import export_run
from rpcl_jax.run.model_folder import by_name
from rpcl_jax.run.warm_start import load_start, start_parameters
from rpcl_jax.train import train_and_evaluate
from rpcl_jax.training.checkpoint import Checkpoints
from rpcl_jax.training.mesh import make_mesh

pytestmark = pytest.mark.slow
MODALITIES = ("audio", "vision")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The tiny corpus in `all`; in `own` with its first six training conversations alone."""
    folder = tmp_path_factory.mktemp("data")
    splits, tables = generate_corpus(0, sizes=tiny_config().data.sizes)
    for name, train in (("all", splits["train"]), ("own", splits["train"][:6])):
        (folder / name).mkdir()
        for split, dialogues in (splits | {"train": train}).items():
            write_conversations(folder / name / f"{split}.jsonl", dialogues)
    for name, table in tables.items():
        table.save(folder / name)
    return folder


def of_data(data, name, start="", rate=2e-3):
    """The config of a run with all features and an encoder from scratch."""
    config = tiny_config()
    config.update({"epochs": 2, "init": str(start), "devices": 1})
    config.data.update({"format": "conversations", "root": str(data / name)})
    config.data.update({modality: str(data / modality) for modality in MODALITIES})
    config.data.emotions = ",".join(EMOTIONS)
    config.optimizer.update({"learning_rate": rate, "encoder_learning_rate": rate})
    if start:
        config.update({"seed": 7, "epochs": 1})
    return config


@pytest.fixture(scope="module")
def start(data, tmp_path_factory):
    """The folder of a finished run of `of_data`."""
    folder = tmp_path_factory.mktemp("start") / "run"
    train_and_evaluate(of_data(data, "all"), folder)
    return folder


def with_encoder(config, encoder, kind, cache):
    config.modalities = "t"
    config.text.update({"pretrained": str(encoder), "cache": str(cache)})
    config.text.update({"finetune": kind != "frozen", "lora_rank": 2 if kind == "adapted" else 0})
    return config


@pytest.fixture(scope="module")
def started(small_bert, data, tmp_path_factory):
    """Folders of finished runs with a pretrained encoder, by what becomes of that."""
    root = tmp_path_factory.mktemp("pretrained")
    for kind in ("frozen", "adapted", "whole"):
        config = with_encoder(of_data(data, "all"), small_bert, kind, root / "cache")
        train_and_evaluate(config, root / kind)
    return root


def assert_same_predictions(run, start):
    for split in ("dev", "test"):
        one, other = (np.load(folder / f"predictions/{split}.npz") for folder in (run, start))
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def parameters(folder):
    return load_file(folder / "model.safetensors")


def test_at_a_rate_of_0_the_predictions_are_those_of_the_start(data, start, tmp_path, caplog):
    """With fewer words and other features to normalise in training than the start had."""
    train_and_evaluate(of_data(data, "own", start, rate=0.0), tmp_path / "run")
    assert "no epoch is as good" not in caplog.text
    assert_same_predictions(tmp_path / "run", start)
    words = [read_word_pieces(folder).backend.to_str() for folder in (tmp_path / "run", start)]
    assert words[0] == words[1]
    train_and_evaluate(of_data(data, "own", rate=0.0), tmp_path / "anew")
    anew = read_word_pieces(tmp_path / "anew").backend.get_vocab_size()
    assert anew < read_word_pieces(start).backend.get_vocab_size()
    scale = "fusion.audio.scale"
    assert (parameters(tmp_path / "anew")[scale] != parameters(start)[scale]).any()


@pytest.mark.parametrize(
    ("kind", "exported"), [("frozen", False), ("adapted", True), ("whole", False)]
)
def test_the_same_with_a_pretrained_encoder(
    kind, exported, started, small_bert, data, tmp_path, monkeypatch
):
    begin = started / kind
    if exported:
        begin = tmp_path / "model"
        export_run(started / kind, begin, "card", with_encoder=False)
        monkeypatch.chdir(small_bert.parent)  # where the name of the encoder leads to it
    config = of_data(data, "all", begin, rate=0.0)  # or the frozen vectors' last bits differ
    config = with_encoder(config, small_bert, kind, started / "cache")
    train_and_evaluate(config, tmp_path / "run")
    assert_same_predictions(tmp_path / "run", started / kind)


def parameters_of(config, emotions=EMOTIONS):
    """The parameters with which a run of `config` begins; drawn ones are 7."""
    start = load_start(config, make_mesh(1))
    own = by_name(jax.device_get(start.params_with_encoder))
    encoder = dataclasses.replace(start.encoder.config, lora_rank=config.text.lora_rank)
    tables = TABLES if config.modalities == "tav" else {}
    tokenizer, train = start.encoder.tokenizer, SPLITS["train"]
    _, batch = Batches(train, tokenizer, tables, config, 1, EMOTIONS).make(np.arange(1))
    model = build_model(config, encoder, emotions)
    tree = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    drawn = jax.tree.map(lambda leaf: np.full(leaf.shape, 7.0, np.float32), tree)
    found = start_parameters(start, drawn, emotions)
    jax.tree.map(lambda one, other: np.testing.assert_equal(one.shape, other.shape), found, drawn)
    return own, by_name(found)


@pytest.mark.parametrize(
    ("before", "after"), [("frozen", "whole"), ("frozen", "adapted"), ("adapted", "whole")]
)
def test_the_encoder_is_unfrozen_adapted_or_merged(before, after, started, small_bert, data):
    config = of_data(data, "own", started / before)
    config = with_encoder(config, small_bert, after, started / "cache")
    own, found = parameters_of(config)
    changed = 0
    for name, value in found.items():
        wanted = own.get(name, 7.0)  # only adapters are new
        adapter = name.removesuffix("kernel") + "lora_a"
        if name.endswith("kernel") and adapter in own:
            low = zip(own[adapter].swapaxes(0, 1), own[f"{adapter[:-1]}b"], strict=True)
            wanted = wanted + np.concatenate([a @ b for a, b in low], axis=-1)
            changed += not np.array_equal(value, own[name])
        assert (name in own) == ("lora" not in name or before == "adapted")
        np.testing.assert_allclose(
            value, np.broadcast_to(wanted, value.shape), rtol=1e-5, atol=1e-7
        )
    assert any("lora" in name for name in found) == (after == "adapted")
    assert bool(changed) == (before == "adapted")


def test_the_head_of_emotions_is_kept_by_name(data, start, capsys):
    names = ("neutral", "joy", "awe", "anger")
    own, found = parameters_of(of_data(data, "own", start), names)
    assert capsys.readouterr().err.splitlines() == [
        f"going on from {start}; emotions kept: neutral, anger, joy; new: awe; left out: disgust, "
        "fear, sadness, surprise"
    ]
    assert np.ptp(own["emotion_head.bias"]) > 0
    for name, value in found.items():
        if not name.startswith("emotion_head."):
            np.testing.assert_array_equal(value, own[name], err_msg=name)
            continue
        for k, emotion in enumerate(names):
            new = emotion == "awe"
            wanted = 7.0 if new else own[name][..., EMOTIONS.index(emotion)]
            np.testing.assert_array_equal(value[..., k], wanted, err_msg=emotion)


def test_a_killed_run_continues_to_the_same_bits(data, start, tmp_path, monkeypatch):
    """Once it has a checkpoint it no longer needs the model from which it goes on."""
    begin = shutil.copytree(start, tmp_path / "start")
    config = of_data(data, "own", begin)
    config.epochs = 2
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_and_evaluate(config, whole)
    save = Checkpoints.save

    def kill(*arguments, saved):
        if saved:
            save(*arguments)
        raise KeyboardInterrupt

    for saved in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "save", partialmethod(kill, saved=saved))
            with pytest.raises(KeyboardInterrupt):
                train_and_evaluate(config, killed)
    shutil.rmtree(begin)
    train_and_evaluate(config, killed)
    one, other = saved_parameters(whole), saved_parameters(killed)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert_same_predictions(whole, killed)


def test_a_start_that_no_epoch_comes_up_to_is_named(data, start, tmp_path, monkeypatch, caplog):
    """Also by a command that continues the run, and no longer has that model."""
    config = of_data(data, "own", start, rate=1.0)
    config.epochs = 2
    save = Checkpoints.save

    def kill(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", kill)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config, tmp_path / "run")
    before = json.loads((start / "result.json").read_text())["dev"]["pair_f1"]
    assert "no epoch is as good" not in caplog.text
    assert train_and_evaluate(config, tmp_path / "run")["dev"]["pair_f1"] < before
    assert f"was before training: its Pair F1 was {100 * before:.2f};" in caplog.text


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("modalities", "ta", "modalities=tav"),
        ("model.width", 64, "model.width=32"),
        ("model.heads", 2, "model.heads=4"),  # of the same shapes
        ("model.backbone", "graph", "model.backbone=transformer"),
        ("text.encoder.hidden_size", 64, "text.encoder.hidden_size=32"),
        ("text.max_tokens", 32, "text.max_tokens=64"),
        ("text.pretrained", "somewhere", "text.pretrained="),
    ],
)
def test_another_kind_of_model_is_refused(field, value, flag, data, start, tmp_path):
    config = of_data(data, "own", start)
    config.update_from_flattened_dict({field: value})
    message = refusal(train_and_evaluate, config, tmp_path / "run")
    assert message.startswith(f"config.init: the parameters of {start} are of another kind of")
    assert message.endswith(f"; add --config.{flag}")
    assert not (tmp_path / "run").exists()


def test_features_of_another_extractor_are_refused(data, start, tmp_path):
    table = shutil.copytree(data / "audio", tmp_path / "audio")
    description = json.loads((table / "table.json").read_text())
    (table / "table.json").write_text(json.dumps(description | {"extractor": "other"}))
    config = of_data(data, "own", start)
    config.data.audio = str(table)
    assert f"{table}: its extractor is 'other'" in refusal(
        train_and_evaluate, config, tmp_path / "x"
    )


def test_only_a_finished_model_is_gone_on_from(data, start, small_bert, tmp_path):
    begun = shutil.copytree(start, tmp_path / "begun")
    (begun / "result.json").unlink()
    for folder, problem in (
        (begun, f"{begun}: the run is not finished"),
        (tmp_path / "nosuch", f"{tmp_path / 'nosuch'}: no such folder"),
        (small_bert, f"{small_bert / 'config.json'}: not of a model of this version"),
    ):
        config = of_data(data, "own", folder)
        assert refusal(train_and_evaluate, config, tmp_path / "run").startswith(problem)


@pytest.mark.parametrize(
    ("before", "after", "way_out"),
    [
        ("adapted", "frozen", "has adapters of rank 2; add --config.text.lora_rank=2"),
        ("whole", "frozen", "a trained text encoder, which cannot be frozen"),
        ("whole", "adapted", "a trained text encoder, which cannot be frozen"),
    ],
)
def test_a_trained_encoder_is_neither_frozen_nor_adapted(
    before, after, way_out, started, small_bert, data, tmp_path
):
    config = with_encoder(of_data(data, "own", started / before), small_bert, after, tmp_path)
    message = refusal(train_and_evaluate, config, tmp_path / "run")
    assert message.startswith(f"config.init: {started / before} has ")
    assert way_out in message


def test_adapters_of_another_rank_are_refused(started, small_bert, data, tmp_path):
    config = of_data(data, "own", started / "adapted")
    config = with_encoder(config, small_bert, "adapted", tmp_path)
    config.text.lora_rank = 3
    assert "has adapters of rank 2" in refusal(train_and_evaluate, config, tmp_path / "run")


@pytest.mark.parametrize(
    ("kind", "change"), [("frozen", "weight"), ("adapted", "weight"), ("whole", "tokenizer")]
)
def test_another_text_encoder_is_refused(kind, change, started, small_bert, data, tmp_path):
    other = shutil.copytree(small_bert, tmp_path / "other")
    if change == "weight":
        tensors = load_file(other / "model.safetensors")
        tensors["embeddings.LayerNorm.bias"][3] += 1e-6
        save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    else:
        tokenizer = load_tokenizer(other, 10**6)
        swapped = {"cls_token": "[SEP]", "sep_token": "[CLS]"}
        tokenizer._replace(special={**tokenizer.special, **swapped}).save(other)
    config = with_encoder(of_data(data, "own", started / kind), other, kind, tmp_path / "cache")
    message = refusal(train_and_evaluate, config, tmp_path / "run")
    assert str(other) in message
    assert "not the text encoder" in message
    assert message.endswith(str(small_bert))


def test_the_command_goes_on_with_other_data(finished, tmp_path):
    flags = [*tiny_flags(), "--config.data.seed=3", "--config.epochs=1"]
    run = tmp_path / "run"
    done = run_main(*flags, f"--config.init={finished}", f"--workdir={run}")
    assert f"going on from {finished}; emotions kept: {', '.join(EMOTIONS)}\n" in done.stderr
    anew = run_main(*flags, f"--workdir={tmp_path / 'anew'}")
    assert "going on" not in anew.stderr
    losses = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["mean_loss"]
              for folder in (run, tmp_path / "anew")]  # fmt: skip
    assert losses[0] < 0.8 * losses[1]
    assert json.loads((run / "config.json").read_text())["run"]["init"] == str(finished)
    refused = run_main(*flags, f"--workdir={run}", status=1)
    assert f"init: {str(finished)!r} there, '' asked for" in refused.stderr
    export_run(run, tmp_path / "model", "card")
    described = (tmp_path / "model/config.json").read_text()
    assert json.loads(described)["run"]["init"] == finished.name
    assert str(finished.parent) not in described
