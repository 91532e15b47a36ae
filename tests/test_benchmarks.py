"""Benchmarks: what is computed from processes, the count of operations, the table; one real run."""

import csv
import gzip
import json
import re

import jax
import numpy as np
import pytest
from shared import refusal, run_python, tiny_flags

from benchmarks import measure
from benchmarks.figures import PARTS, package_seconds, peak_of, prediction_figures, step_figures
from benchmarks.measure import COLUMNS, Ended, Figure
from benchmarks.workload import encoder_operations, timed_beside_product
from rpcl_jax.models.text_encoder import TextEncoder, TextEncoderConfig
from rpcl_jax.training.mesh import make_mesh


def ended(seconds, **printed):
    told = {"seconds": seconds, "cpu": 2 * seconds, "product": 4e9, "products": 4e9 * seconds}
    return Ended(seconds=10.0, cpu=5.0, peak=3 * 2**20, printed=told | printed)


def found(figures, what, unit):
    (figure,) = [f for f in figures if (f.what, f.unit) == (what, unit)]
    return figure


def test_the_ratio_is_of_medians_and_its_extremes_are_of_processes_that_took_turns():
    processes = {
        "base": [ended(1.0), ended(2.0), ended(4.0)],
        "rpcl": [ended(1.5), ended(2.2), ended(3.0)],
    }
    figures = step_figures(processes, ["encoder", "rest", "optimizer"])
    ratio = found(figures, "rpcl / base", "by clock")
    assert ratio.values == [1.5, 1.1, 0.75]
    assert ratio.value == pytest.approx(2.2 / 2.0)
    assert ratio.summary() == ("1.100", "0.7500", "1.500")
    assert found(figures, "matrix product", "GFLOP/s").values == [4.0] * 6
    assert not [f for f in figures if "remains" in f.what], "its parts were not measured"


def test_backward_and_what_remains_are_differences():
    seconds = {"rpcl": 10.0, "forward": 2.0, "encoder": 6.0, "rest": 1.0, "optimizer": 0.5}
    processes = {part: [ended(each)] for part, each in seconds.items()}
    figures = step_figures(processes, ["encoder", "rest", "optimizer"])
    assert found(figures, "encoder, backward", "s").values == [4.0]
    assert found(figures, "what remains of rpcl", "s").values == [2.5]
    assert found(figures, "what remains of rpcl", "CPU s").values == [5.0]
    frozen = {part: processes[part] for part in ("rpcl", "rest", "optimizer")}
    figures = step_figures(frozen, ["rest", "optimizer"])
    assert found(figures, "what remains of rpcl", "s").values == [8.5]


def test_the_parts_of_prediction_add_up_to_the_whole():
    laps = {"imports": 3.0, "compiling or loading the program": 2.5}
    told = ended(0.5, laps=laps, conversations=20, operations=1e9, **{"product by CPU": 2e9})
    figures = prediction_figures(parts=[told], whole=[ended(0.0)])
    parts = [f for f in figures if f.what.startswith("of it: ")]
    assert sum(f.values[0] for f in parts) == pytest.approx(10.0)
    assert found(figures, "of it: compiling or loading the program", "s").values == [2.0]
    assert found(figures, "whole process: rate", "conversations/s").values == [2.0]
    assert found(figures, "steady state: rate", "conversations/s").values == [40.0]
    share = "steady state: encoder's rate / product's"
    assert found(figures, share, "by clock").values == [0.5]
    assert found(figures, share, "by CPU").values == [0.5]


def test_seconds_of_a_cpu_that_only_starts_the_work_are_not_compared():
    processes = {part: [ended(1.0, **{"product by CPU": 2e9})] for part in ("base", "rpcl")}
    on_cpu = step_figures(processes, [])
    assert found(on_cpu, "rpcl / base", "by CPU").values == [1.0]
    for processes_of_part in processes.values():
        del processes_of_part[0].printed["product by CPU"]
    assert [f for f in on_cpu if f not in step_figures(processes, [])] == [
        found(on_cpu, "rpcl / base", "by CPU")
    ]


def test_operations_are_those_of_a_layer_worked_out_by_hand():
    tiny = TextEncoderConfig(
        vocab_size=1, hidden_size=4, num_layers=1, num_heads=2, intermediate_size=8, max_positions=9
    )
    # Two segments, of 3 and 1 pieces: 4 pieces times (4 · 4² + 2 · 4 · 8) = 512 multiply-adds, and
    # in the attention, logits and sums, 4 · (3² + 1²) = 40 twice.
    assert encoder_operations(tiny, [3, 1]) == 2 * (512 + 80)


def test_operations_are_nearly_those_that_xla_counts():
    config = TextEncoderConfig(
        vocab_size=9, hidden_size=256, num_layers=2, num_heads=4, intermediate_size=1024,
        max_positions=64,
    )  # fmt: skip
    rows, length = 3, 64  # each row is one segment
    ids = np.ones((rows, length), np.int32)
    places = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    module = TextEncoder(config)
    params = jax.eval_shape(module.init, jax.random.key(0), ids, ids, places)
    counted = jax.jit(module.apply).lower(params, ids, ids, places).cost_analysis()["flops"]
    # XLA also counts the norms, the softmax and the activations.
    assert encoder_operations(config, [length] * rows) == pytest.approx(counted, rel=0.03)


@pytest.mark.slow
def test_times_are_of_one_call():
    calls = []

    def run():
        calls.append(1)
        sum(range(20_000))

    timed = timed_beside_product(run, 1, np.float32, make_mesh(1))
    assert len(calls) > 50, "short calls are repeated"
    assert 1e-5 < timed["seconds"] < 0.1
    assert timed["product"] > 1e8


def test_peaks_of_devices():
    assert peak_of("NVIDIA H100 80GB HBM3") == 989
    assert peak_of("NVIDIA H100 PCIe") == 756
    assert peak_of("NVIDIA A100-SXM4-80GB") == 312
    assert peak_of("cpu") is None


def test_import_seconds_are_summed_by_package():
    text = """import time: self [us] | cumulative | imported package
import time:      1500 |       2000 |   jax._src.core
import time:       500 |       2500 | jax
import time:      3000 |       9000 | flax.linen
a warning
"""
    assert package_seconds(text) == [("flax", 0.003), ("jax", 0.002)]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (1234567.8, "1234568"), (12.3456, "12.35"), (-0.0123456, "-0.01235")],
)
def test_numbers_have_four_digits(number, text):
    assert Figure("", "", [number]).summary()[0] == text


def test_the_median_stands_for_all_processes():
    assert Figure("", "", [3.0, 1.0, 8.0]).summary() == ("3.000", "1.000", "8.000")


def row(**cells):
    return dict.fromkeys(COLUMNS, "") | cells


def test_rows_are_appended_to_the_table(tmp_path):
    table = tmp_path / "history.csv"
    measure.append_rows(table, [row(what="a step, in all", value="1.0")])
    before = table.read_bytes()
    measure.append_rows(table, [row(what="optimizer"), row(what="inference")])
    assert table.read_bytes().startswith(before)
    with table.open(newline="", encoding="utf-8") as file:
        assert [r["what"] for r in csv.DictReader(file)] == [
            "a step, in all",
            "optimizer",
            "inference",
        ]


@pytest.mark.parametrize("text", ["", "date,commit\n1,2\n", "\xff\xfe"])
def test_another_file_is_no_table(tmp_path, text):
    table = tmp_path / "history.csv"
    table.write_bytes(text.encode("latin-1"))
    assert "is not a table of the benchmarks" in refusal(measure.append_rows, table, [row()])
    assert table.read_bytes() == text.encode("latin-1")


def test_a_process_is_measured_from_outside():
    small = measure.run_python(["-c", "import time; time.sleep(0.3); print('{\"a\": 1}')"])
    assert small.printed == {"a": 1}
    assert small.seconds > 0.3 > small.cpu


def test_the_memory_is_that_of_the_process():
    # Measured by a small process, as by a benchmark: Linux counts the memory of this one, too.
    code = """
import json
from benchmarks.measure import run_python
codes = "pass", "x = bytearray(150 * 2**20); x[::4096] = x[::4096]"
print(json.dumps([run_python(["-c", code]).peak / 2**20 for code in codes]))
"""
    small, large = json.loads(run_python("-c", code).stdout)
    assert small < 100 < 150 < large < 250


def test_a_process_that_fails_ends_this_one_with_its_message(capfd):
    code = "import sys; print('train_step: no such file', file=sys.stderr); sys.exit(2)"
    with pytest.raises(SystemExit) as caught:
        measure.run_python(["-c", code])
    assert caught.value.code == 2
    assert capfd.readouterr().err == "train_step: no such file\n"
    killed = "import os; os.kill(os.getpid(), 9)"
    assert "signal 9" in refusal(measure.run_python, ["-c", killed])


def test_processes_take_turns():
    order = []
    starts = {name: lambda name=name: order.append(name) or ended(1.0) for name in ("a", "b")}
    assert [len(each) for each in measure.alternated(starts, 2).values()] == [2, 2]
    assert order == ["a", "b", "a", "b"]


def rows_of(name, *arguments, table):
    """Runs a benchmark with one process; returns its rows of the table by what they measure."""
    told = run_python("-m", f"benchmarks.{name}", *arguments, "--processes=1", f"--table={table}")
    with table.open(newline="", encoding="utf-8") as file:
        rows = {row["what"]: row for row in csv.DictReader(file) if row["benchmark"] == name}
    for what, row in rows.items():
        assert f"{what} " in told.stdout
        assert row["value"] in told.stdout
    return rows


def value_of(rows, what):
    return float(rows[what]["value"])


@pytest.mark.slow
@pytest.mark.long
def test_a_step_and_its_parts_are_measured_and_added_to_the_table(small_bert, tmp_path):
    rows = rows_of("train_step", *tiny_flags(), "--rounds=1", table=tmp_path / "history.csv")
    step = rows["a step of rpcl"]
    assert step["config"].startswith("configs/demo.py ")
    assert step["jax"] == jax.__version__
    assert "1 x cpu, float32" in step["machine"]
    seconds = {part: value_of(rows, label) for part, label in PARTS.items()}
    assert all(0 < seconds[part] < 5 for part in PARTS)
    for part in ("host", "forward", "rest", "optimizer", "inference"):
        assert seconds[part] < seconds["rpcl"], part
    assert value_of(rows, "a step of rpcl: memory of the process") > 100
    assert 0 < value_of(rows, "encoder, forward: encoder's rate / product's") < 1.5

    frozen = ("--config.text.finetune=False", f"--config.text.pretrained={small_bert}")
    frozen += (f"--config.text.cache={tmp_path}", "--rounds=1", "--parts=rpcl,rest")
    rows = rows_of("train_step", *tiny_flags(), *frozen, table=tmp_path / "frozen.csv")
    assert 0 < value_of(rows, "fusion, scorer and losses") < 5
    assert not any("encoder" in what for what in rows)

    adapted = (f"--config.text.pretrained={small_bert}", "--config.text.lora_rank=2")
    adapted += ("--rounds=1", "--parts=base,encoder")
    rows = rows_of("train_step", *tiny_flags(), *adapted, table=tmp_path / "adapted.csv")
    assert 0 < value_of(rows, PARTS["encoder"]) < 5


@pytest.mark.slow
@pytest.mark.long
def test_prediction_batches_start_up_and_a_whole_run_are_measured(reads_text, tmp_path):
    table = tmp_path / "history.csv"
    predicted = rows_of("predict", f"--workdir={reads_text}", "--rounds=1", table=table)
    made = rows_of("host", *tiny_flags(), table=table)
    started = rows_of("startup", *tiny_flags(), table=table)
    ran = rows_of("run", *tiny_flags(), "--config.epochs=1", table=table)
    parts = [float(row["value"]) for what, row in predicted.items() if what.startswith("of it: ")]
    assert sum(parts) == pytest.approx(value_of(predicted, "whole process"), rel=0.01)
    assert value_of(predicted, "steady state") < value_of(predicted, "whole process")
    assert value_of(made, "1 x 32 dialogues: a batch") < value_of(made, "8 x 32 dialogues: a batch")
    assert value_of(started, "Python") < value_of(started, "import rpcl_jax.train")
    cold, warm = (f"compiling the training step, {cache}" for cache in ("cold", "warm"))
    assert value_of(started, warm) < value_of(started, cold)
    assert value_of(ran, "whole run") > 1
    assert value_of(ran, "whole run: memory") > 100


@pytest.mark.slow
def test_the_trace_has_the_steps_operations(tmp_path):
    told = run_python("-m", "benchmarks.train_step", *tiny_flags(), f"--trace={tmp_path}").stdout
    assert int(re.search(r"3 steps, of (\d+) operations each", told)[1]) > 100
    assert re.search(r"the slowest, in ms: \S+ \d", told)
    (file,) = tmp_path.rglob("perfetto_trace.json.gz")
    with gzip.open(file) as opened:
        events = json.load(opened)["traceEvents"]
    names = [e["name"] for e in events if e.get("args", {}).get("hlo_module") == "jit_step"]
    assert sum(name.startswith("dot") for name in names) > 10
    assert list(tmp_path.rglob("*.xplane.pb")), "what TensorBoard reads"


@pytest.mark.slow
def test_mistakes_are_one_line(tmp_path):
    done = run_python("-m", "benchmarks.train_step", "--parts=all", *tiny_flags(), status=2)
    assert done.stderr.startswith("train_step: --parts: 'all' is none; they are base, rpcl, ")
    done = run_python("-m", "benchmarks.predict", f"--workdir={tmp_path}", status=2)
    assert done.stderr == f"predict: --workdir={tmp_path}: is not the folder of a finished run\n"
    done = run_python("-m", "benchmarks.host", "--config=nope.py", status=2)
    assert done.stderr.startswith("host: --config=nope.py: no such file; the shipped configs are")
    trace = ("-m", "benchmarks.train_step", *tiny_flags(), "--trace=/dev/null/x")
    assert run_python(*trace, status=1).stderr == "train_step: /dev/null/x: Not a directory\n"
    helped = run_python("-m", "benchmarks.host", "--help").stdout
    for flag in ("--processes", "--table", "--config"):
        assert flag in helped
