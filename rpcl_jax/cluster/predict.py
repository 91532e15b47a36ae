"""Prediction of a corpus with Ray Data: many files, on every device of a cluster."""

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple, cast

from pyarrow import fs

from rpcl_jax.cluster.filesystems import files_under, matching, readable, remove, resolve, whole
from rpcl_jax.cluster.start import last_reason, machines, start_ray
from rpcl_jax.errors import InputError
from rpcl_jax.files import json_bytes, locked
from rpcl_jax.models.pretrained import hub_name
from rpcl_jax.predict import Predictor, say_what_is_absent
from rpcl_jax.readers.transcripts import conversations_in
from rpcl_jax.reporting.predictions import Summary, log_summary, write_results
from rpcl_jax.run.config import parse_config
from rpcl_jax.run.model_folder import model_folder, read_description
from rpcl_jax.run.progress import progress_bar

_LOG = logging.getLogger(__name__)
_REJECTED = ".rejected"  # folder of the output: what is rejected of each file
_BLOCKS = 10_000  # at most; Ray schedules and repeats blocks of files
_TRIES = 3  # of a file whose worker dies; Ray itself would go on for ever


class _Corpus(NamedTuple):
    """Where the files are read and written, each a filesystem and a folder in it."""

    source: fs.FileSystem
    source_folder: str
    target: fs.FileSystem
    target_folder: str

    def read(self, name: str) -> contextlib.AbstractContextManager[Path]:
        return readable(self.source, f"{self.source_folder}/{name}")

    def write(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        return whole(self.target, f"{self.target_folder}/{name}")


class _Broken(Exception):
    """A file breaks off: its output is not kept, so that the next run reads it again."""


class _FilePredictor:
    """Predicts one file after the other; Ray keeps one in each of its workers."""

    def __init__(
        self,
        load: Callable[[], Predictor],
        corpus: _Corpus,
        strict: bool,
        own_causes: bool,
        columns: Mapping[str, str] | None,
        begin: Callable[[str], int],
    ):
        self._corpus, self._strict, self._begin = corpus, strict, begin
        self._columns, self._own_causes = columns, own_causes
        self._predictor = functools.cache(load)  # loads it for the first file

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Returns what the file contained, or the error that ends everything, as JSON."""
        try:
            return {"json": json.dumps(self._predict(row["name"]))}
        except (InputError, OSError) as error:  # an exception would become Ray's own
            return {"json": json.dumps({"error": " ".join(str(error).split())})}

    def _predict(self, name: str) -> dict[str, Any]:
        corpus, target = self._corpus, output_name(name)
        written = corpus.target.get_file_info(f"{corpus.target_folder}/{target}")
        if written.type == fs.FileType.File:  # by a worker that died before it could say so
            return {}
        if self._begin(name) > _TRIES:
            return self._give_up(name)
        predictor = self._predictor()
        repaired, broken = Counter[str](), False
        with corpus.read(name) as file, tempfile.TemporaryFile() as rejected:

            def reject(place: str, error: InputError) -> None:
                nonlocal broken
                broken |= place == str(file)
                reason = str(error).replace(str(file), name)
                if self._strict:
                    raise InputError(f"{reason} (--strict)")
                line = {"file": name, "place": place.replace(str(file), name), "reason": reason}
                rejected.write(json_bytes(line))

            found = conversations_in(file, repaired, columns=self._columns)
            results = predictor.stream(found, own_causes=self._own_causes)
            done = Summary()
            with contextlib.suppress(_Broken), corpus.write(target) as raw:
                done = write_results(results, raw, target, predictor.max_utterances, reject)
                self._save_rejected(target, rejected)
                if broken:
                    raise _Broken
        return {"done": done, "repaired": repaired, "doubts": predictor.doubts()}

    def _give_up(self, name: str) -> dict[str, Any]:
        reason = (
            f"{_TRIES} workers died while they predicted this file; it may be too large for one"
        )
        if self._strict:
            raise InputError(f"{name}: {reason} (--strict)")
        line = {"file": name, "place": name, "reason": reason}
        with self._corpus.write(f"{_REJECTED}/{output_name(name)}.jsonl") as file:
            file.write(json_bytes(line))
        return {}

    def _save_rejected(self, target: str, lines: BinaryIO) -> None:
        name = f"{_REJECTED}/{target}.jsonl"
        if not lines.tell():
            remove(self._corpus.target, f"{self._corpus.target_folder}/{name}")
            return
        lines.seek(0)
        with self._corpus.write(name) as file:
            shutil.copyfileobj(lines, file)


def output_name(name: str) -> str:
    """Returns the name of the output for an input file: JSON lines, compressed if that is.

    >>> output_name("a/x.jsonl.gz"), output_name("x.json"), output_name("x.srt.gz")
    ('a/x.jsonl.gz', 'x.json.jsonl', 'x.srt.jsonl.gz')
    """
    stem, gz = (name[:-3], ".gz") if name.endswith(".gz") else (name, "")
    return f"{stem}{'' if stem.endswith('.jsonl') else '.jsonl'}{gz}"


def predict_corpus(
    model: str | Path,
    pattern: str,
    output: str,
    address: str | None = None,
    *,
    revision: str | None = None,
    threshold: float | None = None,
    encoder: str | None = None,
    strict: bool = False,
    own_causes: bool = True,
    columns: Mapping[str, str] | None = None,
) -> Summary:
    """Predicts every file that matches into a file of the same name in the folder `output`.

    Files that are already there are skipped. Conversations that cannot be read are listed in
    `output/rejected.jsonl`, those of earlier runs too.

    Args:
      model, revision, threshold, encoder: see `Predictor`. Folders are visible to all workers. The
        model reads text alone or takes what else it reads as absent.
      pattern: see `rpcl_jax.cluster.filesystems.matching`; on a cluster, visible to all workers.
      output: folder or URI.
      strict: end with the first conversation that cannot be read.
      columns: see `rpcl_jax.readers.transcripts.conversations_in`.
    """
    folder = model_folder(model, revision).absolute()
    described = read_description(folder)
    if absent := list(described["feature_tables"]):
        say_what_is_absent(absent, parse_config(described["run"], folder / "config.json"))
    on_hub = isinstance(model, str) and hub_name(model)
    load = partial(Predictor, on_hub or folder, threshold, revision, encoder)
    source, source_folder, names = matching(pattern)
    corpus = _Corpus(source, source_folder, *resolve(output))
    _check_outputs(corpus, pattern, output, names)
    finished = set(files_under(corpus.target, corpus.target_folder))
    waiting = [name for name in names if output_name(name) not in finished]
    if len(waiting) < len(names):
        print(f"{len(names) - len(waiting)} of {len(names)} files are already in {output}")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # else it repeats at its end what we left out
    ray = start_ray(address) if waiting else None
    with _owned(corpus, ray):
        done = Summary()
        repaired, doubts = Counter[str](), dict[str, str]()
        with _own_messages(), progress_bar(len(names), " files") as advance:
            results = (
                _results(ray, (load, corpus, strict, own_causes, columns), waiting)
                if ray
                else iter(())
            )
            for count, result in enumerate(results, len(names) - len(waiting) + 1):
                if "error" in result:
                    raise InputError(result["error"])
                summary = Summary(*result.get("done", ()))
                done = Summary(*map(sum, zip(done, summary, strict=True)))
                repaired.update(result.get("repaired", {}))
                doubts |= result.get("doubts", {})
                advance(summary.utterances, count)
        rejected = _collect_rejected(corpus, [output_name(name) for name in names])
    log_summary(done, repaired)
    for doubt in doubts.values():
        _LOG.warning(doubt)
    return done._replace(rejected=rejected)


def _check_outputs(corpus: _Corpus, pattern: str, output: str, names: list[str]) -> None:
    if not names:
        raise InputError(f"{pattern}: no such file; check the path")
    if corpus.target.get_file_info(corpus.target_folder).type == fs.FileType.File:
        raise InputError(f"{output}: is a file; give the name of a folder")
    inside = f"{corpus.target_folder}/".startswith(f"{corpus.source_folder}/")
    if corpus.source == corpus.target and inside:  # it would be read as input the next time
        raise InputError(f"{output}: is inside the folder of the input; give another one")
    for name in names:
        if output_name(name) == "rejected.jsonl":
            raise InputError(
                f"{pattern}: {name} would be written over the list of what is rejected; rename it, "
                "or leave an earlier output out of the input"
            )
    shared = Counter(map(output_name, names)).most_common(1)[0]
    if shared[1] > 1:
        raise InputError(f"{pattern}: two files would be written to {shared[0]}; rename one")


class _Begun:
    """How often each file was begun; one process of Ray's keeps it for all workers."""

    def __init__(self) -> None:
        self._times = Counter[str]()

    def begin(self, name: str) -> int:
        self._times[name] += 1
        return self._times[name]


def _results(ray: ModuleType, arguments: tuple, names: list[str]) -> Iterator[dict[str, Any]]:
    """Yields what a `_FilePredictor` says of each file, in any order; there is one per device."""
    import ray.data as data

    data.DataContext.get_current().enable_progress_bars = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # the other one writes Ray's own log file
            handler.setLevel(logging.CRITICAL)
    # If its machine is lost, it begins to count anew.
    counts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Begun)
    begun = counts.remote()

    def begin(name: str) -> int:
        return ray.get(begun.begin.remote(name))

    gpus = int(ray.cluster_resources().get("GPU", 0))
    workers = gpus or len(machines(ray))
    rows = data.from_items(
        [{"name": name} for name in names], override_num_blocks=min(len(names), _BLOCKS)
    )
    results = rows.map(
        cast(Any, _FilePredictor),
        fn_constructor_args=(*arguments, begin),
        compute=data.ActorPoolStrategy(size=min(workers, len(names))),
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    )
    try:
        for row in results.iter_rows():
            yield json.loads(row["json"])
    except ray.exceptions.RayError as error:
        raise InputError(
            f"a worker cannot go on ({last_reason(str(error))[:300]}); what is done is kept, and "
            "the same command continues"
        ) from error


@contextlib.contextmanager
def _own_messages() -> Iterator[None]:
    """Lets nothing but Python's own stderr be seen.

    Ray writes half a page to stdout and to the file descriptor 2 when a worker dies, whose files
    are simply predicted again.
    """
    with open(os.devnull, "w") as nothing, os.fdopen(os.dup(2), "w") as stderr:
        os.dup2(nothing.fileno(), 2)
        try:
            with contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(stderr):
                yield
        finally:
            os.dup2(stderr.fileno(), 2)


@contextlib.contextmanager
def _owned(corpus: _Corpus, ray: ModuleType | None) -> Iterator[None]:
    """Keeps other commands out of a folder of this machine, and removes what was half-written."""
    if not isinstance(corpus.target, fs.LocalFileSystem):
        yield
        return
    folder = Path(corpus.target_folder)
    with locked(folder / ".lock", f"{folder}: another process is predicting into it"):
        try:
            yield
        except BaseException:
            if ray:
                ray.shutdown()  # the workers
            raise
        finally:
            for path in folder.rglob("*.tmp"):
                if re.search(r"\.[0-9a-f]{32}\.tmp$", path.name):
                    path.unlink(missing_ok=True)


def _collect_rejected(corpus: _Corpus, outputs: list[str]) -> int:
    """Writes `rejected.jsonl`, unless nothing was rejected, and returns its length."""
    folder = f"{corpus.target_folder}/{_REJECTED}"
    there = files_under(corpus.target, folder)
    names = sorted(set(there) & {f"{output}.jsonl" for output in outputs})
    if not names:
        remove(corpus.target, f"{corpus.target_folder}/rejected.jsonl")
        return 0
    count = 0
    with corpus.write("rejected.jsonl") as file:
        for name in names:
            with corpus.target.open_input_stream(f"{folder}/{name}", compression=None) as lines:
                while part := lines.read(1 << 20):
                    file.write(part)
                    count += part.count(b"\n")
    return count
