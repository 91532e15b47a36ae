"""ECF (Emotion-Cause-in-Friends): the official text files, or the JSON files of SemEval-2024."""

import re
from pathlib import Path

from rpcl_jax.data.dialogue import Clip, Dialogue, Utterance, check_dialogue
from rpcl_jax.errors import Faults, InputError
from rpcl_jax.files import check_not_pointer
from rpcl_jax.readers.benchmark_files import ReadLog, find_split
from rpcl_jax.readers.json_fields import seconds
from rpcl_jax.readers.semeval import read_semeval

_HEADER = re.compile(r"([0-9]{1,9}) +([0-9]{1,9})")
_PAIR = re.compile(r"\( *([0-9]{1,9}) *, *([0-9]{1,9}) *\)")
_PAIRS = re.compile(rf"({_PAIR.pattern}( *, *{_PAIR.pattern})*)?")
_CLIP = re.compile(r"(.+): ([0-9:.]+) - ([0-9]+:[0-9]{2}:[0-9]{2}\.[0-9]+)")
_GET_IT = "download the file again from https://github.com/NUSTM/MECPE"
_FILES = {
    split: (f"{split}.txt", f"Subtask_2_{split}.json", f"Subtask_1_{split}.json")
    for split in ("train", "dev", "test")
}
_ADVICE = (
    "get ECF with 'git clone https://github.com/NUSTM/MECPE' and pass --config.data.root=MECPE/data"
)


def read_split(root: Path, split: str) -> list[Dialogue]:
    """Reads a split of ECF in one of its formats.

    Args:
      root: folder with `<split>.txt`, or with `Subtask_2_<split>.json` or `Subtask_1_<split>.json`
        of SemEval-2024; the first that exists is read.
    """
    path = find_split(root, _FILES, split, _ADVICE)
    return read_ecf_text(path) if path.suffix == ".txt" else read_semeval(path, labelled=True)


def read_ecf_text(path: Path) -> list[Dialogue]:
    """Reads an official text file of ECF.

    A conversation is a line `id length`, a line of pairs `(emotion,cause),…` numbered from 1 (empty
    if there are none) and `length` lines `number | speaker | emotion | text | clip: start - end`.
    Utterance U of conversation D gets the id `dia<D>utt<U>`, its key in the official feature
    tables. Its clip is the span of the episode that its line names, or None if the span does not
    end after it starts (one utterance of the test split) or its start is not a time.
    """
    return parse_ecf_text(_read_lines(path), path)


def is_ecf_text(text: str) -> bool:
    """Returns whether a text begins as an official text file of ECF does."""
    first, _, utterance, *_ = (*text.split("\n", 3), "", "", "")
    return bool(_HEADER.fullmatch(first.strip())) and utterance.count("|") >= 4


def parse_ecf_text(lines: list[str], path: Path) -> list[Dialogue]:
    """Parses the lines of a text file of ECF; see `read_ecf_text`."""
    log = ReadLog(str(path))
    dialogues = []
    start = 0
    with log.collected():
        while start < len(lines):
            # A wrong header ends the loop: nothing tells where the next conversation starts.
            number, length = _read_header(lines, start, path)
            with log.collected():
                dialogues.append(_read_conversation(lines, start, number, length, path, log))
            start += 2 + length
            if log.messages and _HEADER.fullmatch("".join(lines[start:][:1]).strip()) is None:
                break  # out of step, by a fault that is among them
        dialogues = log.unique_dialogues(dialogues)
    log.close()
    return dialogues


def _read_lines(path: Path) -> list[str]:
    check_not_pointer(path)
    try:
        # Split at "\n" only: splitlines() would also split utterances at U+2028 and similar.
        return path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; {_GET_IT}") from error


def _read_header(lines: list[str], start: int, path: Path) -> tuple[str, int]:
    """Parses the first line of a conversation: its id and its number of utterances."""
    header = _HEADER.fullmatch(lines[start].strip())
    if header is None:
        raise InputError(
            f"{path}:{start + 1}: expected 'conversation-id number-of-utterances' but found "
            f"{lines[start][:40]!r}; check the previous number of utterances, or {_GET_IT}"
        )
    number, length = header[1], int(header[2])
    if start + 2 + length > len(lines):
        # If the line of pairs is missing, that is the reason.
        _read_pairs("".join(lines[start + 1 : start + 2]).strip(), f"{path}:{start + 2}")
        raise InputError(
            f"{path}:{len(lines)}: the file ends within conversation {number}, which has "
            f"{length} utterances according to line {start + 1}; {_GET_IT}"
        )
    return number, length


def _read_conversation(
    lines: list[str], start: int, number: str, length: int, path: Path, log: ReadLog
) -> Dialogue:
    """Parses the conversation whose first line is `lines[start]`."""
    faults = Faults()
    pairs: tuple[tuple[int, int], ...] = ()
    utterances = []
    with faults.collected():
        pairs = log.unique_pairs(_read_pairs(lines[start + 1].strip(), f"{path}:{start + 2}"))
    for t in range(1, length + 1):
        with faults.collected():
            where = f"{path}:{start + 2 + t}"
            utterances.append(_read_utterance(lines[start + 1 + t], t, number, where, log))
    faults.check()
    where = f"{path}:{start + 1}: conversation {number}"
    return check_dialogue(Dialogue(number, tuple(utterances), pairs), where)


def _read_pairs(line: str, where: str) -> list[tuple[int, int]]:
    if _PAIRS.fullmatch(line) is None:
        raise InputError(
            f"{where}: expected pairs such as (3,1),(3,3), or an empty line, but found "
            f"{line[:40]!r}; correct the line, or {_GET_IT} if it was cut short"
        )
    return [(int(i) - 1, int(j) - 1) for i, j in _PAIR.findall(line)]


def read_meld_names(root: Path) -> dict[str, str]:
    """Reads which clip of MELD each utterance is, if `all_data_pair_ECFvsMELD.txt` is in `root`.

    Returns:
      Names such as "train_dia559_utt3" by id of the utterance; some have no clip.
    """
    path = root / "all_data_pair_ECFvsMELD.txt"
    names: dict[str, str] = {}
    lines = _read_lines(path) if path.is_file() else []
    start = 0
    while start < len(lines):
        number, length = _read_header(lines, start, path)
        for t in range(1, length + 1):
            name = lines[start + 1 + t].rpartition("|")[2].strip()
            if name:
                names[f"dia{number}utt{t}"] = name
        start += 2 + length
    return names


def _read_utterance(
    line: str, expected: int, conversation: str, where: str, log: ReadLog
) -> Utterance:
    """Parses the line of an utterance, which must be number `expected` of its conversation."""
    # The text may contain "|", so the clip is split off from the right.
    fields = line.split("|", 3)
    fields[-1:] = fields[-1].rsplit("|", 1)
    fields = [field.strip() for field in fields]
    span = _CLIP.fullmatch(fields[-1])
    if len(fields) != 5 or span is None:
        raise InputError(
            f"{where}: expected utterance {expected} of conversation {conversation} as 'number | "
            f"speaker | emotion | text | clip: start - end' but found {line[:40]!r}; correct the "
            f"line or the number of utterances, or {_GET_IT} if the line was cut short"
        )
    number, speaker, emotion, text, _ = fields
    if number != str(expected):
        raise InputError(
            f"{where}: found utterance {number!r} where number {expected} of conversation "
            f"{conversation} was expected; number utterances 1, 2, 3, … without gaps"
        )
    if not speaker or not text:
        missing = "text" if speaker else "speaker"
        raise InputError(f"{where}: utterance {expected} has no {missing}; add it")
    return Utterance(
        f"dia{conversation}utt{expected}",
        speaker,
        text,
        log.emotion(emotion),
        _make_clip(*span.groups()),
    )


def _make_clip(video: str, start: str, end: str) -> Clip | None:
    """Returns the clip, or None if its times are unusable."""
    first, last = seconds(start), seconds(end)
    if first is None or last is None or first >= last:
        return None
    return Clip(video, first, last)
