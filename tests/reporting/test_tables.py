"""Tables of grids whose order is known: what is bold, what is not, and what is refused."""

import csv

import numpy as np
import pytest
import scipy.stats
from fake_runs import write_grid, write_run
from shared import ECF, needs_ecf, run_python, tiny_config

from configs import ecf_frozen
from rpcl_jax.evaluation.bootstrap import Interval
from rpcl_jax.readers.corpus import load_corpus
from rpcl_jax.reporting.experiments import read_experiments
from rpcl_jax.reporting.tables import (
    PValue,
    Table,
    ablations_table,
    controls_table,
    entailment_table,
    escape_latex,
    format_value,
    latex,
    main_table,
    markdown,
    significance_table,
    write_table_csv,
)

SIGNALS = {"base": 1.0, "rpcl": 3.0, "fixed_margin": 1.5, "utterance_dropout": 1.0, "cdmr": 0.6}
SIGNALS["no_top_k"] = 2.5


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return write_grid(tmp_path_factory.mktemp("grid"), SIGNALS)


def run(*arguments, status=0):
    return run_python("tools/make_tables.py", *arguments, status=status)


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_of_a_grid(grid, tmp_path):
    done = run(grid, "--out", tmp_path)
    assert (
        "table4_published: no runs for this table" in done.stderr
    )  # nothing published is synthetic
    names = ["table1_statistics", "table2_main", "table3_controls", "table5_ablations"]
    names.append("table6_significance")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.{kind}" for name in names for kind in ("csv", "md", "tex")
    )

    rows = read_csv(tmp_path / "table1_statistics.csv")
    splits = load_corpus(tiny_config()).splits
    assert [row["split"] for row in rows] == ["train", "dev", "test"]
    assert [int(row["pairs"]) for row in rows] == [
        sum(len(d.pairs) for d in splits[row["split"]]) for row in rows
    ]

    rows = {row["objective"]: row for row in read_csv(tmp_path / "table2_main.csv")}
    assert list(rows) == ["base", "rpcl"]
    (experiment,) = read_experiments([grid])
    base, rpcl = (experiment.values(o, "pair_f1", [1, 2, 3]) for o in ("base", "rpcl"))
    assert float(rows["base"]["Pair F1 (mean)"]) == pytest.approx(np.mean(base))
    assert float(rows["rpcl"]["Pair F1 (sd)"]) == pytest.approx(np.std(rpcl, ddof=1))
    for column, metric in (
        ("Pair F1: precision", "pair_precision"),
        ("F1 at 0.5", "pair_f1_at_half"),
        ("F1 at 0.5: recall", "pair_recall_at_half"),
        ("AUPRC", "pair_auprc"),
    ):
        mean = experiment.values("rpcl", metric, [1, 2, 3]).mean()
        assert float(rows["rpcl"][f"{column} (mean)"]) == pytest.approx(mean)
    difference = float(rows["rpcl"]["Pair F1, over base (difference)"])
    assert difference == pytest.approx(np.mean(rpcl) - np.mean(base))
    assert 0 < float(rows["rpcl"]["Pair F1, over base (low)"]) < difference
    assert difference < float(rows["rpcl"]["Pair F1, over base (high)"])
    text = (tmp_path / "table2_main.md").read_text()
    assert f"**+{100 * difference:.2f} [" in text

    rows = {row["objective"]: row for row in read_csv(tmp_path / "table3_controls.csv")}
    assert list(rows) == ["base", "fixed_margin", "utterance_dropout", "rpcl"]
    assert rows["base"]["AUPRC, over base (low)"] == ""
    assert float(rows["fixed_margin"]["AUPRC, rpcl over it (low)"]) > 0
    # The same signal and the same noise: the difference is 0, and the table says so.
    assert float(rows["utterance_dropout"]["Pair F1, over base (difference)"]) == 0
    lines = (tmp_path / "table3_controls.md").read_text().splitlines()
    (line,) = [line for line in lines if "utterance_dropout" in line]
    assert "+0.00 [+0.00, +0.00] contains 0" in line
    assert "**+0.00" not in line

    rows = {row["objective"]: row for row in read_csv(tmp_path / "table5_ablations.csv")}
    assert list(rows) == ["base", "cdmr", "no_top_k", "rpcl"]
    assert float(rows["cdmr"]["AUPRC, over base (high)"]) < 0
    lines = (tmp_path / "table5_ablations.md").read_text().splitlines()
    assert sum("**−" in line for line in lines if "| cdmr |" in line) == 1, "a loss is bold, too"
    lines = (tmp_path / "table5_ablations.tex").read_text().splitlines()
    (line,) = [line for line in lines if r" & no\_top\_k & " in line]
    assert r" & \textbf{+" in line

    rows = read_csv(tmp_path / "table6_significance.csv")
    assert [row["metric"] for row in rows] == [
        name for name in ("Pair F1", "F1 at 0.5", "AUPRC") for _ in range(5)
    ]
    (row,) = [row for row in rows if (row["objective"], row["metric"]) == ("rpcl", "Pair F1")]
    test = scipy.stats.ttest_rel(rpcl, base)
    assert float(row["p"]) == pytest.approx(test.pvalue)
    low, high = test.confidence_interval()
    assert float(row["by paired t (low)"]) == pytest.approx(low)
    assert float(row["by paired t (high)"]) == pytest.approx(high)
    assert float(row["over base (difference)"]) == pytest.approx(difference)
    # Of five p-values, the smallest is multiplied by five, whatever the others are.
    smallest = min((row for row in rows if row["metric"] == "Pair F1"), key=lambda r: float(r["p"]))
    assert float(smallest["p (Holm)"]) == pytest.approx(5 * float(smallest["p"]))


def test_the_mean_over_settings_is_tested_over_the_seeds_of_all(tmp_path):
    for name, modalities, signal, seeds in (
        ("one", "t", 1.4, (1, 2, 3, 4)),
        ("other", "tav", 1.1, (2, 3, 4, 5)),
    ):
        config = tiny_config()
        config.modalities = modalities
        signals = {"base": 1.0, "rpcl": signal, "ccps": 0.9}
        write_grid(tmp_path / name, signals, seeds=seeds, config=config)
    third = tiny_config()
    third.modalities = "ta"
    write_grid(tmp_path / "third", {"base": 1.0, "rpcl": 2.0}, seeds=(9,), config=third)
    experiments = read_experiments([tmp_path / name for name in ("one", "other", "third")])
    table = significance_table(experiments)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    pooled = [row for row in rows if row["benchmark"] == "mean of 2 settings"]
    assert rows[-6:] == pooled, "a setting with one seed is left out"
    assert {row["seeds"] for row in pooled} == {"2, 3, 4"}
    one, other = experiments[:2]
    for row, metric in zip(pooled[::2], ("pair_f1", "pair_f1_at_half", "pair_auprc"), strict=True):
        assert row["objective"] == "rpcl"
        of_one, of_other = (
            e.values("rpcl", metric, [2, 3, 4]) - e.values("base", metric, [2, 3, 4])
            for e in (one, other)
        )
        assert abs(of_one - of_other).min() > 0.001, "the mean is that of both"
        differences = (of_one + of_other) / 2
        test = scipy.stats.ttest_1samp(differences, 0)
        for interval in (row["by paired t"], row["over base"]):
            assert interval.difference == pytest.approx(differences.mean())
        assert tuple(row["by paired t"])[1:3] == pytest.approx(tuple(test.confidence_interval()))
        assert row["p"] == pytest.approx(test.pvalue)
        # Both settings have the same test dialogues here, so the mean is as uncertain as one.
        width = row["over base"].high - row["over base"].low
        widths = [e.delta("rpcl", metric, [2, 3, 4]) for e in (one, other)]
        assert width == pytest.approx(np.mean([d.high - d.low for d in widths]), rel=0.35)
    # Two p-values of a metric are a family: the smaller is doubled, whatever the settings' are.
    for first, second in zip(pooled[::2], pooled[1::2], strict=True):
        smaller = min(first, second, key=lambda row: row["p"])
        assert smaller["p (Holm)"] == pytest.approx(min(1, 2 * smaller["p"]))


@needs_ecf
def test_published_systems_stand_beside_ours_on_their_benchmark(tmp_path):
    """With random scores on the real ECF: the test is about the rows, not the numbers."""
    config = ecf_frozen.get_config()
    config.data.root = str(ECF)
    write_run(tmp_path / "run", "base", config=config)
    run(tmp_path / "run", "--out", tmp_path / "out")
    rows = read_csv(tmp_path / "out/table4_published.csv")
    ecf = [row for row in rows if row["benchmark"] == "ECF"]
    assert [row["system"] for row in ecf] == ["MECPE-2steps", "HiLo", "BridgeProt", "base"]
    assert float(ecf[1]["Pair F1 (mean)"]) == 0.5545
    folder = tmp_path.name
    assert ecf[3]["source"] == f"ours, all-MiniLM-L6-v2, frozen, {folder}, seeds 42"
    assert ecf[3]["modalities"] == "T"
    statistics = read_csv(tmp_path / "out/table1_statistics.csv")
    assert [row["pairs"] for row in statistics] == ["7055", "866", "1873"]


def test_entailment_stands_beside_what_is_published(tmp_path):
    config = tiny_config()
    config.data.name = "reccon"  # the table goes by the name
    grid = write_grid(tmp_path, {"base": 1.0, "rpcl": 2.0}, seeds=(1, 2), config=config)
    table = entailment_table(read_experiments([grid]))
    rows = {row[5] or row[2]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert list(rows) == ["RoBERTa-base", "base", "rpcl"]
    assert rows["RoBERTa-base"]["macro F1"].tolist() == [0.7651]
    (experiment,) = read_experiments([grid])
    for column, kind in (("F1 of causes", "positive"), ("F1 of others", "negative")):
        expected = experiment.values("rpcl", f"cee_{kind}_f1", [1, 2])
        assert rows["rpcl"][column].tolist() == expected.tolist()
    assert entailment_table(read_experiments([write_run(tmp_path / "ecf")])).rows == []


def test_cells():
    def text(*interval):
        return format_value(Interval(*interval))

    assert text(0.0123, 0.002, 0.021, 3) == ("+1.23 [+0.20, +2.10]", True)
    assert text(0.01, -0.001, 0.02, 3) == ("+1.00 [−0.10, +2.00] contains 0", False)
    assert text(-0.01, -0.02, -0.001, 2) == ("−1.00 [−2.00, −0.10]", True), "a loss"
    assert text(0.01, 0.001, 0.02, 2) == ("+1.00 [+0.10, +2.00]", True)
    assert text(0.01, 0.001, 0.02, 1) == ("+1.00 [+0.10, +2.00] one seed", False), "never bold"
    assert text(0.01, 0.0, 0.02, 1) == ("+1.00 [+0.00, +2.00] contains 0, one seed", False)
    assert format_value(np.array([0.5, 0.52])) == ("51.00 ± 1.41", False)
    assert format_value(np.array([0.5])) == ("50.00", False)
    assert format_value(None) == ("", False)
    assert format_value(0.0) == ("0.000", False), "such as a mean distance"
    assert format_value(PValue(0.0)) == ("<0.001", False)


def test_writers(tmp_path):
    table = Table(
        "t",
        ["name_1", "F1", "delta"],
        [
            ["a|b & c", np.array([0.5, 0.7]), Interval(0.1, 0.05, 0.15, 3)],
            ["d", np.array([0.5]), None],
        ],
    )
    assert markdown(table) == (
        "| name_1 | F1 | delta |\n| --- | --- | --- |\n"
        "| a\\|b & c | 60.00 ± 14.14 | **+10.00 [+5.00, +15.00]** |\n"
        "| d | 50.00 |  |\n"
    )
    assert latex(table) == "\n".join(
        [
            r"\begin{tabular}{lll}",
            r"\toprule",
            r"name\_1 & F1 & delta \\",
            r"\midrule",
            r"a|b \& c & 60.00 $\pm$ 14.14 & \textbf{+10.00 [+5.00, +15.00]} \\",
            r"d & 50.00 &  \\",
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
    write_table_csv(table, tmp_path / "t.csv")
    rows = list(csv.reader((tmp_path / "t.csv").open(encoding="utf-8")))
    columns = ["F1 (mean)", "F1 (sd)", *(f"delta ({part})" for part in Interval._fields)]
    assert rows[0] == ["name_1", *columns]
    assert rows[2] == ["d", "0.5", *[""] * 5]
    assert escape_latex("100 % of $x_1^2$ ~ \\") == (
        r"100 \% of \$x\_1\textasciicircum{}2\$ \textasciitilde{} \textbackslash{}"
    )


def test_only_common_seeds_are_compared(tmp_path):
    write_grid(tmp_path, {"base": 1.0}, seeds=(1, 2))
    write_run(tmp_path / "rpcl-tav-seed2", "rpcl", 2, 2.0)
    write_run(tmp_path / "rpcl-tav-seed3", "rpcl", 3, 9.0)
    folders = [folder for folder in tmp_path.iterdir() if folder.is_dir()]
    experiments = read_experiments(folders)
    table = main_table(experiments)
    f1, over_base = (table.columns.index(name) for name in ("Pair F1", "Pair F1, over base"))
    one, other = (experiments[0].runs[o][2].result["test"]["pair_f1"] for o in ("base", "rpcl"))
    assert [row[4] for row in table.rows] == ["2", "2"]
    assert [row[f1].tolist() for row in table.rows] == [[one], [other]]
    assert table.rows[0][over_base] is None
    assert table.rows[1][over_base].difference == pytest.approx(other - one)
    assert significance_table(experiments).rows == [], "one seed in common"
    assert "one seed" in markdown(main_table(experiments))


def test_a_missing_cell_costs_only_its_row(tmp_path):
    write_grid(tmp_path, {"base": 1.0, "rpcl": 2.0, "cdmr": 1.5, "fixed_margin": 1.2}, seeds=(1, 2))
    write_run(tmp_path / "no_top_k-tav-seed2", "no_top_k", 2, 2.0)
    write_run(tmp_path / "ccps-tav-seed9", "ccps", 9, 2.0)
    folders = [folder for folder in tmp_path.iterdir() if folder.is_dir()]
    experiments = read_experiments(folders)
    rows = {row[5]: row[4] for row in ablations_table(experiments).rows}
    assert rows == {"base": "1, 2", "cdmr": "1, 2", "no_top_k": "2", "rpcl": "1, 2"}
    experiments = read_experiments([f for f in folders if not f.name.startswith("rpcl")])
    table = controls_table(experiments)
    rows = {row[5]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert list(rows) == ["base", "fixed_margin"]
    assert rows["fixed_margin"]["Pair F1, over base"].difference > 0
    assert rows["fixed_margin"]["Pair F1, rpcl over it"] is None


def test_what_is_no_result_is_refused(grid, tmp_path):
    def refuse(*paths):
        done = run(*paths, "--out", tmp_path / "out", status=1)
        assert len(done.stderr.strip().splitlines()) == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "no such file or folder" in refuse(tmp_path / "nosuch")
    assert "neither a run nor a grid" in refuse(tmp_path)
    assert "the same run as" in refuse(grid, grid / "results.csv")
    unfinished = write_run(tmp_path / "unfinished")
    (unfinished / "result.json").unlink()
    assert "not finished" in refuse(unfinished)
