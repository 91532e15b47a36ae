"""What the commands share: a mistake of the user's ends in one line, not in a traceback."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from absl import app, flags

from rpcl_jax.errors import InputError


def run_command(name: str, job: Callable[[], None], check_flags: Callable[[], None]) -> None:
    """Parses absl's flags and does a job: `app.run`, with `one_line` around both.

    Exits with 2 where a flag or a field of the config does not exist or has a wrong value, with 1
    where the input is bad. `--debug` shows tracebacks.

    Args:
      name: of the command, the beginning of what it says.
      job: done when the flags are parsed.
      check_flags: raises flags.Error where flags do not go together.
    """
    flags.DEFINE_bool("debug", False, "Show tracebacks.")
    debug = flags.FLAGS["debug"]  # its value can be read where other flags could not
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], debug)  # --help shows it

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(argv)
            if len(rest) > 1:
                raise flags.Error(f"{rest[1]}: not a flag; flags begin with --")
            check_flags()
            return rest
        # ml_collections reports a missing field, file or wrong type each in its own way.
        except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            if debug.value:
                raise
            _complain(name, error)
            sys.exit(2)

    def main(argv: list[str]) -> None:
        del argv
        with one_line(name, unless=bool(debug.value)):
            job()

    app.run(main, flags_parser=parse)


def check_config(config: flags.FlagHolder) -> None:
    """Raises what `run_command` reports unless `--config` names a file that can be read."""
    if config.value is None:
        raise flags.Error("--config is needed, for example --config=configs/ecf.py")
    _ = config.value.seed  # a file that could not be read complains only when looked into


@contextlib.contextmanager
def one_line(name: str, unless: bool = False) -> Iterator[None]:
    """Makes bad input, or a file that cannot be read or written, a line and exit status 1.

    Args:
      name: of the command, the beginning of the line.
      unless: let the exception through.
    """
    try:
        yield
    except (InputError, OSError) as error:
        if unless or (isinstance(error, OSError) and not error.filename):
            raise
        _complain(name, error)
        sys.exit(1)


def _complain(name: str, error: BaseException) -> None:
    if isinstance(error, OSError) and error.filename:
        message = f"{error.filename}: {error.strerror}"
    else:
        message = str(error)
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
