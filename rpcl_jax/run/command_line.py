"""What the commands share: flags, exit statuses, and one-line messages for users' mistakes."""

import _thread
import contextlib
import errno
import io
import logging
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags
from tqdm import tqdm

from rpcl_jax.errors import InputError
from rpcl_jax.files import shipped
from rpcl_jax.run.base_config import flatten
from rpcl_jax.run.compilation import use_compilation_cache

_LOG = logging.getLogger(__name__)
_MOST_FAULTS = 100  # lines of faults; a file of another kind is wrong everywhere
# Settings that decide the numbers, or with which this package does not run, and JAX's defaults.
_JAX_DEFAULTS = {
    "JAX_ENABLE_X64": ("0", "false"),
    "JAX_THREEFRY_PARTITIONABLE": ("1", "true"),
    "JAX_DEFAULT_PRNG_IMPL": ("threefry2x32",),
    "JAX_DEFAULT_MATMUL_PRECISION": ("default",),
    "JAX_NUMPY_RANK_PROMOTION": ("allow",),
    "JAX_NUMPY_DTYPE_PROMOTION": ("standard",),
    "JAX_TRANSFER_GUARD": ("allow",),
    "JAX_DISABLE_JIT": ("0", "false"),
}
_INTERRUPTED = 130  # the exit status of a program that SIGINT stopped, as shells report it
_interrupts: list[int] = []  # the SIGINTs that arrived


def run_command(
    name: str,
    job: Callable[..., None],
    check_flags: Callable[..., None] = lambda *_: None,
    *,
    takes: str = "",
    distributed: str = "",
) -> None:
    """Parses absl's flags and does a job: `app.run`, with `one_line` around both.

    Exits with 2 where a flag or a field of the config does not exist or has a wrong value, with 1
    where the input is bad. `--debug` shows tracebacks.

    Args:
      name: of the command; its messages begin with it.
      job: what the command does, called with the arguments that are not flags.
      check_flags: raises flags.Error or InputError if the flags or the config are wrong; called
        with the same arguments.
      takes: those arguments, such as "RUN [RUN]", or "RUN…" for one or more.
      distributed: how a command that has no flag --distributed uses several machines.
    """
    flags.DEFINE_bool("debug", False, "Show tracebacks.")
    flags.DEFINE_bool(
        "compilation_cache", True, "Keep compiled programs on disk for the next command."
    )
    debug = flags.FLAGS["debug"]
    for flag in flags.FLAGS.flags_by_module_dict()[__name__]:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # --help shows it
    flags.FLAGS.set_gnu_getopt()  # flags may follow other arguments

    def parse(argv: list[str]) -> list[str]:
        argv = [_with_home(argument) for argument in _with_paths(argv)]
        # A config may import its neighbours, as `from configs import ecf`, wherever it is.
        files = [a.removeprefix("--config=") for a in argv if a.startswith("--config=")]
        sys.path += [str(Path(file).resolve().parent.parent) for file in files]
        try:
            for file in files:
                if not (Path(file).is_file() or Path(file.partition(":")[0]).is_file()):
                    names = ", ".join(sorted(p.stem for p in shipped("configs").glob("*.py")))
                    raise flags.Error(
                        f"--config={file}: no such file; the shipped configs are {names}"
                    )
            rest = flags.FLAGS(argv)
            _check_number(rest[1:], takes)
            prepare(flags.FLAGS.compilation_cache)
            check_flags(*rest[1:])
            return rest
        except SystemExit as ended:
            sys.exit(0 if ended.code == 1 else ended.code)  # absl ends --help with 1
        except flags.UnrecognizedFlagError as error:
            if distributed and error.flagname == "distributed":
                _complain(name, f"--distributed: is for train, evaluate and predict; {distributed}")
            else:
                _complain(name, error, _field_named(error.flagname))
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(_INTERRUPTED)  # nothing has begun
        # ml_collections reports a missing field, file or wrong type each in its own way, and a
        # config file is code, which may raise anything.
        except Exception as error:
            if debug.value or "--debug" in argv:  # a config is read before the flags after it
                raise
            _complain(name, f"{_line_of(files, error)}{_without_traceback(error, argv)}")
            sys.exit(2)

    def main(argv: list[str]) -> None:
        _never_lose_interrupts()
        with one_line(name, unless=bool(debug.value)):
            job(*argv[1:])

    app.run(main, flags_parser=parse)


def _with_paths(argv: Sequence[str]) -> list[str]:
    """Returns the arguments with `--config=demo:base` as `--config=…/configs/demo.py:base`."""

    def path_of(matched: re.Match) -> str:
        path = shipped("configs") / f"{matched[1]}.py"
        return f"--config={path}" if path.is_file() else matched[0]

    # `--config FILE` is two arguments.
    joined = re.sub("(?<=\0)--config\0", "--config=", "\0".join(argv))
    found = [re.sub(r"^--config=(\w+)(?=:|$)", path_of, a) for a in joined.split("\0")]
    return ["--help" if argument == "-h" else argument for argument in found]


def _check_number(given: Sequence[str], takes: str) -> None:
    names = takes.split()
    least = sum(not name.startswith("[") for name in names)
    if len(given) < least or (len(given) > len(names) and not takes.endswith("…")):
        said, wanted = " ".join(given) or "nothing", takes or "only flags, which begin with --"
        raise flags.Error(f"{said} given; the command takes {wanted}")


def require(*required: flags.FlagHolder) -> None:
    """Raises flags.Error where one of these flags is not given."""
    for flag in required:
        if not flag.value:
            raise flags.Error(f"--{flag.name} is required: {flags.FLAGS[flag.name].help}")


def _with_home(argument: str) -> str:
    """Returns an argument with its path's "~" replaced, which shells do not in `--flag=~/path`."""
    flag, equals, path = argument.partition("=")
    named = equals and flag.startswith("-") and path.startswith("~")
    return f"{flag}={os.path.expanduser(path)}" if named else argument


def define_columns() -> flags.FlagHolder:
    """Defines --columns, of the commands that read transcripts."""
    return flags.DEFINE_list(
        "columns",
        [],
        "Which columns of a table, or fields of JSON (a.b within a), have what: "
        "text=utterance_text,speaker=who,conversation=session; see docs/data.md.",
    )


def _never_lose_interrupts() -> None:
    """Makes every Ctrl-C end the command.

    Libraries can swallow a KeyboardInterrupt: Python forgets one that is raised in a callback of
    the garbage collector, where JAX has one, and the import of C code turns it into an ImportError.
    So interrupts are counted, and raised again until the command ends.
    """
    main = threading.get_ident()

    def interrupt() -> None:
        if sys.platform == "win32":
            _thread.interrupt_main()
        else:  # to the thread itself, so that it also leaves a call of the operating system
            signal.pthread_kill(main, signal.SIGINT)

    def on_interrupt(number: int, frame: object) -> None:
        _interrupts.append(number)
        again = threading.Timer(3.0, interrupt)
        again.daemon = True
        again.start()
        raise KeyboardInterrupt

    def on_unraisable(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)

    # It is ignored where the command runs in the background of a script.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, on_interrupt)
        sys.unraisablehook = on_unraisable


def check_page(flag: flags.FlagHolder) -> None:
    """Raises flags.Error where a flag is given and is not the name of an HTML file."""
    if flag.value and not flag.value.lower().endswith((".html", ".htm")):
        raise flags.Error(f"--{flag.name}: {flag.value} is not the name of a page; end it in .html")


def prepare(compilation_cache: bool) -> None:
    """Shows our log, silences messages of libraries, and turns on the compilation cache.

    Call it before JAX is imported.
    """
    log_to_stderr()
    for name, usual in _JAX_DEFAULTS.items():
        given = os.environ.pop(name, "")
        if given and given.lower() not in usual:
            _LOG.warning(f"{name}={given} is ignored, so that numbers are the same everywhere")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # XLA
    # Orbax logs every save through absl, and every failure, which it also raises.
    absl_logging.set_verbosity(absl_logging.FATAL)
    # A cache that fails (a full disk, say) costs time and nothing else.
    warnings.filterwarnings("ignore", r"Error (reading|writing) persistent compilation cache")
    # In a pipe or a file, Windows writes its old code page, which lacks some of our characters.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if compilation_cache:
        use_compilation_cache()


class _Lines(logging.Handler):
    """Writes messages to stderr, above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(record.getMessage(), file=sys.stderr)


def log_to_stderr() -> None:
    """Shows what this package logs, progress included, as lines on stderr."""
    log = logging.getLogger("rpcl_jax")
    log.handlers = [_Lines()]
    log.propagate = False  # absl has a handler at the root
    log.setLevel(logging.INFO)


def _field_named(flag: str) -> str:
    """Returns a hint for an unknown flag with the name of a config field, or an empty string."""
    if "config" not in flags.FLAGS or flags.FLAGS["config"].value is None:
        return ""
    named = [f for f in flatten(flags.FLAGS["config"].value) if f".{f}".endswith(f".{flag}")]
    return f"; write {' or '.join(f'--config.{field}' for field in named)}" if named else ""


def _without_traceback(error: BaseException, argv: Sequence[str]) -> BaseException | str:
    """The error that a config file raised; ml_collections puts its whole traceback in a message.

    If a flag names a field that does not exist, that is said of the flag.
    """
    while "Error whilst parsing config file" in str(error) and error.__context__:
        error = error.__context__
    cause = error if isinstance(error, KeyError) else error.args[0] if error.args else None
    if isinstance(cause, KeyError) and str(cause.args[0]).startswith("'"):  # from ConfigDict
        message = cause.args[0].replace("\nDid", "; did")
        fields = (given.partition("=")[0] for given in argv if given.startswith("--config."))
        named = (f for f in fields if message.split("'")[1] in f.split("."))
        return f"{next(named, '--config')}: no field {message}"
    return error


def _line_of(files: Sequence[str], error: BaseException) -> str:
    """Returns "FILE:LINE: " of a config file with a mistake, or an empty string."""
    if isinstance(error, InputError):  # is about a value, and names it
        return ""
    names = {str(Path(file.partition(":")[0]).resolve()) for file in files}
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if str(Path(frame.filename).resolve()) in names]
    return f"{lines[-1].filename}:{lines[-1].lineno}: " if lines else ""


def define_engine() -> tuple[flags.FlagHolder, flags.FlagHolder]:
    """Defines --engine and --address, of the commands that run on a cluster too."""
    return (
        flags.DEFINE_enum("engine", "local", ["local", "ray"], "See docs/scaling.md."),
        flags.DEFINE_string(
            "address", None, "ray: host:port of the cluster, or auto; default: this machine alone."
        ),
    )


def check_engine(engine: flags.FlagHolder, *of_ray: flags.FlagHolder) -> None:
    """Raises flags.Error where a flag of the engine ray is given to another."""
    for flag in of_ray:
        if flag.value is not None and engine.value != "ray":
            raise flags.Error(f"--{flag.name} requires --engine=ray")


def require_config(config: flags.FlagHolder) -> None:
    """Raises an error that `run_command` reports unless `--config` names a valid config."""
    if config.value is None:
        raise flags.Error("--config is required, for example --config=ecf, or a file")
    if "objective" in config_flags.get_override_values(flags.FLAGS[config.name]):
        file = config_flags.get_config_filename(flags.FLAGS[config.name])
        raise flags.Error(
            "--config.objective: sets only the name, not the weights; use "
            f"--config={file}:OBJECTIVE"
        )
    from rpcl_jax.run.config import check_fields  # imports JAX

    check_fields(config.value)


@contextlib.contextmanager
def one_line(name: str, unless: bool = False) -> Iterator[None]:
    """Turns bad input and file errors into a line for each fault and exit status 1.

    Ctrl-C, a full disk and too little memory also end in one line, which says what to do. All begin
    with the `name` of the command. With `unless`, exceptions pass.
    """
    try:
        yield
        if sys.stdout:  # which may be closed
            sys.stdout.flush()
    except BrokenPipeError:  # what reads our output has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        sys.exit(1)
    except (Exception, KeyboardInterrupt) as error:
        if _interrupts or isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough
            if unless:
                raise
            _complain(name, "interrupted; run the same command again to continue")
            sys.exit(_INTERRUPTED)
        memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED: Out of memory" in str(error)
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        of_file = full or (isinstance(error, OSError) and bool(error.filename))
        if unless or not (memory or of_file or isinstance(error, InputError)):
            raise
        advice = "; free some space and run the same command again" if full else ""
        if memory:
            what, *_ = str(error).splitlines() or [""]
            error = InputError(f"out of memory: {what}")
            advice = "; use more devices, or a smaller config.batch_size or model"
        _complain(name, error, advice)
        sys.exit(1)


def _complain(name: str, error: BaseException | str, advice: str = "") -> None:
    messages = error.args if isinstance(error, InputError) else [str(error)]
    if isinstance(error, OSError) and error.strerror:  # str() would show the number too
        messages = [": ".join(str(part) for part in (error.filename, error.strerror) if part)]
    for message in messages[:_MOST_FAULTS]:
        print(f"{name}: {' '.join(str(message).split())}{advice}", file=sys.stderr)
    if len(messages) > _MOST_FAULTS:
        print(f"{name}: and {len(messages) - _MOST_FAULTS} more like these", file=sys.stderr)
