"""Errors that a user can fix: `InputError` for bad input, OSError for files."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


class InputError(ValueError):
    """A file, a folder or a config field is unusable.

    Each argument is one line that says what is wrong, where, and what to do; several arguments are
    several faults, reported at once. Commands print them without a traceback and exit with status 1
    (`rpcl_jax.run.command_line`).
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class Faults:
    """Collects InputErrors, so that a user learns of all of them at once.

    faults = Faults()
    with faults.collected():
        result = parse(text)
    results = faults.each(parse, texts)
    faults.check()
    """

    def __init__(self) -> None:
        self.messages: list[str] = []

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Keeps the InputError that its block raises, and continues after the block."""
        try:
            yield
        except InputError as error:
            self.messages += error.args

    def each(self, parse: Callable[[T], U], items: Iterable[T]) -> list[U]:
        """Returns `parse` of the items, without those of which it raises an InputError."""
        parsed = []
        for item in items:
            with self.collected():
                parsed.append(parse(item))
        return parsed

    def check(self) -> None:
        """Raises one InputError with everything that was collected, if anything was."""
        if self.messages:
            raise InputError(*self.messages)


@contextlib.contextmanager
def file_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turns a library's own exception for a failed write into an OSError.

    TensorStore, which Orbax writes with, raises ValueError, and tokenizers raises a bare Exception.
    Both messages contain the operating system's error number.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        code = re.search(r"os_error_code='(\d+)'|\(os error (\d+)\)", str(error))
        if code is None:
            raise
        number = int(code[1] or code[2])
        raise OSError(number, os.strerror(number), str(path)) from error
