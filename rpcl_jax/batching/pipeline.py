"""From dialogues to the batches of an epoch: made ready once, batched by seed and epoch."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from rpcl_jax.batching.batch import Batch, BatchShape, Example, make_batch, rows_needed
from rpcl_jax.batching.packing import balanced_batches
from rpcl_jax.batching.text import encode_dialogue
from rpcl_jax.data.dialogue import EMOTION_CLASSES, Dialogue
from rpcl_jax.data.features import FeatureTable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_AHEAD = 2  # batches that are made while the devices compute


def make_examples(
    dialogues: Sequence[Dialogue],
    text: "PreTrainedTokenizerBase | FeatureTable",
    tables: Mapping[str, FeatureTable],
    config: ConfigDict,
) -> list[Example]:
    """Cuts and tokenizes every dialogue.

    Args:
      dialogues: in any order, which is kept.
      text: the text encoder's tokenizer, or the table of its vectors where it is frozen.
      tables: feature tables by modality, "audio" and "vision" or fewer.
      config: of the run.
    """
    examples = []
    for dialogue in dialogues:
        kept = Dialogue(dialogue.id, dialogue.utterances[: config.data.max_utterances])
        if isinstance(text, FeatureTable):
            examples.append(Example(dialogue, len(kept.utterances), text, tables))
            continue
        segments = encode_dialogue(
            kept,
            text,
            context=config.text.context,
            speaker_names=config.text.speaker_names,
            max_tokens=config.text.max_tokens,
        )
        examples.append(Example(dialogue, len(kept.utterances), segments, tables))
    return examples


def make_batches(
    dialogues: Sequence[Dialogue],
    text: "PreTrainedTokenizerBase | FeatureTable",
    tables: Mapping[str, FeatureTable],
    config: ConfigDict,
    devices: int,
) -> "Batches":
    """Examples of `dialogues` and their batches as the config says; arguments as above.

    The batch size is rounded up to a multiple of `devices`; training requires one that is.
    """
    return Batches(
        make_examples(dialogues, text, tables, config),
        batch_size=config.batch_size + -config.batch_size % devices,
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

        first = self.examples[0]
        widths = {name: table.dimension for name, table in first.tables.items()}
        if isinstance(first.text, FeatureTable):
            widths["text"] = first.text.dimension
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
        """Yields an epoch's batches; a background thread makes the next two.

        The order is a function of `seed` and `epoch` and of nothing else.

        Yields:
          int [batch_size], which example lies in which place (-1: none), and the batch.
        """
        rng = np.random.default_rng([seed, epoch])
        plan = iter(balanced_batches(self._sizes, self.batch_size, rng))
        with ThreadPoolExecutor(1) as thread:
            waiting = deque(thread.submit(self.make, members) for members in islice(plan, _AHEAD))
            while waiting:
                batch = waiting.popleft().result()
                waiting.extend(thread.submit(self.make, members) for members in islice(plan, 1))
                yield batch

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


def _concatenate(parts: Sequence[Any]) -> Any:
    """Lays the devices' batches, or parts of them, one after the other along axis 0."""
    if parts[0] is None:
        return None
    if isinstance(parts[0], tuple):
        return type(parts[0])(*(_concatenate(part) for part in zip(*parts, strict=True)))
    return np.concatenate(parts)
