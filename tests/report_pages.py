"""What a report should show, and what it shows in the browser."""

import time

import numpy as np
from shared import run_python, tiny_config

from rpcl_jax.evaluation.decode import Prediction
from rpcl_jax.reporting import pairs_page
from rpcl_jax.reporting.predictions import with_prediction

EMOTIONS = ("neutral", "anger", "joy")
BY = {"model": "mine/rpcl", "threshold": 0.4}


def make_report(*arguments, status=0):
    return run_python("tools/make_report.py", *arguments, status=status)


def synthetic_config(test=40):
    config = tiny_config()
    config.data.sizes.test = test
    return config


def pairs_of(run):
    """{dialogue id: {(i, j): kind}} of a run, from its scores."""
    pairs = {}
    for s in run.scores(run.splits()["test"], "test"):
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


def predicted(number, length=8, pairs=None, candidates=True, **fields):
    """A conversation as a Predictor gives it, with random confidences."""
    rng = np.random.default_rng(number)
    every = {
        (i, j): float(rng.uniform(0.05, 0.95) ** 2) for i in range(length) for j in range(i + 1)
    }
    found = [pair for pair, p in every.items() if p >= BY["threshold"]] if pairs is None else pairs
    chances = rng.dirichlet([3, 1, 1], length)
    likeliest, expressed = chances.argmax(1), 1 + chances[:, 1:].argmax(1)
    paired = [any(i == t for i, _ in found) for t in range(length)]
    felt = np.where(paired, expressed, likeliest)
    turns = [{"speaker": "Ann", "text": f"words {number} of {t}"} for t in range(length)]
    item = with_prediction(
        {"id": number, "utterances": turns} | fields,
        Prediction(
            found,
            [every[p] for p in found],
            [EMOTIONS[c] for c in felt],
            list(chances[range(length), felt]),
        ),
        BY,
    )
    if candidates:
        item["candidates"] = [
            [i + 1, j + 1, round(p, 3)] for (i, j), p in every.items() if p >= pairs_page.FLOOR
        ]
        item["emotion_choices"] = [
            [(EMOTIONS[c], p[c]) for c in pair]
            for p, *pair in zip(chances, likeliest, expressed, strict=True)
        ]
    return item


def write_pairs_page(path, items, clips=None):
    finder = pairs_page.clips_beside(clips, path) if clips else None
    with path.open("wb") as file, pairs_page.pairs_page(file, "talks", finder) as add:
        for item in items:
            add(item)
    return path


def slide(page, value):
    page.evaluate(
        """value => { const slider = filters.elements.threshold; slider.value = value;
             slider.dispatchEvent(new Event("input", { bubbles: true })); }""",
        value,
    )


def until(page, expression):
    for _ in range(100):  # the page's policy forbids what wait_for_function does
        if page.evaluate(expression):
            return
        time.sleep(0.1)
    raise AssertionError(expression)
