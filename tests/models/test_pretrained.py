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
from shared import assert_pointer_is_named, import_or_skip, refusal
from small_encoders import DISENTANGLED, OPTIONS
from transformers import AutoConfig, BertConfig, BertModel, CamembertConfig, RobertaModel

from rpcl_jax.models.families import FAMILIES
from rpcl_jax.models.pretrained import load_pretrained, read_config, resolve_pretrained

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
        ("ElectraForPreTraining", ["discriminator_predictions"]),
        ("ElectraForMaskedLM", ["generator_lm_head", "generator_predictions"]),
        ("ElectraForSequenceClassification", ["classifier"]),
        ("ElectraForQuestionAnswering", ["qa_outputs"]),
        ("DistilBertForMaskedLM", ["vocab_layer_norm", "vocab_projector", "vocab_transform"]),
        ("DistilBertForSequenceClassification", ["classifier", "pre_classifier"]),
        ("DistilBertForTokenClassification", ["classifier"]),
        ("MPNetForMaskedLM", ["lm_head"]),
        ("MPNetForSequenceClassification", ["classifier"]),
        ("MPNetForQuestionAnswering", ["qa_outputs"]),
        ("DebertaV2ForMaskedLM", ["cls"]),
        ("DebertaV2ForSequenceClassification", ["classifier"]),
        ("DebertaV2ForTokenClassification", ["classifier"]),
        ("ModernBertForMaskedLM", ["decoder", "head"]),
        ("ModernBertForSequenceClassification", ["classifier", "head"]),
        ("ModernBertForQuestionAnswering", ["classifier", "head"]),
    ],
)
def test_models_with_heads(tmp_path, model, heads):
    """The encoder of such a model, against the same encoder saved alone."""
    kind = getattr(transformers, model)
    family = kind.config_class.model_type
    whole = kind(kind.config_class(**SIZES, **OPTIONS.get(family, {})))
    whole.save_pretrained(tmp_path / "whole")
    whole.base_model.save_pretrained(tmp_path / "alone")
    config, params, ignored = load_pretrained(tmp_path / "whole")
    assert ignored == heads
    alone, want, none = load_pretrained(tmp_path / "alone")
    assert (config, none) == (alone, [])
    jax.tree.map(np.testing.assert_array_equal, params, want)
    table = whole.get_input_embeddings().weight.detach()
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
        ("model_type", "deberta", "'deberta'"),
        ("model_type", None, "None"),
        ("model_type", ["bert"], "['bert']"),
        ("num_attention_heads", 3, "num_attention_heads 3"),
        ("num_attention_heads", 0, "num_attention_heads 0"),
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


LAYERS = ["full_attention", "sliding_attention"]


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("electra", {"is_decoder": True}, "is_decoder True"),
        ("distilbert", {"activation": "silu"}, "activation 'silu'"),
        ("mpnet", {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets 64"),
        ("deberta-v2", {"relative_attention": False}, "relative_attention False"),
        ("deberta-v2", {"share_att_key": False}, "share_att_key False"),
        ("deberta-v2", {"norm_rel_ebd": "none"}, "norm_rel_ebd 'none'"),
        ("deberta-v2", {"pos_att_type": ["c2p"]}, "pos_att_type 'c2p'"),
        ("deberta-v2", {"pos_att_type": None}, "pos_att_type None"),
        ("deberta-v2", {"conv_kernel_size": 3}, "conv_kernel_size 3"),
        ("deberta-v2", {"position_buckets": -1}, "position_buckets -1"),
        ("deberta-v2", {"embedding_size": 4}, "embedding_size 4"),
        ("modernbert", {"local_attention": 1}, "local_attention 1"),
        ("modernbert", {"global_attn_every_n_layers": 0}, "global_attn_every_n_layers 0"),
        ("modernbert", {"rope_parameters": [1]}, "rope_parameters [1]"),
        ("modernbert", {"norm_bias": True}, "norm_bias True"),
        ("modernbert", {"attention_bias": True}, "attention_bias True"),
        ("modernbert", {"mlp_bias": True}, "mlp_bias True"),
        ("modernbert", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_scaling {"),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}},
            "rope_type 'yarn'",
        ),
        ("modernbert", {"layer_types": LAYERS[::-1]}, "layer_types ['sliding_attention', 'full"),
        ("modernbert", {"layer_types": [*LAYERS, *LAYERS, LAYERS[1]] * 2}, "layer_types ["),
        ("modernbert", {"layer_types": [*LAYERS, "causal"]}, "layer_types ["),
        ("modernbert", {"layer_types": LAYERS, "num_hidden_layers": 3}, "layer_types ["),
        ("modernbert", {"layer_types": 5}, "layer_types 5"),
        ("modernbert", {"rope_parameters": {"rope_theta": 500.0}}, "rope_parameters {"),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"type": "linear", "factor": 2.0}}},
            "type 'linear'",
        ),
        ("modernbert", {"hidden_size": 12, "num_attention_heads": 4}, "num_attention_heads 4"),
        ("modernbert", {"global_rope_theta": 0}, "global_rope_theta 0"),
        ("deberta-v2", {"position_buckets": 1}, "position_buckets 1"),
        (
            "deberta-v2",
            {"position_buckets": 16, "max_relative_positions": 9},
            "max_relative_positions 9",
        ),
        ("bert", {"vocab_size": 0}, "vocab_size 0"),
        ("bert", {"hidden_size": -24}, "hidden_size -24"),
        ("bert", {"vocab_size": 10**30}, f"vocab_size {10**30}"),
        ("bert", {"type_vocab_size": -1}, "type_vocab_size -1"),
        ("bert", {"layer_norm_eps": -1.0}, "layer_norm_eps -1.0"),
        ("bert", {"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob nan"),
    ],
)
def test_members_of_a_family_that_are_too_different(tmp_path, family, changes, said):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": family, **SIZES, **OPTIONS.get(family, {})}))
    read_config(tmp_path)
    rewrite_config(tmp_path, **changes)
    message = refusal(read_config, tmp_path)
    assert message.startswith(f"{path}: {said}")
    assert "cannot be loaded; take a model with " in message


@pytest.mark.parametrize(
    ("written", "bases", "every"),
    [
        ({}, (160_000, 10_000), 3),
        # Transformers 4.
        (
            {
                "global_rope_theta": 9000.0,
                "local_rope_theta": 700.0,
                "global_attn_every_n_layers": 2,
            },
            (9000, 700),
            2,
        ),
        ({"global_rope_theta": 9000.0, "local_rope_theta": None}, (9000, 9000), 3),
        # Transformers 5.
        (
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": 9000.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
                },
                "layer_types": [LAYERS[k % 4 > 0] for k in range(22)],
            },
            (9000, 700),
            4,
        ),
        ({"layer_types": LAYERS[:1] * 22}, (160_000, 10_000), 1),
        ({"layer_types": [LAYERS[k > 0] for k in range(22)]}, (160_000, 10_000), 22),
    ],
)
def test_modernbert_of_several_versions(tmp_path, written, bases, every):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "modernbert", **written}))
    ours, _ = read_config(tmp_path)
    assert (ours.rotary_base, ours.local_rotary_base, ours.global_every) == (*bases, every)
    assert ours.local_window == 64
    if written.get("local_rope_theta", 0) is not None:  # Transformers 5 cannot read this
        theirs = AutoConfig.from_pretrained(str(tmp_path))
        ropes = [theirs.rope_parameters[kind]["rope_theta"] for kind in LAYERS]
        assert ropes == [ours.rotary_base, ours.local_rotary_base]
        kinds = [LAYERS[k % ours.global_every > 0] for k in range(ours.num_layers)]
        assert theirs.layer_types == kinds


def test_the_terms_of_debertas_attention_have_many_spellings(tmp_path):
    for terms in ("p2c|c2p", "c2p | P2C", ["c2p", "p2c"], ["p2c", "c2p"]):
        written = {"model_type": "deberta-v2", **SIZES, **DISENTANGLED, "pos_att_type": terms}
        (tmp_path / "config.json").write_text(json.dumps(written))
        assert read_config(tmp_path)[0].relative == "disentangled"


def test_a_position_table_that_deberta_does_not_read(tmp_path):
    """As older files of DeBERTa have it; Transformers leaves it out as well."""
    config = transformers.DebertaV2Config(**SIZES, **OPTIONS["deberta-v2"])
    transformers.DebertaV2Model(config).save_pretrained(tmp_path)
    _, wanted, _ = load_pretrained(tmp_path)
    table = {"deberta.embeddings.position_embeddings.weight": np.zeros((16, 8), np.float32)}
    rewrite_weights(tmp_path, lambda tensors: tensors | table)
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path)[1], wanted)
    rewrite_config(tmp_path, position_biased_input=True)
    _, found, _ = load_pretrained(tmp_path)
    assert found["position_embeddings"]["embedding"].shape == (16, 8)


def test_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").touch()
    message = refusal(load_pretrained, folder)
    assert f"{folder}: no weights" in message
    assert "pickle" in message


def test_folder_without_config(tmp_path):
    assert str(tmp_path / "config.json") in refusal(load_pretrained, tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "not JSON" in refusal(load_pretrained, tmp_path)


def test_unreadable_weights(folder):
    path = folder / "model.safetensors"
    path.write_text("<html>")
    assert f"{path}: unreadable" in refusal(load_pretrained, folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_that_git_lfs_has_not_fetched(folder, name):
    assert_pointer_is_named(folder / name, load_pretrained, folder)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_quantised_weights(folder, dtype):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "encoder.layer.0.attention.self.key.weight"
    save_file(tensors | {name: tensors[name].to(dtype)}, path)
    stored = {torch.int8: "I8", torch.float8_e5m2: "F8_E5M2"}.get(dtype, "F8_E4M3")
    message = refusal(load_pretrained, folder)
    assert f"{path}: {name} is of type {stored}, which is not read; write it in float32" in message


def test_the_weights_of_another_family(folder):
    """Named are the first few that are there, and of those that are not, one."""
    other = {f"layers.{k}.attention.wq.weight": np.zeros(2, np.float32) for k in range(9)}
    for named, tensors in (
        ("layers", other),  # which could be a head
        (
            "encoder.layers.0.attention.wq.weight, encoder.layers.1.attention.wq.weight, "
            "encoder.layers.2.attention.wq.weight, encoder.layers.3.attention.wq.weight, "
            "encoder.layers.4.attention.wq.weight and 4 more",
            {f"encoder.{name}": tensor for name, tensor in other.items()},
        ),
        ("none", {}),
    ):
        rewrite_weights(folder, lambda _, tensors=tensors: tensors)
        message = refusal(load_pretrained, folder)
        assert "the weights are not those of config.json's model_type: none has a name" in message
        assert f"; there are {named}; save the encoder itself" in message
        assert len(message) < 600


def test_long_lists_are_cut(folder):
    """Of 2 layers with 16 parameters each, of which config.json has the first only."""
    rewrite_config(folder, num_hidden_layers=1)
    message = refusal(load_pretrained, folder)
    cut = "encoder.layer.1.attention.self.key.bias and 11 more; "
    assert "left over encoder.layer.1.attention.output.LayerNorm.bias, " in message
    assert cut in message


def test_missing_shard(tmp_path):
    model = RobertaModel(transformers.RobertaConfig(**SIZES))
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    shards[1].unlink()
    assert str(shards[1]) in refusal(load_pretrained, tmp_path)
    for path in (shards[1], tmp_path / "model.safetensors.index.json"):
        assert_pointer_is_named(path, load_pretrained, tmp_path)


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


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("written", [{}, {"num_hidden_layers": 3, "layer_norm_eps": 1e-5}])
def test_what_a_config_leaves_out_is_what_transformers_takes(tmp_path, family, written):
    if family == "deberta-v2":
        written = DISENTANGLED | written
    if family == "distilbert" and written:
        written = {"n_layers": 3}
    if family == "modernbert" and written:
        written = {"num_hidden_layers": 3, "norm_eps": 1e-6}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, **written}))
    theirs = AutoConfig.from_pretrained(str(tmp_path))
    ours, _ = read_config(tmp_path)
    assert ours.max_positions + ours.position_offset == theirs.max_position_embeddings
    offset = 2 if family in ("roberta", "xlm-roberta", "camembert", "mpnet") else 0
    assert ours.position_offset == offset
    assert ours.embedding_size == getattr(theirs, "embedding_size", 0)
    assert ours.type_vocab_size == getattr(theirs, "type_vocab_size", 0)
    for name, others in {
        **{name: () for name in ("vocab_size", "hidden_size")},
        "num_layers": ("num_hidden_layers",),
        "num_heads": ("num_attention_heads",),
        "intermediate_size": ("hidden_dim",),
        "layer_norm_eps": ("norm_eps",),
        "hidden_act": ("hidden_activation", "activation"),
        "dropout": ("hidden_dropout_prob", "mlp_dropout"),
        "attention_dropout": ("attention_probs_dropout_prob",),
    }.items():
        if family == "distilbert" and name == "layer_norm_eps":
            continue  # not in its config
        (given,) = {getattr(theirs, other) for other in (name, *others) if hasattr(theirs, other)}
        assert getattr(ours, name) == given, name


@pytest.mark.parametrize(
    ("name", "value"), [("hidden_size", "8"), ("layer_norm_eps", None), ("hidden_act", 3)]
)
def test_a_config_with_something_else_than_a_size(folder, name, value):
    rewrite_config(folder, **{name: value})
    assert f"config.json: {name} is {value!r}; it must be" in refusal(load_pretrained, folder)


@pytest.mark.parametrize(
    "wrapper",
    [
        *("module.", "model.bert.", "0.auto_model.", "module.model."),
        *("_orig_mod.", "module._orig_mod.bert.", "_orig_mod.module.", "bert._orig_mod."),
    ],
)
def test_an_encoder_in_a_wrapper_is_found(folder, wrapper):
    _, wanted, _ = load_pretrained(folder)
    rewrite_weights(folder, lambda t: {wrapper + name: tensor for name, tensor in t.items()})
    _, found, heads = load_pretrained(folder)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert heads == []


def test_layers_that_were_compiled_one_by_one(folder):
    _, wanted, _ = load_pretrained(folder)
    rewrite_weights(
        folder, lambda t: {n.replace("layer.0.", "layer.0._orig_mod."): x for n, x in t.items()}
    )
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(folder)[1], wanted)


def test_weights_with_nan(folder):
    rewrite_weights(folder, lambda t: {name: x * np.float32("nan") for name, x in t.items()})
    assert "contains NaN or infinity" in refusal(load_pretrained, folder)


@pytest.mark.parametrize("shards", [None, [], {"a": 5}])
def test_an_index_that_names_no_files(folder, shards):
    (folder / "model.safetensors").unlink()
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": shards}))
    assert refusal(load_pretrained, folder).startswith(f"{path}: weight_map")


def test_modernberts_other_name_of_its_window(tmp_path):
    sizes = {"model_type": "modernbert", "sliding_window": 3, "local_attention": 64}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    theirs = AutoConfig.from_pretrained(str(tmp_path))
    assert read_config(tmp_path)[0].local_window == theirs.sliding_window == 3


@pytest.mark.parametrize("own", [{}, {"dim": 24, "n_heads": 4, "n_layers": 1}])
def test_distilberts_other_names(tmp_path, own):
    """Transformers prefers BERT's names, and a wrong number of heads would show in no shape."""
    other = {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 2} | own
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "distilbert", **other}))
    ours, theirs = read_config(tmp_path)[0], AutoConfig.from_pretrained(str(tmp_path))
    assert (ours.hidden_size, ours.num_heads, ours.num_layers) == (12, 3, 2)
    assert (theirs.dim, theirs.n_heads, theirs.n_layers) == (12, 3, 2)
