"""Predicts the emotion-cause pairs of unlabelled conversations, with confidences."""

import contextlib
import logging
import os
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from rpcl_jax.batching.language import PieceCounts, count_pieces, language_doubt
from rpcl_jax.batching.packing import PackedText
from rpcl_jax.batching.pipeline import prefetched
from rpcl_jax.batching.text import longest_utterance
from rpcl_jax.data.dialogue import Dialogue, with_unique_ids, without_labels
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.decode import emotion_choices, predict
from rpcl_jax.evaluation.inference import Scores
from rpcl_jax.evaluation.scores_file import ScoredDialogue
from rpcl_jax.evaluation.windows import Merged, merged, window_starts
from rpcl_jax.files import atomic_write, make_folder
from rpcl_jax.models.pretrained import hub_name
from rpcl_jax.readers import conversations as our_format
from rpcl_jax.readers import semeval, transcripts
from rpcl_jax.readers.transcripts import conversations_in, parse
from rpcl_jax.reporting.pair_tables import (
    pair_table,
    printed,
    speaker_table,
)
from rpcl_jax.reporting.pairs_page import FLOOR, page_file
from rpcl_jax.reporting.predictions import (
    CANDIDATES,
    CHOICES,
    Summary,
    how_read,
    log_summary,
    rounded,
    with_prediction,
    write_results,
)
from rpcl_jax.run.hosts import agree
from rpcl_jax.run.model_folder import (
    PACKAGED_NAME,
    check_finished,
    load_model,
    model_folder,
    read_description,
)
from rpcl_jax.run.progress import progress_bar
from rpcl_jax.training.mesh import is_main_process

_LOG = logging.getLogger(__name__)
_CHUNK = 16  # batches that are planned together
_ENOUGH_WORDS = 10_000  # to tell their language


class _Read(NamedTuple):
    """A conversation of a stream, and its dialogue or why it has none."""

    place: str
    conversation: Mapping[str, Any]
    dialogue: Dialogue | InputError


class Predictor:
    """A trained model, ready for new conversations.

    predictor = Predictor()
    conversations = [{"utterances": [{"text": "I lost it."}, {"text": "Oh no, I am so sorry!"}]}]
    for conversation in predictor(conversations):
        print(conversation["pairs"], conversation["pair_confidences"])
    """

    def __init__(
        self,
        model: str | Path = PACKAGED_NAME,
        threshold: float | None = None,
        revision: str | None = None,
        encoder: str | Path | None = None,
    ):
        """Loads a model.

        Args:
          model: folder of a finished run, or of one that `rpcl export` has written, or the name
            of such a folder on the Hugging Face hub. By default, the model that comes with the
            package, whose text encoder is downloaded once.
          threshold: the least confidence of a pair; None for the one chosen on validation.
          revision: branch, tag or commit on the hub; None is its main branch.
          encoder: folder or hub name of the text encoder, where the model lacks its parameters;
            None is where the model says.
        """
        if threshold is not None and not (
            isinstance(threshold, Real) and not isinstance(threshold, bool) and 0 <= threshold <= 1
        ):
            raise InputError(f"threshold: is {threshold!r}; give a number from 0 to 1")
        folder = model_folder(model, revision)
        check_finished(folder)
        self._run = load_model(folder, encoder=encoder)
        self._threshold = self._run.threshold if threshold is None else threshold
        on_hub = "" if isinstance(model, Path) else hub_name(model)
        self._name = on_hub or "/".join(Path(os.path.abspath(folder)).parts[-2:])
        self._said_absent: Set[str] = set()
        self._found = PieceCounts(0, 0, 0)
        self._cut = False

    @classmethod
    def from_workdir(cls, workdir: str | Path, threshold: float | None = None) -> "Predictor":
        """Alias of the constructor, for a folder."""
        return cls(Path(workdir), threshold)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, revision: str | None = None, threshold: float | None = None
    ) -> "Predictor":
        """Alias of the constructor, with Transformers' order of arguments."""
        return cls(name, threshold, revision)

    @property
    def max_utterances(self) -> int:
        """Longer conversations are scored in windows of this many utterances."""
        return self._run.config.data.max_utterances

    @property
    def emotions(self) -> tuple[str, ...]:
        """The names of the emotion classes, neutral first."""
        return self._run.emotions

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities beside text that the model reads, "audio" and "vision"."""
        return tuple(self._run.feature_tables)

    @property
    def threshold(self) -> float:
        """The least confidence of a pair."""
        return self._threshold

    @property
    def diagnostics(self) -> dict[str, Any]:
        """The settings of `rpcl_jax.evaluation.metrics.confidence_diagnostics`."""
        return self._run.config.diagnostics.to_dict()

    @property
    def max_tokens(self) -> int:
        """Of an utterance, this many word pieces are read, with the two special ones."""
        return self._run.config.text.max_tokens

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
            "vision", whose keys are those of `with_unique_ids` of `rpcl_jax.data.dialogue`. What is
            not given is absent, which is logged.
          where: what error messages call the conversations.

        Returns:
          A copy of each with its emotions and pairs, as `with_prediction` of
          `rpcl_jax.reporting.predictions` makes it, and with the model's name and the threshold as
          "predicted_by". One of more than `max_utterances` is scored in windows that overlap by
          half.
        """
        if isinstance(conversations, str) or not isinstance(conversations, Sequence):
            raise InputError(
                f"{where}: must be a list of conversations, not of type "
                f"{type(conversations).__name__}; put a single conversation into a list"
            )
        if not conversations:
            return []
        if any(our_format.is_ours(conversation) for conversation in conversations):
            dialogues = our_format.parse_objects(conversations, where, False)
        else:
            dialogues = semeval.parse_conversations(conversations, where, False)
        own = self._own_tables(tables)
        used = Counter[str]()
        dialogues = [with_unique_ids(dialogue, used) for dialogue in dialogues]
        for table in own.values():
            table.check_covers(dialogues, where)
        reads = map(_Read, [where] * len(dialogues), conversations, dialogues)
        # None of them is an error, which would have been raised above.
        return [item for _, item in self._predict(reads, own) if isinstance(item, dict)]

    def stream(
        self,
        found: Iterable[tuple[str, Mapping[str, Any] | InputError]],
        tables: Mapping[str, FeatureTable] | None = None,
        floor: float | None = None,
        own_causes: bool = True,
    ) -> Iterator[tuple[str, dict[str, Any] | InputError]]:
        """Yields conversations with their pairs, in order and in constant memory.

        A background thread reads them and prepares batches while the devices compute.

        Args:
          found: conversations, or why they cannot be read, as `conversations_in` yields them.
          tables: as for `__call__`.
          floor: if given, conversations also have "candidates", [[3, 1, 0.21], …]: what could be a
            pair, with at least this confidence; and "emotion_choices", those of
            `rpcl_jax.evaluation.decode.emotion_choices`.
          own_causes: whether an utterance can be the cause of its own emotion.

        Yields:
          The place of each, and the conversation as `__call__` returns it or why there is none.
        """
        own = self._own_tables(tables)
        used = Counter[str]()

        def read(place: str, item: Mapping[str, Any] | InputError) -> _Read:
            if isinstance(item, InputError):
                return _Read(place, {}, item)
            try:
                dialogue = parse(dict(item), place, Counter())  # counted when it was read
            except InputError as error:
                return _Read(place, item, error)
            if own:  # else memory would grow with the ids
                dialogue = with_unique_ids(dialogue, used)
            for table in own.values():
                table.check_covers([dialogue], place)
            return _Read(place, item, dialogue)

        return self._predict((read(place, item) for place, item in found), own, floor, own_causes)

    def score(
        self, dialogues: Sequence[Dialogue], tables: Mapping[str, FeatureTable] | None = None
    ) -> list[ScoredDialogue]:
        """Returns the scores of every candidate, for an evaluation; `tables` as for `__call__`."""
        own = self._own_tables(tables)
        for table in own.values():
            table.check_covers(dialogues, "the input")
        reads = (_Read(d.id, {}, without_labels(d)) for d in dialogues)
        scored = []
        for dialogue, (_, windows) in zip(dialogues, self._score(reads, own), strict=True):
            found, emotions, causes = self._merged(dialogue, windows, 0.0)
            confidence = np.zeros((len(causes), len(causes)), np.float32)
            mask = np.zeros(confidence.shape, bool)  # of what is together in a window
            for i, j, p in found:
                confidence[i, j], mask[i, j] = p, True
            scored.append(ScoredDialogue(dialogue, confidence, mask, emotions, causes))
        return scored

    def _own_tables(self, tables: Mapping[str, FeatureTable] | None) -> dict[str, FeatureTable]:
        """Returns those tables that the run reads, and logs which it misses."""
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
        own_causes: bool = True,
    ) -> Iterator[tuple[str, dict[str, Any] | InputError]]:
        by: dict[str, Any] = {"model": self._name, "threshold": rounded(self._threshold)}
        if absent := [m for m in self._run.feature_tables if m not in tables]:
            by["absent"] = absent
        if not own_causes:
            by["own_causes"] = False
        lowest = self._threshold if floor is None else min(self._threshold, floor)
        for read, windows in self._score(reads, tables):
            if isinstance(read.dialogue, InputError):
                yield read.place, read.dialogue
                continue
            found, emotions, _ = self._merged(read.dialogue, windows, lowest)
            found = [(i, j, p) for i, j, p in found if own_causes or i != j]
            sure = [(i, j, p) for i, j, p in found if p >= self._threshold]
            pairs, confidences = [(i, j) for i, j, _ in sure], [p for _, _, p in sure]
            names, least = self._run.emotions, self._run.emotion_threshold
            prediction = predict(pairs, confidences, emotions, names, least)
            item = with_prediction(read.conversation, prediction, by)
            if floor is not None:
                item[CANDIDATES] = [[i + 1, j + 1, rounded(p)] for i, j, p in found]
                item[CHOICES] = emotion_choices(emotions, names, least)
            yield read.place, item

    def _score(
        self, reads: Iterable[_Read], tables: Mapping[str, FeatureTable]
    ) -> Iterator[tuple[_Read, list[Scores]]]:
        """Yields what is read with the scores of its windows; none of what cannot be read."""
        width = self.max_utterances

        def prepare(chunk: list[_Read]):
            pieces = [
                Dialogue(read.dialogue.id, read.dialogue.utterances[start : start + width])
                for read in chunk
                if isinstance(read.dialogue, Dialogue)
                for start in window_starts(len(read.dialogue.utterances), width)
            ]
            if self._found.words < _ENOUGH_WORDS:
                texts = [u.text for piece in pieces for u in piece.utterances]
                counts = count_pieces(texts, self._run.encoder.tokenizer)
                self._found = PieceCounts(*map(sum, zip(self._found, counts, strict=True)))
            batches = self._run.prepare(pieces, tables)
            full = False
            for _, batch in batches:
                assert isinstance(batch.text, PackedText)
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
                yield from self._wait(*running.popleft())
        for last in running:
            yield from self._wait(*last)

    def _wait(
        self, chunk: Iterable[_Read], wait: Callable[[], dict[int, Scores]]
    ) -> Iterator[tuple[_Read, list[Scores]]]:
        scores = wait()
        used = 0
        for read in chunk:
            count = 0
            if isinstance(read.dialogue, Dialogue):
                count = len(window_starts(len(read.dialogue.utterances), self.max_utterances))
            yield read, [scores[index] for index in range(used, used + count)]
            used += count

    def _merged(self, dialogue: Dialogue, windows: list[Scores], lowest: float) -> Merged:
        length, candidates = len(dialogue.utterances), self._run.config.data.candidates
        return merged(windows, self.max_utterances, length, candidates, lowest)

    def doubts(self) -> dict[str, str]:
        """Returns, by kind, why predictions so far may be wrong: language, length."""
        found = {}
        if language := language_doubt(self._found, self._run.encoder.word_pieces):
            found["language"] = language
        if self._cut:
            found["length"] = (
                f"of an utterance, the model reads {self.max_tokens} word pieces at most; the "
                "ends of longer ones were left out"
            )
        return found

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


def _texts(chunk: Iterable[_Read]) -> list[Any]:
    return [
        [(u.id, u.speaker, u.text) for u in read.dialogue.utterances]
        if isinstance(read.dialogue, Dialogue)
        else None
        for read in chunk
    ]


def load_tables(
    features: Path, reads: Iterable[str], check_values: bool
) -> dict[str, FeatureTable]:
    """Loads those tables of a folder that a model reads; InputError if there are none of them."""
    given = [modality for modality in reads if (features / modality).is_dir()] or reads
    return {m: FeatureTable.load(features / m, check_values) for m in given}


def say_what_is_absent(modalities: Sequence[str], config: ConfigDict) -> None:
    """Logs that a run predicts without these modalities, which it reads."""
    if modalities:
        count, them = ("counts", "it") if len(modalities) == 1 else ("count", "them")
        trained = (
            "as this run was trained to expect"
            if config.data.modality_dropout
            else "for which this run was not trained (config.data.modality_dropout): expect worse "
            f"pairs than those of a run that does not read {them}"
        )
        _LOG.warning(f"no {' and no '.join(modalities)} given: {count} as absent, {trained}")


def predict_file(
    model: str | Path,
    source: str | Path,
    target: str | Path | None = None,
    *,
    revision: str | None = None,
    threshold: float | None = None,
    encoder: str | Path | None = None,
    features: str | Path | None = None,
    clips: str | Path | None = None,
    strict: bool = False,
    html: str | Path | None = None,
    pairs: str | Path | None = None,
    speakers: str | Path | None = None,
    own_causes: bool = True,
    columns: Mapping[str, str] | None = None,
) -> Summary:
    """Predicts the conversations of a file or a folder into the file `target`.

    Without a target or any other output, the pairs are printed. Of JSON lines, memory does not grow
    with their number. Conversations that cannot be read are logged, and so is what was repaired in
    others.

    Args:
      model, revision, threshold, encoder: see `Predictor`.
      source: see `rpcl_jax.readers.transcripts.conversations_in`.
      target: see `write_results`.
      features: folder with the tables `audio` and `vision` of these conversations, or None; one
        of the two may be missing.
      clips: folder of their clips, from which the features are extracted, if the model reads any,
        and which the page plays, or None.
      strict: predict nothing unless every conversation can be read.
      html: file of a page that shows them, with their `clips`, or None.
      pairs, speakers: files of `rpcl_jax.reporting.pair_tables`, or None.
      own_causes: whether pairs of an utterance with itself are kept.
      columns: see `rpcl_jax.readers.transcripts.conversations_in`.
    """
    source = Path(source).expanduser()
    given = (target, features, clips, html, pairs, speakers)
    target, features, clips, html, pairs, speakers = (
        Path(path).expanduser() if path else None for path in given
    )
    outputs = [output for output in (target, html, pairs, speakers) if output]
    for number, output in enumerate(outputs):
        _check_output(output, source)
        if output.resolve() in [other.resolve() for other in outputs[:number]]:
            raise InputError(f"{output}: is another output too; give each a name of its own")
    first = is_main_process()  # of several that predict together, it alone writes
    if strict:
        everything = conversations_in(source, Counter(), columns=columns)
        errors = [item for _, item in everything if isinstance(item, InputError)]
        for error in errors:
            _complain(str(source), error)
        if errors:
            raise InputError(f"{source}: {len(errors)} conversations cannot be read (--strict)")
    repaired = Counter[str]()
    size = max(1, sum(file.stat().st_size for file in transcripts.files_in(source)))
    bytes_read = 0

    def watch(count: int) -> None:
        nonlocal bytes_read
        bytes_read += count

    found: Iterable = conversations_in(source, repaired, watch, columns)
    folder = model_folder(model, revision)
    reads = read_description(folder)["feature_tables"]
    # Windows cannot remove a table that is mapped.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as extracted:
        tables: Mapping[str, FeatureTable] = {}
        # Before the model is loaded: on a GPU, JAX takes most of the memory.
        if clips and reads:
            found = list(found)
            tables = _extract(found, reads, clips, Path(extracted))
        elif features:
            tables = load_tables(features, reads, first)
        predictor = Predictor(model, threshold, revision, encoder)
        # From clips of nothing, no table is made that the predictor could miss.
        nothing = clips and reads and not tables
        results = (
            found
            if nothing
            else predictor.stream(found, tables, FLOOR if html else None, own_causes)
        )
        with contextlib.ExitStack() as stack:
            adds = []
            if html and first:
                page = page_file(
                    *(html, source.name, clips, predictor.emotions),
                    lambda: how_read(repaired, done.rejected),
                )
                adds.append(stack.enter_context(page))
            if pairs and first:
                adds.append(stack.enter_context(pair_table(pairs)))
            if speakers and first:
                adds.append(stack.enter_context(speaker_table(speakers, predictor.emotions)))
            if not outputs and first:
                adds.append(stack.enter_context(printed()))
            file: BinaryIO = stack.enter_context(open(os.devnull, "wb"))
            if target and first:
                file = stack.enter_context(atomic_write(target))
            advance = stack.enter_context(progress_bar(size, "B"))
            done = write_results(
                _passed_on(results, adds),
                file,
                target.name if target else "",
                predictor.max_utterances,
                _complain,
                lambda n: advance(n, bytes_read),
            )
            if done.rejected and not done.conversations:
                raise InputError(f"{source}: no conversation in it can be read; nothing is written")
    log_summary(done, repaired)
    for doubt in predictor.doubts().values():
        _LOG.warning(doubt)
    return done


def _passed_on(
    results: Iterable[tuple[str, Any]],
    adds: Sequence[Callable[[Mapping[str, Any]], None]],
) -> Iterator[tuple[str, Any]]:
    """Yields what `Predictor.stream` does, without the page's part, when `adds` have taken it."""
    for place, item in results:
        if not isinstance(item, InputError):
            for add in adds:
                add(item)
            item = {key: value for key, value in item.items() if key not in (CANDIDATES, CHOICES)}
        yield place, item


def _extract(
    found: Iterable[tuple[str, Any]],
    feature_tables: Mapping[str, Mapping[str, Any]],
    clips: Path,
    folder: Path,
) -> dict[str, FeatureTable]:
    """Returns the features of those conversations that could be read, from their clips."""
    used = Counter[str]()
    dialogues = [
        with_unique_ids(parse(item, place, Counter()), used)
        for place, item in found
        if not isinstance(item, InputError)
    ]
    if not dialogues:
        return {}
    # Imported here because it needs PyTorch, which nothing else does.
    from rpcl_jax.extraction.extract import extract_tables

    return extract_tables(feature_tables, dialogues, clips, folder)


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
    _LOG.warning(f"cannot be read: {error}")
