"""Files of this machine and of object stores, by the filesystems of Arrow that Ray Data uses."""

import contextlib
import fnmatch
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pyarrow import fs

from rpcl_jax.errors import InputError
from rpcl_jax.files import atomic_write
from rpcl_jax.readers.transcripts import transcripts_among


def resolve(uri: str) -> tuple[fs.FileSystem, str]:
    """Returns the filesystem of a path, or of a URI such as s3://bucket/folder, and the path there.

    Raises:
      InputError: there is no such filesystem or bucket.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    try:
        return fs.FileSystem.from_uri(uri)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{uri}: cannot be opened ({reason}); check the address") from error


def matching(pattern: str) -> tuple[fs.FileSystem, str, list[str]]:
    """Finds files; hidden ones are left out.

    Args:
      pattern: a file, a folder with all transcripts in it, or a path with `*`, `?` or `[…]`.

    Returns:
      The filesystem, a folder in it, and the sorted paths of the files in that folder.

    Raises:
      InputError: there is no such file.
    """
    scheme, separator, path = pattern.rpartition("://")
    parts = path.split("/")
    plain = next((k for k, part in enumerate(parts) if set("*?[") & set(part)), len(parts))
    wanted = parts[plain:]
    start = "/".join(parts[:plain]) or ("/" if path.startswith("/") else ".")
    filesystem, root = resolve(scheme + separator + start)
    try:
        if filesystem.get_file_info(root).type == fs.FileType.File:
            folder, _, name = root.rpartition("/")
            return filesystem, folder or "/", [] if wanted else [name]
        names = files_under(filesystem, root, recursive=len(wanted) != 1)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{pattern}: cannot be listed ({reason}); check the path") from error
    if wanted:
        return filesystem, root, sorted(n for n in names if _fits(n.split("/"), wanted))
    return filesystem, root, sorted(map(str, transcripts_among(map(PurePosixPath, names))))


def files_under(filesystem: fs.FileSystem, folder: str, recursive: bool = True) -> list[str]:
    """Returns the paths in `folder` of its files; none if it does not exist."""
    selector = fs.FileSelector(folder, allow_not_found=True, recursive=recursive)
    return [
        info.path.removeprefix(folder).lstrip("/")
        for info in filesystem.get_file_info(selector)
        if info.type == fs.FileType.File
    ]


def _fits(parts: list[str], wanted: list[str]) -> bool:
    hidden = any(part.startswith(".") for part in parts)
    fits = len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))
    return fits and not hidden


@contextlib.contextmanager
def readable(filesystem: fs.FileSystem, path: str) -> Iterator[Path]:
    """Yields the file as one of this machine: itself, or a temporary copy."""
    if isinstance(filesystem, fs.LocalFileSystem):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.rpartition("/")[2]
        with filesystem.open_input_stream(path, compression=None) as file, copy.open("wb") as to:
            shutil.copyfileobj(file, to, 1 << 20)
        yield copy


@contextlib.contextmanager
def whole(filesystem: fs.FileSystem, path: str) -> Iterator[BinaryIO]:
    """Yields a file that becomes `path` when the block ends, and only if it ends well."""
    if isinstance(filesystem, fs.LocalFileSystem):
        with atomic_write(Path(path)) as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        try:  # an object is visible once its stream is closed
            with filesystem.open_output_stream(path, compression=None) as to:
                shutil.copyfileobj(file, to, 1 << 20)
        except BaseException:
            remove(filesystem, path)
            raise


def remove(filesystem: fs.FileSystem, path: str) -> None:
    """Deletes a file if it exists."""
    if filesystem.get_file_info(path).type == fs.FileType.File:
        filesystem.delete_file(path)
