"""The text encoder of a run: which one, whether it is frozen, and then its vectors.

Whether the encoder is frozen is decided here. Everything that follows goes by the type of what
`text_input` returns: a tokenizer, or a table of vectors.
"""

import dataclasses
import functools
import hashlib
import json
import sys
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
from rpcl_jax.batching.pipeline import Batches, make_batches
from rpcl_jax.batching.text import unknown_pieces, word_tokenizer
from rpcl_jax.batching.tokenizer import WordPieces
from rpcl_jax.data.dialogue import BINARY, Dialogue
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.errors import InputError
from rpcl_jax.models.fusion import encode_utterances
from rpcl_jax.models.pretrained import load_pretrained, load_tokenizer, resolve_pretrained
from rpcl_jax.models.text_encoder import TextEncoder, TextEncoderConfig
from rpcl_jax.readers.corpus import Corpus
from rpcl_jax.run.compilation import Compiled
from rpcl_jax.run.config import trains_encoder
from rpcl_jax.training.mesh import (
    AXIS,
    everywhere,
    fetch,
    first_process,
    own_places,
    put_batch,
    replicate,
)

# Part of every cache key; increment it whenever `utterance_vectors` computes something else.
_VERSION = 1
_FIRST_FIELDS = 12  # of TextEncoderConfig, up to `attention_dropout`
MOST_UNKNOWN = 0.05  # of the word pieces of a text, before a warning


class LoadedEncoder(NamedTuple):
    """A text encoder: sizes, pretrained parameters (None: start anew) and tokenizer."""

    config: TextEncoderConfig
    params: dict | None
    tokenizer: WordPieces


def load_text_encoder(config: ConfigDict, train: Sequence[Dialogue]) -> LoadedEncoder:
    """Returns the encoder of `config.text`; without `pretrained`, one over the words of `train`.

    Says on stderr which heads of a pretrained encoder are not read, and if its tokenizer does not
    know much of `train`, unless that is empty.

    Raises:
      InputError: the pretrained encoder cannot be used, or not with this config.
    """
    if config.text.pretrained:
        folder = resolve_pretrained(config.text.pretrained)
        encoder, params, heads = load_pretrained(folder)
        tokenizer = load_tokenizer(folder, encoder.vocab_size)
        if train:
            _warn(config, heads, *unknown_pieces(train, tokenizer, config.text.speaker_names))
    else:
        tokenizer = word_tokenizer(train)
        encoder = TextEncoderConfig(
            vocab_size=tokenizer.size, max_positions=config.text.max_tokens, **config.text.encoder
        )
        params = None
    check_positions(encoder, config, config.text.pretrained)
    return LoadedEncoder(_as_trained(encoder, config), params, tokenizer)


def check_positions(encoder: TextEncoderConfig, config: ConfigDict, name: str) -> None:
    """Raises InputError if the encoder `name` has no positions for the longest segment."""
    if encoder.max_positions < config.text.max_tokens:
        raise InputError(
            f"config.text.max_tokens: {config.text.max_tokens} is more than the "
            f"{encoder.max_positions} positions of {name}; lower it"
        )


def _as_trained(encoder: TextEncoderConfig, config: ConfigDict) -> TextEncoderConfig:
    return dataclasses.replace(
        encoder,
        dropout=config.text.dropout,
        attention_dropout=config.text.attention_dropout,
        lora_rank=config.text.lora_rank,
    )


def _warn(config: ConfigDict, heads: list[str], unknown: float, examples: list[str]) -> None:
    name = config.text.pretrained
    if heads:
        print(f"{name}: its heads are not read: {', '.join(heads)}", file=sys.stderr)
    if unknown > MOST_UNKNOWN:
        print(
            f"{name}: its tokenizer does not know {unknown:.0%} of the word pieces of the training "
            f"text, such as {', '.join(map(repr, examples))}; is it for another language?",
            file=sys.stderr,
        )


def utterance_vectors(
    encoder: LoadedEncoder, dialogues: Sequence[Dialogue], config: ConfigDict, mesh: Mesh
) -> FeatureTable:
    """Returns a frozen encoder's vectors of the utterances of `dialogues`, one row each.

    Args:
      encoder: with its parameters.
      dialogues: utterances beyond `config.data.max_utterances` get no row.
      config: of the run.
      mesh: the devices.

    Raises:
      InputError: two utterances have one id.
    """
    encode = _make_encode(encoder.config, mesh)
    params = replicate(encoder.params, mesh)
    batches = make_batches(
        dialogues, encoder.tokenizer, {}, config, mesh.size, BINARY, own_places(mesh)
    )
    vectors: dict[str, np.ndarray] = {}
    for places, batch in batches.epoch(seed=0, epoch=0):
        values = fetch(encode(params, put_batch(batch, mesh)))
        for place, index in enumerate(places):
            if index >= 0:
                example = batches.examples[index]
                utterances = example.dialogue.utterances[: example.length]
                for utterance, vector in zip(utterances, values[place], strict=False):
                    if utterance.id in vectors:
                        raise InputError(
                            f"utterance id {utterance.id} is duplicated; the vectors of a frozen "
                            "encoder are stored by id, so ids must be unique across all splits"
                        )
                    vectors[utterance.id] = vector
    return FeatureTable(
        np.stack(list(vectors.values())), {utterance: row for row, utterance in enumerate(vectors)}
    )


@functools.cache  # a Predictor calls this often, and each new function would be compiled again
def _make_encode(config: TextEncoderConfig, mesh: Mesh) -> Compiled:
    """The compiled function (params, batch) -> utterance vectors [b, n, d]."""
    module = TextEncoder(config)

    def encode(params: dict, batch: Batch) -> jax.Array:
        return encode_utterances(partial(module.apply, {"params": params}), batch)

    sharded = jax.shard_map(encode, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS))
    return Compiled(jax.jit(sharded), "the text encoder")


def cached_vectors(
    encoder: LoadedEncoder,
    splits: Mapping[str, Sequence[Dialogue]],
    config: ConfigDict,
    mesh: Mesh,
) -> FeatureTable:
    """`utterance_vectors` of all splits, from `config.text.cache` if they were computed before.

    The key is a digest of everything they depend on, so a cached table is never stale. Says on
    stderr what it encodes.
    """
    dialogues = [dialogue for split in splits.values() for dialogue in split]
    folder = Path(config.text.cache) / vectors_key(encoder, dialogues, config)
    # All processes encode together, even if some of them see a finished table.
    if not everywhere(folder.exists()):
        if first_process():
            most = config.data.max_utterances
            count = sum(min(len(dialogue.utterances), most) for dialogue in dialogues)
            name = config.text.pretrained
            print(f"encoding {count} utterances with {name}, once, for {folder}", file=sys.stderr)
        table = utterance_vectors(encoder, dialogues, config, mesh)
        description = {"extractor": "text encoder", "model": config.text.pretrained}
        table = dataclasses.replace(table, description=description)
        if not first_process():
            return table
        try:
            table.save(folder)
        except (InputError, OSError):
            if not folder.exists():  # unless another run has just written it
                raise
    return FeatureTable.load(folder, check_values=first_process())


def text_input(
    encoder: LoadedEncoder,
    splits: Mapping[str, Sequence[Dialogue]],
    config: ConfigDict,
    mesh: Mesh,
) -> WordPieces | FeatureTable:
    """Returns what the model's text input is made from.

    Args:
      encoder: of the run.
      splits: the dialogues that will be read.
      config: of the run.
      mesh: the devices.

    Returns:
      The tokenizer of an encoder that is part of the model, or the vectors of a frozen one.

    Raises:
      InputError: the encoder is frozen and two utterances have one id.
    """
    if config.text.finetune:
        return encoder.tokenizer
    return cached_vectors(encoder, splits, config, mesh)


def corpus_batches(
    encoder: LoadedEncoder, corpus: Corpus, config: ConfigDict, mesh: Mesh
) -> dict[str, Batches]:
    """Returns the batches of every split, with the text input that `text_input` makes.

    How many dialogues are cut to `config.data.max_utterances` is said on stderr.

    Raises:
      InputError: as `text_input`.
    """
    if first_process():
        _say_what_is_cut(corpus, config.data.max_utterances)
    text = text_input(encoder, corpus.splits, config, mesh)
    own = own_places(mesh)
    return {
        split: make_batches(dialogues, text, corpus.tables, config, mesh.size, corpus.emotions, own)
        for split, dialogues in corpus.splits.items()
    }


def _say_what_is_cut(corpus: Corpus, n: int) -> None:
    for split, dialogues in corpus.splits.items():
        cut = [dialogue for dialogue in dialogues if len(dialogue.utterances) > n]
        if cut:
            lost = sum(max(pair) >= n for dialogue in cut for pair in dialogue.pairs or ())
            pairs = sum(len(dialogue.pairs or ()) for dialogue in dialogues)
            print(
                f"{split}: {len(cut)} of {len(dialogues)} conversations have more than "
                f"config.data.max_utterances, {n}, and are cut; {lost} of {pairs} pairs are lost",
                file=sys.stderr,
            )


def frozen_digest(encoder: LoadedEncoder, config: ConfigDict) -> str | None:
    """Identifies an encoder that no checkpoint holds; None for one that is trained."""
    return None if trains_encoder(config) else encoder_digest(encoder)


def load_trained_encoder(
    config: ConfigDict,
    sizes: TextEncoderConfig,
    tokenizer: WordPieces,
    pretrained: str,
) -> LoadedEncoder:
    """Returns the encoder of a trained run.

    Args:
      config: of the run.
      sizes, tokenizer: from the run's folder.
      pretrained: from there too; see `absolute_name`.

    Returns:
      With parameters if they are not in the run's checkpoint: if it is frozen or has adapters.

    Raises:
      InputError: such an encoder is no longer where the config says.
    """
    if trains_encoder(config):
        return LoadedEncoder(sizes, None, tokenizer)
    folder = pretrained if Path(pretrained).is_dir() else config.text.pretrained
    encoder, params, _ = load_pretrained(folder)
    return LoadedEncoder(_as_trained(encoder, config), params, tokenizer)


def absolute_name(config: ConfigDict) -> str:
    """Returns the pretrained encoder's folder, findable from any other, or its hub name."""
    name = config.text.pretrained
    folder = Path(name).expanduser()
    return str(folder.resolve()) if name and folder.is_dir() else name


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
    """Returns what tells a corpus and an encoder from others, but for the values of features."""
    dialogues = [dialogue for split in corpus.splits.values() for dialogue in split]
    labels = [[d.pairs, [u.emotion for u in d.utterances]] for d in dialogues]
    tables = [[t.description, t.dimension, t.row_of_id, t.absent] for t in corpus.tables.values()]
    return [vectors_key(encoder, dialogues, config), labels, tables]


def encoder_digest(encoder: LoadedEncoder) -> str:
    """A digest of an encoder's sizes, parameters and tokenizer, without adapters."""
    frozen = dataclasses.replace(encoder.config, dropout=0.0, attention_dropout=0.0, lora_rank=0)
    described = {
        field.name: value
        for number, field in enumerate(dataclasses.fields(frozen))
        # Later fields count where they are used only, so that older digests stay the same.
        if (value := getattr(frozen, field.name)) != field.default or number < _FIRST_FIELDS
    }
    digest = hashlib.sha256(json.dumps(described).encode())
    tokenizer = json.loads(encoder.tokenizer.backend.to_str())
    special = [encoder.tokenizer.special_id(name) for name in ("cls_token", "sep_token")]
    digest.update(json.dumps([tokenizer, special]).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(encoder.params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
