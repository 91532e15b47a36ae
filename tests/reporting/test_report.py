"""The report in a real browser: that it shows what the runs say, filters it, and runs nothing."""

import shutil
import time

import numpy as np
import pytest
from fake_runs import write_run
from shared import import_or_skip, needs, run_python, tiny_config

from rpcl_jax.readers.corpus import load_splits
from rpcl_jax.reporting.experiments import read_run

sync_playwright = import_or_skip("playwright.sync_api").sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = needs(CHROMIUM is not None, "needs Chromium (Debian: chromium)")
HOSTILE = [
    "<script>window.ran = 1</script>",
    "</script><script>window.ran = 2</script>",
    '<img src="x" onerror="window.ran = 3">',
    "&lt;b&gt; is not <b>",
    "<!--<script>",
]


def make_report(*arguments, status=0):
    return run_python("tools/make_report.py", *arguments, status=status)


def synthetic_config(test=40):
    config = tiny_config()
    config.data.sizes.test = test
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of other noise, so that they disagree."""
    folder = tmp_path_factory.mktemp("runs")
    config = synthetic_config()
    return [
        write_run(folder / "base", "base", 1, 2.5, config),
        write_run(folder / "rpcl", "rpcl", 2, 3.5, config),
    ]


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    make_report(*runs, "--out", path)
    return path


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # As root, as CI is, Chromium has no sandbox; nothing is loaded but the file.
        flags = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a file; afterwards there must be no error and no request but for the file."""
    pages, complaints, requests = [], [], []

    def open_file(path, width=1280, height=900, fragment="", touch=False):
        page = browser.new_page(viewport={"width": width, "height": height}, has_touch=touch)
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"file://{path}{fragment}")
        return page

    yield open_file
    for page in pages:
        page.close()
    assert complaints == []
    assert all(url.startswith(("file://", "data:")) for url in requests)


def pairs_of(run):
    """{dialogue id: {(i, j): kind}} of a run, from its scores."""
    pairs = {}
    for s in run.scores(load_splits(run.config)["test"], "test"):
        predicted = {
            (i, j)
            for i, j in zip(*np.nonzero(s.candidate_mask), strict=True)
            if s.pair_confidence[i, j] >= run.result["threshold"]
        }
        gold = set(s.dialogue.pairs)
        pairs[s.dialogue.id] = {
            (int(i), int(j)): "missed"
            if (i, j) not in predicted
            else ("right" if (i, j) in gold else "wrong")
            for i, j in predicted | gold
        }
    return pairs


def arcs_of(page, number):
    """{(i, j): kind} of the arcs that are drawn for a run."""
    return page.evaluate(
        """number => [...document.querySelectorAll(`.arc[data-run="${number}"][data-kind]`)].map(
             a => [Number(a.dataset.i), Number(a.dataset.j), a.dataset.kind])""",
        number,
    )


def listed(page):
    return page.eval_on_selector_all("#list .id", "nodes => nodes.map(n => n.textContent)")


def select(page, **wanted):
    for name in ("kind", "distance", "emotion"):
        page.select_option(f"select[name={name}]", wanted.get(name, ""))
    page.set_checked("input[name=disagree]", wanted.get("disagree", False))


def test_every_conversation_has_the_arcs_of_both_runs(report, runs, open_page):
    page = open_page(report)
    assert "base and rpcl" in page.title()
    expected = [pairs_of(read_run(folder)) for folder in runs]
    ids = listed(page)
    assert ids == list(expected[0])
    assert len(ids) == 40
    for dialogue in ids:
        assert page.inner_text(".viewhead h2") == f"Conversation {dialogue}"
        for number in (0, 1):
            drawn = {(i, j): kind for i, j, kind in arcs_of(page, number)}
            assert drawn == expected[number][dialogue]
        page.keyboard.press("j")
    assert {kind for d in expected[1].values() for kind in d.values()} == {
        *("right", "wrong", "missed")
    }


def test_numbers_are_those_of_the_runs(report, runs, open_page):
    page = open_page(report)
    results = [read_run(folder).result["test"] for folder in runs]
    row = page.inner_text("tbody tr:nth-child(1)").split("\t")
    assert row[:3] == ["Pair F1", *(f"{100 * r['pair_f1']:.2f}" for r in results)]
    difference = 100 * (results[1]["pair_f1"] - results[0]["pair_f1"])
    assert row[3].startswith(f"{difference:+.2f} [")


@pytest.mark.parametrize(
    "wanted",
    [
        {"kind": "wrong"},
        {"kind": "missed"},
        {"distance": "0"},
        {"distance": "3"},
        {"distance": "after"},
        {"emotion": "joy"},
        {"disagree": True},
        {"kind": "right", "emotion": "anger", "distance": "1", "disagree": True},
    ],
)
def test_filters(report, runs, open_page, wanted):
    page = open_page(report)
    select(page, **wanted)
    both = [pairs_of(read_run(folder)) for folder in runs]
    expected = []
    for dialogue in load_splits(read_run(runs[0]).config)["test"]:
        first, second = (pairs[dialogue.id] for pairs in both)

        def predicted(pairs, pair):
            return pairs.get(pair) in ("right", "wrong")

        def passes(pair, kind, first=first, second=second, dialogue=dialogue):
            distance = pair[0] - pair[1]
            return (
                wanted.get("kind") in (None, kind)
                and wanted.get("emotion") in (None, dialogue.utterances[pair[0]].emotion)
                and {
                    None: True,
                    "0": distance == 0,
                    "1": distance == 1,
                    "3": distance >= 3,
                    "after": distance < 0,
                }[wanted.get("distance")]
                and (
                    not wanted.get("disagree") or predicted(first, pair) != predicted(second, pair)
                )
            )

        if any(passes(*item) for pairs in (first, second) for item in pairs.items()):
            expected.append(dialogue.id)
    assert listed(page) == expected
    if wanted in ({"kind": "wrong"}, {"disagree": True}):
        assert 0 < len(expected) < 40  # these must sort some out
    if not expected:
        assert "No conversation" in page.inner_text("#view")


def test_words_are_searched(report, runs, open_page):
    page = open_page(report)
    dialogues = load_splits(read_run(runs[0]).config)["test"]
    word = dialogues[7].utterances[0].text.split()[-1].strip(".?!,")
    page.keyboard.press("/")
    page.keyboard.type(word.upper())
    assert listed(page) == [
        d.id
        for d in dialogues
        if any(word.lower() in f"{u.speaker} {u.text}".lower() for u in d.utterances)
    ]


@pytest.mark.parametrize("negatives", [-2.0, -9.0])
def test_a_row_shows_its_confidences_and_hard_negatives(tmp_path, open_page, negatives):
    """With negatives near 0 too, where three digits could not tell which are the hard ones."""
    folder = write_run(tmp_path / "run", config=synthetic_config(), negatives=negatives)
    report = tmp_path / "report.html"
    make_report(folder, "--out", report)
    run = read_run(folder)
    scored = run.scores(load_splits(run.config)["test"], "test")
    s = max(scored, key=lambda s: len(s.cause_confidence))
    assert len(s.cause_confidence) > run.config.rpcl.top_k + 1
    page = open_page(report, fragment=f"#{s.dialogue.id}")
    i = len(s.cause_confidence) - 1
    page.hover(f'.turn[data-turn="{i}"]')
    row = np.where(s.candidate_mask[i], s.pair_confidence[i], -1)
    row[[j for e, j in s.dialogue.pairs if e == i]] = -1
    expected = np.argsort(-row)[: run.config.rpcl.top_k]
    drawn = page.eval_on_selector_all(
        '.arc.negative[data-run="0"]', "nodes => nodes.map(n => Number(n.dataset.j))"
    )
    assert sorted(drawn) == sorted(expected)
    shown = page.inner_text('.turn[data-turn="0"] .confidences')
    assert float(shown) == pytest.approx(s.pair_confidence[i, 0], abs=0.006)
    # A cell of the heat map says the same of one pair.
    page.hover(f'.columns .card rect[data-i="{i}"][data-j="0"]')
    assert f"confidence {shown}" in page.inner_text("#readout")
    frames = page.locator(".map .frame").evaluate_all(
        "nodes => nodes.map(n => n.getAttribute('d'))"
    )
    assert set(frames) == {f"M0,{i}H1v1H0Z"}
    page.hover(f'.turn[data-turn="{i}"]')
    assert page.locator(".map .frame").first.get_attribute("d") == f"M0,{i}H{i + 1}v1H0Z"


def test_the_heat_map_marks_gold_and_predicted_cells(report, runs, open_page):
    run = read_run(runs[0])
    for dialogue, pairs in list(pairs_of(run).items())[:5]:
        page = open_page(report, fragment=f"#{dialogue}")
        card = page.locator(".columns .card").nth(0)
        gold = card.locator("rect.gold").evaluate_all(
            "nodes => nodes.map(n => [Number(n.dataset.i), Number(n.dataset.j)])"
        )
        assert {tuple(pair) for pair in gold} == {p for p, k in pairs.items() if k != "wrong"}
        dots = card.locator("circle").count()
        assert dots == sum(kind != "missed" for kind in pairs.values())
        n = len(card.locator("rect").all()) ** 0.5
        assert card.locator("rect.none").count() == n * (n - 1) / 2  # no cause from the future


def test_the_keyboard_suffices(report, open_page):
    page = open_page(report)
    ids = listed(page)
    heading = page.locator(".viewhead h2")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert heading.inner_text() == f"Conversation {ids[1]}"
    page.focus("#list")
    page.keyboard.press("End")
    assert heading.inner_text() == f"Conversation {ids[-1]}"
    page.keyboard.press("ArrowUp")
    assert heading.inner_text() == f"Conversation {ids[-2]}"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.turn") == "0"
    assert page.locator(".turn.active").count() == 1
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert "utterance 1 causes the emotion of 2" in page.inner_text("#readout")
    page.keyboard.press("ArrowRight")
    assert "utterance 2 causes the emotion of 2" in page.inner_text("#readout")
    page.keyboard.press("Escape")
    assert page.locator(".turn.active").count() == 0
    page.focus("input[name=disagree]")
    page.keyboard.press("k")
    assert heading.inner_text() == f"Conversation {ids[-3]}"
    # A link to a conversation leads there, past any filter.
    page.fill("input[name=words]", "no such words")
    assert listed(page) == []
    page.evaluate(f"location.hash = '#{ids[4]}'")
    page.wait_for_function(f"document.querySelector('.viewhead h2').innerText.endsWith('{ids[4]}')")
    assert listed(page) == ids
    assert page.locator("#list [aria-selected=true] .id").inner_text() == ids[4]


def test_a_phone_shows_it_without_scrolling_sideways(report, open_page):
    page = open_page(report, width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator(".arc").count() > 0
    assert page.evaluate("scrollY") == 0, "the summary comes first"


def test_fingers_reach_what_a_mouse_reaches(report, open_page):
    page = open_page(report, width=360, height=740, touch=True)
    places = "[...document.querySelectorAll('.turn')].map(turn => turn.offsetTop)"
    before = page.evaluate(places)
    page.tap('.turn[data-turn="3"]')
    assert page.locator(".turn.active").get_attribute("data-turn") == "3"
    assert page.locator(".arc.negative").count() > 0
    assert page.evaluate(places) == before, "nothing moves under the finger"
    page.locator(".reach").first.dispatch_event("click")
    assert "causes the emotion of" in page.inner_text("#readout")


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
    folders = [write_run(tmp_path / o, o, seed, 2.5, config) for seed, o in enumerate("ab")]
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
    assert "other test conversations" in done.stderr
    done = make_report(tmp_path / "nosuch", "--out", tmp_path / "r.html", status=1)
    assert "nosuch" in done.stderr
    assert "Traceback" not in done.stderr
    make_report(*runs, other, "--out", tmp_path / "r.html", status=2)
    assert not (tmp_path / "r.html").exists()
