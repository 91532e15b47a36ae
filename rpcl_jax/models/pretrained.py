"""Loads a text encoder's config, parameters and tokenizer from a folder or the Hugging Face hub."""

import contextlib
import importlib
import json
import logging
import re
from functools import partial
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open

from rpcl_jax.batching.tokenizer import WordPieces, read_word_pieces, word_pieces
from rpcl_jax.errors import InputError
from rpcl_jax.files import check_not_pointer
from rpcl_jax.models.families import FAMILIES, Family, encoder_config
from rpcl_jax.models.text_encoder import TextEncoder, TextEncoderConfig

_LOG = logging.getLogger(__name__)
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SENTENCEPIECE = ("sentencepiece.bpe.model", "spm.model")  # of RoBERTa's relatives, of DeBERTa
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", *SENTENCEPIECE)
_BESIDE = ("tokenizer_config.json", "merges.txt", "special_tokens_map.json", "added_tokens.json")
HUB_FILES = ("config.json", "model*.safetensors", INDEX, *TOKENIZER_FILES, *_BESIDE)
# What wrappers of a model put before the names of its parameters, and `torch.compile` anywhere.
_WRAPPERS = re.compile(r"(?:module\.|model\.|0\.auto_model\.)*")
_COMPILED = "_orig_mod."
_FLOATS = ("F64", "F32", "F16", "BF16")
_NAMED = 5  # names in an error message


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

    `revision` is a branch, tag or commit on the hub; None is its main branch.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or names_folder(name):
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

    download = partial(
        huggingface_hub.snapshot_download, name, revision=revision, allow_patterns=list(HUB_FILES)
    )
    if revision and re.fullmatch("[0-9a-f]{40}", revision):  # a commit never changes
        with contextlib.suppress(OSError, HFValidationError):
            return Path(download(local_files_only=True))
    huggingface_hub.utils.logging.set_verbosity_error()  # else every attempt is a warning
    _LOG.info(f"{name}: looking for it on the Hugging Face hub")
    try:
        return Path(download())
    except (OSError, HFValidationError) as error:
        raise InputError(
            f"{name}: no such folder, and not available from the Hugging Face hub "
            f"({str(error).splitlines()[0]}); check name and connection, or download it elsewhere "
            f"(hf download {name} --local-dir FOLDER) and give FOLDER"
        ) from error


def cached_revision(name: str) -> str:
    """Returns the commit of a model of the Hugging Face hub that was last downloaded."""
    import huggingface_hub  # slow to import

    found = huggingface_hub.try_to_load_from_cache(name, "config.json")
    return Path(found).parent.name if isinstance(found, str) else "main"


def load_tokenizer(folder: str | Path, vocab_size: int) -> WordPieces:
    """Loads the tokenizer in a local folder.

    It must have [CLS] and [SEP] or equivalent tokens, and no piece beyond the `vocab_size` that the
    encoder has embeddings of; InputError if not.
    """
    folder = Path(folder)
    there = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not there:
        raise InputError(
            f"{folder}: no tokenizer, none of {', '.join(TOKENIZER_FILES)}; "
            "copy the files of the encoder's tokenizer there"
        )
    for name in (*there, *_BESIDE):
        check_not_pointer(folder / name)
    if there[0] in SENTENCEPIECE:
        _check_sentencepiece(folder / there[0])
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

    They are named on the hub, or in a folder with config.json and safetensors, sharded or not. The
    parameters are nested dictionaries of float32 NumPy arrays. Returns also the names of the heads,
    such as "classifier", which are not read. InputError if anything of the encoder is missing, left
    over, of the wrong shape or not supported.
    """
    folder = resolve_pretrained(name_or_path)
    config, family = read_config(folder)
    tensors, heads = _read_tensors(folder, family)
    return config, _convert(config, family, tensors, folder, heads), heads


def read_config(folder: Path) -> tuple[TextEncoderConfig, Family]:
    """Reads the sizes in a folder's config.json, and of which family the encoder is."""
    path = folder / "config.json"
    written = _read_json(path)
    return encoder_config(written, path), FAMILIES[written["model_type"]]


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the folder of a Hugging Face model")
    check_not_pointer(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object; download it again")
    return content


def _read_tensors(folder: Path, family: Family) -> tuple[dict[str, np.ndarray], list[str]]:
    """Reads an encoder's tensors as float32, by name without prefix; names what else is there."""
    if (folder / WEIGHTS).is_file():
        files = [WEIGHTS]
    elif (folder / INDEX).is_file():
        shards = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(f, str) for f in shards.values()):
            raise InputError(
                f"{folder / INDEX}: weight_map does not name a file for each parameter; download "
                "it again"
            )
        files = sorted(set(shards.values()))
    else:
        raise InputError(
            f"{folder}: no weights; put {WEIGHTS} there, or {INDEX} and its shards "
            "(pytorch_model.bin is a pickle and is not read: write them with transformers, "
            "AutoModel.from_pretrained and save_pretrained)"
        )
    tensors: dict[str, np.ndarray] = {}
    heads: set[str] = set()
    for file in files:
        path = folder / file
        check_not_pointer(path)
        try:
            with safe_open(path, framework="numpy") as opened:
                names = opened.keys()  # `opened` itself cannot be iterated
                for name in names:
                    key = _WRAPPERS.sub("", name.replace(_COMPILED, ""), count=1)
                    inside = key.startswith(family.prefix)
                    key = key.removeprefix(family.prefix)
                    if not inside and not family.has(key):
                        heads.add(key.partition(".")[0])
                        continue
                    key = key.replace("LayerNorm.gamma", "LayerNorm.weight")
                    key = key.replace("LayerNorm.beta", "LayerNorm.bias")
                    if key.startswith(family.unused):
                        continue
                    if key in tensors:  # with and without prefix; which one is meant?
                        key += " (twice)"
                    stored = opened.get_slice(name).get_dtype()
                    if stored not in _FLOATS:
                        raise InputError(
                            f"{path}: {name} is of type {stored}, which is not read; write it in "
                            "float32 with transformers (AutoModel.from_pretrained(…, "
                            "dtype=torch.float32), save_pretrained)"
                        )
                    tensors[key] = opened.get_tensor(name).astype(np.float32, copy=False)
                    if not np.isfinite(tensors[key]).all():
                        raise InputError(
                            f"{path}: {name} contains NaN or infinity; download it again"
                        )
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: unreadable ({error}); download it again") from error
    return tensors, sorted(heads)


def _convert(
    config: TextEncoderConfig,
    family: Family,
    tensors: dict[str, np.ndarray],
    folder: Path,
    heads: list[str],
) -> dict:
    """Renames and transposes tensors; checks that each is used once and none is missing."""
    pieces = jax.ShapeDtypeStruct((1, 2), np.int32)
    drawn = jax.eval_shape(
        lambda *ids: TextEncoder(config).init(jax.random.key(0), *ids), pieces, pieces, pieces
    )
    left, missing, misshapen = dict(tensors), [], []
    params: dict[tuple[str, ...], np.ndarray] = {}
    for path, wanted in flatten_dict(drawn["params"]).items():
        names, kernel = family.names(path), path[-1] == "kernel"
        *outer, last = wanted.shape
        shape = (*outer, last // len(names))[:: -1 if kernel else 1]
        parts = []
        for name in names:
            tensor = left.pop(name, None)
            if tensor is None:
                missing.append(name)
            elif tensor.shape != shape:
                misshapen.append(f"{name} {list(tensor.shape)} instead of {list(shape)}")
            else:
                parts.append(tensor.T if kernel else tensor)
        if len(parts) == len(names):
            params[path] = np.concatenate(parts, axis=-1)
    if len(left) == len(tensors):  # none has a name that is looked for
        there = sorted(tensors) or heads
        raise InputError(
            f"{folder}: the weights are not those of config.json's model_type: none has a name "
            f"such as {missing[0]}; there are {_listed(there) or 'none'}; save the encoder itself "
            "with transformers (save_pretrained)"
        )
    if not config.position_table:  # DeBERTa's files may have one all the same
        left.pop("embeddings.position_embeddings.weight", None)
    problems = [
        f"{what} {_listed(names)}"
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
    return unflatten_dict(params)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
