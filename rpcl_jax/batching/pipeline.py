"""From dialogues to the batches of an epoch: tokenized once, then batched by seed and epoch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Any, TypeVar

import numpy as np
from ml_collections import ConfigDict

from rpcl_jax.batching.batch import (
    Batch,
    BatchShape,
    Example,
    Rows,
    label_arrays,
    make_batch,
    plan_rows,
)
from rpcl_jax.batching.packing import balanced_batches, balanced_shares, short_row_length
from rpcl_jax.batching.text import Pieces, encode_dialogue
from rpcl_jax.batching.tokenizer import WordPieces
from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.data.features import FeatureTable

T = TypeVar("T")
_END = object()


def make_examples(
    dialogues: Sequence[Dialogue],
    text: WordPieces | FeatureTable,
    tables: Mapping[str, FeatureTable],
    config: ConfigDict,
    emotions: Sequence[str],
) -> list[Example]:
    """Cuts and tokenizes every dialogue; returns the examples in the same order.

    `text` is the text encoder's tokenizer, or the table of its vectors if it is frozen.
    """
    examples = []
    for dialogue in dialogues:
        kept = Dialogue(dialogue.id, dialogue.utterances[: config.data.max_utterances])
        length = len(kept.utterances)
        labels = label_arrays(dialogue, length, tuple(emotions))
        encoded: Pieces | FeatureTable
        if isinstance(text, FeatureTable):
            encoded = text
        else:
            encoded = encode_dialogue(
                kept,
                text,
                context=config.text.context,
                speaker_names=config.text.speaker_names,
                max_tokens=config.text.max_tokens,
            )
        examples.append(Example(dialogue, length, labels, encoded, tables))
    return examples


def prefetched(items: Iterator[T]) -> Iterator[T]:
    """Yields the items while a background thread makes the next one."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, items, _END)
        while (item := waiting.result()) is not _END:
            waiting = thread.submit(next, items, _END)
            yield item  # type: ignore[misc]


class Batches:
    """The batches of a split, for a number of devices.

    The batches of an epoch have nearly the same number of word pieces (`packing.balanced_batches`)
    and so have the devices' shares (`packing.balanced_shares`), so there are two to five different
    shapes and a jitted step compiles rarely.
    """

    def __init__(
        self,
        dialogues: Sequence[Dialogue],
        text: WordPieces | FeatureTable,
        tables: Mapping[str, FeatureTable],
        config: ConfigDict,
        devices: int,
        emotions: Sequence[str],
        own: Sequence[int] | None = None,
    ):
        """Tokenizes the dialogues with `make_examples`, and plans the shapes of their batches.

        Training requires a number of devices that divides the batch size; otherwise the batch size
        is rounded up to a multiple of it. This process makes the shares of its `own` devices,
        counted from 0; None is all.
        """
        self.examples = make_examples(dialogues, text, tables, config, emotions)
        self.batch_size = config.batch_size + -config.batch_size % devices
        self.devices = devices
        self.own = range(devices) if own is None else own
        self.candidates = config.data.candidates
        self._sizes = np.array([e.segments.sum() or e.length for e in self.examples])
        self._longest = np.array([e.segments.max(initial=0) for e in self.examples])
        self._shapes = self._batch_shapes(config.text.row_length)

    def _batch_shapes(self, row_length: int) -> dict[int, list[BatchShape]]:
        """Returns shapes of a device's share by row length; short rows and tight shapes first."""
        # The mean load, rounded up, usually suffices; odd batches need the next shapes. Dialogue
        # rows get one more: batches are not balanced by utterances, and such a row costs little.
        share = self.batch_size // self.devices
        lengths = np.array([example.length for example in self.examples])
        n = int(lengths.max())

        def row_numbers(sizes: np.ndarray, row: int) -> list[int]:
            mean = -(-sizes.sum() // (len(self) * self.devices * row))
            # Best-fit packing never needs more than twice the rows that the load would fill.
            worst = 2 * -(-np.sort(sizes)[-share:].sum() // row) + 1
            tight = [mean, mean + 1, *(mean + 1 + mean // part for part in (16, 8, 4, 2))]
            return [int(min(rows, worst)) for rows in (*tight, worst)]

        first = self.examples[0]
        widths = {name: table.dimension for name, table in first.tables.items()}
        if isinstance(first.text, FeatureTable):
            widths["text"] = first.text.dimension

        def shapes(length: int) -> list[BatchShape]:
            numbers = zip(row_numbers(lengths, n), row_numbers(self._sizes, length), strict=True)
            return [
                BatchShape(
                    dialogues=share,
                    utterances=n,
                    dialogue_rows=min(dialogue_rows + 1, share),
                    text_rows=text_rows,
                    row_length=length,
                    **widths,
                )
                for dialogue_rows, text_rows in numbers
            ]

        segments = [example.segments for example in self.examples]
        short = short_row_length(segments, self.batch_size, row_length)
        between = takewhile(lambda length: length < row_length, (short << k for k in range(3)))
        return {length: shapes(length)[:-1] for length in between} | {
            row_length: shapes(row_length)
        }

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""
        return -(-len(self.examples) // self.batch_size)

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, Batch]]:
        """Yields an epoch's batches while a background thread prepares the next one.

        What a batch holds depends on `seed` and `epoch` only; where in it, also on the devices. The
        index of the example at each position, int [batch_size] (-1: none), comes with the shares of
        the batch that belong to the devices `own`.
        """
        rng = np.random.default_rng([seed, epoch])
        plan = balanced_batches(self._sizes, len(self), rng)
        yield from prefetched(map(self.make, plan))

    def make(self, members: np.ndarray) -> tuple[np.ndarray, Batch]:
        """Returns the positions and the batch of at most `batch_size` examples, see `epoch`."""
        split = balanced_shares(self._sizes[members], self.devices)
        shares = [members[share] for share in split]
        shape, rows = self._plan(shares, self._longest[members].max())
        return join_shares(self.examples, shares, rows, shape, self.candidates, self.own)

    def _plan(self, shares: Sequence[np.ndarray], longest: int) -> tuple[BatchShape, list[Rows]]:
        """Returns the first shape that all shares fit, and the rows of each."""
        for length, shapes in self._shapes.items():
            if longest > length:
                continue
            n = shapes[0].utterances
            rows = [plan_rows([self.examples[i] for i in part], n, length) for part in shares]
            needed = np.max([(len(r.dialogues), len(r.segments)) for r in rows], axis=0)
            for shape in shapes:
                if (needed <= (shape.dialogue_rows, shape.text_rows)).all():
                    return shape, rows
        raise AssertionError("the last shape holds any batch")


def join_shares(
    examples: Sequence[Example],
    shares: Sequence[np.ndarray],
    rows: Sequence[Rows],
    shape: BatchShape,
    candidates: str,
    own: Iterable[int],
) -> tuple[np.ndarray, Batch]:
    """Returns what `Batches.epoch` yields, of the devices' `shares` of the examples."""
    places = np.full((len(shares), shape.dialogues), -1)
    for row, share in zip(places, shares, strict=True):
        row[: len(share)] = share
    parts = [make_batch([examples[i] for i in shares[k]], rows[k], shape, candidates) for k in own]
    return places.ravel(), _concatenate(parts)


def _concatenate(parts: Sequence[Any]) -> Any:
    """Concatenates the devices' batches, or parts of them, along axis 0."""
    if parts[0] is None:
        return None
    if isinstance(parts[0], tuple):
        return type(parts[0])(*(_concatenate(part) for part in zip(*parts, strict=True)))
    return np.concatenate(parts)
