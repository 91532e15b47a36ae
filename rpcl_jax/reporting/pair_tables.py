"""Predicted pairs for people: tables of pairs and of speakers, and the lines that are printed."""

import contextlib
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rpcl_jax.data.dialogue import EMOTIONAL, NEUTRAL
from rpcl_jax.errors import InputError
from rpcl_jax.files import atomic_write
from rpcl_jax.reporting.predictions import (
    CONFIDENCES,
    TABLES,
    identifier_of,
    pairs_of,
    turns_of,
)

_EXCEL = ".xlsx"
PAIR_COLUMNS = (
    *("source", "conversation_id", "time", "utterance_id", "who_felt", "emotion"),
    *("emotion_probability", "said", "cause_id", "caused_by", "said_then", "confidence"),
)
_MOST_ROWS = 1_048_576  # of a sheet in Excel
_LONGEST_CELL = 32_767  # characters of a cell there
_NOT_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_WIDTH = 100  # of a printed line

Row = Sequence[Any]
Add = Callable[[Mapping[str, Any]], None]


@contextlib.contextmanager
def pair_table(path: Path) -> Iterator[Add]:
    """Writes a table of PAIR_COLUMNS, a row for each pair; the function takes a conversation.

    It is a CSV, TSV or Excel file by its name; times are those of the emotion, h:mm:ss.
    """
    with _table(path, "pairs") as write:
        write(PAIR_COLUMNS)

        def add(item: Mapping[str, Any]) -> None:
            turns = turns_of(item)
            for (i, j), confidence in zip(pairs_of(item), item[CONFIDENCES], strict=True):
                felt, cause = turns[i - 1], turns[j - 1]
                write(
                    [
                        *(item.get("source"), identifier_of(item), _time(felt), i, felt["speaker"]),
                        *(felt["emotion"], felt["emotion_probability"], felt.get("text")),
                        *(j, cause["speaker"], cause.get("text"), confidence),
                    ]
                )

        yield add


@contextlib.contextmanager
def speaker_table(path: Path, emotions: Sequence[str]) -> Iterator[Add]:
    """Writes a table with a row for each speaker of each file when the block ends.

    A row says how many utterances the speaker has with each of the `emotions`, who caused them and
    how often ("Ann 2; Ben 1"), and whose emotions the speaker caused.
    """
    named = [*emotions, *[EMOTIONAL] * (EMOTIONAL not in emotions)]
    speakers = Speakers()
    with _table(path, "speakers") as write:
        yield speakers.add
        write(["source", "speaker", "utterances", *named, "pairs", "caused_by", "caused"])
        for (source, name), counts in speakers.emotions.items():
            by, of = speakers.caused_by[source, name], speakers.caused[source, name]
            write(
                [
                    *(source, name, counts.total(), *(counts[emotion] for emotion in named)),
                    *(by.total(), _listed(by), _listed(of)),
                ]
            )


class Speakers:
    """What each speaker of each file felt, because of whom, and whom the speaker moved."""

    def __init__(self) -> None:
        self.emotions: dict[tuple[Any, str], Counter[str]] = {}
        self.caused_by: dict[tuple[Any, str], Counter[str]] = {}
        self.caused: dict[tuple[Any, str], Counter[str]] = {}

    def add(self, item: Mapping[str, Any]) -> None:
        """Counts a predicted conversation."""
        turns, source = turns_of(item), item.get("source")
        names = [str(turn["speaker"] or "unknown") for turn in turns]
        for name, turn in zip(names, turns, strict=True):
            for counts in (self.emotions, self.caused_by, self.caused):
                counts.setdefault((source, name), Counter())
            self.emotions[source, name][turn.get("emotion", NEUTRAL)] += 1
        for i, j in pairs_of(item):
            felt, cause = names[i - 1], names[j - 1]
            self.caused_by[source, felt][cause] += 1
            self.caused[source, cause][felt] += 1


@contextlib.contextmanager
def printed() -> Iterator[Add]:
    """Prints conversations with their pairs, and at the end what speakers felt."""
    speakers = Speakers()
    own = 0

    def add(item: Mapping[str, Any]) -> None:
        nonlocal own
        speakers.add(item)
        own += sum(i == j for i, j in pairs_of(item))
        print("\n".join(pair_lines(item)))

    yield add
    if own:
        print(
            f"{counted(own, 'pair')} of an utterance with itself: it tells what moves its own "
            "speaker. --noown_causes leaves such pairs out."
        )
    if len(speakers.emotions) > 1:
        several = len({source for source, _ in speakers.emotions}) > 1
        for (source, name), counts in speakers.emotions.items():
            felt = _listed(counts - Counter({NEUTRAL: counts[NEUTRAL]})) or NEUTRAL
            caused = _listed(speakers.caused_by[source, name])
            who = f"{source} {name}" if several else name
            print(f"{who}: {felt}{f'; caused by {caused}' if caused else ''}")


def pair_lines(item: Mapping[str, Any]) -> list[str]:
    """Returns a conversation's emotions in pairs with what was said, and what caused them."""
    turns = turns_of(item)
    pairs = [*zip(pairs_of(item), item[CONFIDENCES], strict=True)]
    source, name = str(item.get("source") or ""), str(identifier_of(item))
    if source:
        name = source if Path(source).stem == name else f"{source} {name}"
    lines = [f"{name}: {counted(len(pairs), 'pair')} in {counted(len(turns), 'utterance')}"]
    for number, turn in enumerate(turns, 1):
        causes = [(p, j) for (i, j), p in pairs if i == number]
        if not causes:
            continue
        lines.append(f"  {_quoted(number, turn)}")
        sure = "" if turn["emotion"] == EMOTIONAL else f" {turn['emotion_probability']:.2f}"
        lines.append(f"      {turn['emotion']}{sure}, caused by")
        for p, j in sorted(causes, reverse=True):
            cause = "itself" if j == number else _quoted(j, turns[j - 1])
            lines.append(f"      {p:.2f}  {cause}")
    return lines


def _quoted(number: int, turn: Mapping[str, Any]) -> str:
    who = " ".join(filter(None, [_time(turn), str(turn["speaker"])]))
    text, most = " ".join(str(turn.get("text") or "").split()), max(_WIDTH - len(who) - 16, 20)
    if len(text) > most:
        text = f"{text[:most].rstrip()} …"
    return f"{number:2d}  {who}{': ' if who else ''}{text}"


def counted(number: int, what: str) -> str:
    """Returns "1 pair", "2 pairs"."""
    return f"{number} {what}{'s' * (number != 1)}"


def _time(turn: Mapping[str, Any]) -> str:
    """Returns when an utterance begins, h:mm:ss, or "" where it has no time."""
    clip = turn.get("clip")
    start = clip.get("start") if isinstance(clip, Mapping) else turn.get("start")
    if isinstance(start, int | float):
        return f"{int(start) // 3600}:{int(start) // 60 % 60:02d}:{int(start) % 60:02d}"
    return str(start or "")


def _listed(counts: Counter[str]) -> str:
    return "; ".join(f"{name} {count}" for name, count in counts.most_common())


@contextlib.contextmanager
def _table(path: Path, title: str) -> Iterator[Callable[[Row], None]]:
    """Opens a table, which is there when the block ends well, and yields what writes a row."""
    if path.suffix.lower() != _EXCEL:
        with atomic_write(path) as file:
            # Half an emoji is left out.
            text = io.TextIOWrapper(file, "utf-8", "ignore", newline="")
            yield csv.writer(text, delimiter=TABLES[path.suffix.lower()]).writerow
            text.detach()  # or it would close the file
        return
    try:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell
    except ImportError as error:
        raise InputError(f'{path}: {error}; pip install "rpcl_jax[excel]"') from error
    book = Workbook(write_only=True)
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "A2"
    rows = 0

    def cell(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = value.encode("utf-8", "ignore").decode()  # half an emoji is left out
        made = WriteOnlyCell(sheet, _NOT_IN_XML.sub("", text)[:_LONGEST_CELL])
        made.data_type = "s"  # else "=)" would be a formula
        return made

    def write(row: Row) -> None:
        nonlocal rows
        rows += 1
        if rows > _MOST_ROWS:
            raise InputError(f"{path}: more rows than Excel has; write a .csv")
        sheet.append([cell(value) for value in row])

    try:
        yield write
    except BaseException:
        sheet.close()  # or Python tells of a file that nobody ended
        raise
    with atomic_write(path) as file:
        book.save(file)
