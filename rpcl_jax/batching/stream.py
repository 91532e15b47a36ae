"""Batches for inference on a stream: few shapes, whatever the conversations are."""

from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from rpcl_jax.batching.batch import Batch, BatchShape, plan_rows
from rpcl_jax.batching.packing import balanced_batches, short_row_length
from rpcl_jax.batching.pipeline import join_shares, make_examples
from rpcl_jax.batching.tokenizer import WordPieces
from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.data.features import FeatureTable

_FULL = 0.95  # how much of its rows a share of balanced load fills; more may not pack


def stream_batches(
    dialogues: Sequence[Dialogue],
    tokenizer: WordPieces,
    tables: Mapping[str, FeatureTable],
    config: ConfigDict,
    devices: int,
    emotions: Sequence[str],
    own: Sequence[int] | None = None,
) -> list[tuple[np.ndarray, Batch]]:
    """Returns a chunk of a stream in batches whose shapes come from a small set.

    The shapes of `pipeline.Batches` fit one split tightly, so each further chunk would compile
    programs of its own. Here the numbers of rows are powers of two, and the number of utterances
    is one of four. A long stream of similar conversations uses one or two shapes.

    No dialogue may be longer than `config.data.max_utterances`. The batches are as those of
    `Batches.epoch`, for the devices `own` or, if None, for all.
    """
    if not dialogues:
        return []
    examples = make_examples(dialogues, tokenizer, tables, config, emotions)
    share, row_length = -(-config.batch_size // devices), config.text.row_length
    sizes = np.array([example.segments.sum() for example in examples])
    rows, parts = _plan(sizes, share, row_length, devices)
    members = balanced_batches(sizes, parts, np.random.default_rng(0))
    members += [np.array([], int)] * (-parts % devices)
    step = -(-config.data.max_utterances // 4)
    n = step * -(-max(example.length for example in examples) // step)
    n = min(n, config.data.max_utterances)
    longest = np.array([example.segments.max() for example in examples])
    short = short_row_length(
        [example.segments for example in examples], share * devices, row_length
    )
    groups = [members[start : start + devices] for start in range(0, len(members), devices)]
    packed = []
    for group in groups:
        shares, planned = [[examples[i] for i in part] for part in group], []
        length, text_rows = short, rows * row_length // short
        if max(longest[part].max(initial=0) for part in group) <= short:
            planned = [plan_rows(part, n, length) for part in shares]
        if not planned or max(len(r.segments) for r in planned) > text_rows:
            length = row_length
            planned = [plan_rows(part, n, length) for part in shares]
            text_rows = max(rows, _power_of_two(max(len(r.segments) for r in planned)))
        packed.append((group, planned, length, text_rows))
    dialogue_rows = max(len(r.dialogues) for _, planned, _, _ in packed for r in planned)
    batches = []
    for group, planned, length, text_rows in packed:
        shape = BatchShape(
            dialogues=share,
            utterances=n,
            dialogue_rows=min(_power_of_two(dialogue_rows), share),
            text_rows=text_rows,
            row_length=length,
            **{name: table.dimension for name, table in tables.items()},
        )
        places = range(devices) if own is None else own
        batches.append(join_shares(examples, group, planned, shape, config.data.candidates, places))
    return batches


def _plan(sizes: np.ndarray, share: int, row_length: int, devices: int) -> tuple[int, int]:
    """Returns a share's text rows, a power of two, and how many shares fill such rows."""
    load = float(sizes.sum()) / row_length
    parts = -(-len(sizes) // share)
    if parts <= devices:
        parts = min(len(sizes), devices)
        return _power_of_two(load / parts), parts
    rows = 1 << int(np.log2(max(1.0, load / parts / _FULL)))
    return rows, min(len(sizes), max(parts, int(-(-load // (rows * _FULL)))))


def _power_of_two(number: float) -> int:
    """Returns the lowest power of two that is at least `number`."""
    return 1 << (int(np.ceil(number)) - 1).bit_length() if number > 1 else 1
