"""The text encoder of a run: which one, whether it is frozen, and then its vectors.

Whether the encoder is frozen is decided here. Batches go by the type of what `text_input` returns,
a tokenizer or a table of vectors, and a trained run by whether its `LoadedEncoder` has parameters.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from rpcl_jax.batching.batch import Batch
from rpcl_jax.batching.language import PieceCounts, count_pieces, unknown_words
from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.batching.text import word_tokenizer
from rpcl_jax.batching.tokenizer import WordPieces
from rpcl_jax.data.dialogue import BINARY, Dialogue
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.errors import InputError
from rpcl_jax.files import atomic_write
from rpcl_jax.models.packed import encode_utterances
from rpcl_jax.models.pretrained import (
    cached_revision,
    hub_name,
    load_pretrained,
    load_tokenizer,
    resolve_pretrained,
)
from rpcl_jax.models.text_encoder import TextEncoder, TextEncoderConfig
from rpcl_jax.readers.corpus import Corpus
from rpcl_jax.run.compilation import Compiled
from rpcl_jax.run.progress import progress_bar
from rpcl_jax.training.mesh import (
    AXIS,
    all_gather,
    all_processes,
    is_main_process,
    local_device_indices,
    put_batch,
    replicate,
)

_LOG = logging.getLogger(__name__)
# Part of every cache key; increment it whenever `utterance_vectors` computes something else.
_VERSION = 1
# The fields of TextEncoderConfig that version 0.1 had; see `encoder_digest`.
_FIRST_FIELDS = [field.name for field in dataclasses.fields(TextEncoderConfig)][:12]
_MOST_UNKNOWN = 0.05  # of the word pieces of a text, before a warning


class LoadedEncoder(NamedTuple):
    """A text encoder: sizes, pretrained parameters (None: start anew) and tokenizer."""

    config: TextEncoderConfig
    params: dict | None
    tokenizer: WordPieces
    word_pieces: PieceCounts = PieceCounts(0, 0, 0)  # of the training text


def load_text_encoder(
    config: ConfigDict, train: Sequence[Dialogue], words: WordPieces | None = None
) -> LoadedEncoder:
    """Returns the encoder of `config.text`; without `pretrained`, one over the words of `train`.

    If `words` are given, they replace those of `train`. Logs which heads of a pretrained encoder
    are not read, and warns if the tokenizer does not know much of `train`.
    """
    if config.text.pretrained:
        folder = resolve_pretrained(config.text.pretrained)
        encoder, params, heads = load_pretrained(folder)
        tokenizer = load_tokenizer(folder, encoder.vocab_size)
        if train and heads:
            _LOG.info(f"{config.text.pretrained}: its heads are not read: {', '.join(heads)}")
    else:
        tokenizer = words or word_tokenizer(train)
        encoder = TextEncoderConfig(
            vocab_size=tokenizer.size, max_positions=config.text.max_tokens, **config.text.encoder
        )
        params = None
    texts = [utterance.text for dialogue in train for utterance in dialogue.utterances]
    counts = count_pieces(texts, tokenizer)
    source = config.text.pretrained or config.init
    if source and counts.unknown > _MOST_UNKNOWN * counts.pieces:
        examples = ", ".join(map(repr, unknown_words(texts, tokenizer)))
        _LOG.warning(
            f"{source}: its tokenizer does not know {counts.unknown / counts.pieces:.0%} of the "
            f"word pieces of the training text, such as {examples}; is it for another language?"
        )
    check_positions(encoder, config, config.text.pretrained)
    encoder = dataclasses.replace(
        encoder,
        dropout=config.text.dropout,
        attention_dropout=config.text.attention_dropout,
        lora_rank=config.text.lora_rank,
    )
    return LoadedEncoder(encoder, params, tokenizer, counts)


def check_positions(encoder: TextEncoderConfig, config: ConfigDict, name: str) -> None:
    """Raises InputError if the encoder `name` is too small for the segments or the adapters."""
    if encoder.max_positions < config.text.max_tokens:
        raise InputError(
            f"config.text.max_tokens: {config.text.max_tokens} is more than the "
            f"{encoder.max_positions} positions of {name}; lower it"
        )
    if config.text.lora_rank >= encoder.hidden_size:
        raise InputError(
            f"config.text.lora_rank: {config.text.lora_rank} is not below {encoder.hidden_size}, "
            f"the width of {name}; lower it"
        )


def utterance_vectors(
    encoder: LoadedEncoder,
    dialogues: Sequence[Dialogue],
    config: ConfigDict,
    mesh: Mesh,
    folder: Path,
) -> FeatureTable:
    """Returns a frozen encoder's vectors of the utterances of `dialogues`, one row each.

    Utterances beyond `config.data.max_utterances` get none; raises InputError if two have one id.
    The vectors of each batch are kept on disk beside `folder`, where the table will be saved, so a
    run that was killed can be continued.
    """
    encode = _make_encode(encoder.config, mesh)
    params = replicate(encoder.params, mesh)
    batches = Batches(
        dialogues, encoder.tokenizer, {}, config, mesh.size, BINARY, local_device_indices(mesh)
    )
    counts = Counter(u.id for e in batches.examples for u in e.dialogue.utterances[: e.length])
    for utterance, count in counts.items():
        if count > 1:
            raise InputError(
                f"utterance id {utterance} is duplicated; the vectors of a frozen encoder are "
                "stored by id, so ids must be unique across all splits"
            )
    # Not in the key, but what the batches hold and the last bits of the vectors depend on these.
    sequence = f"{batches.batch_size}-{config.text.row_length}-{mesh.size}"
    vectors: dict[str, np.ndarray] = {}
    begun = False
    with progress_bar(len(counts), " utterances") as advance:
        for number, (places, batch) in enumerate(batches.epoch(seed=0, epoch=0)):
            examples = [batches.examples[index] for index in places if index >= 0]
            ids = [u.id for e in examples for u in e.dialogue.utterances[: e.length]]
            part = _parts(folder) / sequence / f"{number}.npz"
            rows = _read_part(part, ids)
            kept = all_processes(rows is not None)
            if rows is None or not kept:
                if not begun:
                    part_of = f"{len(counts) - len(vectors)} of " if vectors else ""
                    what = f"{part_of}{len(counts)} utterances with {config.text.pretrained}"
                    _LOG.info(f"encoding {what}, once, for {folder}")
                begun = True
                values = all_gather(encode(params, put_batch(batch, mesh)))[places >= 0]
                rows = np.concatenate(
                    [v[: e.length] for v, e in zip(values, examples, strict=True)]
                )
                if is_main_process():
                    _write_part(part, ids, rows)
            vectors.update(zip(ids, rows, strict=True))
            advance(0 if kept else len(ids), len(vectors))
    return FeatureTable(
        np.stack(list(vectors.values())), {utterance: row for row, utterance in enumerate(vectors)}
    )


def _parts(folder: Path) -> Path:
    """Where the vectors of single batches are until their table is saved in `folder`."""
    return folder.with_name(f".{folder.name}.parts")


def _read_part(path: Path, ids: list[str]) -> np.ndarray | None:
    """Returns the vectors of `ids`, or None if they are not there."""
    try:
        with np.load(path) as part:
            return part["vectors"] if part["ids"].tolist() == ids else None
    except Exception:  # whatever a damaged file raises: it is written again
        return None


def _write_part(path: Path, ids: list[str], vectors: np.ndarray) -> None:
    # Another run that encodes the same removes the folder when it has saved the table.
    with contextlib.suppress(FileNotFoundError), atomic_write(path) as file:
        np.savez(file, ids=np.array(ids), vectors=vectors)


def _make_encode(config: TextEncoderConfig, mesh: Mesh) -> Compiled:
    """The compiled function (params, batch) -> utterance vectors [b, n, d]."""
    module = TextEncoder(config)

    def encode(params: dict, batch: Batch) -> jax.Array:
        return encode_utterances(partial(module.apply, {"params": params}), batch)

    sharded = jax.shard_map(encode, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS))
    return Compiled(jax.jit(sharded), "the text encoder")


def cached_vectors(
    encoder: LoadedEncoder, splits: Mapping[str, Sequence[Dialogue]], config: ConfigDict, mesh: Mesh
) -> FeatureTable:
    """`utterance_vectors` of all splits, from `config.text.cache` if they were computed before.

    The key is a digest of everything they depend on, so a cached table is never stale.
    """
    dialogues = [dialogue for split in splits.values() for dialogue in split]
    folder = Path(config.text.cache) / vectors_key(encoder, dialogues, config)
    # All processes encode together, even if some of them see a finished table.
    if not all_processes(folder.exists()):
        table = utterance_vectors(encoder, dialogues, config, mesh, folder)
        description = {"extractor": "text encoder", "model": config.text.pretrained}
        table = dataclasses.replace(table, description=description)
        if not is_main_process():
            return table
        try:
            table.save(folder)
        except (InputError, OSError):
            if not folder.exists():  # unless another run has just written it
                raise
    if is_main_process():
        shutil.rmtree(_parts(folder), ignore_errors=True)
    return FeatureTable.load(folder, check_values=is_main_process())


def text_input(
    encoder: LoadedEncoder, splits: Mapping[str, Sequence[Dialogue]], config: ConfigDict, mesh: Mesh
) -> WordPieces | FeatureTable:
    """Returns the tokenizer of an encoder that is part of the model, or a frozen one's vectors."""
    return cached_vectors(encoder, splits, config, mesh) if is_frozen(config) else encoder.tokenizer


def corpus_batches(
    encoder: LoadedEncoder, corpus: Corpus, config: ConfigDict, mesh: Mesh
) -> dict[str, Batches]:
    """Returns the batches of every split, with the text input that `text_input` makes.

    Logs how many dialogues are cut to `config.data.max_utterances`.
    """
    _say_what_is_cut(corpus, config.data.max_utterances)
    text = text_input(encoder, corpus.splits, config, mesh)
    own = local_device_indices(mesh)
    return {
        split: Batches(dialogues, text, corpus.tables, config, mesh.size, corpus.emotions, own)
        for split, dialogues in corpus.splits.items()
    }


def _say_what_is_cut(corpus: Corpus, n: int) -> None:
    for split, dialogues in corpus.splits.items():
        cut = [dialogue for dialogue in dialogues if len(dialogue.utterances) > n]
        if cut:
            lost = sum(max(pair) >= n for dialogue in cut for pair in dialogue.pairs or ())
            pairs = sum(len(dialogue.pairs or ()) for dialogue in dialogues)
            _LOG.warning(
                f"{split}: {len(cut)} of {len(dialogues)} conversations have more than "
                f"config.data.max_utterances, {n}, and are cut; {lost} of {pairs} pairs are lost"
            )


def is_frozen(config: ConfigDict) -> bool:
    """Returns whether the model reads the encoder's vectors and does not contain the encoder."""
    return not config.text.finetune


def encoder_elsewhere(encoder: LoadedEncoder, config: ConfigDict) -> dict[str, str] | None:
    """Identifies an encoder whose own parameters are not trained: it is frozen or has adapters.

    Its "name" is a folder that is found from any other, or a name on the hub with the commit as
    "revision". None stands for an encoder that is trained, so that its parameters are the run's
    own.
    """
    if not (is_frozen(config) or config.text.lora_rank):
        return None
    name = config.text.pretrained
    if hub_name(name):
        named = {"name": name, "revision": cached_revision(name)}
    else:
        named = {"name": str(Path(name).expanduser().resolve())}
    return named | {"digest": encoder_digest(encoder)}


def vectors_key(encoder: LoadedEncoder, dialogues: Sequence[Dialogue], config: ConfigDict) -> str:
    """A digest of everything that `utterance_vectors` depends on.

    Batch size, row length and devices are left out: they change only the order of sums, and so
    only the last bits.
    """
    digest = hashlib.sha256(encoder_digest(encoder).encode())
    settings = {
        "version": _VERSION,
        "context": config.text.context,
        "speaker_names": config.text.speaker_names,
        "max_tokens": config.text.max_tokens,
        "max_utterances": config.data.max_utterances,
        "dialogues": [
            [(u.id, u.speaker, u.text) for u in dialogue.utterances] for dialogue in dialogues
        ],
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def describe_data(corpus: Corpus, encoder: LoadedEncoder, config: ConfigDict) -> list[Any]:
    """Returns a fingerprint of the corpus and the encoder, without the values of features."""
    dialogues = [dialogue for split in corpus.splits.values() for dialogue in split]
    labels = [[d.pairs, [u.emotion for u in d.utterances]] for d in dialogues]
    tables = [[t.description, t.dimension, t.row_of_id, t.absent] for t in corpus.tables.values()]
    return [vectors_key(encoder, dialogues, config), labels, tables]


def encoder_digest(encoder: LoadedEncoder) -> str:
    """A digest of an encoder's sizes, parameters and tokenizer, without adapters."""
    frozen = dataclasses.replace(encoder.config, dropout=0.0, attention_dropout=0.0, lora_rank=0)
    described = {
        field.name: value
        for field in dataclasses.fields(frozen)
        # Later fields count where they are used only, so that older digests stay the same.
        if (value := getattr(frozen, field.name)) != field.default or field.name in _FIRST_FIELDS
    }
    digest = hashlib.sha256(json.dumps(described).encode())
    tokenizer = json.loads(encoder.tokenizer.backend.to_str())
    special = [encoder.tokenizer.special_id(name) for name in ("cls_token", "sep_token")]
    digest.update(json.dumps([tokenizer, special]).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(encoder.params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
