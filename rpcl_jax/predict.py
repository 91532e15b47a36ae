"""Predicts the emotion-cause pairs of unlabelled conversations, with confidences."""

import contextlib
import os
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from rpcl_jax.batching.packing import PackedText
from rpcl_jax.batching.stream import prefetched
from rpcl_jax.batching.text import longest_utterance
from rpcl_jax.data.dialogue import Dialogue, with_own_ids
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.decode import emotion_choices, predict
from rpcl_jax.evaluation.scoring import Scores
from rpcl_jax.evaluation.windows import merged, window_starts
from rpcl_jax.files import make_folder, read_json, written_whole
from rpcl_jax.models.pretrained import hub_name
from rpcl_jax.readers import conversations as our_format
from rpcl_jax.readers import semeval, transcripts
from rpcl_jax.readers.transcripts import conversations_in, parse
from rpcl_jax.reporting.pairs_page import FLOOR, also_shown
from rpcl_jax.reporting.predictions import (
    CANDIDATES,
    CHOICES,
    Summary,
    report,
    rounded,
    with_prediction,
    write_results,
)
from rpcl_jax.run.export import (
    described_features,
    is_exported,
    load_exported,
    resolve_exported,
)
from rpcl_jax.run.hosts import agree, notes_of_first_process
from rpcl_jax.run.progress import progress
from rpcl_jax.run.text_vectors import MOST_UNKNOWN
from rpcl_jax.run.workdir import TrainedRun
from rpcl_jax.training.mesh import first_process

_CHUNK = 16  # batches that are planned together


class _Read(NamedTuple):
    """A conversation of a stream, and its dialogue or why it has none."""

    place: str
    conversation: Mapping[str, Any]
    dialogue: Dialogue | InputError


class Predictor:
    """A trained run, ready for new conversations.

    predictor = Predictor.from_workdir("runs/ecf_minilm/rpcl-t-seed42")
    conversations = [{"utterances": [{"text": "I lost it."}, {"text": "Oh no, I am so sorry!"}]}]
    for conversation in predictor(conversations):
        print(conversation["pairs"], conversation["pair_confidences"])
    """

    def __init__(self, run: TrainedRun, threshold: float, name: str):
        """Predicts the pairs with at least the confidence `threshold`, under the name `name`."""
        self._run = run
        self._threshold = threshold
        self._name = name
        self._said_absent: Set[str] = set()
        self._pieces = self._unknown_pieces = 0
        self._cut = False

    @property
    def max_utterances(self) -> int:
        """Longer conversations are scored in windows of this many utterances."""
        return self._run.config.data.max_utterances

    @property
    def max_tokens(self) -> int:
        """Of an utterance, this many word pieces are read, with the two special ones."""
        return self._run.config.text.max_tokens

    @classmethod
    def from_workdir(cls, workdir: str | Path, threshold: float | None = None) -> "Predictor":
        """Loads the best epoch of a finished run.

        Args:
          workdir: folder of the run.
          threshold: the least confidence of a pair; None for the one chosen on validation.

        Raises:
          InputError: there is no finished run.
        """
        workdir = Path(workdir)
        run = TrainedRun.from_workdir(workdir)
        if not (workdir / "result.json").exists():
            raise InputError(
                f"{workdir}: the run is not finished; run its training command again to finish it"
            )
        if threshold is None:
            threshold = float(read_json(workdir / "result.json")["threshold"])
        return cls(run, threshold, "/".join(workdir.absolute().parts[-2:]))

    @classmethod
    def from_pretrained(
        cls, name: str | Path, revision: str | None = None, threshold: float | None = None
    ) -> "Predictor":
        """Loads a run that tools/export.py has written.

        Args:
          name: of a folder, or of a model on the Hugging Face hub.
          revision: branch, tag or commit on the hub; None is its main branch.
          threshold: the least confidence of a pair; None for the one chosen on validation.

        Raises:
          InputError: there is no such model, or its files do not fit each other.
        """
        return cls.from_folder(resolve_exported(name, revision), threshold, hub_name(str(name)))

    @classmethod
    def from_folder(
        cls, folder: Path, threshold: float | None = None, name: str = ""
    ) -> "Predictor":
        """Loads the folder of a finished run, or one that tools/export.py has written.

        Args:
          folder: of the run, or exported.
          threshold: the least confidence of a pair; None for the one chosen on validation.
          name: of an exported run; the last two folders if it is empty.
        """
        if not is_exported(folder):
            return cls.from_workdir(folder, threshold)
        run, chosen = load_exported(folder)
        name = name or "/".join(folder.absolute().parts[-2:])
        return cls(run, chosen if threshold is None else threshold, name)

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
            "vision", whose keys are those of `with_own_ids` of `rpcl_jax.data.dialogue`. What is
            not given is absent, which is said on stderr.
          where: what error messages call the conversations.

        Returns:
          A copy of each with its emotions and pairs, as `with_prediction` of
          `rpcl_jax.reporting.predictions` makes it, and with the name of the run and the threshold
          as "predicted_by". A conversation of more than `max_utterances` is scored in windows that
          overlap by half.

        Raises:
          InputError: a conversation is malformed, or a table is not like the run's own.
        """
        if isinstance(conversations, str) or not isinstance(conversations, Sequence):
            raise InputError(
                f"{where}: must be a list of conversations, not of type "
                f"{type(conversations).__name__}; put a single conversation into a list"
            )
        if not conversations:
            return []
        dialogues = _parse(conversations, where)
        own = self._own_tables(tables)
        taken = Counter[str]()
        dialogues = [with_own_ids(dialogue, taken) for dialogue in dialogues]
        for table in own.values():
            table.check_covers(dialogues, where)
        reads = map(_Read, [where] * len(dialogues), conversations, dialogues)
        # None of them is an error, because `_parse` would have raised it.
        return [item for _, item in self._predict(reads, own) if isinstance(item, dict)]

    def stream(
        self,
        found: Iterable[tuple[str, Mapping[str, Any] | InputError]],
        tables: Mapping[str, FeatureTable] | None = None,
        floor: float | None = None,
    ) -> Iterator[tuple[str, dict[str, Any] | InputError]]:
        """Yields conversations with their pairs, in order and in constant memory.

        A background thread reads them and prepares batches while the devices compute.

        Args:
          found: conversations, or why they cannot be read, as `conversations_in` yields them.
          tables: as for `__call__`.
          floor: if given, conversations also have "candidates", [[3, 1, 0.21], …]: what could be a
            pair, with at least this confidence; and "emotion_choices", those of
            `rpcl_jax.evaluation.decode.emotion_choices`.

        Yields:
          The place of each, and the conversation as `__call__` returns it or why there is none.

        Raises:
          InputError: a table is not like the run's own, or lacks an utterance.
        """
        own = self._own_tables(tables)
        taken = Counter[str]()

        def read(place: str, item: Mapping[str, Any] | InputError) -> _Read:
            if isinstance(item, InputError):
                return _Read(place, {}, item)
            try:
                dialogue = parse(dict(item), place, Counter())  # counted when it was read
            except InputError as error:
                return _Read(place, item, error)
            if own:  # else memory would grow with the ids
                dialogue = with_own_ids(dialogue, taken)
            for table in own.values():
                table.check_covers([dialogue], place)
            return _Read(place, item, dialogue)

        return self._predict((read(place, item) for place, item in found), own, floor)

    def _own_tables(self, tables: Mapping[str, FeatureTable] | None) -> dict[str, FeatureTable]:
        """Returns those tables that the run reads, and says on stderr which it misses."""
        tables = tables or {}
        own = {m: tables[m] for m in self._run.feature_tables if m in tables}
        absent = self._run.feature_tables.keys() - own.keys()
        if absent != self._said_absent:
            self._said_absent = absent
            say_what_is_absent(sorted(absent), self._run.config)
        agree(
            "the features", lambda: [[t.description, t.row_of_id, t.absent] for t in own.values()]
        )
        return own

    def _predict(
        self,
        reads: Iterable[_Read],
        tables: Mapping[str, FeatureTable],
        floor: float | None = None,
    ) -> Iterator[tuple[str, dict[str, Any] | InputError]]:
        width = self.max_utterances
        by: dict[str, Any] = {"model": self._name, "threshold": rounded(self._threshold)}
        if absent := [m for m in self._run.feature_tables if m not in tables]:
            by["absent"] = absent

        def prepare(chunk: list[_Read]):
            pieces = [
                Dialogue(read.dialogue.id, read.dialogue.utterances[start : start + width])
                for read in chunk
                if isinstance(read.dialogue, Dialogue)
                for start in window_starts(len(read.dialogue.utterances), width)
            ]
            batches = self._run.prepare(pieces, tables)
            full = False
            for _, batch in batches:
                assert isinstance(batch.text, PackedText)
                self._count(batch.text)
                full |= bool(batch.text.position_ids.max() == self.max_tokens - 1)
            if full and not self._cut:  # only tokenizing anew tells whether something was lost
                names, tokenizer = self._run.config.text.speaker_names, self._run.encoder.tokenizer
                self._cut = longest_utterance(pieces, tokenizer, names) > self.max_tokens - 2
            return chunk, batches

        # The devices already work on the next chunk while this one is decoded and written.
        running: deque[tuple[list[_Read], Callable[[], dict[int, Scores]]]] = deque()
        for chunk, batches in prefetched(map(prepare, self._chunks(reads))):
            agree("the conversations of the input", partial(_texts, chunk))
            running.append((chunk, self._run.score_prepared(batches)))
            if len(running) > 1:
                yield from self._decode(*running.popleft(), floor, by)
        for last in running:
            yield from self._decode(*last, floor, by)

    def _count(self, text: PackedText) -> None:
        # Special pieces and padding have the highest number.
        said = text.token_ids[text.utterance_ids < text.utterance_ids.max()]
        self._pieces += said.size
        unknown = self._run.encoder.tokenizer.unknown_id
        self._unknown_pieces += int(np.count_nonzero(said == unknown))

    def has_cut(self) -> bool:
        """Returns whether an utterance so far had more word pieces than the model reads."""
        return self._cut

    def unknown_share(self) -> float:
        """Returns which share of the word pieces so far is unknown to the model, from 0 to 1."""
        return self._unknown_pieces / max(self._pieces, 1)

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
        self,
        chunk: Iterable[_Read],
        wait: Callable[[], dict[int, Scores]],
        floor: float | None,
        by: Mapping[str, Any],
    ) -> Iterator[tuple[str, dict[str, Any] | InputError]]:
        scores = wait()
        threshold, candidates = self._threshold, self._run.config.data.candidates
        used = 0
        for read in chunk:
            if isinstance(read.dialogue, InputError):
                yield read.place, read.dialogue
                continue
            length = len(read.dialogue.utterances)
            starts = window_starts(length, self.max_utterances)
            windows = [scores[index] for index in range(used, used + len(starts))]
            used += len(starts)
            lowest = threshold if floor is None else min(threshold, floor)
            found, emotions = merged(windows, self.max_utterances, length, candidates, lowest)
            sure = [(i, j, p) for i, j, p in found if p >= threshold]
            pairs, confidences = [(i, j) for i, j, _ in sure], [p for _, _, p in sure]
            prediction = predict(pairs, confidences, emotions, self._run.emotions)
            item = with_prediction(read.conversation, prediction, by)
            if floor is not None:
                item[CANDIDATES] = [[i + 1, j + 1, rounded(p)] for i, j, p in found]
                item[CHOICES] = emotion_choices(emotions, self._run.emotions)
            yield read.place, item


def _texts(chunk: Iterable[_Read]) -> list[Any]:
    return [
        [(u.id, u.speaker, u.text) for u in read.dialogue.utterances]
        if isinstance(read.dialogue, Dialogue)
        else None
        for read in chunk
    ]


def _parse(conversations: Sequence[Mapping[str, Any]], where: str) -> list[Dialogue]:
    if any(our_format.is_ours(conversation) for conversation in conversations):
        return our_format.parse_objects(conversations, where, False)
    return semeval.parse_conversations(conversations, where, False)


def say_what_is_absent(modalities: Sequence[str], config: ConfigDict) -> None:
    """Says on stderr that a run predicts without some of what it reads.

    Args:
      modalities: that it reads and does not get.
      config: of the run.
    """
    if modalities and first_process():
        count, them = ("counts", "it") if len(modalities) == 1 else ("count", "them")
        trained = (
            "as this run was trained to expect"
            if config.data.modality_dropout
            else "for which this run was not trained (config.data.modality_dropout): expect worse "
            f"pairs than those of a run that does not read {them}"
        )
        print(
            f"no {' and no '.join(modalities)} given: {count} as absent, {trained}",
            file=sys.stderr,
        )


def predict_file(
    workdir: Path,
    source: Path,
    target: Path,
    features: Path | None = None,
    clips: Path | None = None,
    strict: bool = False,
    threshold: float | None = None,
    html: Path | None = None,
    name: str = "",
    columns: Mapping[str, str] | None = None,
) -> Summary:
    """Predicts the conversations of a file or a folder into the file `target`.

    Of JSON lines, memory does not grow with their number. Conversations that cannot be read are
    listed on stderr, and so is what was mended in others.

    Args:
      workdir: folder of a finished run, or of one that tools/export.py has written.
      source: see `rpcl_jax.readers.transcripts.conversations_in`.
      target: see `write_results`.
      features: folder with the tables `audio` and `vision` of these conversations, or None; one
        of the two may be missing.
      clips: folder of their clips, from which the features are extracted, if the run reads any,
        and which the page plays, or None.
      strict: predict nothing unless every conversation can be read.
      threshold: the least confidence of a pair; None for the run's own.
      html: file of a page that shows them, with their `clips`, or None.
      name: of the model in the output, if it is not the folder's.
      columns: see `rpcl_jax.readers.transcripts.conversations_in`.

    Raises:
      InputError: a file is missing, nothing can be read or, if `strict`, not everything can.
    """
    for output in filter(None, (target, html)):
        _check_output(output, source)
    if html and html.resolve() == target.resolve():
        raise InputError(f"{html}: is the other output too; give the page a name of its own")
    first = first_process()  # of several that predict together, it alone writes
    if strict:
        everything = conversations_in(source, Counter(), columns=columns)
        errors = [item for _, item in everything if isinstance(item, InputError)]
        for error in errors if first else ():
            _complain(str(source), error)
        if errors:
            raise InputError(f"{source}: {len(errors)} conversations cannot be read (--strict)")
    mended = Counter[str]()
    size = max(1, sum(file.stat().st_size for file in transcripts.files_in(source)))
    bytes_read = 0

    def watch(count: int) -> None:
        nonlocal bytes_read
        bytes_read += count

    found: Iterable = conversations_in(source, mended, watch, columns)
    read = described_features(workdir)
    # Windows cannot remove a table that is mapped.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        tables, dialogues = {}, None
        # Before the model is loaded: on a GPU, JAX takes most of the memory.
        if clips and read:
            found = list(found)
            readable = ((p, i) for p, i in found if not isinstance(i, InputError))
            taken = Counter[str]()
            dialogues = [with_own_ids(parse(i, p, Counter()), taken) for p, i in readable]
            if dialogues:
                # Imported here because it needs PyTorch, which nothing else does.
                from rpcl_jax.extraction.extract import extract_tables

                with notes_of_first_process():
                    tables = extract_tables(read, dialogues, clips, Path(folder))
        elif features:
            given = [modality for modality in read if (features / modality).is_dir()] or read
            tables = {m: FeatureTable.load(features / m, first) for m in given}
        predictor = Predictor.from_folder(workdir, threshold, name)
        # From clips of nothing, no table is made that the predictor could miss.
        floor = FLOOR if html else None
        results = found if dialogues == [] else predictor.stream(found, tables, floor)
        with (
            written_whole(target) if first else open(os.devnull, "wb") as file,
            also_shown(results, html if first else None, source.name, clips) as results,
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
        if (unknown := predictor.unknown_share()) > MOST_UNKNOWN:
            print(
                f"the model does not know {unknown:.0%} of the word pieces of these conversations; "
                "are they in its language, and about what it was trained on?",
                file=sys.stderr,
            )
        if predictor.has_cut():
            print(
                f"of an utterance, the model reads {predictor.max_tokens} word pieces at most; the "
                "ends of longer ones were left out",
                file=sys.stderr,
            )
    return done


def _check_output(file: Path, source: Path) -> None:
    """Raises InputError where a file cannot be an output."""
    if file.is_dir():
        raise InputError(f"{file}: is a folder; give the name of a file")
    if file.exists() and source.exists() and file.samefile(source):
        raise InputError(f"{file}: is the input; write to another file")
    if source.is_dir() and file.resolve().is_relative_to(source.resolve()):
        raise InputError(
            f"{file}: is inside the folder of the input, and would be read as input the next "
            "time; write elsewhere"
        )
    make_folder(file.parent)  # fail early


def _complain(_: str, error: InputError) -> None:
    tqdm.write(f"cannot be read: {error}", file=sys.stderr)


def _be_silent(_: str, error: InputError) -> None:
    pass
