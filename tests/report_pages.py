"""What a report should show, and what it shows in the browser."""

import numpy as np
from shared import run_python, tiny_config


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
