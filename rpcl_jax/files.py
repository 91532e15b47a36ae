"""Files that are written whole or not at all, JSON, and locks between processes."""

import contextlib
import csv
import errno
import io
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from rpcl_jax.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOG = logging.getLogger(__name__)
_DAMAGED = "was it edited or cut short? Restore it or start anew"
_POINTER = b"version https://git-lfs.github.com/spec/v1"
_METRICS = [
    f"{s}.pair_{m}" for s in ("dev", "test") for m in ("precision", "recall", "f1", "auprc")
]
# What is relied on in a run's result.json.
_RESULT: dict[str, type] = {
    **{"objective": str, "modalities": str, "seed": int, "threshold": Real},
    **dict.fromkeys(_METRICS, Real),
}


def shipped(name: str) -> Path:
    """Returns the folder `configs` or `tools`, in an installed package or beside it in a clone."""
    package = Path(__file__).parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def python_path() -> str:
    """Returns a PYTHONPATH with which other processes find this package, installed or not."""
    package = str(Path(__file__).parents[1])
    return os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, unless they exist.

    Raises InputError if one is a file, or if it is the address of something else than a file.
    """
    if address := re.match(r"[A-Za-z][\w+.-]+:(?=/)", str(path)):
        raise InputError(
            f"{path}: {address[0]}// is not a folder of this machine. "
            "Write to a local folder and copy it there."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        file = next(p for p in (path, *path.parents) if p.is_file() or p.is_symlink())
        raise InputError(
            f"{file}: is a file, so nothing can be written into it; give another folder"
        ) from error


@contextlib.contextmanager
def errors_name(path: Path, temporary: Path) -> Iterator[None]:
    """Makes OSErrors name `path`, not its temporary file."""
    try:
        yield
    except OSError as error:
        full = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and not str(error.filename).startswith(str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yields a file that becomes `path` when the block ends, and only if it ends well.

    A kill leaves at most a file `*.tmp` beside it. Several processes may write the same path: one
    of their files is there in the end. An OSError names `path`.
    """
    path = Path(path).expanduser()
    make_folder(path.parent)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with errors_name(path, temporary):
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # where nothing can be written, nothing can be removed
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes `path` when the block ends, and only if it ends well.

    A kill leaves at most a hidden folder `.*.unfinished` beside it. Raises InputError if `path`
    already exists; an OSError names `path`.
    """
    if path.exists():
        raise InputError(f"{path}: already exists; remove it or write elsewhere")
    make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.unfinished")
    try:
        with errors_name(path, unfinished):
            unfinished.mkdir()
            yield unfinished
            unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """Returns JSON in UTF-8 with a line break at its end; without `indent` it is one line.

    A lone surrogate, which UTF-8 cannot encode, is written as JSON's escape \\ud800.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode("utf-8", "backslashreplace")


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Writes a JSON file, whole or not at all."""
    with atomic_write(path) as file:
        file.write(json_bytes(value, indent))


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all; lone surrogates are left out."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "ignore"))


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Writes a CSV file in UTF-8, whole or not at all; None becomes an empty cell."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_text(path, text.getvalue())


def check_not_pointer(path: Path) -> None:
    """Raises InputError if Git LFS has not fetched a file: then a text of three lines is there.

    A file that cannot be read, or only once as a pipe, is left to whoever reads it.
    """
    start = b""
    with contextlib.suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(len(_POINTER))
    if start == _POINTER:
        raise InputError(
            f"{path}: is a Git LFS pointer, not the file itself; run `git lfs pull` in "
            f"{path.parent}"
        )


def read_json(path: Path, fields: Mapping[str, type] = {}) -> dict[str, Any]:
    """Reads one of the JSON files of a run, each of which is an object.

    Raises InputError if it does not exist, is no object or lacks one of `fields` (or a result's).
    """
    check_not_pointer(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: not found; is {path.parent} the folder of a run?") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not JSON ({error}); {_DAMAGED}") from error
    return parse_object(text, str(path), _RESULT if path.name == "result.json" else fields)


def parse_object(text: str, where: str, fields: Mapping[str, type] = {}) -> dict[str, Any]:
    """Parses a JSON object, which must have these `fields`, such as "test.pair_f1".

    Raises InputError, which begins with `where`, the file and the place, if it is no such object.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not JSON ({error}); {_DAMAGED}") from error
    if not isinstance(parsed, dict):
        raise InputError(f"{where}: is not a JSON object; {_DAMAGED}")
    require_fields(parsed, fields, where)
    return parsed


def require_fields(parsed: Mapping[str, Any], fields: Mapping[str, type], where: str) -> None:
    """Raises InputError if a field is missing or of another type; see `parse_object`."""
    for field, kind in fields.items():
        value: Any = parsed
        for name in field.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{where}: its {field!r} is missing or wrong; {_DAMAGED}")


@contextlib.contextmanager
def locked(path: Path, busy: str, shared: bool = False) -> Iterator[int]:
    """Holds a lock on the file `path`; the lock of a killed process is released.

    Yields the file descriptor; a process that inherits it, which is not possible on Windows, holds
    the lock too. Others may hold a `shared` lock, if they share it as well; on Windows, they may
    not.

    Raises:
      InputError: `busy`, as another process holds the lock.
    """
    make_folder(path.parent)
    with path.open("a+") as file:  # NFS grants a shared lock to readers only
        try:
            if shared and fcntl:  # filelock cannot
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            elif not filelock.lock_descriptor(file.fileno(), blocking=False):
                raise InputError(busy)
        except BlockingIOError as error:
            raise InputError(busy) from error
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise InputError(f"{path}: cannot be locked ({error.strerror})") from error
            _LOG.warning(
                f"{path}: this file system has no locks, so let no other process write here"
            )
        yield file.fileno()
