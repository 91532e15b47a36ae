"""How fast a finished run predicts, and what the seconds of the command are.

    python -m benchmarks.predict --workdir=runs/demo/rpcl-tav-seed42

Measures `python -m rpcl_jax.main --mode=predict` as a whole, and in other processes its parts one
after the other: the command does some of them at the same time.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import measure
from benchmarks.figures import FIRST, prediction_figures
from benchmarks.measure import Laps

_PROCESSES, _TABLE = measure.define_flags()
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a finished run.")
_INPUT = flags.DEFINE_string(
    "input", "", "File or folder of conversations; default: the run's own test split."
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 3, "How often a process predicts all of them, after the first time.", lower_bound=1
)


def main() -> None:
    measure.run_benchmark("predict", _measure, {"parts": _predict_in_parts}, _check_flags)


def _check_flags() -> None:
    if not _WORKDIR.value:
        raise flags.Error("--workdir is required, the folder of a finished run")
    if not (Path(_WORKDIR.value) / "result.json").is_file():
        raise flags.Error(f"--workdir={_WORKDIR.value}: is not the folder of a finished run")


def _input() -> Path:
    return Path(_INPUT.value or f"{_WORKDIR.value}/predictions/test.json")


def _measure() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *("-m", "rpcl_jax.main", "--mode=predict", f"--workdir={_WORKDIR.value}"),
            *(f"--input={_input()}", f"--output={folder}/pairs.json"),
        ]
        measure.run_python(command)  # what it compiles is kept for the next
        starts = {
            "parts": partial(measure.run_part, "predict", "parts"),
            "whole": partial(measure.run_python, command),
        }
        ended = measure.alternated(starts, _PROCESSES.value)
    first = ended["parts"][0].printed
    run = "/".join(Path(_WORKDIR.value).absolute().parts[-2:])
    more = (
        f"{first['conversations']} conversations, {first['pieces']} word pieces in {_input().name}"
    )
    measure.say("predict", run, first["device"], prediction_figures(**ended), more, _TABLE.value)


def _predict_in_parts() -> dict[str, Any]:
    """Does what the command does, one thing after the other; see `Ended.printed`."""
    laps = Laps()
    import io
    from collections import Counter

    import rpcl_jax.predict
    from rpcl_jax.errors import InputError
    from rpcl_jax.readers.transcripts import conversations_in
    from rpcl_jax.reporting.predictions import write_results

    laps("imports")
    found = list(conversations_in(_input(), Counter()))
    laps("reading")
    predictor = rpcl_jax.predict.Predictor(Path(_WORKDIR.value))
    laps("loading the run")
    results = list(predictor.stream(found))
    laps(FIRST)
    write_results(results, io.BytesIO(), ".json", predictor.max_utterances, lambda *_: None)
    laps("writing")

    from benchmarks.workload import device_name, encoder_operations, timed_beside_product
    from rpcl_jax.run.model_folder import load_model

    run = load_model(Path(_WORKDIR.value))
    readable = [(place, item) for place, item in found if not isinstance(item, InputError)]
    lengths = _segment_lengths(readable, run)
    timed = timed_beside_product(
        lambda: list(predictor.stream(found)), _ROUNDS.value, run.model.dtype, run.mesh
    )
    return {
        **timed,
        "laps": laps.seconds,
        "conversations": len(readable),
        "pieces": sum(lengths),
        "operations": encoder_operations(run.encoder.config, lengths),
        "device": device_name(run.mesh, run.model.dtype),
    }


def _segment_lengths(found: Sequence[tuple[str, Any]], run) -> list[int]:
    """Returns the numbers of word pieces of the segments that are predicted from."""
    from collections import Counter

    from benchmarks.workload import segment_lengths
    from rpcl_jax.batching.pipeline import make_examples
    from rpcl_jax.data.dialogue import Dialogue
    from rpcl_jax.evaluation.windows import window_starts
    from rpcl_jax.readers.transcripts import parse

    width = run.config.data.max_utterances
    dialogues = [parse(item, place, Counter()) for place, item in found]
    windows = [
        Dialogue(dialogue.id, dialogue.utterances[start : start + width])
        for dialogue in dialogues
        for start in window_starts(len(dialogue.utterances), width)
    ]
    return segment_lengths(
        make_examples(windows, run.encoder.tokenizer, {}, run.config, run.emotions)
    )


if __name__ == "__main__":
    main()
