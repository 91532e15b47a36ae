"""Files that are written whole or not at all, JSON, and locks between processes."""

import contextlib
import csv
import fcntl
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from rpcl_jax.errors import InputError


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Yields a file that becomes `path` when the block ends, and only if it ends well.

    A kill leaves at most a file `*.tmp` beside it. Several processes may write the same path: one
    of their files is there in the end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """Returns JSON in UTF-8 with a line break at its end; without `indent` it is one line.

    A lone surrogate, which UTF-8 cannot encode, is written as JSON's escape \\ud800.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode("utf-8", "backslashreplace")


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Writes a JSON file, whole or not at all."""
    with written_whole(path) as file:
        file.write(json_bytes(value, indent))


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all; lone surrogates are left out."""
    with written_whole(path) as file:
        file.write(text.encode("utf-8", "ignore"))


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Writes a CSV file in UTF-8, whole or not at all; None becomes an empty cell."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_text(path, text.getvalue())


def read_json(path: Path) -> Any:
    """Reads a JSON file of a run.

    Raises:
      InputError: it does not exist or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: not found; is {path.parent} the folder of a run?") from error
    except ValueError as error:  # UnicodeDecodeError too
        raise InputError(f"{path}: is not JSON ({error}); was it edited?") from error


@contextlib.contextmanager
def locked(path: Path, busy: str, shared: bool = False) -> Iterator[int]:
    """Holds a lock on the file `path`; the lock of a killed process is released.

    Args:
      path: made if it does not exist.
      busy: the error message where another process holds the lock.
      shared: others may hold it too, if they share it as well.

    Yields:
      The file descriptor; a process that inherits it holds the lock too.

    Raises:
      InputError: another process holds the lock, or the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:  # NFS grants a shared lock to readers only
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(busy) from error
        except OSError as error:
            raise InputError(
                f"{path}: cannot be locked ({error.strerror}); use a file system that has locks"
            ) from error
        yield file.fileno()
