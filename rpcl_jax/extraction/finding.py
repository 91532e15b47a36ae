"""Finds the media file of an utterance, however it is named, and the time span in it."""

import math
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rpcl_jax.data.dialogue import CLIP_ENDINGS, Utterance, clip_name
from rpcl_jax.errors import InputError

# Season and episode at the end of a name, and before the rest of a longer one.
_EPISODE = re.compile(r"(?:.*[^a-z0-9])?s0*(\d{1,3})[ ._-]*e0*(\d{1,3})([^a-z0-9].*)?")
_LONGER = "/longer"
_SPLIT = re.compile(r"(?<![a-z])(train|dev|test)(?![a-z])")


class ClipError(InputError):
    """A clip is missing or unusable, so its utterance lacks the modality."""


class TimeSpan(NamedTuple):
    """The time span of a file from `start` to `end`, in seconds; a whole file is (0, infinity)."""

    path: Path
    start: float
    end: float


def index_clips(folder: Path, meld: Mapping[str, str] | None = None) -> dict[str, list[Path]]:
    """Returns the media files under `folder`, following links, by all names that they go by.

    `meld` has names of MELD's clips, such as "train_dia559_utt3", by id of an utterance. Its splits
    have files of the same names, in folders that name the split.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of the clips")
    index: dict[str, list[Path]] = {}
    for path in _media(folder):
        for name in _names(path.stem):
            index.setdefault(name, []).append(path)
    if not index:
        raise InputError(
            f"{folder}: contains no clip, no file with the extension {', '.join(CLIP_ENDINGS)}; "
            "give the folder of the clips"
        )
    for name, paths in _meld_clips(folder, index, meld or {}):
        index.setdefault(name, []).extend(paths)
    return index


def _media(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for path in (Path(place, name) for name in sorted(names)):
            # Files with a leading dot are metadata that macOS adds to archives.
            if path.suffix.lower() in CLIP_ENDINGS and path.name[0] != ".":
                yield path


def _plain(name: str) -> str:
    """The name in the case and the Unicode normalisation in which names are compared."""
    return unicodedata.normalize("NFC", name).casefold()


def _names(stem: str) -> Iterator[str]:
    yield _plain(stem)
    episode = _EPISODE.fullmatch(_plain(stem))
    if episode:  # a file name has no slash
        yield f"{int(episode[1])}/{int(episode[2])}{_LONGER if episode[3] else ''}"


def _meld_clips(
    folder: Path, index: Mapping[str, list[Path]], meld: Mapping[str, str]
) -> Iterator[tuple[str, list[Path]]]:
    """Yields the files that are MELD's clips of utterances, by id of the utterance."""
    splits: dict[str, set[str]] = {}  # the splits that have a clip of this name
    for name in meld.values():
        split, _, stem = name.partition("_")
        splits.setdefault(stem, set()).add(split)
    for identifier, name in meld.items():
        split, _, stem = name.partition("_")
        files = [(path, _split_of(path, folder)) for path in index.get(stem, [])]
        own = [path for path, of in files if of == split]
        if not own and splits[stem] == {split}:
            own = [path for path, of in files if of is None]
        own = own or index.get(name, [])
        if own:
            yield _plain(identifier), own


def _split_of(path: Path, folder: Path) -> str | None:
    """Returns the split that the nearest folder names, up to `folder`."""
    above = (folder.resolve().name, *path.parent.relative_to(folder).parts)
    found = [match[1] for part in above for match in [_SPLIT.search(part.lower())] if match]
    return found[-1] if found else None


def find_clip(index: Mapping[str, list[Path]], utterance: Utterance) -> TimeSpan:
    """Returns the file and time span of `utterance`.

    They are those of `utterance.clip`. If there is no clip, or its file does not exist, the whole
    file named like the utterance's id is used; raises ClipError if neither exists. Names are
    compared without regard to case and Unicode normalisation, and S01E02, "Friends_S1E2" and
    "Friends.S01E02.1080p" are one episode. Of several files, those in the folder and with the
    extension that the name has are meant; raises InputError if these are still two.
    """
    spans = [(utterance.id, 0.0, math.inf)]
    if utterance.clip is not None:
        start, end = utterance.clip.start, utterance.clip.end
        spans.insert(0, (utterance.clip.video, start or 0.0, math.inf if end is None else end))
    for given, start, end in spans:
        paths = _files(index, given)
        if len(paths) > 1:
            raise InputError(
                f"{paths[1]}: {paths[0]} has the same name, and utterance {utterance.id} needs "
                "one of them; remove the other, write its extension in the transcript, or give a "
                "folder that contains only one"
            )
        if paths:
            return TimeSpan(paths[0], start, end)
    names = " or ".join(dict.fromkeys(clip_name(given) for given, _, _ in spans))
    raise ClipError(f"no file named {names} with an audio or video extension; add it")


def _files(index: Mapping[str, list[Path]], given: str) -> list[Path]:
    """Returns the files that a name may mean: those that fit it best."""
    name = clip_name(given)
    *folders, file = _plain(given.replace("\\", "/")).split("/")
    fits: Sequence[Callable[[Path], bool]] = (
        lambda path: [*map(_plain, path.parent.parts)][-len(folders) :] == folders,
        lambda path: _plain(path.name) == file,
        lambda path: path.stem == name,
    )
    keys = [key for key in _names(name) if not key.endswith(_LONGER)]
    # Only a whole episode is found by a longer name, not the clip of an utterance of it.
    for key in (*keys, *(key + _LONGER for key in keys[1:])):
        if key in index:
            paths = index[key]
            for fit in fits:
                paths = list(filter(fit, paths)) or paths
            return paths
    return []


def find_clips(
    folder: Path, utterances: Sequence[Utterance], meld: Mapping[str, str] | None = None
) -> list[TimeSpan | ClipError]:
    """Returns the clip of every utterance, or why it has none; InputError if none has one."""
    index = index_clips(folder, meld)
    spans: list[TimeSpan | ClipError] = []
    for utterance in utterances:
        try:
            spans.append(find_clip(index, utterance))
        except ClipError as error:
            spans.append(error)
    if spans and all(isinstance(span, ClipError) for span in spans):
        there = next(iter(index.values()))[0]
        raise InputError(
            f"{folder}: has no clip of any of the {len(utterances)} utterances; for "
            f"{utterances[0].id}, {str(spans[0]).partition(';')[0]}, but there is {there.name}; "
            "give the folder of these clips, or rename them"
        )
    return spans
