"""Errors that a user can put right: `InputError`, and OSError for files."""

import contextlib
import os
import re
from collections.abc import Iterator


class InputError(ValueError):
    """Bad input: a file, a config field or a folder is not what it should be.

    The message is one line that names the file, the place in it and what to do. Commands print it
    without a traceback and exit with status 1 (`rpcl_jax.run.command_line`).
    """


@contextlib.contextmanager
def file_errors(path: str | os.PathLike) -> Iterator[None]:
    """Raises OSError for a failed write that a library reports in its own way.

    TensorStore, with which Orbax writes, raises a ValueError, and tokenizers a bare Exception; both
    messages contain the operating system's error number.

    Args:
      path: file or folder that is written.
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
