"""The report's contents, and the pages of unusual corpora in a browser."""

import json
import time

import pytest
from fake_runs import write_run
from report_pages import arcs_of, listed, make_report, synthetic_config

from rpcl_jax.errors import InputError
from rpcl_jax.reporting.experiments import read_run
from rpcl_jax.reporting.report import report_data

HOSTILE = [
    "<script>window.ran = 1</script>",
    "</script><script>window.ran = 2</script>",
    '<img src="x" onerror="window.ran = 3">',
    "&lt;b&gt; is not <b>",
    "<!--<script>",
]


@pytest.mark.parametrize("objective", ["rpcl", "no_top_k"])
def test_hard_negatives_are_the_most_confident_ones_of_their_row(tmp_path, objective):
    """The same number for every objective, even for one that is trained on all negatives."""
    run = read_run(write_run(tmp_path / "run", objective))
    data = report_data([run])
    assert [of["id"] for of in data["dialogues"]] == [d.id for d in run.splits()["test"]]
    for s, shown in zip(run.scores(run.splits()["test"], "test"), data["dialogues"], strict=True):
        for i, row in enumerate(shown["scores"][0]["hard"]):
            others = [j for j in range(i + 1) if (i, j) not in s.dialogue.pairs]
            others.sort(key=lambda j, i=i, s=s: (-s.pair_confidence[i, j], j))
            assert row == others[:8]


def test_differences_are_worded_as_in_the_tables(runs):
    data = report_data([read_run(folder) for folder in runs])
    first, second = (run["test"]["pair_f1"] for run in data["runs"])
    shown = data["differences"]["pair_f1"]
    assert shown["text"].startswith(f"{100 * (second - first):+.2f} [".replace("-", "−"))
    assert shown["contains_zero"] == ("contains 0" in shown["text"])
    same = report_data([read_run(runs[0])] * 2)
    assert same["differences"]["pair_f1"] == {
        "text": "+0.00 [+0.00, +0.00] contains 0, one seed",
        "contains_zero": True,
    }
    assert [run["name"] for run in data["runs"]] == ["base-tav-seed1", "rpcl-tav-seed2"]
    assert [run["name"] for run in same["runs"]] == [str(runs[0])] * 2


def test_long_conversations_and_other_cuts(tmp_path, open_page):
    """35 utterances, of which one run sees 35 and the other 30."""
    (tmp_path / "data").mkdir()
    for number, split in enumerate(("train", "dev", "test"), 1):
        lines = [f"{number} 35", "(5,4),(34,33),(35,2)"]
        lines += [
            f"{t} | Ann | joy | {'word ' * (t % 9 + 1)} | S1E1: 00:00:01.000 - 00:00:02.000"
            for t in range(1, 36)
        ]
        (tmp_path / f"data/{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    folders = []
    for seed, cut in ((1, 35), (2, 30)):
        config = synthetic_config()
        config.modalities = "t"
        config.data.name = config.data.format = "ecf"
        config.data.root = str(tmp_path / "data")
        config.data.max_utterances = cut
        config.data.candidates = "all"
        folders.append(write_run(tmp_path / str(cut), "rpcl", seed, 6.0, config))
    make_report(*folders, "--out", tmp_path / "report.html")
    page = open_page(tmp_path / "report.html", width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.hover('.turn[data-turn="33"]')
    assert "beyond the cut" in page.inner_text("#readout")
    kinds = {(i, j): kind for i, j, kind in arcs_of(page, 1)}
    assert kinds[33, 32] == kinds[34, 1] == "missed"
    cell = page.locator(".map rect").first.bounding_box()
    assert cell["width"] >= 12, "large enough to tap"
    assert page.locator(".map").nth(1).locator("rect").count() == 900


def test_261_conversations_are_quick(tmp_path, open_page):
    config = synthetic_config(261)
    folders = [
        write_run(tmp_path / name, name, seed, 2.5, config)
        for seed, name in enumerate(("base", "rpcl"))
    ]
    make_report(*folders, "--out", tmp_path / "report.html")
    started = time.monotonic()
    page = open_page(tmp_path / "report.html")
    assert len(listed(page)) == 261
    assert time.monotonic() - started < 5
    milliseconds = page.evaluate(
        """() => {
             const times = [];
             for (let n = 0; n < 20; n++) {
               const start = performance.now();
               move(1);
               document.body.offsetHeight;
               times.push(performance.now() - start);
             }
             filters.elements.kind.value = "wrong";
             const start = performance.now();
             applyFilter();
             document.body.offsetHeight;
             return [times.sort((a, b) => a - b)[10], performance.now() - start];
           }"""
    )
    assert max(milliseconds) < 300


def test_nothing_in_the_texts_runs(tmp_path, open_page):
    root = tmp_path / "ECF"
    root.mkdir()
    for number, split in enumerate(("train", "dev", "test"), 1):
        lines = [f"{number} {len(HOSTILE)}", "(2,1)"]
        lines += [
            f"{t} | <i>{t}</i> | joy | {text} | S1E1: 00:00:01.000 - 00:00:02.000"
            for t, text in enumerate(HOSTILE, 1)
        ]
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = synthetic_config()
    config.modalities = "t"
    config.data.name = config.data.format = "ecf"
    config.data.root = str(root)
    make_report(write_run(tmp_path / "run", config=config), "--out", tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    texts = page.eval_on_selector_all(".turn > div:last-child", "n => n.map(m => m.textContent)")
    assert texts == HOSTILE
    assert page.inner_text(".turn b >> nth=0") == "<i>1</i>"
    assert page.evaluate("window.ran") is None
    assert page.locator("img").count() == 0
    # One run: nothing to disagree with, and nothing drawn on the right.
    assert not page.is_visible("#disagree")
    assert arcs_of(page, 1) == []
    assert arcs_of(page, 0) != []


def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path):
    other = write_run(tmp_path / "other", config=synthetic_config(12))
    done = make_report(runs[0], other, "--out", tmp_path / "r.html", status=1)
    assert "test conversations differ from" in done.stderr
    done = make_report(tmp_path / "nosuch", "--out", tmp_path / "r.html", status=1)
    assert "nosuch" in done.stderr
    assert "Traceback" not in done.stderr
    make_report(*runs, other, "--out", tmp_path / "r.html", status=2)
    assert not (tmp_path / "r.html").exists()


def test_a_run_with_a_relative_data_root_is_reported_from_any_folder(tmp_path, monkeypatch):
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    for number, split in enumerate(("train", "dev", "test"), 1):
        (there / "data").mkdir(parents=True, exist_ok=True)
        text = f"{number} 1\n(1,1)\n1 | Ann | joy | {split} | S1E1: 00:00:01.000 - 00:00:02.000\n"
        (there / f"data/{split}.txt").write_text(text)
    elsewhere.mkdir()
    monkeypatch.chdir(there)
    config = synthetic_config()
    config.modalities = "t"
    config.data.name = config.data.format = "ecf"
    config.data.root = "data"
    folder = write_run(tmp_path / "run", config=config)
    monkeypatch.chdir(elsewhere)
    (dialogue,) = report_data([read_run(folder)])["dialogues"]
    assert dialogue["utterances"][0]["text"] == "test"
    (there / "data").rename(there / "gone")
    with pytest.raises(InputError, match="its conversations are not found in data; put them back"):
        read_run(folder).splits()
    # Data in the current folder are taken first.
    (there / "gone").rename(elsewhere / "data")
    assert len(read_run(folder).splits()["test"]) == 1


def test_conversations_that_are_gone_are_named(tmp_path):
    """The command has no --config.data.root, and must not advise it."""
    folder = write_run(tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["run"]["data"] |= {"format": "ecf", "root": str(tmp_path / "gone")}
    (folder / "config.json").write_text(json.dumps(config))
    done = make_report(folder, "--out", tmp_path / "r.html", status=1)
    assert f"its conversations are not found in {tmp_path / 'gone'}; put them back" in done.stderr
    assert "--config" not in done.stderr
    assert done.stderr.count("\n") == 1
