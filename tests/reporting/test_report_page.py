"""The report in a browser: it shows what the runs predicted, filters it, and answers the user."""

import itertools
import re
import shutil

import numpy as np
import pytest
from fake_runs import write_run
from report_pages import arcs_of, listed, make_report, pairs_of, select, synthetic_config

from rpcl_jax.reporting.experiments import read_run


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


def test_gold_and_predicted_emotions_are_told_apart(report, runs, open_page):
    """Each run's is the most probable one, in a pair but neutral; where all say neutral, none."""
    page = open_page(report)
    read = [read_run(folder) for folder in runs]
    test = read[0].splits()["test"]
    scored = [run.scores(test, "test") for run in read]
    for d, dialogue in enumerate(test[:5]):
        for t, utterance in enumerate(dialogue.utterances):
            wanted = [] if utterance.emotion == "neutral" else [f"gold {utterance.emotion}"]
            for number, (run, of) in enumerate(zip(read, scored, strict=True)):
                row = of[d].emotion_probabilities[t].copy()
                if any(i == t and kind != "missed" for i, _, kind in arcs_of(page, number)):
                    row[0] = 0
                said = run.emotions[row.argmax()]
                if said != "neutral" or utterance.emotion != "neutral":
                    wanted.append(f"model {said}")
            shown = page.eval_on_selector_all(
                f'.turn[data-turn="{t}"] .chip',
                "chips => chips.map(c => `${c.classList[1]} ${c.innerText.split(' ')[0]}`)",
            )
            assert shown == wanted
        page.keyboard.press("j")
    assert "gold" in page.inner_text(".viewhead")


@pytest.mark.slow
def test_a_loss_near_zero_has_no_negative_axis(runs, tmp_path, open_page):
    folder = shutil.copytree(runs[0], tmp_path / "run")
    log = folder / "metrics.jsonl"
    log.write_text(re.sub(r'"mean_loss": [0-9.]+', '"mean_loss": 0.001', log.read_text(), count=3))
    make_report(folder, "--out", tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    ticks = page.locator(".chart text").all_text_contents()
    assert len(ticks) > 20
    assert not [tick for tick in ticks if tick.startswith(("-", "−"))]
    assert "left" not in page.inner_text("body")
    table = page.locator("table").bounding_box()
    assert table["width"] < 450, "no wider than it needs"


def test_numbers_are_those_of_the_runs(report, runs, open_page):
    page = open_page(report)
    results = [read_run(folder).result["test"] for folder in runs]
    row = page.inner_text("tbody tr:nth-child(1)").split("\t")
    names = page.locator("tbody td:nth-child(1)").all_text_contents()
    for name, key in (("emotion F1", "emotion_f1"), ("cause F1", "cause_f1")):
        shown = page.inner_text(f"tbody tr:nth-child({names.index(name) + 1})").split("\t")
        assert shown[1:3] == [f"{100 * r[key]:.2f}" for r in results]
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
    for dialogue in read_run(runs[0]).splits()["test"]:
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
    dialogues = read_run(runs[0]).splits()["test"]
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
    scored = run.scores(run.splits()["test"], "test")
    s = max(scored, key=lambda s: len(s.cause_confidence))
    assert len(s.cause_confidence) > run.config.diagnostics.top_k + 1
    page = open_page(report, fragment=f"#{s.dialogue.id}")
    i = len(s.cause_confidence) - 1
    page.hover(f'.turn[data-turn="{i}"]')
    row = np.where(s.candidate_mask[i], s.pair_confidence[i], -1)
    row[[j for e, j in s.dialogue.pairs if e == i]] = -1
    expected = np.argsort(-row)[: run.config.diagnostics.top_k]
    drawn = page.eval_on_selector_all(
        '.arc.negative[data-run="0"]', "nodes => nodes.map(n => Number(n.dataset.j))"
    )
    assert sorted(drawn) == sorted(expected)
    shown = page.inner_text('.turn[data-turn="0"] .confidences')
    assert float(shown) == pytest.approx(s.pair_confidence[i, 0], abs=0.0006)
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
    assert page.evaluate("scrollY") == 0
    assert page.locator(".turn").first.bounding_box()["y"] < 740 / 1.5, "without scrolling"
    page.evaluate(
        """() => {
             const long = "unbroken".repeat(40);
             runs[0].name = long;
             Object.assign(state.current.utterances[0], { speaker: long, text: long });
             show(state.current);
           }"""
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


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


def test_arrows_point_from_the_cause_to_the_emotion_and_do_not_pile_up(report, open_page):
    page = open_page(report)
    assert "from the cause to the emotion" in page.inner_text(".legend")
    for _ in range(10):
        ends = page.evaluate(
            """() => [0, 1].map((run) => {
                 const turn = (t) => document.querySelector(`[data-turn="${t}"]`);
                 const within = (y, t) => y > turn(t).offsetTop &&
                   y < turn(t).offsetTop + turn(t).offsetHeight;
                 return [...document.querySelectorAll(`.arc[data-run="${run}"]`)].map((arc) => {
                   const numbers = arc.getAttribute("d").match(/-?[0-9.]+/g).map(Number);
                   const [tail, head] = [numbers[1], numbers[7]];
                   return [within(tail, arc.dataset.j) && within(head, arc.dataset.i), head, tail];
                 });
               })"""
        )
        for of_run in ends:
            assert all(right for right, *_ in of_run)
            heights = sorted(height for _, *both in of_run for height in both)
            assert all(b - a > 4 for a, b in itertools.pairwise(heights))
        page.keyboard.press("j")


def test_axes_have_round_numbers(report, open_page):
    page = open_page(report)
    for ends, wanted in (
        ([0, 1], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0.08, 0.32], ["0.05", "0.10", "0.15", "0.20", "0.25", "0.30", "0.35"]),
        ([0.7, 2.63], ["0.5", "1.0", "1.5", "2.0", "2.5", "3.0"]),
        ([1, 3, 1], ["1", "2", "3"]),
        ([1, 40, 1], ["0", "10", "20", "30", "40"]),
    ):
        call = (
            "ends => { const t = ticks(...ends); return t.at.map((at) => at.toFixed(t.digits)); }"
        )
        assert page.evaluate(call, ends) == wanted


@pytest.mark.parametrize("width", [390, 1280])
def test_a_link_to_the_numbers_leads_there(report, open_page, width):
    page = open_page(report, width=width, fragment="#summary")
    assert page.evaluate("scrollY") > 300
    assert page.locator("#summary").bounding_box()["y"] < 300
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("scrollTo(0, 0)")
    page.click("text=numbers and curves")
    assert page.locator("#summary").bounding_box()["y"] < 300


def test_the_emotion_of_a_pair_is_not_neutral_and_says_what_is_more_probable(tmp_path, open_page):
    folder = write_run(tmp_path / "run", config=synthetic_config(4), signal=9.0)
    path = folder / "predictions/test.npz"
    saved = dict(np.load(path))
    saved["emotion_probabilities"][:] = 0.01
    saved["emotion_probabilities"][:, 0], saved["emotion_probabilities"][:, 2] = 0.85, 0.1
    np.savez(path, **saved)
    make_report(folder, "--out", tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    (i, *_), *_ = (arc for arc in arcs_of(page, 0) if arc[2] != "missed")
    felt = read_run(folder).emotions[2]
    assert f"{felt} .100" in page.inner_text(f'.turn[data-turn="{i}"] .who')
    page.hover(f'.turn[data-turn="{i}"]')
    assert f"emotion {felt} .100, of its pair (neutral .850 is more probable)" in page.inner_text(
        "#readout"
    )
