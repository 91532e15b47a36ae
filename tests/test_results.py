"""The report's numbers are those of the files beside it."""

import csv
import importlib.util
import subprocess

import numpy as np
import pytest
from scipy import stats
from shared import ROOT

RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def summary():
    spec = importlib.util.spec_from_file_location("summary", RESULTS / "summary.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_report_has_the_tables_of_the_files(summary):
    report = (RESULTS / "README.md").read_text(encoding="utf-8")
    for table in summary.tables():
        assert f"\n\n{table}\n" in report
    assert (RESULTS / "best_runs.sh").read_text(encoding="utf-8") == summary.best_runs()


def test_a_difference_of_means(summary):
    of = {}
    for path in RESULTS.glob("frozen/reccon_frozen_*.csv"):
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                run = row["objective"], int(row["seed"])
                of.setdefault(run, []).append(100 * float(row["test.pair_f1_at_half"]))
    seeds = [seed for objective, seed in of if objective == "base"]
    one, other = ([np.mean(of[o, seed]) for seed in seeds] for o in ("rpcl", "base"))
    expected = f"{np.mean(one) - np.mean(other):+.2f}, p {stats.ttest_rel(one, other).pvalue:.3f}"
    assert len(seeds) == 10
    found = summary.difference("test.pair_f1_at_half", "rpcl", "base", "reccon")
    assert found == expected.replace("-", "−")


def test_the_patch_of_what_was_tried_applies():
    patch = RESULTS / "tried.patch"
    subprocess.run(["git", "apply", "--check", patch], cwd=ROOT, check=True)
