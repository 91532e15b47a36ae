"""The families of pretrained text encoders: what their files call what `TextEncoder` has.

CONTRIBUTING.md, "A family of text encoders", says how to add one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rpcl_jax.errors import InputError
from rpcl_jax.models.text_encoder import ACTIVATIONS, TextEncoderConfig

_BERT_SIZES: dict[str, tuple[str, int | float | str]] = {
    "vocab_size": ("vocab_size", 30522),
    "hidden_size": ("hidden_size", 768),
    "num_layers": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "intermediate_size": ("intermediate_size", 3072),
    "max_positions": ("max_position_embeddings", 512),
    "type_vocab_size": ("type_vocab_size", 2),
    "layer_norm_eps": ("layer_norm_eps", 1e-12),
    "hidden_act": ("hidden_act", "gelu"),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
}
_BERT_LAYER = {
    "query_key_value": tuple(f"attention.self.{name}" for name in ("query", "key", "value")),
    "attention_output": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "intermediate": ("intermediate.dense",),
    "output": ("output.dense",),
    "output_norm": ("output.LayerNorm",),
}
_EMBEDDINGS = {
    "word_embeddings": ("embeddings.word_embeddings",),
    "position_embeddings": ("embeddings.position_embeddings",),
    "token_type_embeddings": ("embeddings.token_type_embeddings",),
    "embeddings_norm": ("embeddings.LayerNorm",),
}


@dataclass(frozen=True)
class Family:
    """What the files of a family of encoders call what ours has.

    Attributes:
      prefix: of the encoder's parameters in a model with heads.
      sizes: by field of `TextEncoderConfig`, the name in config.json and what Transformers takes
        where it is left out, which also says the type. In place of `position_offset`, "padding" is
        the number of the piece after which positions start.
      options: fields of `TextEncoderConfig` that are the same in the whole family.
      required: by name in config.json, what Transformers takes where it is left out, and the only
        value that can be loaded.
      modules: by name of a module of `TextEncoder`, those in the weights; several are side by side.
      layer: the same for the modules of a layer.
      layers: what precedes the number of a layer.
      unused: other parameters of the encoder, by how their names begin.
    """

    prefix: str
    sizes: Mapping[str, tuple[str, Any]] = field(default_factory=lambda: _BERT_SIZES)
    options: Mapping[str, Any] = field(default_factory=dict)
    required: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _EMBEDDINGS)
    layer: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _BERT_LAYER)
    layers: str = "encoder.layer."
    unused: tuple[str, ...] = ("pooler.", "embeddings.position_ids", "embeddings.token_type_ids")

    def names(self, path: tuple[str, ...]) -> list[str]:
        """Returns the names in the weights of a parameter of `TextEncoder`, side by side.

        Its path is, for example, ("layer_0", "output", "kernel").
        """
        *at, module, leaf = path
        suffix = "bias" if leaf == "bias" else "weight"
        if at:
            number = at[0].removeprefix("layer_")
            return [f"{self.layers}{number}.{name}.{suffix}" for name in self.layer[module]]
        return [f"{name}.{suffix}" for name in self.modules[module]]

    def has(self, name: str) -> bool:
        """Returns whether a parameter without prefix is of the encoder and not of a head."""
        own = [self.layers, *(name for names in self.modules.values() for name in names)]
        return name.startswith((*self.unused, *{f"{part.partition('.')[0]}." for part in own}))


_ABSOLUTE = {"position_embedding_type": ("absolute", "absolute"), "is_decoder": (False, False)}
_BERT = Family("bert.", required=_ABSOLUTE)
_ROBERTA_SIZES = _BERT_SIZES | {"padding": ("pad_token_id", 1)}
_ROBERTA = Family("roberta.", sizes=_ROBERTA_SIZES, required=_ABSOLUTE)
FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": replace(_ROBERTA, sizes=_ROBERTA_SIZES | {"vocab_size": ("vocab_size", 50265)}),
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": Family(
        "electra.",
        sizes=_BERT_SIZES
        | {
            "embedding_size": ("embedding_size", 128),
            "hidden_size": ("hidden_size", 256),
            "num_heads": ("num_attention_heads", 4),
            "intermediate_size": ("intermediate_size", 1024),
        },
        required=_ABSOLUTE,
        modules=_EMBEDDINGS | {"embeddings_projection": ("embeddings_project",)},
    ),
    "distilbert": Family(
        "distilbert.",
        sizes={
            "vocab_size": ("vocab_size", 30522),
            "hidden_size": ("dim", 768),
            "num_layers": ("n_layers", 6),
            "num_heads": ("n_heads", 12),
            "intermediate_size": ("hidden_dim", 3072),
            "max_positions": ("max_position_embeddings", 512),
            "hidden_act": ("activation", "gelu"),
            "dropout": ("dropout", 0.1),
            "attention_dropout": ("attention_dropout", 0.1),
        },
        options={"type_vocab_size": 0},
        layer={
            "query_key_value": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
            "attention_output": ("attention.out_lin",),
            "attention_norm": ("sa_layer_norm",),
            "intermediate": ("ffn.lin1",),
            "output": ("ffn.lin2",),
            "output_norm": ("output_layer_norm",),
        },
        layers="transformer.layer.",
    ),
    "mpnet": Family(
        "mpnet.",
        sizes={name: size for name, size in _BERT_SIZES.items() if name != "type_vocab_size"}
        | {"vocab_size": ("vocab_size", 30527)},
        # Transformers takes 1 whatever pad_token_id is, and has no other number of buckets either.
        options={"type_vocab_size": 0, "padding": 1, "relative": "bias", "relative_buckets": 32},
        required={"relative_attention_num_buckets": (32, 32)},
        modules=_EMBEDDINGS | {"relative_bias": ("encoder.relative_attention_bias",)},
        layer=_BERT_LAYER
        | {
            "query_key_value": tuple(f"attention.attn.{name}" for name in "qkv"),
            "attention_output": ("attention.attn.o",),
            "attention_norm": ("attention.LayerNorm",),
        },
    ),
    "deberta-v2": Family(
        "deberta.",
        sizes=_BERT_SIZES
        | {
            "vocab_size": ("vocab_size", 128100),
            "hidden_size": ("hidden_size", 1536),
            "num_layers": ("num_hidden_layers", 24),
            "num_heads": ("num_attention_heads", 24),
            "intermediate_size": ("intermediate_size", 6144),
            "type_vocab_size": ("type_vocab_size", 0),
            "layer_norm_eps": ("layer_norm_eps", 1e-7),
            "position_table": ("position_biased_input", True),
            "relative_buckets": ("position_buckets", -1),
            "relative_furthest": ("max_relative_positions", -1),
        },
        options={"relative": "disentangled"},
        # What version 3 and the sizes of version 2 up to large have; the others have convolutions.
        required={
            "relative_attention": (False, True),
            "share_att_key": (False, True),
            "norm_rel_ebd": ("none", "layer_norm"),
            "pos_att_type": (None, "c2p|p2c"),
            "conv_kernel_size": (0, 0),
        },
        modules=_EMBEDDINGS
        | {
            "relative_embeddings": ("encoder.rel_embeddings",),
            "relative_norm": ("encoder.LayerNorm",),
        },
        layer=_BERT_LAYER
        | {
            "query_key_value": tuple(
                f"attention.self.{name}_proj" for name in ("query", "key", "value")
            )
        },
    ),
    "modernbert": Family(
        "model.",
        sizes={
            "vocab_size": ("vocab_size", 50368),
            "hidden_size": ("hidden_size", 768),
            "num_layers": ("num_hidden_layers", 22),
            "num_heads": ("num_attention_heads", 12),
            "intermediate_size": ("intermediate_size", 1152),
            "max_positions": ("max_position_embeddings", 8192),
            "layer_norm_eps": ("norm_eps", 1e-5),
            "hidden_act": ("hidden_activation", "gelu"),
            "dropout": ("mlp_dropout", 0.0),
            "attention_dropout": ("attention_dropout", 0.0),
            "rotary_base": ("global_rope_theta", 160_000.0),
            "local_rotary_base": ("local_rope_theta", 10_000.0),
            "local_window": ("local_attention", 128),
            "global_every": ("global_attn_every_n_layers", 3),
        },
        options={
            "type_vocab_size": 0,
            "position_table": False,
            "relative": "rotary",
            "pre_norm": True,
        },
        required={name: (False, False) for name in ("norm_bias", "attention_bias", "mlp_bias")}
        | {"rope_scaling": (None, None)},
        modules={
            "word_embeddings": ("embeddings.tok_embeddings",),
            "embeddings_norm": ("embeddings.norm",),
            "final_norm": ("final_norm",),
        },
        layer={
            "attention_norm": ("attn_norm",),
            "query_key_value": ("attn.Wqkv",),
            "attention_output": ("attn.Wo",),
            "output_norm": ("mlp_norm",),
            "intermediate": ("mlp.Wi",),
            "output": ("mlp.Wo",),
        },
        layers="layers.",
    ),
}


# The least of each size, where it is not 1; the least of a float is above 0, but dropout's is 0.
_LEAST = {"type_vocab_size": 0, "padding": 0, "relative_buckets": 2, "relative_furthest": -1}
_LEAST |= {"local_window": 2, "dropout": 0, "attention_dropout": 0}
_MOST = 2**31


def encoder_config(written: Mapping[str, Any], path: Path) -> TextEncoderConfig:
    """Returns the sizes and options that a config.json describes; InputError if it cannot."""
    kind = written.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise InputError(
            f"{path}: model_type {kind!r} cannot be loaded; take one of {', '.join(FAMILIES)}"
        )
    family = FAMILIES[kind]
    if kind in _SPELLED:
        written = _SPELLED[kind](dict(written), path)
    for name, (default, wanted) in family.required.items():
        if written.get(name, default) != wanted:
            raise _unusable(path, name, written.get(name, default), repr(wanted))
    read: dict[str, Any] = dict(family.options)
    for name, (theirs, default) in family.sizes.items():
        value = read[name] = written.get(theirs, default)
        kind_of = type(default)
        if type(value) is not kind_of and not (kind_of is float and type(value) is int):
            raise InputError(
                f"{path}: {theirs} is {value!r}; it must be of type {kind_of.__name__}"
            )
        if kind_of in (int, float):
            least = _LEAST.get(name, 1 if kind_of is int else 1e-30)
            if not least <= value < _MOST:  # refuses NaN too
                raise _unusable(path, theirs, value, f"{theirs} of at least {least}")
    if read["hidden_act"] not in ACTIVATIONS:
        name = family.sizes["hidden_act"][0]
        raise _unusable(path, name, read["hidden_act"], f"one of {', '.join(ACTIVATIONS)}")
    if "relative_furthest" in read:
        if read["relative_furthest"] < 1:
            read["relative_furthest"] = read["max_positions"]
        least = read["relative_buckets"] // 2 + 2  # else the logarithm of 1 or less is divided by
        if read["relative_furthest"] < least:
            name = family.sizes["relative_furthest"][0]
            raise _unusable(path, name, read["relative_furthest"], f"at least {least}")
    if "padding" in read:
        read["position_offset"] = read.pop("padding") + 1
        read["max_positions"] -= read["position_offset"]
    if read.get("embedding_size") == read["hidden_size"]:
        read["embedding_size"] = 0  # nothing is projected
    if "local_window" in read:
        read["local_window"] //= 2  # to both sides
    pairs = 2 if read.get("relative") == "rotary" else 1  # of numbers, which are rotated
    if read["max_positions"] < 1 or read["hidden_size"] % (pairs * read["num_heads"]):
        name = family.sizes["num_heads"][0]
        wanted = f"a divisor of {read['hidden_size'] // pairs}, and a position"
        raise _unusable(path, name, read["num_heads"], wanted)
    return TextEncoderConfig(**read)


def _unusable(path: Path, name: str, value: Any, wanted: str) -> InputError:
    return InputError(f"{path}: {name} {value!r} cannot be loaded; take a model with {wanted}")


def _spelled_distilbert(written: dict[str, Any], path: Path) -> dict[str, Any]:
    """Returns a config.json with the family's own names, beside which Transformers takes BERT's."""
    theirs = {
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    }
    return written | {theirs[name]: value for name, value in written.items() if name in theirs}


def _spelled_deberta(written: dict[str, Any], path: Path) -> dict[str, Any]:
    """Returns a config.json with the terms of attention in one order."""
    terms = written.get("pos_att_type")
    if isinstance(terms, str):
        terms = terms.lower().split("|")
    if isinstance(terms, list):
        written["pos_att_type"] = "|".join(sorted(str(term).strip() for term in terms))
    width = written.get("hidden_size", 1536)
    if written.get("embedding_size", width) != width:
        raise _unusable(path, "embedding_size", written["embedding_size"], "that of hidden_size")
    return written


def _spelled_modernbert(written: dict[str, Any], path: Path) -> dict[str, Any]:
    """Returns a config.json of Transformers 5 with the names that older versions wrote."""
    for kind, name in (("full_attention", "global"), ("sliding_attention", "local")):
        ropes = written.get("rope_parameters") or {}
        if not isinstance(ropes, dict) or not all(isinstance(r, dict) for r in ropes.values()):
            wanted = "those of full_attention and sliding_attention"
            raise _unusable(path, "rope_parameters", ropes, wanted)
        rope = ropes.get(kind) or {}
        for name_of_type in ("rope_type", "type"):
            if rope.get(name_of_type, "default") != "default":
                raise _unusable(path, name_of_type, rope[name_of_type], "'default'")
        if "rope_theta" in rope:
            written[f"{name}_rope_theta"] = rope["rope_theta"]
    if written.get("local_rope_theta", 0) is None:  # in Transformers 4, the same as the global one
        written["local_rope_theta"] = written.get("global_rope_theta", 160_000.0)
    if isinstance(written.get("sliding_window"), int):  # Transformers sets local_attention by it
        written["local_attention"] = 2 * written["sliding_window"]
    kinds = written.get("layer_types")
    if kinds:
        layers = written.get("num_hidden_layers", 22)
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise _unusable(path, "layer_types", kinds, f"a list of {layers}")
        every = kinds.index("full_attention", 1) if "full_attention" in kinds[1:] else len(kinds)
        if kinds != [
            "sliding_attention" if k % every else "full_attention" for k in range(len(kinds))
        ]:
            wanted = "full attention in every so many layers, from the first on"
            raise _unusable(path, "layer_types", kinds, wanted)
        written["global_attn_every_n_layers"] = every
    return written


_SPELLED = {
    "distilbert": _spelled_distilbert,
    "deberta-v2": _spelled_deberta,
    "modernbert": _spelled_modernbert,
}
