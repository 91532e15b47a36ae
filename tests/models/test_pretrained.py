"""Folders, configs and weights: what is read, what is refused, and what the refusal says."""

import json
from pathlib import Path

import huggingface_hub
import jax
import numpy as np
import pytest
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.numpy import load_file, save_file
from shared import import_or_skip, refusal
from transformers import AutoConfig, BertConfig, BertModel, CamembertConfig, RobertaModel

from rpcl_jax.models.pretrained import (
    load_pretrained,
    read_config,
    resolve_pretrained,
)

torch = import_or_skip("torch")

SIZES = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A small BERT as save_pretrained writes it."""
    torch.manual_seed(0)
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    return tmp_path


def rewrite_weights(folder: Path, change) -> dict[str, np.ndarray]:
    """Saves the weights as `change` returns them; returns those from before."""
    before = load_file(folder / "model.safetensors")
    save_file(change(dict(before)), folder / "model.safetensors")
    return before


def rewrite_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_config_and_parameters(folder):
    config, params, heads = load_pretrained(folder)
    assert heads == []
    assert (config.vocab_size, config.hidden_size, config.num_layers) == (30, 8, 2)
    assert (config.num_heads, config.intermediate_size) == (2, 12)
    assert (config.max_positions, config.position_offset, config.type_vocab_size) == (16, 0, 2)
    assert (config.hidden_act, config.layer_norm_eps) == ("gelu", 1e-12)
    assert (config.dropout, config.attention_dropout) == (0.1, 0.1)
    tensors = load_file(folder / "model.safetensors")
    query = tensors["encoder.layer.1.attention.self.query.weight"]
    np.testing.assert_array_equal(params["layer_1"]["query_key_value"]["kernel"][:, :8], query.T)


def test_camembert_has_robertas_offset(tmp_path):
    transformers.CamembertModel(CamembertConfig(**SIZES)).save_pretrained(tmp_path)
    config, params, _ = load_pretrained(tmp_path)
    assert (config.max_positions, config.position_offset) == (14, 2)
    assert params["position_embeddings"]["embedding"].shape == (16, 8)


def test_prefix_old_names_heads_and_buffers(folder):
    _, want, _ = load_pretrained(folder)

    def as_old_checkpoints_have_it(tensors):
        old = {}
        for name, tensor in tensors.items():
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            name = name.replace("LayerNorm.bias", "LayerNorm.beta")
            old[f"bert.{name}"] = tensor
        old["bert.embeddings.position_ids"] = np.arange(16)[None]
        old["cls.predictions.bias"] = np.zeros(30, np.float32)
        return old

    rewrite_weights(folder, as_old_checkpoints_have_it)
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(folder)[1], want)


@pytest.mark.parametrize(
    ("model", "heads"),
    [
        ("BertForMaskedLM", ["cls"]),
        ("BertForPreTraining", ["cls"]),
        ("BertForSequenceClassification", ["classifier"]),
        ("BertForTokenClassification", ["classifier"]),
        ("BertForQuestionAnswering", ["qa_outputs"]),
        ("BertForMultipleChoice", ["classifier"]),
        ("RobertaForMaskedLM", ["lm_head"]),
        ("RobertaForSequenceClassification", ["classifier"]),
        ("RobertaForQuestionAnswering", ["qa_outputs"]),
        ("XLMRobertaForTokenClassification", ["classifier"]),
        ("CamembertForSequenceClassification", ["classifier"]),
    ],
)
def test_models_with_heads(tmp_path, model, heads):
    """The encoder of such a model, against the same encoder saved alone."""
    kind = getattr(transformers, model)
    whole = kind(kind.config_class(**SIZES))
    whole.save_pretrained(tmp_path / "whole")
    whole.base_model.save_pretrained(tmp_path / "alone")
    config, params, ignored = load_pretrained(tmp_path / "whole")
    assert ignored == heads
    alone, want, none = load_pretrained(tmp_path / "alone")
    assert (config, none) == (alone, [])
    jax.tree.map(np.testing.assert_array_equal, params, want)
    table = whole.base_model.embeddings.word_embeddings.weight.detach()
    np.testing.assert_array_equal(params["word_embeddings"]["embedding"], table)


def test_heads_beside_an_encoder_without_prefix(folder):
    """As issue trackers have it, from someone's own training loop."""
    heads = {
        "classifier.dense.weight": np.zeros((8, 8), np.float32),
        "qa_outputs.weight": np.zeros((2, 8), np.float32),
        "logit_scale": np.zeros((), np.float32),
    }
    rewrite_weights(folder, lambda tensors: tensors | heads)
    assert load_pretrained(folder)[2] == ["classifier", "logit_scale", "qa_outputs"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        # Of one layer more than config.json says.
        ("encoder.layer.2.output.dense.bias", "encoder.layer.2.output.dense.bias"),
        ("bert.encoder.layer.0.adapter.bias", "encoder.layer.0.adapter.bias"),
        ("bert.classifier.bias", "classifier.bias"),  # inside the encoder
        ("bert.embeddings.LayerNorm.bias", "embeddings.LayerNorm.bias (twice)"),
    ],
)
def test_what_cannot_be_a_head_is_left_over(folder, name, said):
    rewrite_weights(folder, lambda tensors: tensors | {name: np.zeros(8, np.float32)})
    assert f"left over {said};" in refusal(load_pretrained, folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(folder, tmp_path_factory, dtype):
    model = BertModel.from_pretrained(folder).to(dtype)
    half = tmp_path_factory.mktemp("half")
    model.save_pretrained(half)
    _, params, _ = load_pretrained(half)
    table = params["word_embeddings"]["embedding"]
    assert table.dtype == np.float32
    want = model.embeddings.word_embeddings.weight.detach().float().numpy()
    np.testing.assert_array_equal(table, want)


def test_missing_and_left_over_are_named(folder):
    gone = "encoder.layer.1.attention.self.key.bias"
    other = "encoder.layer.0.output.dense.weight"

    def change(tensors):
        del tensors[gone], tensors[other]
        tensors["encoder.layer.2.output.dense.bias"] = np.zeros(8, np.float32)
        return tensors

    rewrite_weights(folder, change)
    message = refusal(load_pretrained, folder)
    assert str(folder) in message
    assert f"missing {other}, {gone}" in message
    assert "left over encoder.layer.2.output.dense.bias" in message


def test_wrong_shape_is_named(folder):
    rewrite_config(folder, vocab_size=31)
    message = refusal(load_pretrained, folder)
    assert "embeddings.word_embeddings.weight [30, 8] instead of [31, 8]" in message


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("model_type", "deberta-v2", "'deberta-v2'"),
        ("model_type", None, "None"),
        ("position_embedding_type", "relative_key", "'relative_key'"),
        ("hidden_act", "silu", "'silu'"),
        ("is_decoder", True, "is_decoder"),
    ],
)
def test_models_of_another_kind(folder, field, value, said):
    rewrite_config(folder, **{field: value})
    message = refusal(load_pretrained, folder)
    assert str(folder / "config.json") in message
    assert said in message


def test_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    message = refusal(load_pretrained, folder)
    assert f"{folder}: no weights" in message
    (folder / "pytorch_model.bin").touch()
    assert "pickle" in refusal(load_pretrained, folder)


def test_folder_without_config(tmp_path):
    assert str(tmp_path / "config.json") in refusal(load_pretrained, tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "not JSON" in refusal(load_pretrained, tmp_path)


def test_unreadable_weights(folder):
    path = folder / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert f"{path}: unreadable" in refusal(load_pretrained, folder)


def test_missing_shard(tmp_path):
    model = RobertaModel(transformers.RobertaConfig(**SIZES))
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    shards[1].unlink()
    assert str(shards[1]) in refusal(load_pretrained, tmp_path)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "models/some/where", "~/no-such"])
def test_path_not_there(name):
    assert f"{name}: no such folder" in refusal(resolve_pretrained, name)


def test_file_is_no_folder(folder):
    assert "no such folder" in refusal(resolve_pretrained, folder / "config.json")


def test_hub_name(folder, monkeypatch):
    asked = {}

    def snapshot_download(name, *, revision, allow_patterns):
        asked[name] = allow_patterns
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve_pretrained("someone/small-bert") == folder
    assert "config.json" in asked["someone/small-bert"]
    assert not any(pattern.endswith((".bin", "*")) for pattern in asked["someone/small-bert"])


def test_hub_out_of_reach(monkeypatch):
    def snapshot_download(name, *, revision, allow_patterns):
        raise LocalEntryNotFoundError("Got: ConnectError\nAn error happened")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    message = refusal(resolve_pretrained, "someone/small-bert")
    assert message.startswith("someone/small-bert: ")
    assert "ConnectError" in message
    assert "hf download someone/small-bert" in message


def test_not_a_hub_name():
    assert "no such folder" in refusal(resolve_pretrained, "no spaces, please")


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "camembert"])
@pytest.mark.parametrize("written", [{}, {"num_hidden_layers": 3, "layer_norm_eps": 1e-5}])
def test_what_a_config_leaves_out_is_what_transformers_takes(tmp_path, family, written):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, **written}))
    theirs = AutoConfig.from_pretrained(str(tmp_path))
    ours = read_config(tmp_path)
    assert ours.num_layers == theirs.num_hidden_layers
    assert ours.num_heads == theirs.num_attention_heads
    assert ours.max_positions + ours.position_offset == theirs.max_position_embeddings
    assert ours.position_offset == (0 if family == "bert" else theirs.pad_token_id + 1)
    assert (ours.dropout, ours.attention_dropout) == (
        theirs.hidden_dropout_prob,
        theirs.attention_probs_dropout_prob,
    )
    names = ("hidden_size", "intermediate_size", "type_vocab_size", "layer_norm_eps", "hidden_act")
    assert [getattr(ours, name) for name in names] == [getattr(theirs, name) for name in names]


@pytest.mark.parametrize(
    ("name", "value"), [("hidden_size", "8"), ("layer_norm_eps", None), ("hidden_act", 3)]
)
def test_a_config_with_something_else_than_a_size(folder, name, value):
    rewrite_config(folder, **{name: value})
    assert f"config.json: {name} is {value!r}; it must be" in refusal(load_pretrained, folder)


@pytest.mark.parametrize("wrapper", ["module.", "model.bert.", "0.auto_model.", "module.model."])
def test_an_encoder_in_a_wrapper_is_found(folder, wrapper):
    _, wanted, _ = load_pretrained(folder)
    rewrite_weights(folder, lambda t: {wrapper + name: tensor for name, tensor in t.items()})
    _, found, heads = load_pretrained(folder)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert heads == []
