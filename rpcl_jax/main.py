"""The command line: `python -m rpcl_jax.main --config=configs/ecf.py` or `rpcl train --config=ecf`.

--mode=train (the default) trains and evaluates, --mode=evaluate recomputes a run's numbers or, with
--input, scores it on other labelled conversations, --mode=predict finds the pairs of unlabelled
ones. `rpcl evaluate` and `rpcl predict` are short for the last two.
"""

import contextlib
import re
import shlex
import signal
import sys
import time

from rpcl_jax.run.allocator import restart_keeping_memory

if __name__ == "__main__":
    restart_keeping_memory()  # before the imports, which the restarted process repeats
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of an import; see run_command

from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from rpcl_jax.errors import InputError
from rpcl_jax.run.command_line import (
    check_engine,
    check_page,
    define_columns,
    define_engine,
    require_config,
    run_command,
)
from rpcl_jax.run.hosts import agree, joined, supervise

_CONFIG = config_flags.DEFINE_config_file("config", help_string="A file, or a name from configs/.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "predict"], "What to do.")
_WORKDIR = flags.DEFINE_string(
    "workdir",
    "",
    "Folder of the run; default "
    "runs/<config file>/<objective>-<modalities>[-<backbone>]-seed<seed>.",
)
_MODEL = flags.DEFINE_string(
    "model",
    "",
    "For --input: folder of a run or of an export, or its name on the Hugging Face hub; default: "
    "the model that comes with the package.",
)
_ENCODER = flags.DEFINE_string(
    "encoder", None, "Folder or hub name of the text encoder, for a model without its parameters."
)
_REVISION = flags.DEFINE_string(
    "revision", None, "Branch, tag or commit of --model on the Hugging Face hub."
)
_INPUT = flags.DEFINE_string(
    "input",
    "",
    "predict, evaluate: file or folder of conversations, see docs/data.md; evaluate with --config: "
    "the name of one of its splits.",
)
_OUTPUT = flags.DEFINE_string(
    "output",
    "",
    "predict: file of the conversations with their pairs, .json, .jsonl, .csv or .tsv; .gz may "
    "follow; evaluate: .json of the numbers.",
)
_PAIRS = flags.DEFINE_string(
    "pairs", "", "predict: table with a row for each pair, .csv, .tsv or .xlsx."
)
_SPEAKERS = flags.DEFINE_string(
    "speakers", "", "predict: table with a row for each speaker, .csv, .tsv or .xlsx."
)
_OWN_CAUSES = flags.DEFINE_bool(
    "own_causes", True, "predict: keep pairs of an utterance with itself."
)
_HTML = flags.DEFINE_string(
    "html", "", "predict: a page to look at them in a browser, beside --output; plays --clips."
)
_FEATURES = flags.DEFINE_string(
    "features", "", "Folder with the feature tables audio/ and vision/ of --input."
)
_CLIPS = flags.DEFINE_string(
    "clips", "", "predict: folder with the clips of the input, from which features are extracted."
)
_COLUMNS = define_columns()
_STRICT = flags.DEFINE_bool(
    "strict", False, "predict: predict nothing unless every conversation can be read."
)
_THRESHOLD = flags.DEFINE_float(
    "threshold", None, "predict: the least confidence of a pair; default: chosen on validation."
)
_ENGINE, _ADDRESS = define_engine()
_OF_INPUT = (_INPUT, _COLUMNS, _OUTPUT, _FEATURES)
_FILES = (_FEATURES, _CLIPS, _HTML, _PAIRS, _SPEAKERS)
_TABLES = (_PAIRS, _SPEAKERS)
_OF_PREDICTION = (_HTML, *_TABLES, _OWN_CAUSES, _CLIPS, _STRICT, _THRESHOLD)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Run on several hosts, the same command on each; see docs/scaling.md."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "distributed: host:port of process 0; a cluster such as Slurm knows it."
)
_PROCESSES = flags.DEFINE_integer(
    "processes", None, "distributed: the number of processes, with --coordinator.", lower_bound=1
)
_PROCESS = flags.DEFINE_integer(
    "process", None, "distributed: the number of this process, from 0.", lower_bound=0
)


def _check_flags(given: str = "", *others: str) -> None:
    if others:
        raise flags.Error(
            f"{given} {others[0]} given; give one file, a folder, or a pattern in quotes"
        )
    if given:
        if _MODE.value == "train":
            raise flags.Error(f"{given} given; training takes only flags, which begin with --")
        if _INPUT.present:
            raise flags.Error(f"{given} given and --input={_INPUT.value}; give one of them")
        flags.FLAGS["input"].parse(given)
    if _MODE.value == "train":
        require_config(_CONFIG)
        from rpcl_jax.run.config import check_config

        check_config(_CONFIG.value)
    elif _MODE.value == "evaluate" and not (_WORKDIR.value or _INPUT.value):
        raise flags.Error("--mode=evaluate requires --workdir, the folder of a run, or --input")
    elif _CONFIG.value is not None and not (_MODE.value == "evaluate" and _INPUT.value):
        raise flags.Error(f"--config: --mode={_MODE.value} uses the run's config; leave it out")
    if _MODEL.value and (_WORKDIR.value or not _INPUT.value):
        raise flags.Error("--model is for --input, in place of --workdir; give one of them")
    if _ENCODER.value and not _INPUT.value:
        raise flags.Error("--encoder needs --input; give that too")
    if _REVISION.value and not _MODEL.value:
        raise flags.Error("--revision is for a --model on the Hugging Face hub; give --model too")
    if _MODE.value == "predict" and not _INPUT.value:
        raise flags.Error("--mode=predict requires --input, a file or folder of conversations")
    misplaced = {"predict": (), "evaluate": _OF_PREDICTION, "train": (*_OF_PREDICTION, *_OF_INPUT)}
    for flag in misplaced[_MODE.value]:
        if flag.present:
            raise flags.Error(f"--{flag.name}: is for --mode=predict, not --mode={_MODE.value}")
    if _MODE.value == "evaluate":
        _check_evaluation()
    if _THRESHOLD.value is not None and not 0 <= _THRESHOLD.value <= 1:  # refuses NaN too
        raise flags.Error(f"--threshold: is {_THRESHOLD.value}; give a number from 0 to 1")
    check_page(_HTML)
    check_engine(_ENGINE, _ADDRESS)
    if _ENGINE.value == "ray":
        if _MODE.value != "predict":
            raise flags.Error(f"--engine=ray is for --mode=predict, not --mode={_MODE.value}")
        if not _OUTPUT.value:
            raise flags.Error("--engine=ray requires --output, a folder")
        for flag in (_DISTRIBUTED, _FEATURES, _CLIPS, _HTML, *_TABLES):
            if flag.value:
                raise flags.Error(
                    f"--{flag.name}: leave it out; --engine=ray starts its own processes, predicts "
                    "from text alone, and writes no page (`rpcl report` makes one of its output)"
                )
    elif (
        _MODE.value == "predict"
        and _OUTPUT.value
        and not re.search(r"(?i)\.(jsonl?|csv|tsv)(\.gz)?$", _OUTPUT.value)
    ):
        raise flags.Error(
            f"--output: {_OUTPUT.value} must end in .json, .jsonl, .csv or .tsv (.gz may "
            "follow); --html writes a page"
        )
    processes, process = _PROCESSES.value, _PROCESS.value
    explicit = [_COORDINATOR.value, processes, process]
    if explicit != [None] * 3 and (None in explicit or not _DISTRIBUTED.value):
        raise flags.Error(
            "--coordinator, --processes and --process go together, with --distributed; give all"
        )
    if _COORDINATOR.value is not None:
        host, _, port = _COORDINATOR.value.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise flags.Error(f"--coordinator: {_COORDINATOR.value!r} is not HOST:PORT")
    if processes is not None and process is not None and process >= processes:
        raise flags.Error(
            f"--process: is {process}; {processes} processes are numbered from 0 to {processes - 1}"
        )
    for flag in _TABLES:
        if flag.value and not re.search(r"(?i)\.(csv|tsv|xlsx)$", flag.value):
            raise flags.Error(f"--{flag.name}: {flag.value} must end in .csv, .tsv or .xlsx")
    if _FEATURES.value and _CLIPS.value:
        raise flags.Error("--features and --clips exclude each other; give one of them")


def _check_evaluation() -> None:
    for flag in _OF_INPUT:
        if flag.present and not _INPUT.value:
            raise flags.Error(
                f"--{flag.name}: --mode=evaluate takes it with --input; give that too"
            )
    if _COLUMNS.present and _CONFIG.value is not None:
        raise flags.Error("--columns: is for a file; --config names the format of its splits")
    if _OUTPUT.value and not _OUTPUT.value.lower().endswith(".json"):
        raise flags.Error(f"--output: {_OUTPUT.value} must end in .json; it gets the numbers")


def _run(_: str = "") -> None:
    others = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    trains = _MODE.value == "train"
    with (
        joined(*others, flags.FLAGS.debug, trains)
        if _DISTRIBUTED.value
        else contextlib.nullcontext()
    ):
        _do()


def _do() -> None:
    # Imported here, so that --help and bad flags answer at once.
    from rpcl_jax.evaluation.split_numbers import outcome
    from rpcl_jax.run.workdir import run_name
    from rpcl_jax.training.mesh import is_main_process

    if _DISTRIBUTED.value:  # else JAX would take the devices of Ray's workers
        agree("the flags of the command", _what_counts)

    if _MODE.value == "predict":
        _predict(_model())
        return
    if _INPUT.value:
        _evaluate_on_input(_model())
        return
    config = _CONFIG.value
    workdir = Path(_WORKDIR.value)
    if not _WORKDIR.value:
        file = config_flags.get_config_filename(flags.FLAGS["config"])
        workdir = Path("runs") / Path(file).stem / run_name(config)
    if _MODE.value == "evaluate":
        from rpcl_jax.evaluate import evaluate_run

        result = evaluate_run(workdir)
    else:
        from rpcl_jax.train import train_and_evaluate

        result = train_and_evaluate(config, workdir)
    if not is_main_process():
        return
    print(outcome(result))
    if not (workdir / "result.json").exists():
        print(f"{workdir}: not finished; these are the numbers of its best epoch so far")
    else:
        print(f"results: {workdir / 'result.json'}, {workdir / 'predictions'}")
        run = shlex.quote(str(workdir))
        print(f"next: rpcl report {run} --out=report.html; rpcl predict FILE --workdir={run}")


def _model() -> str | Path:
    from rpcl_jax.run.model_folder import PACKAGED_NAME

    return _MODEL.value or (Path(_WORKDIR.value) if _WORKDIR.value else PACKAGED_NAME)


def _what_counts() -> list:
    """Returns the flags, and the size of the input, which must be the same in all processes."""
    source = Path(_INPUT.value)
    size = source.stat().st_size if _INPUT.value and source.is_file() else None
    counting = (_MODE, _WORKDIR, _MODEL, _REVISION, _ENCODER, *_OF_INPUT, *_OF_PREDICTION)
    return [*(flag.value for flag in counting), size]


def _evaluate_on_input(model: str | Path) -> None:
    from rpcl_jax.evaluate import evaluate_on, report
    from rpcl_jax.files import write_json
    from rpcl_jax.predict import Predictor, load_tables
    from rpcl_jax.readers.corpus import load_splits
    from rpcl_jax.readers.tables import parse_columns
    from rpcl_jax.readers.transcripts import read_dialogues
    from rpcl_jax.training.mesh import is_main_process

    if _CONFIG.value is None:
        columns = parse_columns(_COLUMNS.value)
        dialogues = read_dialogues(Path(_INPUT.value), columns, labelled=True)
    else:
        (dialogues,) = load_splits(_CONFIG.value, [_INPUT.value]).values()
    predictor = Predictor(model, revision=_REVISION.value, encoder=_ENCODER.value)
    first, tables = is_main_process(), {}
    if _FEATURES.value:
        tables = load_tables(Path(_FEATURES.value), predictor.reads, first)
    numbers = evaluate_on(predictor, dialogues, tables)
    if first:
        print(report(numbers))
        if _OUTPUT.value:
            write_json(Path(_OUTPUT.value), numbers, indent=1)


def _predict(model: str | Path) -> None:
    from rpcl_jax.readers.tables import parse_columns

    source, target = _INPUT.value, _OUTPUT.value
    given = (_REVISION, _THRESHOLD, _ENCODER, _STRICT, _OWN_CAUSES)
    options: dict[str, Any] = {flag.name: flag.value for flag in given}
    options["columns"] = parse_columns(_COLUMNS.value)
    started = time.perf_counter()
    if _ENGINE.value == "ray":
        try:
            from rpcl_jax.cluster.predict import predict_corpus
        except ImportError as error:  # Arrow, which Ray Data needs
            raise InputError(f'--engine=ray: {error}; pip install "rpcl_jax[cluster]"') from error

        done = predict_corpus(model, source, target, _ADDRESS.value, **options)
    else:
        from rpcl_jax.predict import predict_file
        from rpcl_jax.training.mesh import is_main_process

        options |= {flag.name: Path(flag.value) if flag.value else None for flag in _FILES}
        done = predict_file(model, Path(source), Path(target) if target else None, **options)
        if not is_main_process():
            return
    seconds = time.perf_counter() - started
    written = ", ".join(flag.value for flag in (_OUTPUT, _HTML, *_TABLES) if flag.value)
    from rpcl_jax.reporting.pair_tables import counted

    print(
        f"{written or source}: {counted(done.pairs, 'pair')} in "
        f"{counted(done.conversations, 'conversation')}, "
        f"{counted(done.utterances, 'utterance')} in {seconds:.0f} s, "
        f"{done.utterances / seconds:.0f} utterances/s"
    )
    if not written:
        print("--html=FILE.html draws them, --pairs=FILE.csv and --speakers=FILE.csv are tables")
    if done.rejected:
        listed = f"listed in {target}/rejected.jsonl" if _ENGINE.value == "ray" else "listed above"
        raise InputError(f"{source}: {done.rejected} conversations cannot be read, {listed}")


if __name__ == "__main__":
    if any(re.fullmatch(r"--?distributed(=(true|1|yes|y|t))?", a, re.I) for a in sys.argv[1:]):
        supervise(debug="--debug" in sys.argv)
    run_command("rpcl_jax", _run, _check_flags, takes="[INPUT]…")
