"""The report's numbers are those of the files beside it."""

import csv
import importlib.util
import re

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


def test_the_pages_have_the_tables_of_the_files(summary):
    pages = [RESULTS / study / "README.md" for study in summary.STUDIES]
    pages += [RESULTS / "entailment.md", RESULTS / "README.md"]
    for page, table in zip(pages, summary.tables(), strict=True):
        assert f"\n\n{table}\n" in page.read_text(encoding="utf-8")
    assert (RESULTS / "best_runs.sh").read_text(encoding="utf-8") == summary.best_runs()


@pytest.mark.parametrize("page", ["README.md", "results/README.md"])
def test_a_readme_has_the_differences_of_the_files(summary, page):
    frozen, _, lower_dropout, _, short = summary.tables()
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"\n\n{short}\n" in text
    said = re.findall(r"by\s+(\+\S+ \[.*?\])", text.partition("\n| ")[0])
    means = [
        re.search(r"mean of.*?`rpcl` \| (.*?), p", table, re.DOTALL)[1]
        for table in (frozen, lower_dropout)
    ]
    assert said == means


def test_the_report_is_short():
    assert len((RESULTS / "README.md").read_text(encoding="utf-8").split()) <= 900


def read(path):
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("study", ["frozen", "fine_tuned", "lower_dropout"])
def test_the_differences_are_those_of_the_runs(study):
    """Every row of Table 6, computed anew from the runs' own files."""
    columns = {"Pair F1": "pair_f1", "F1 at 0.5": "pair_f1_at_half", "AUPRC": "pair_auprc"}
    scores = {}
    for path in (RESULTS / study).glob("*_*.csv"):
        for row in read(path):
            for metric, column in columns.items():
                key = path.stem, row["objective"], metric
                scores.setdefault(key, {})[row["seed"]] = float(row[f"test.{column}"])
    compared = read(next((RESULTS / study).glob("tables/table6_*.csv")))
    grids = {row["grid"] for row in compared} - {""}
    for row in compared:
        pairs = [
            [(scores[grid, row["objective"], row["metric"]][s], base[s]) for s in sorted(base)]
            for grid in ([row["grid"]] if row["grid"] else sorted(grids))
            for base in [scores[grid, "base", row["metric"]]]
        ]
        one, other = np.mean(pairs, axis=0).T
        found = float(row["over base (difference)"]), float(row["p"])
        wanted = np.mean(one - other), stats.ttest_rel(one, other).pvalue
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    assert len(compared) == 3 * (len(grids) + 1) * len({row["objective"] for row in compared})


def test_a_difference_of_means(summary):
    of = {}
    for path in RESULTS.glob("frozen/reccon_frozen_*.csv"):
        for row in read(path):
            run = row["objective"], int(row["seed"])
            of.setdefault(run, []).append(100 * float(row["test.pair_f1_at_half"]))
    seeds = [seed for objective, seed in of if objective == "base"]
    one, other = ([np.mean(of[o, seed]) for seed in seeds] for o in ("rpcl", "base"))
    test = stats.ttest_rel(one, other)
    low, high = test.confidence_interval()
    mean = np.mean(one) - np.mean(other)
    expected = f"{mean:+.2f} [{low:+.2f}, {high:+.2f}], p {test.pvalue:.3f}"
    assert len(seeds) == 10
    found = summary.difference("test.pair_f1_at_half", "rpcl", "base", "reccon")
    assert found == expected.replace("-", "−")
