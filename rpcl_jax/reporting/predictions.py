"""The files of predictions: JSON, JSON lines and tables, written one conversation at a time."""

import contextlib
import csv
import gzip
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.decode import Prediction
from rpcl_jax.files import json_bytes
from rpcl_jax.readers import transcripts
from rpcl_jax.readers.conversations import is_ours
from rpcl_jax.readers.json_fields import is_blank
from rpcl_jax.readers.semeval import PAIRS

CONFIDENCES, BY = "pair_confidences", "predicted_by"
# Only for a page: also the pairs below the threshold, and the emotions they would bring.
CANDIDATES, CHOICES = "candidates", "emotion_choices"
_LOG = logging.getLogger(__name__)
_DIGITS = 3  # of every confidence and probability
TABLES = {".csv": ",", ".tsv": "\t"}
COLUMNS = (
    *("source", "conversation_id", "utterance_id", "speaker", "text"),
    *("emotion", "emotion_probability", "causes", "confidences", "threshold", "model"),
)


def with_prediction(
    conversation: Mapping[str, Any], found: Prediction, by: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Returns a copy of a conversation with its emotions and pairs, replacing those it has.

    Every utterance gets "emotion", "emotion_probability", and "" as "speaker" if it has none. The
    conversation gets its pairs, 1-based, in "emotion-cause_pairs" ([["3_surprise", "1"], …]) if it
    is in SemEval's format, or in "pairs" ([[3, 1], …]) and "pair_emotions" if it is in ours, and
    "pair_confidences". Other fields are kept, but an "utterance_ID" that is not the number of its
    utterance becomes it.

    `found` is what is predicted of it, or of its first utterances if it was cut; `by` tells the
    model and the threshold.
    """
    key = _turns_key(conversation)
    turns = [
        {**turn, "speaker": "" if is_blank(turn.get("speaker")) else turn["speaker"]}
        for turn in turns_of(conversation)
    ]
    for turn, emotion, p in zip(turns, found.emotions, found.probabilities, strict=False):
        turn.update({"emotion": emotion, "emotion_probability": rounded(p)})
    pairs: dict[str, list]
    if is_ours(conversation):
        pairs = {
            "pairs": [[i + 1, j + 1] for i, j in found.pairs],
            "pair_emotions": [found.emotions[i] for i, _ in found.pairs],
        }
    else:
        for number, turn in enumerate(turns, 1):  # the pairs refer to them
            if str(turn.get("utterance_ID", number)) != str(number):
                turn["utterance_ID"] = number
        pairs = {PAIRS: [[f"{i + 1}_{found.emotions[i]}", str(j + 1)] for i, j in found.pairs]}
    confidences = {CONFIDENCES: [rounded(p) for p in found.confidences]}
    return {**conversation, key: turns, **pairs, **confidences, **({BY: dict(by)} if by else {})}


def rounded(probability: float) -> float:
    """Returns a confidence or a probability as it is written, with three digits."""
    return round(float(probability), _DIGITS)


def turns_of(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the utterances of a conversation in either form."""
    return item[_turns_key(item)]


def _turns_key(conversation: Mapping[str, Any]) -> str:
    return "utterances" if is_ours(conversation) else "conversation"


def identifier_of(item: Mapping[str, Any]) -> Any:
    """Returns the id of a conversation in either form."""
    return item["id" if is_ours(item) else "conversation_ID"]


def pairs_of(item: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Returns the pairs that `with_prediction` wrote, (emotion utterance, cause), 1-based."""
    if is_ours(item):
        return [(i, j) for i, j in item["pairs"]]
    return [(int(i.partition("_")[0]), int(j)) for i, j in item[PAIRS]]


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
    """Writes conversations with their pairs to a file of this name.

    It is a table if the name ends in .csv or .tsv, with a row of COLUMNS for every utterance, JSON
    lines if it ends in .jsonl, else a JSON list; .gz may follow. `reject` is told the place of a
    conversation that cannot be read, and why; `advance` the utterances of each that was written.
    """
    done = Summary()
    convert, end, empty = _format(name.lower().removesuffix(".gz"))
    with contextlib.ExitStack() as stack:
        file: Any = raw
        if name.lower().endswith(".gz"):
            file = stack.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0))
        for place, item in results:
            if isinstance(item, InputError):
                done = done._replace(rejected=done.rejected + 1)
                reject(place, item)
                continue
            file.write(convert(item, done.conversations == 0))
            length = len(turns_of(item))
            done = Summary(
                conversations=done.conversations + 1,
                utterances=done.utterances + length,
                pairs=done.pairs + len(item[CONFIDENCES]),
                windowed=done.windowed + (length > max_utterances),
                rejected=done.rejected,
            )
            advance(length)
        file.write(end if done.conversations else empty)
    return done


def _format(name: str) -> tuple[Callable[[dict[str, Any], bool], bytes], bytes, bytes]:
    """Returns how to write each conversation (and whether it is the first), the end, and no one."""
    if name.endswith(tuple(TABLES)):
        delimiter = TABLES[name[-4:]]
        return lambda item, first: _rows(item, first, delimiter), b"", _csv([COLUMNS], delimiter)
    if name.endswith(".jsonl"):
        return lambda item, _: json_bytes(item), b"", b""
    return _element, b"\n]\n", b"[]\n"


def _element(item: dict[str, Any], first: bool) -> bytes:
    """An element of a list, as `write_json` writes the whole list."""
    text = json_bytes(item, indent=2).rstrip().replace(b"\n", b"\n  ")
    return (b"[\n  " if first else b",\n  ") + text


def _rows(item: dict[str, Any], first: bool, delimiter: str) -> bytes:
    causes: dict[int, list[tuple[int, float]]] = {}
    for (i, j), confidence in zip(pairs_of(item), item[CONFIDENCES], strict=True):
        causes.setdefault(i, []).append((j, confidence))
    rows: list[Sequence[Any]] = [COLUMNS] if first else []
    for number, turn in enumerate(turns_of(item), 1):
        own = sorted(causes.get(number, ()), key=lambda cause: -cause[1])
        rows.append(
            [
                *(item.get("source"), identifier_of(item), number),
                *(turn["speaker"], turn.get("text")),
                *(turn["emotion"], turn["emotion_probability"]),
                *(" ".join(str(cause[k]) for cause in own) for k in (0, 1)),
                *(item[BY]["threshold"], item[BY]["model"]),
            ]
        )
    return _csv(rows, delimiter)


def _csv(rows: Iterable[Iterable[Any]], delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue().encode("utf-8", "ignore")  # half an emoji is left out


def how_read(repaired: Counter[str], rejected: int) -> list[str]:
    """Returns what was repaired of an input, and how much of it was not read."""
    said = {
        f"repaired: {transcripts.describe(repaired)}": transcripts.describe(repaired),
        f"{rejected} conversation{'s' * (rejected != 1)} could not be read": rejected,
    }
    return [words for words, there in said.items() if there]


def log_summary(done: Summary, repaired: Counter[str]) -> None:
    """Logs what was repaired, and what was scored in windows."""
    transcripts.log_repaired(repaired)
    if done.windowed:
        _LOG.info(
            f"{done.windowed} conversations are longer than the model reads at once; they were "
            "scored in windows that overlap by half"
        )
