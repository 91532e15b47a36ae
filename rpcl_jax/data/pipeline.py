"""From dialogues to the batches of an epoch: made ready once, batched by seed and epoch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grain
import numpy as np
from ml_collections import ConfigDict

from rpcl_jax.data.batch import Batch, BatchShape, Example, make_batch, rows_needed
from rpcl_jax.data.dialogue import EMOTION_CLASSES, Dialogue
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.data.packing import balanced_batches
from rpcl_jax.data.text import encode_dialogue

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def make_examples(
    dialogues: Sequence[Dialogue],
    tokenizer: "PreTrainedTokenizerBase",
    tables: Mapping[str, FeatureTable],
    config: ConfigDict,
) -> list[Example]:
    """Cuts and tokenizes every dialogue.

    Args:
      dialogues: in any order, which is kept.
      tokenizer: of the text encoder.
      tables: feature tables by modality, "audio" and "vision" or fewer; and "text" where the
        encoder is frozen, which takes the place of word pieces.
      config: of the run.
    """
    examples = []
    for dialogue in dialogues:
        kept = Dialogue(dialogue.id, dialogue.utterances[: config.data.max_utterances])
        segments = []
        if "text" not in tables:
            segments = encode_dialogue(
                kept,
                tokenizer,
                context=config.text.context,
                speaker_names=config.text.speaker_names,
                max_tokens=config.text.max_tokens,
            )
        examples.append(Example(dialogue, len(kept.utterances), segments, tables))
    return examples


def make_batches(
    dialogues: Sequence[Dialogue],
    tokenizer: "PreTrainedTokenizerBase",
    tables: Mapping[str, FeatureTable],
    config: ConfigDict,
    devices: int,
) -> "Batches":
    """Examples of `dialogues` and their batches as the config says; arguments as above."""
    return Batches(
        make_examples(dialogues, tokenizer, tables, config),
        batch_size=config.batch_size,
        row_length=config.text.row_length,
        candidates=config.data.candidates,
        emotions=EMOTION_CLASSES[config.data.emotions],
        devices=devices,
    )


class Batches:
    """The batches of a split, for a number of devices.

    Every batch of an epoch takes nearly the same number of word pieces
    (`packing.balanced_batches`), and rows come in at most four numbers, so a jitted step compiles
    at most four times.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        batch_size: int,
        row_length: int,
        candidates: str,
        emotions: tuple[str, ...],
        devices: int,
    ):
        """Batches of `batch_size` dialogues over `devices`, which must divide it."""
        if batch_size % devices:
            raise ValueError(f"batch size {batch_size} does not divide over {devices} devices")
        self.examples = examples
        self.batch_size = batch_size
        self.devices = devices
        self.candidates = candidates
        self.emotions = emotions
        self._sizes = np.array([example.tokens or example.length for example in examples])
        self._shapes = self._batch_shapes(row_length)

    def _batch_shapes(self, row_length: int) -> list[BatchShape]:
        """What a device's share of a batch may look like, from the tightest to one that holds any.

        The mean load rounded up serves one device; more devices, or a last odd batch, need the
        next steps. Utterances, which batches are not balanced by, get a row to spare: it costs
        little beside a row of word pieces.
        """
        share = self.batch_size // self.devices
        lengths = np.array([example.length for example in self.examples])
        n = int(lengths.max())

        def row_numbers(sizes: np.ndarray, row: int) -> list[int]:
            mean = -(-sizes.sum() // (len(self) * self.devices * row))
            # No packing of a share needs more than twice the rows that its load fills.
            worst = 2 * -(-np.sort(sizes)[-share:].sum() // row) + 1
            return [int(min(r, worst)) for r in (mean, mean + 1, mean + 1 + mean // 4, worst)]

        tables = self.examples[0].tables
        widths = {name: table.dimension for name, table in tables.items()}
        return [
            BatchShape(
                dialogues=share,
                utterances=n,
                dialogue_rows=min(dialogue_rows, share),
                text_rows=text_rows,
                row_length=row_length,
                **widths,
            )
            for dialogue_rows, text_rows in zip(
                [r + 1 for r in row_numbers(lengths, n)],
                row_numbers(self._sizes, row_length),
                strict=True,
            )
        ]

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.examples) // self.batch_size)

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, Batch]]:
        """Yields an epoch's batches, made in a background thread.

        The order is a function of `seed` and `epoch` and of nothing else.

        Yields:
          int [batch_size], which example lies in which place (-1: none), and the batch.
        """
        rng = np.random.default_rng([seed, epoch])
        source = _Source(self, balanced_batches(self._sizes, self.batch_size, rng))
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        yield from grain.MapDataset.source(source).to_iter_dataset(options)

    def make(self, members: np.ndarray) -> tuple[np.ndarray, Batch]:
        """The batch of the examples `members`, at most `batch_size`, in this order."""
        places = np.full(self.batch_size, -1)
        places[: len(members)] = members
        shares = [
            [self.examples[index] for index in share if index >= 0]
            for share in places.reshape(self.devices, -1)
        ]
        n, row_length = self._shapes[0].utterances, self._shapes[0].row_length
        needed = np.max([rows_needed(share, n, row_length) for share in shares], axis=0)
        shape = next(s for s in self._shapes if (needed <= (s.dialogue_rows, s.text_rows)).all())
        return places, _concatenate(
            [make_batch(share, shape, self.candidates, self.emotions) for share in shares]
        )


class _Source:
    """A random-access source for Grain: number of a batch in the epoch -> batch."""

    def __init__(self, batches: Batches, plan: Sequence[np.ndarray]):
        self._batches = batches
        self._plan = plan

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Batch]:
        return self._batches.make(self._plan[index])


def _concatenate(parts: Sequence[Any]) -> Any:
    """Lays the devices' batches, or parts of them, one after the other along axis 0."""
    if parts[0] is None:
        return None
    if isinstance(parts[0], tuple):
        return type(parts[0])(*(_concatenate(part) for part in zip(*parts, strict=True)))
    return np.concatenate(parts)
