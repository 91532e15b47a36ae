"""Predicts the emotion-cause pairs of unlabelled conversations, with confidences."""

import contextlib
import gzip
import os
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from tqdm import tqdm

from rpcl_jax.batching.batch import candidate_mask
from rpcl_jax.batching.stream import prefetched
from rpcl_jax.data.dialogue import Dialogue, check_unique
from rpcl_jax.data.features import FeatureTable, check_same_extractor
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.decode import decode_pairs, pair_emotions
from rpcl_jax.evaluation.scoring import Scores
from rpcl_jax.evaluation.windows import owned, window_starts
from rpcl_jax.files import json_bytes, read_json, written_whole
from rpcl_jax.models.pretrained import resolve_pretrained
from rpcl_jax.readers import conversations as our_format
from rpcl_jax.readers import semeval, transcripts
from rpcl_jax.readers.transcripts import conversations_in, parse
from rpcl_jax.run.export import described_features, is_exported, load_exported
from rpcl_jax.run.workdir import TrainedRun
from rpcl_jax.training.mesh import first_process

_CHUNK = 16  # batches that are planned together
_EVERY = 30.0  # seconds between the lines that say how far it is, without a terminal


class _Read(NamedTuple):
    """A conversation of a stream, and its dialogue or why it has none."""

    place: str
    conversation: Mapping[str, Any]
    dialogue: Dialogue | InputError


class Predictor:
    """A trained run, ready for new conversations.

    predictor = Predictor.from_workdir("runs/ecf_minilm/rpcl-t-seed42")
    for conversation in predictor(conversations):
        print(conversation["emotion-cause_pairs"], conversation["pair_confidences"])
    """

    def __init__(self, run: TrainedRun, threshold: float):
        self._run = run
        self._threshold = threshold

    @property
    def max_utterances(self) -> int:
        """Longer conversations are scored in windows of this many utterances."""
        return self._run.config.data.max_utterances

    @classmethod
    def from_workdir(cls, workdir: str | Path) -> "Predictor":
        """Loads the best epoch of a finished run, with its validation threshold.

        Raises:
          InputError: there is no finished run.
        """
        workdir = Path(workdir)
        run = TrainedRun.from_workdir(workdir)
        if not (workdir / "result.json").exists():
            raise InputError(
                f"{workdir}: the run is not finished; run its training command again to finish it"
            )
        return cls(run, read_json(workdir / "result.json")["threshold"])

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> "Predictor":
        """Loads a run that tools/export.py has written.

        Args:
          name: of a folder, or of a model on the Hugging Face hub.
          revision: branch, tag or commit on the hub; None is its main branch.

        Raises:
          InputError: there is no such model, or its files do not fit each other.
        """
        return cls(*load_exported(resolve_pretrained(name, revision)))

    @classmethod
    def from_folder(cls, folder: Path) -> "Predictor":
        """Loads the folder of a finished run, or one that tools/export.py has written."""
        return (cls.from_pretrained if is_exported(folder) else cls.from_workdir)(folder)

    def __call__(
        self,
        conversations: Sequence[Mapping[str, Any]],
        tables: Mapping[str, FeatureTable] | None = None,
        where: str = "conversations",
    ) -> list[dict[str, Any]]:
        """Returns the conversations with their pairs.

        Args:
          conversations: all in the format of SemEval-2024 Task 3, or all in that of
            `rpcl_jax.readers.conversations`. Labels, if any, are ignored.
          tables: features of their utterances by modality, for a run that reads "audio" or
            "vision".
          where: what error messages call the conversations.

        Returns:
          A copy of each with its pairs, 1-based, and "pair_confidences": SemEval's format has
          "emotion-cause_pairs" ([["3_surprise", "1"], …]), ours "pairs" ([[3, 1], …]) and
          "pair_emotions". A conversation of more than `max_utterances` is scored in windows that
          overlap by half.

        Raises:
          InputError: a conversation is malformed, or a table is missing or not like the run's own.
        """
        if isinstance(conversations, str) or not isinstance(conversations, Sequence):
            raise InputError(
                f"{where}: must be a list of conversations, not of type "
                f"{type(conversations).__name__}; put a single conversation into a list"
            )
        if not conversations:
            return []
        dialogues = _parse(conversations, where)
        own = self._own_tables(tables, where)
        for table in own.values():
            table.check_covers(dialogues, where)
        reads = map(_Read, [where] * len(dialogues), conversations, dialogues)
        # None of them is an error, because `_parse` would have raised it.
        return [item for _, item in self._predict(reads, own) if isinstance(item, dict)]

    def stream(
        self,
        found: Iterable[tuple[str, Mapping[str, Any] | InputError]],
        tables: Mapping[str, FeatureTable] | None = None,
    ) -> Iterator[tuple[str, dict[str, Any] | InputError]]:
        """Yields conversations with their pairs, in order and in constant memory.

        A background thread reads them and prepares batches while the devices compute.

        Args:
          found: conversations, or why they cannot be read, as `conversations_in` yields them.
          tables: as for `__call__`; then the ids of conversations must be unique.

        Yields:
          The place of each, and the conversation as `__call__` returns it or why there is none.

        Raises:
          InputError: a table is missing, not like the run's own, or lacks an utterance.
        """
        own = self._own_tables(tables, "the input")
        ids: set[str] = set()

        def read(place: str, item: Mapping[str, Any] | InputError) -> _Read:
            if isinstance(item, InputError):
                return _Read(place, {}, item)
            try:
                dialogue = parse(dict(item), place, Counter())  # counted when it was read
                if own and dialogue.id in ids:
                    raise InputError(
                        f"{place}: conversation id {dialogue.id} is duplicated; ids must be unique"
                    )
            except InputError as error:
                return _Read(place, item, error)
            for table in own.values():
                ids.add(dialogue.id)
                table.check_covers([dialogue], place)
            return _Read(place, item, dialogue)

        return self._predict((read(place, item) for place, item in found), own)

    def _own_tables(
        self, tables: Mapping[str, FeatureTable] | None, where: str
    ) -> dict[str, FeatureTable]:
        """Returns the tables of the modalities that the run reads."""
        for modality in self._run.feature_tables:
            if modality not in (tables or {}):
                raise InputError(
                    f"{where}: this run reads {modality} too; give the features of these "
                    "conversations (--features) or their clips (--clips), or use a run with "
                    "--config.modalities=t"
                )
        return {modality: (tables or {})[modality] for modality in self._run.feature_tables}

    def _predict(
        self, reads: Iterable[_Read], tables: Mapping[str, FeatureTable]
    ) -> Iterator[tuple[str, dict[str, Any] | InputError]]:
        width = self.max_utterances

        def prepare(chunk: list[_Read]):
            pieces = [
                Dialogue(read.dialogue.id, read.dialogue.utterances[start : start + width])
                for read in chunk
                if isinstance(read.dialogue, Dialogue)
                for start in window_starts(len(read.dialogue.utterances), width)
            ]
            return chunk, self._run.prepare(pieces, tables)

        # The devices already work on the next chunk while this one is decoded and written.
        running: deque[tuple[list[_Read], Callable[[], dict[int, Scores]]]] = deque()
        for chunk, batches in prefetched(map(prepare, self._chunks(reads))):
            running.append((chunk, self._run.score_prepared(batches)))
            if len(running) > 1:
                yield from self._decode(*running.popleft())
        for last in running:
            yield from self._decode(*last)

    def _chunks(self, reads: Iterable[_Read]) -> Iterator[list[_Read]]:
        """Yields as many conversations as fill some batches, or fewer if they are very long."""
        most = _CHUNK * self._run.config.batch_size
        chunk: list[_Read] = []
        utterances = 0
        for read in reads:
            chunk.append(read)
            if isinstance(read.dialogue, Dialogue):
                utterances += len(read.dialogue.utterances)
            if len(chunk) == most or utterances >= most * self.max_utterances:
                yield chunk
                chunk, utterances = [], 0
        if chunk:
            yield chunk

    def _decode(
        self, chunk: Iterable[_Read], wait: Callable[[], dict[int, Scores]]
    ) -> Iterator[tuple[str, dict[str, Any] | InputError]]:
        scores = wait()
        used = 0
        for read in chunk:
            if isinstance(read.dialogue, InputError):
                yield read.place, read.dialogue
                continue
            length = len(read.dialogue.utterances)
            starts = window_starts(length, self.max_utterances)
            windows = [scores[index] for index in range(used, used + len(starts))]
            used += len(starts)
            pairs, confidences, probabilities = self._pairs(windows, starts, length)
            emotions = pair_emotions(probabilities, pairs, self._run.emotions)
            ours = our_format.is_ours(read.conversation)
            with_pairs = our_format.with_pairs if ours else semeval.with_pairs
            yield read.place, with_pairs(read.conversation, pairs, emotions, confidences)

    def _pairs(
        self, windows: Sequence[Scores], starts: list[int], length: int
    ) -> tuple[list[tuple[int, int]], list[float], np.ndarray]:
        """Returns a conversation's pairs, their confidences, and emotions [length, C]."""
        found: list[tuple[tuple[int, int], float]] = []
        probabilities = np.zeros((length, len(self._run.emotions)), np.float32)
        for number, (start, scores) in enumerate(zip(starts, windows, strict=True)):
            n = min(self.max_utterances, length - start)
            mask = candidate_mask(np.ones(n, bool), self._run.config.data.candidates)
            own = np.ones(n, bool)
            if len(starts) > 1:
                own_pairs, own = owned(starts, self.max_utterances, length, number)
                mask &= own_pairs
            probabilities[start : start + n][own] = scores.emotion_probabilities[:n][own]
            confidence = np.asarray(scores.pair_confidence)[:n, :n]
            found += [
                ((start + i, start + j), float(confidence[i, j]))
                for i, j in decode_pairs(confidence, mask, self._threshold)
            ]
        found.sort()
        return [pair for pair, _ in found], [p for _, p in found], probabilities


def _parse(conversations: Sequence[Mapping[str, Any]], where: str) -> list[Dialogue]:
    if any(our_format.is_ours(conversation) for conversation in conversations):
        return our_format.parse_objects(conversations, where, False)
    return semeval.parse_conversations(conversations, where, False)


def extract_tables(
    feature_tables: Mapping[str, Mapping[str, Any]],
    dialogues: Sequence[Dialogue],
    clips: Path,
    folder: Path,
) -> dict[str, FeatureTable]:
    """Extracts the features that a run reads from the clips of new conversations.

    Args:
      feature_tables: of the run, from its `model.json`.
      dialogues: the conversations; `rpcl_jax.extraction.finding.find_clip` says how their clips are
        found.
      clips: folder of the audio and video files.
      folder: where the tables are written.

    Raises:
      InputError: PyTorch or an extractor is missing, or its revision is not the one that the run
        was trained with.
    """
    # Imported here because they need PyTorch, which nothing else does.
    from rpcl_jax.extraction.extract import extract_table
    from rpcl_jax.extraction.extractors import EXTRACTORS, load_extractor

    utterances = [utterance for dialogue in dialogues for utterance in dialogue.utterances]
    tables = {}
    for modality, trained_with in feature_tables.items():
        if not {"extractor", "revision"} <= trained_with.keys():
            raise InputError(
                f"--clips: the table of {modality} that the run was trained with does not say its "
                "extractor and revision; give such features by --features"
            )
        if trained_with["extractor"] not in EXTRACTORS:
            raise InputError(
                f"--clips: the run was trained with {modality} of {trained_with['extractor']!r}"
                ", which is not one of our extractors; give such features by --features"
            )
        extractor = load_extractor(
            trained_with["extractor"], trained_with.get("model", ""), trained_with["revision"]
        )
        check_same_extractor(extractor.description, trained_with, extractor.description["model"])
        absent = extract_table(utterances, clips, extractor, folder / modality)
        for utterance, reason in absent:
            print(f"{utterance}: no {modality}: {reason}", file=sys.stderr)
        tables[modality] = FeatureTable.load(folder / modality)
    return tables


class Summary(NamedTuple):
    """How much was predicted."""

    conversations: int = 0
    utterances: int = 0
    pairs: int = 0
    windowed: int = 0  # conversations that are longer than the model reads at once
    rejected: int = 0  # conversations that cannot be read


def write_results(
    results: Iterable[tuple[str, dict[str, Any] | InputError]],
    raw: BinaryIO,
    name: str,
    max_utterances: int,
    reject: Callable[[str, InputError], None],
    advance: Callable[[int], object] = lambda _: None,
) -> Summary:
    """Writes conversations with their pairs.

    Args:
      results: from `Predictor.stream`.
      raw: what to write to.
      name: of the file. JSON lines if it ends in .jsonl, else a JSON list; .gz may follow.
      max_utterances: of the predictor.
      reject: is told the place of a conversation that cannot be read, and why.
      advance: is told how many utterances each conversation has that was written.
    """
    done = Summary()
    as_list = not name.removesuffix(".gz").endswith(".jsonl")
    with contextlib.ExitStack() as stack:
        file: Any = raw
        if name.endswith(".gz"):
            file = stack.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0))
        for place, item in results:
            if isinstance(item, InputError):
                done = done._replace(rejected=done.rejected + 1)
                reject(place, item)
                continue
            if as_list:  # as `write_json` writes the whole list
                text = json_bytes(item, indent=2).rstrip().replace(b"\n", b"\n  ")
                file.write((b",\n  " if done.conversations else b"[\n  ") + text)
            else:
                file.write(json_bytes(item))
            length = len(item["utterances" if our_format.is_ours(item) else "conversation"])
            done = Summary(
                conversations=done.conversations + 1,
                utterances=done.utterances + length,
                pairs=done.pairs + len(item["pair_confidences"]),
                windowed=done.windowed + (length > max_utterances),
                rejected=done.rejected,
            )
            advance(length)
        if as_list:
            file.write(b"\n]\n" if done.conversations else b"[]\n")
    return done


def predict_file(
    workdir: Path,
    source: Path,
    target: Path,
    features: Path | None = None,
    clips: Path | None = None,
    strict: bool = False,
) -> Summary:
    """Predicts the conversations of a file or a folder into the file `target`.

    Of JSON lines, memory does not grow with their number. Conversations that cannot be read are
    listed on stderr, and so is what was mended in others.

    Args:
      workdir: folder of a finished run, or of one that tools/export.py has written.
      source: see `rpcl_jax.readers.transcripts.conversations_in`.
      target: see `write_results`.
      features: folder with the tables `audio` and `vision` of these conversations, or None.
      clips: folder of their clips, from which the features are extracted, or None.
      strict: predict nothing unless every conversation can be read.

    Raises:
      InputError: a file is missing, nothing can be read or, if `strict`, not everything can.
    """
    if target.is_dir():
        raise InputError(f"{target}: is a folder; give the name of a file")
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target}: is the input; write to another file")
    if source.is_dir() and target.resolve().is_relative_to(source.resolve()):
        raise InputError(
            f"{target}: is inside the folder of the input, and would be read as input the next "
            "time; write elsewhere"
        )
    target.parent.mkdir(parents=True, exist_ok=True)  # fail early
    if strict:
        everything = conversations_in(source, Counter())
        errors = [item for _, item in everything if isinstance(item, InputError)]
        for error in errors if first_process() else ():
            _complain(str(source), error)
        if errors:
            raise InputError(f"{source}: {len(errors)} conversations cannot be read (--strict)")
    mended = Counter[str]()
    size = max(1, sum(file.stat().st_size for file in transcripts.files_in(source)))
    bytes_read = 0

    def watch(count: int) -> None:
        nonlocal bytes_read
        bytes_read += count

    found: Iterable = conversations_in(source, mended, watch)
    read = described_features(workdir)
    # Windows cannot remove a table that is mapped.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        tables = {}
        # Before the model is loaded: on a GPU, JAX takes most of the memory.
        if clips:
            found = list(found)
            dialogues = [parse(i, p, Counter()) for p, i in found if not isinstance(i, InputError)]
            check_unique(dialogues, str(source))
            if dialogues:
                tables = extract_tables(read, dialogues, clips, Path(folder))
        elif features:
            tables = {modality: FeatureTable.load(features / modality) for modality in read}
        predictor = Predictor.from_folder(workdir)
        first = first_process()  # of several that predict together, it alone writes
        # From clips of nothing, no table is made that the predictor could miss.
        results = found if clips and not tables else predictor.stream(found, tables)
        with (
            written_whole(target) if first else open(os.devnull, "wb") as file,
            progress(size, "B") if first else contextlib.nullcontext(lambda *_: None) as advance,
        ):
            done = write_results(
                results,
                file,
                target.name,
                predictor.max_utterances,
                _complain if first else _be_silent,
                lambda utterances: advance(utterances, bytes_read),
            )
            if done.rejected and not done.conversations:
                raise InputError(f"{source}: no conversation in it can be read; nothing is written")
    if first:
        report(done, mended)
    return done


def report(done: Summary, mended: Counter[str]) -> None:
    """Says on stderr what was mended, and what was scored in windows."""
    transcripts.report(mended)
    if done.windowed:
        print(
            f"{done.windowed} conversations are longer than the model reads at once; they were "
            "scored in windows that overlap by half",
            file=sys.stderr,
        )


def _complain(_: str, error: InputError) -> None:
    tqdm.write(f"cannot be read: {error}", file=sys.stderr)


def _be_silent(_: str, error: InputError) -> None:
    pass


@contextlib.contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[..., None]]:
    """Shows how far a prediction is and how many utterances it does in a second.

    Without a terminal, it prints a line from time to time.

    Args:
      total: how much there is to do.
      unit: of `total`, " files" or "B" for bytes.

    Yields:
      A function that is told how many more utterances have been predicted, and how much of `total`
      is done in all.
    """
    terminal = sys.stderr.isatty()
    started = shown = time.perf_counter()
    predicted = 0

    def advance(utterances: int, done: int) -> None:
        nonlocal predicted, shown
        predicted += utterances
        now = time.perf_counter()
        rate = f"{predicted / (now - started):.0f} utterances/s"
        bar.set_postfix_str(rate, refresh=False)
        bar.update(done - bar.n)
        if not terminal and now - shown > _EVERY:
            shown = now
            part = f"{done} of {total} files" if unit == " files" else f"{min(done / total, 1):.0%}"
            print(f"{part}, {predicted} utterances, {rate}", file=sys.stderr, flush=True)

    with tqdm(total=total, unit=unit, unit_scale=True, disable=not terminal, leave=False) as bar:
        yield advance
