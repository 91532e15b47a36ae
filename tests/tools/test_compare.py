import json

import pytest
import scipy.stats
from fake_runs import write_grid
from shared import run_python, tiny_config

from rpcl_jax.reporting.experiments import read_experiments


def run(*arguments, status=0):
    return run_python("tools/compare.py", *arguments, status=status)


def test_settings_are_compared_over_their_common_seeds(tmp_path):
    config = tiny_config()
    one = write_grid(tmp_path / "one", {"base": 1.0, "rpcl": 2.0}, seeds=(1, 2, 3), config=config)
    config.rpcl.corruption_rate = 0.5
    other = write_grid(tmp_path / "other", {"rpcl": 3.0}, seeds=(2, 3, 4), config=config)
    seeds, _, header, line = run(f"{one}:rpcl", f"{other}:rpcl").stdout.splitlines()[:4]
    assert seeds == "seeds 2 3"
    assert header.split()[3:] == [
        f"{one}:rpcl",
        f"{other}:rpcl",
        "difference",
        "low",
        "high",
        "p",
    ]
    assert line.index(".") < header.index(str(other)), "each number is below its name"
    line = line.split()
    first, second = (read_experiments([grid])[0].runs["rpcl"] for grid in (one, other))
    differences = [
        second[seed].result["test"]["pair_f1"] - first[seed].result["test"]["pair_f1"]
        for seed in (2, 3)
    ]
    assert line[0] == "pair_f1"
    assert float(line[3]) == pytest.approx(50 * sum(differences), abs=0.006)
    assert float(line[4]) < float(line[3]) < float(line[5])
    test = scipy.stats.ttest_rel(
        *([runs[seed].result["test"]["pair_f1"] for seed in (2, 3)] for runs in (second, first))
    )
    assert float(line[6]) == pytest.approx(test.pvalue, abs=0.0006)
    same = run(f"{one}:base", f"{one}:base").stdout.splitlines()[3]
    assert same.endswith("contains 0")

    assert "no 'ccps'; it has base, rpcl" in run(f"{one}:base", f"{one}:ccps", status=1).stderr
    assert "GRID:OBJECTIVE" in run(one, other, status=1).stderr
    config.data.sizes.test = 12
    third = write_grid(tmp_path / "third", {"rpcl": 3.0}, seeds=(9,), config=config)
    assert "other test dialogues" in run(f"{one}:rpcl", f"{third}:rpcl", status=1).stderr
    config.data.sizes.test = 8
    fourth = write_grid(tmp_path / "fourth", {"rpcl": 3.0}, seeds=(9,), config=config)
    assert "no seed in common" in run(f"{one}:rpcl", f"{fourth}:rpcl", status=1).stderr


def test_two_runs_are_compared_as_they_stand(tmp_path):
    grid = write_grid(tmp_path / "grid", {"base": 1.0, "rpcl": 2.0}, seeds=(1,))
    runs = run(grid / "base-tav-seed1", grid / "rpcl-tav-seed1").stdout.splitlines()[3:]
    named = run(f"{grid}:base", f"{grid}:rpcl").stdout.splitlines()[3:]
    assert [line.split()[:6] for line in runs] == [line.split()[:6] for line in named]
    assert all("one seed" in line for line in runs)

    for name, digest in (("base", "then"), ("rpcl", "now")):  # one corpus, with other labels
        path = grid / f"{name}-tav-seed1/config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data": {"train": digest}}))
    refused = run(grid / "base-tav-seed1", grid / "rpcl-tav-seed1", status=1).stderr
    assert "trained on other data than" in refused
    assert "(train)" in refused
