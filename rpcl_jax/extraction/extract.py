"""Extracts a feature table from clips, in chunks, so that it can be interrupted and sharded.

While a table OUT is incomplete, its chunks are in the folder OUT.partial:

header.json   what is extracted from which clips; a different extraction is refused
000012.npz    the chunk of utterances from 12 * CHUNK: the rows of those that have one, and for each
              utterance the reason why it has none, or ""
lock          held by all running shards (shared), or by the process that makes the table

Chunks are written atomically, and their boundaries do not depend on the shards, so the number of
shards, kills and resumptions do not change the table by a single bit.
"""

import contextlib
import functools
import hashlib
import json
import logging
import math
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rpcl_jax.batching.pipeline import prefetched
from rpcl_jax.data.dialogue import Dialogue, Utterance
from rpcl_jax.data.features import FeatureTable, check_same_extractor
from rpcl_jax.errors import InputError
from rpcl_jax.extraction.extractors import EXTRACTORS, Extractor, load_extractor
from rpcl_jax.extraction.finding import ClipError, TimeSpan, find_clips
from rpcl_jax.files import atomic_write, locked, read_json, write_json

_LOG = logging.getLogger(__name__)
CHUNK = 16  # utterances; a kill loses at most this many

Clips = Sequence[TimeSpan | ClipError]  # of one chunk; an error stands for a missing clip
# Maps numbered chunks to (number, rows, reasons), see `embed_clips`, in any order.
Extract = Callable[[Iterable[tuple[int, Clips]]], Iterator[tuple[int, np.ndarray, list[str]]]]


def extract_table(
    utterances: Sequence[Utterance],
    clips: Path,
    extractor: Extractor,
    out: Path,
    shard: tuple[int, int] | None = None,
    strict: bool = False,
    meld: Mapping[str, str] | None = None,
    extract: Extract | None = None,
) -> list[tuple[str, str]]:
    """Extracts the features of utterances into a table, continuing an interrupted extraction.

    Args:
      out: folder of the table, a `FeatureTable` in which utterances without features are listed
        as absent, with the reason.
      shard: (i, n) extracts part i, from 1, of n and makes no table. None extracts all chunks that
        do not exist yet and makes the table.
      strict: extract chunks with absent utterances again, and make no table while any are absent.
      extract: extracts chunks with the same extractor elsewhere; by default it is done here.

    Returns:
      (utterance id, reason) for each absent utterance of the shard, or of all utterances.

    Raises:
      InputError: the table already exists, `out` has a different or a running extraction, an id is
        duplicated, the name of a clip is ambiguous, or no utterance has a clip.
    """
    _check_ids(utterances)
    spans = find_clips(clips, utterances, meld)
    header = {
        **extractor.description,
        "clips": str(clips.resolve()),
        "utterances": _digest(utterances),
    }
    partial = out.with_name(out.name + ".partial")
    if out.exists() and (partial / "header.json").exists():  # it was killed while it cleaned up
        _check_header(partial / "header.json", header)
        absent = list(FeatureTable.load(out).absent.items())
        _remove(partial)
        return absent
    with _working(partial, out, header, alone=shard is None):
        part, parts = shard or (1, 1)
        chunks = range(part - 1, math.ceil(len(utterances) / CHUNK), parts)
        extract = extract or functools.partial(_extract_here, extractor)
        _extract_chunks(chunks, spans, extract, partial, strict)
        absent = [
            (utterance.id, reason)
            for chunk in chunks
            for utterance, reason in zip(
                utterances[chunk * CHUNK :], _read_chunk(partial, chunk)[1], strict=False
            )
            if reason
        ]
        made = shard is None and not (strict and absent)
        if made:
            _make_table(utterances, absent, extractor.description, partial, out)
    if made:  # not before: Windows cannot remove what is open or mapped
        _remove(partial)
    return absent


def parse_shard(text: str) -> tuple[int, int] | None:
    """Parses "i/n" to the shard (i, n) of `extract_table`, and "" to None."""
    if not text:
        return None
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"--shard={text}: must be i/n, part i of n, from 1/n to n/n")
    return int(match[1]), int(match[2])


def _remove(partial: Path) -> None:
    """Removes the chunks, and last the header, without which they could be taken for another's."""
    for path in partial.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "header.json":
            path.unlink()
    shutil.rmtree(partial)


def _check_ids(utterances: Sequence[Utterance]) -> None:
    counts = Counter(utterance.id for utterance in utterances)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise InputError(
            f"utterance id {repeated[0]} is duplicated; a table has one row per id, so make ids "
            "unique, or extract the splits one by one (--splits)"
        )


def _digest(utterances: Sequence[Utterance]) -> str:
    described = [(u.id, u.clip and (u.clip.video, u.clip.start, u.clip.end)) for u in utterances]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:40]


@contextlib.contextmanager
def _working(partial: Path, out: Path, header: dict[str, Any], alone: bool) -> Iterator[None]:
    """Holds the lock of `partial`, alone or shared with other shards, and checks its header."""
    exists = InputError(f"{out}: already exists; remove it or write elsewhere")
    if out.exists():
        raise exists
    busy = f"{partial}: another process is extracting there; wait for it or stop it"
    with locked(partial / "lock", busy, shared=not alone):
        if out.exists():  # another process may have finished before we got the lock
            raise exists
        path = partial / "header.json"
        if not path.exists():
            write_json(path, header)
        _check_header(path, header)
        yield


def _check_header(path: Path, header: dict[str, Any]) -> None:
    there = read_json(path)
    for key, value in header.items():
        # The model's path may differ between machines; its revision identifies it.
        if key != "model" and there.get(key) != value:
            raise InputError(
                f"{path}: the extraction started there has {key} {there.get(key)!r} instead of "
                f"{value!r}; remove {path.parent} or write elsewhere"
            )


def _extract_chunks(
    chunks: Sequence[int], spans: Clips, extract: Extract, folder: Path, strict: bool
) -> None:
    """Extracts the `chunks` that are not done into the folder."""

    def is_done(chunk: int) -> bool:
        there = _chunk_path(folder, chunk).exists()
        return there and not (strict and any(_read_chunk(folder, chunk)[1]))

    clips = {chunk: spans[chunk * CHUNK :][:CHUNK] for chunk in chunks}
    wanted = [chunk for chunk in chunks if not is_done(chunk)]
    with tqdm(
        total=sum(map(len, clips.values())),
        initial=sum(len(clips[chunk]) for chunk in clips.keys() - wanted),
        unit="clip",
        disable=not _LOG.isEnabledFor(logging.INFO),
        mininterval=0.5 if sys.stderr.isatty() else 30,  # each update adds a line to a log
    ) as bar:
        for chunk, rows, reasons in extract((chunk, clips[chunk]) for chunk in wanted):
            with atomic_write(_chunk_path(folder, chunk)) as file:
                np.savez(file, rows=rows, reasons=np.array(reasons))
            bar.update(len(reasons))


def _extract_here(
    extractor: Extractor, chunks: Iterable[tuple[int, Clips]]
) -> Iterator[tuple[int, np.ndarray, list[str]]]:
    """Extracts chunks in order; threads decode clips while the model computes."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        read = functools.partial(read_clip, extractor)
        items = ((chunk, list(pool.map(read, clips))) for chunk, clips in chunks)
        for chunk, inputs in prefetched(items):
            yield chunk, *embed_clips(extractor, inputs)


def read_clip(extractor: Extractor, clip: TimeSpan | ClipError) -> np.ndarray | ClipError:
    """Returns the model's input, or the error if the clip cannot be read."""
    if isinstance(clip, ClipError):
        return clip
    try:
        return extractor.read(clip)
    except ClipError as error:
        return error


def embed_clips(
    extractor: Extractor, items: Sequence[np.ndarray | ClipError]
) -> tuple[np.ndarray, list[str]]:
    """Returns the rows of the items that have one, and for every item the reason why not, or ""."""
    # Reasons must not contain tabs or line breaks, which separate the fields of absent.txt.
    reasons = [" ".join(str(i).split()) if isinstance(i, ClipError) else "" for i in items]
    present = [k for k, reason in enumerate(reasons) if not reason]
    arrays = [item for item in items if isinstance(item, np.ndarray)]
    if not arrays:
        return np.empty((0, extractor.description["dimension"]), np.float32), reasons
    rows = extractor.embed(arrays)
    finite = np.isfinite(rows).all(axis=1)
    for k in np.flatnonzero(~finite):
        reasons[present[k]] = "its features contain NaN or infinity; check the clip"
    return rows[finite], reasons


def _chunk_path(partial: Path, chunk: int) -> Path:
    return partial / f"{chunk:06}.npz"


def _read_chunk(partial: Path, chunk: int) -> tuple[np.ndarray, list[str]]:
    with np.load(_chunk_path(partial, chunk), allow_pickle=False) as stored:
        return stored["rows"], stored["reasons"].tolist()


def _make_table(
    utterances: Sequence[Utterance],
    absent: Sequence[tuple[str, str]],
    description: dict[str, Any],
    partial: Path,
    out: Path,
) -> None:
    """Joins the chunks on disk into a table, without loading all of them into memory."""
    without = {identifier for identifier, _ in absent}
    ids = [utterance.id for utterance in utterances if utterance.id not in without]
    values = np.lib.format.open_memmap(
        partial / "features.npy", "w+", np.float32, (len(ids), description["dimension"])
    )
    row = 0
    for chunk in range(math.ceil(len(utterances) / CHUNK)):
        rows, _ = _read_chunk(partial, chunk)
        values[row : row + len(rows)] = rows
        row += len(rows)
    whole = partial / "table"
    shutil.rmtree(whole, ignore_errors=True)  # left by a process that was killed here
    rows_of_ids = {identifier: row for row, identifier in enumerate(ids)}
    FeatureTable(values, rows_of_ids, description, absent=dict(absent)).save(whole)
    whole.rename(out)


def extract_tables(
    feature_tables: Mapping[str, Mapping[str, Any]],
    dialogues: Sequence[Dialogue],
    clips: Path,
    folder: Path,
) -> dict[str, FeatureTable]:
    """Extracts the features that a run reads from the clips of new conversations.

    Raises InputError if no utterance has a clip, or an extractor is missing or is not the one of
    the run's `feature_tables`, from its `config.json`.
    """
    utterances = [utterance for dialogue in dialogues for utterance in dialogue.utterances]
    find_clips(clips, utterances)  # before a model is loaded, which takes long
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
        name, revision = trained_with["extractor"], trained_with["revision"]
        extractor = load_extractor(name, trained_with.get("model", ""), revision)
        check_same_extractor(extractor.description, trained_with, extractor.description["model"])
        absent = extract_table(utterances, clips, extractor, folder / modality)
        for utterance, reason in absent:
            _LOG.warning(f"{utterance}: no {modality}: {reason}")
        tables[modality] = FeatureTable.load(folder / modality)
    return tables
