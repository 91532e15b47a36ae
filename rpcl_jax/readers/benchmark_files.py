"""What the readers share: where a split is, and what of a file is repaired, counted and refused."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rpcl_jax.data.dialogue import Clip, Dialogue, Utterance, check_unique, is_stretch
from rpcl_jax.errors import Faults, InputError
from rpcl_jax.readers.json_fields import check_some_text, field, seconds

_LOG = logging.getLogger(__name__)
# Other spellings of our emotion names, as benchmarks use them. What may be a category of its own,
# as IEMOCAP's "excited" and "frustrated", is not among them.
_SYNONYMS = {
    **dict.fromkeys(("happy", "happiness", "happines"), "joy"),
    "sad": "sadness",
    "angry": "anger",
    "surprised": "surprise",
    "disgusted": "disgust",
    "fearful": "fear",
}


def emotion_name(name: str) -> str:
    """Returns the name under which an emotion is known here; unknown names are only lower-cased."""
    name = " ".join(name.lower().split())
    return _SYNONYMS.get(name, name)


class ReadLog(Faults):
    """What was found while a file was read: faults, and what was merely untidy and is repaired.

    Attributes:
      left_out: how much was left out of a corpus that must be right, by kind.
      repaired: None where a corpus must be right, because it is trained on. A counter where pairs
        are to be predicted: what a prediction can do without is repaired, and counted in it.
    """

    def __init__(self, where: str, repaired: Counter[str] | None = None):
        """Begins with nothing found in `where`, the name of the file in messages."""
        super().__init__()
        self.where = where
        self.repaired = repaired
        self._renamed: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def emotion(self, name: str) -> str:
        """Returns `emotion_name(name)`; counts synonyms and misspellings."""
        given, known = " ".join(name.lower().split()), emotion_name(name)
        if known != given:
            self._renamed[f"{given} as {known}"] += 1
        return known

    def unique_pairs(self, pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """Returns the pairs sorted, each once; counts repetitions."""
        given = list(pairs)
        unique = tuple(sorted(set(given)))
        self.left_out["repetitions of pairs"] += len(given) - len(unique)
        return unique

    def clip(self, given: Any, where: str, required: bool = False) -> Clip | None:
        """Returns a clip, or None if it is unusable, which is counted.

        Args:
          given: {"video": …, "start": …, "end": …}; a time is a number or such as "00:01:02.5".
          required: whether it must be usable if nothing is repaired; `check_dialogue` then refuses
            times that are no span.
        """
        try:
            video = field(given, "video", str, where)
            start, end = (_time(given, key, where) for key in ("start", "end"))
        except InputError:
            if self.repaired is None and required:
                raise
        else:
            if is_stretch(start, end) or (self.repaired is None and required):
                return Clip(video, start, end)
        if self.repaired is None:
            self.left_out["unusable clips"] += 1
        else:
            self.repaired["unusable clips (left out)"] += 1
        return None

    def unique_dialogues(self, dialogues: Iterable[Dialogue]) -> list[Dialogue]:
        """Returns the dialogues, each once; counts exact repetitions."""
        given = list(dialogues)
        unique = list(dict.fromkeys(given))
        self.left_out["repetitions of conversations"] += len(given) - len(unique)
        check_unique(unique, self.where)
        return unique

    def dialogues(
        self, items: Iterable[Any], parse: Callable[[Any, str, int], Dialogue]
    ) -> list[Dialogue]:
        """Returns the dialogues of a file's conversations, and closes the log.

        Args:
          parse: maps a conversation, its place and its number, from 1, to a dialogue.
        """
        parsed = self.each(
            lambda item: parse(item[1], f"{self.where}: conversation number {item[0]}", item[0]),
            enumerate(items, 1),
        )
        with self.collected():
            if self.repaired is None:  # in a prediction, ids may be repeated
                parsed = self.unique_dialogues(parsed)
        self.close()
        return parsed

    def utterances(
        self,
        turns: Sequence[Any],
        where: str,
        faults: Faults,
        parse: Callable[[Any, int, str], Utterance],
    ) -> tuple[Utterance, ...]:
        """Returns `parse` of each utterance, its number from 1, and its place.

        Raises:
          InputError: one could not be parsed; pairs would then seem to point outside.
        """
        if self.repaired is not None:
            check_some_text(turns, where)
        utterances = faults.each(
            lambda turn: parse(turn[1], turn[0], f"{where}, utterance number {turn[0]}"),
            enumerate(turns, 1),
        )
        if len(utterances) < len(turns):
            faults.check()
        return tuple(utterances)

    def close(self) -> None:
        """Raises all faults; without any, logs what was repaired."""
        self.check()
        for kind, count in self.left_out.items():
            if count:
                _LOG.warning(f"{self.where}: {count} {kind} left out")
        if self._renamed:
            renamed = ", ".join(f"{what} ({count})" for what, count in self._renamed.most_common())
            _LOG.warning(f"{self.where}: emotions read: {renamed}")


def _time(given: Mapping[str, Any], key: str, where: str) -> float | None:
    if given.get(key) is None:
        return None
    time = seconds(field(given, key, (int, float, str), where))
    if time is None:
        raise InputError(
            f"{where}: {key!r} cannot be {str(given[key])[:40]!r}; give seconds, or a time such as "
            "00:01:02.5"
        )
    return time


def clip_beside(turn: Mapping[str, Any], conversation: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the clip, as `ReadLog.clip` takes it, that fields beside the text give, or None.

    These are "start" and "end", and "video" or "video_name" of the utterance or, if it has a time,
    of its conversation: one recording for all.
    """
    times = {key: turn[key] for key in ("start", "end") if turn.get(key) not in (None, "")}
    for item in (turn, conversation) if times else (turn,):
        for film in (item.get("video"), item.get("video_name")):
            if isinstance(film, str) and film.strip():
                return {"video": film.strip(), **times}
    return None


class SplitMissing(InputError):
    """There is no file of a split."""


def find_split(root: Path, names: Mapping[str, Sequence[str]], split: str, advice: str) -> Path:
    """Returns the file of a split.

    Args:
      names: the files that a split may be, by name of the split; the first that exists is taken.
      advice: where to get the benchmark.

    Raises:
      SplitMissing: there is none. If there is one of the training split, the message says how to
        cut the missing one from it.
    """

    def existing(of: str) -> list[Path]:
        return [root / name for name in names[of] if (root / name).is_file()]

    if existing(split):
        return existing(split)[0]
    missing = " and ".join(str(root / name) for name in names[split])
    if split != "train" and existing("train"):
        # Without dev alone, test is kept.
        kept = split == "dev" and existing("test")
        cut = "train,test --cut=90,10" if kept else "train --cut=80,10,10"
        advice += (
            f"; or cut the {split} split off the training split by `rpcl convert --splits={cut}` "
            "(docs/data.md)"
        )
    raise SplitMissing(f"{missing}: not found; {advice}")
