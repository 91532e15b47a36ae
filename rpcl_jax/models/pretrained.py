"""Loads a text encoder's config, parameters and tokenizer from a folder or the Hugging Face hub."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from rpcl_jax.batching.tokenizer import WordPieces, read_word_pieces, word_pieces
from rpcl_jax.errors import InputError
from rpcl_jax.models.text_encoder import ACTIVATIONS, TextEncoderConfig

BERT_LIKE = ("bert",)
ROBERTA_LIKE = ("roberta", "xlm-roberta", "camembert")  # positions start after the padding index
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SENTENCEPIECE = "sentencepiece.bpe.model"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", SENTENCEPIECE)
HUB_FILES = (
    *("config.json", "model*.safetensors", INDEX),
    *(*TOKENIZER_FILES, "tokenizer_config.json", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json"),
)
# Names begin with this where the encoder is part of a model with heads, or of a wrapper of one.
PREFIX = re.compile(r"(?:module\.|model\.|0\.auto_model\.)*(bert\.|roberta\.)?")
ENCODER = ("embeddings.", "encoder.", "pooler.")
# What Transformers takes for what config.json leaves out, in both families.
_DEFAULTS: dict[str, int | float | str] = {
    **{"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    **{"intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2},
    **{"layer_norm_eps": 1e-12, "hidden_act": "gelu"},
    **{"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
}
# Parts of the encoder that are not used: the pooler and, in older checkpoints, a buffer.
UNUSED = re.compile(r"pooler\..*|embeddings\.position_ids")


def names_folder(name: str) -> bool:
    """Returns whether this is the name of a folder and not of a model on the Hugging Face hub.

    It is if it exists, is absolute, starts with "." or "~", or has more than one "/".
    """
    path = Path(name).expanduser()
    return path.exists() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1


def hub_name(name: str) -> str:
    """Returns the name of a model on the Hugging Face hub as it is, and "" for that of a folder."""
    return "" if names_folder(name) else name


def resolve_pretrained(name_or_path: str | Path, revision: str | None = None) -> Path:
    """Returns the local folder of a model, downloaded if it is named on the Hugging Face hub.

    Args:
      name_or_path: of a folder or on the hub; see `names_folder`.
      revision: branch, tag or commit on the hub; None is its main branch.

    Raises:
      InputError: the folder does not exist, neither the hub nor its local cache has the name, or a
        folder is given with a revision.
    """
    name = str(name_or_path)
    if names_folder(name):
        folder = Path(name).expanduser()
        if revision is not None:
            raise InputError(
                f"{name}: is a folder, which has no revision {revision!r}; leave it out"
            )
        if not folder.is_dir():
            raise InputError(
                f"{name}: no such folder; give a folder with config.json, {WEIGHTS} and a "
                "tokenizer, or the name of a model on the Hugging Face hub"
            )
        return folder
    import huggingface_hub  # slow to import
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=list(HUB_FILES)
            )
        )
    except (OSError, HFValidationError) as error:
        raise InputError(
            f"{name}: no such folder, and not available from the Hugging Face hub "
            f"({str(error).splitlines()[0]}); check name and connection, or download it elsewhere "
            f"(hf download {name} --local-dir FOLDER) and give FOLDER"
        ) from error


def load_tokenizer(folder: str | Path, vocab_size: int) -> WordPieces:
    """Loads the tokenizer in a local folder.

    Args:
      folder: the files of the tokenizer.
      vocab_size: the number of word pieces that the encoder has embeddings of.

    Raises:
      InputError: the folder has no fast tokenizer with [CLS] and [SEP] or equivalent tokens, it has
        a piece without an embedding, or a package is missing that reads it.
    """
    folder = Path(folder)
    there = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not there:
        raise InputError(
            f"{folder}: no tokenizer, none of {', '.join(TOKENIZER_FILES)}; "
            "copy the files of the encoder's tokenizer there"
        )
    if there == [SENTENCEPIECE]:
        _check_sentencepiece(folder / SENTENCEPIECE)
    try:
        tokenizer = read_word_pieces(folder) or _convert_tokenizer(folder)
    except Exception as error:  # tokenizers raises bare Exception
        raise InputError(
            f"{folder}: unreadable tokenizer ({str(error).splitlines()[0]}); "
            "copy the files of the encoder's tokenizer there again"
        ) from error
    if not tokenizer or None in map(tokenizer.special_id, ("cls_token", "sep_token")):
        raise InputError(
            f"{folder}: not a fast tokenizer with [CLS] and [SEP] or equivalent tokens; "
            "convert it with transformers (AutoTokenizer, save_pretrained)"
        )
    ids = tokenizer.backend.get_vocab(with_added_tokens=True)
    if ids.keys() <= set(tokenizer.special.values()):  # of another family than config.json's
        raise InputError(
            f"{folder}: its tokenizer has no word pieces; {', '.join(there)} is not what a model "
            "of its model_type has, so copy the files of the encoder's tokenizer there again"
        )
    without = sorted((piece for piece in ids if ids[piece] >= vocab_size), key=ids.__getitem__)
    if without:
        raise InputError(
            f"{folder}: its tokenizer has pieces up to number {ids[without[-1]]}, but the encoder "
            f"has embeddings of 0 to {vocab_size - 1} only, and so none of "
            f"{', '.join(map(repr, without[:3]))}; give the encoder's own tokenizer, or add rows "
            "with transformers (resize_token_embeddings, save_pretrained) and train them"
        )
    return tokenizer


def _convert_tokenizer(folder: Path) -> WordPieces | None:
    """Loads a tokenizer as its class in Transformers does; None if that has no fast one."""
    from transformers import AutoTokenizer  # slow to import

    read = AutoTokenizer.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False
    )
    if not read.is_fast:
        return None
    return word_pieces(read.backend_tokenizer, read.special_tokens_map)


def _check_sentencepiece(path: Path) -> None:
    """Raises InputError if `path` cannot be read: Transformers would ask for another package."""
    try:
        importlib.import_module("google.protobuf")
        sentencepiece = importlib.import_module("sentencepiece")
    except ImportError as error:
        raise InputError(
            f"{path}: a SentencePiece model, which needs more packages ({error}); "
            "pip install sentencepiece protobuf, or add the encoder's tokenizer.json"
        ) from error
    try:
        sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise InputError(f"{path}: unreadable ({error}); download it again") from error


def load_pretrained(name_or_path: str | Path) -> tuple[TextEncoderConfig, dict, list[str]]:
    """Loads config and parameters of `rpcl_jax.models.text_encoder.TextEncoder`.

    Args:
      name_or_path: a hub name, or a folder with config.json and safetensors, sharded or not.

    Returns:
      The config, the parameters as nested dictionaries of float32 NumPy arrays, and the names of
      the heads, such as "classifier", which are not read.

    Raises:
      InputError: the folder, its config or its safetensors are missing; the model is neither BERT-
        nor RoBERTa-like or uses an unsupported option; or parameters of the encoder are missing,
        left over or of the wrong shape. The message names all of them.
    """
    folder = resolve_pretrained(name_or_path)
    config = read_config(folder)
    tensors, heads = _read_tensors(folder)
    return config, _convert(config, tensors, folder), heads


def read_config(folder: Path) -> TextEncoderConfig:
    """Reads the sizes in a folder's config.json.

    Raises:
      InputError: see `load_pretrained`.
    """
    path = folder / "config.json"
    written = _read_json(path)
    family = written.get("model_type")
    if family not in BERT_LIKE + ROBERTA_LIKE:
        raise InputError(
            f"{path}: model_type {family!r} cannot be loaded; "
            f"take one of {', '.join(BERT_LIKE + ROBERTA_LIKE)}"
        )
    positions = written.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise InputError(
            f"{path}: position_embedding_type {positions!r} cannot be loaded; "
            "take a model with 'absolute'"
        )
    if written.get("is_decoder"):
        raise InputError(f"{path}: is_decoder is true; take an encoder, which attends both ways")
    read = {name: written.get(name, default) for name, default in _DEFAULTS.items()}
    read.setdefault("pad_token_id", written.get("pad_token_id", int(family in ROBERTA_LIKE)))
    for name, value in read.items():
        kind = type(_DEFAULTS.get(name, 0))
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise InputError(f"{path}: {name} is {value!r}; it must be of type {kind.__name__}")
    if read["hidden_act"] not in ACTIVATIONS:
        raise InputError(
            f"{path}: hidden_act {read['hidden_act']!r} cannot be loaded; "
            f"take a model with one of {', '.join(ACTIVATIONS)}"
        )
    offset = read["pad_token_id"] + 1 if family in ROBERTA_LIKE else 0
    return TextEncoderConfig(
        vocab_size=read["vocab_size"],
        hidden_size=read["hidden_size"],
        num_layers=read["num_hidden_layers"],
        num_heads=read["num_attention_heads"],
        intermediate_size=read["intermediate_size"],
        max_positions=read["max_position_embeddings"] - offset,
        position_offset=offset,
        type_vocab_size=read["type_vocab_size"],
        layer_norm_eps=read["layer_norm_eps"],
        hidden_act=read["hidden_act"],
        dropout=read["hidden_dropout_prob"],
        attention_dropout=read["attention_probs_dropout_prob"],
    )


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the folder of a Hugging Face model")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object; download it again")
    return content


def _read_tensors(folder: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Reads an encoder's tensors as float32, by name without prefix; names what else is there."""
    if (folder / WEIGHTS).is_file():
        files = [WEIGHTS]
    elif (folder / INDEX).is_file():
        files = sorted(set(_read_json(folder / INDEX).get("weight_map", {}).values()))
    elif list(folder.glob("pytorch_model*.bin")):
        raise InputError(
            f"{folder}: pytorch_model.bin is a pickle and is not read; write "
            f"{WEIGHTS} with transformers (AutoModel.from_pretrained, save_pretrained)"
        )
    else:
        raise InputError(f"{folder}: no weights; put {WEIGHTS} there, or {INDEX} and its shards")
    tensors: dict[str, np.ndarray] = {}
    heads: set[str] = set()
    for file in files:
        path = folder / file
        try:
            with safe_open(path, framework="numpy") as opened:
                names = opened.keys()  # `opened` itself cannot be iterated
                for name in names:
                    prefix = PREFIX.match(name)
                    assert prefix is not None
                    key = name[prefix.end() :]
                    if not prefix[1] and not key.startswith(ENCODER):
                        heads.add(key.partition(".")[0])
                        continue
                    key = key.replace("LayerNorm.gamma", "LayerNorm.weight")
                    key = key.replace("LayerNorm.beta", "LayerNorm.bias")
                    if UNUSED.fullmatch(key):
                        continue
                    if key in tensors:  # with and without prefix; which one is meant?
                        key += " (twice)"
                    tensors[key] = opened.get_tensor(name).astype(np.float32, copy=False)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: unreadable ({error}); download it again") from error
    return tensors, sorted(heads)


def _convert(config: TextEncoderConfig, tensors: dict[str, np.ndarray], folder: Path) -> dict:
    """Renames and transposes tensors; checks that each is used once and none is missing."""
    left, missing, misshapen = dict(tensors), [], []

    def take(name, *shape):
        tensor = left.pop(name, None)
        if tensor is None:
            missing.append(name)
        elif tensor.shape != shape:
            misshapen.append(f"{name} {list(tensor.shape)} instead of {list(shape)}")
        else:
            return tensor
        return np.zeros(shape, np.float32)  # continue, so that one message names all problems

    def norm(name):
        return {"scale": take(f"{name}.weight", hidden), "bias": take(f"{name}.bias", hidden)}

    def dense(names, size, out):
        """Joins one or several dense layers of the checkpoint into one, side by side."""
        kernels = [take(f"{name}.weight", out, size).T for name in names]
        biases = [take(f"{name}.bias", out) for name in names]
        return {"kernel": np.concatenate(kernels, axis=1), "bias": np.concatenate(biases)}

    hidden, wide = config.hidden_size, config.intermediate_size
    params: dict = {"embeddings_norm": norm("embeddings.LayerNorm")}
    for table, size in (
        ("word_embeddings", config.vocab_size),
        ("position_embeddings", config.max_positions + config.position_offset),
        ("token_type_embeddings", config.type_vocab_size),
    ):
        params[table] = {"embedding": take(f"embeddings.{table}.weight", size, hidden)}
    for layer in range(config.num_layers):
        at = f"encoder.layer.{layer}"
        heads = [f"{at}.attention.self.{name}" for name in ("query", "key", "value")]
        params[f"layer_{layer}"] = {
            "query_key_value": dense(heads, hidden, hidden),
            "attention_output": dense([f"{at}.attention.output.dense"], hidden, hidden),
            "attention_norm": norm(f"{at}.attention.output.LayerNorm"),
            "intermediate": dense([f"{at}.intermediate.dense"], hidden, wide),
            "output": dense([f"{at}.output.dense"], wide, hidden),
            "output_norm": norm(f"{at}.output.LayerNorm"),
        }
    problems = [
        f"{what} {', '.join(names)}"
        for what, names in (
            ("missing", missing),
            ("left over", sorted(left)),
            ("of the wrong shape", misshapen),
        )
        if names
    ]
    if problems:
        raise InputError(
            f"{folder}: the weights do not match config.json: {'; '.join(problems)}; "
            "download it again or correct config.json"
        )
    return params
