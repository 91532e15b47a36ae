"""The README's code runs, and its commands name what exists."""

import re
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import make_batch, reference_ccps, reference_cdmr, reference_triples
from shared import MINILM, ROOT, needs_minilm, run_python

from rpcl_jax.__main__ import MODES, TOOLS

README = (ROOT / "README.md").read_text(encoding="utf-8")
(IN_JAX,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_the_losses_in_someone_elses_trainer():
    names = {}
    exec(IN_JAX, names)
    batch = make_batch(3)
    b, n = batch["utterances"].shape
    h = jnp.asarray(np.random.default_rng(0).normal(size=(b, n, 5)), jnp.float32)
    key = jax.random.key(0)

    def loss(weight, cause_logits):
        def score_pairs(h):
            mixed = h + h.mean(axis=1, keepdims=True)
            return jnp.einsum("bid,dec,bje->bijc", mixed, weight, mixed)

        labels, candidates = batch["labels"] > 0, batch["candidates"]
        inputs = score_pairs, h, cause_logits, labels, candidates, key
        return *names["rpcl_loss"](*inputs), score_pairs

    weight = 0.3 * jax.random.normal(jax.random.key(1), (5, 5, 2))
    pair_logits, value, score_pairs = loss(weight, batch["cause"])
    np.testing.assert_array_equal(pair_logits, score_pairs(h))
    bystanders = ~(batch["labels"].any(1) | batch["labels"].any(2))
    corrupted = names["corrupt_context"](key, h, ~bystanders, rate=0.30)
    reference = batch | {
        "pair": np.asarray(score_pairs(h)),
        "corrupted": np.asarray(score_pairs(corrupted)),
    }
    triples = reference_triples(reference, 8, 0.05, True)
    expected = 0.3 * reference_cdmr(reference, triples)
    expected += reference_ccps(reference, reference["pair"], 0.75, 0.2)
    np.testing.assert_allclose(value, expected, rtol=1e-5)

    step = jax.jit(jax.grad(lambda weight: loss(weight, batch["cause"])[1]))
    for _ in range(20):
        weight -= 0.1 * step(weight)
    assert loss(weight, batch["cause"])[1] < 0.9 * value


TEXTS = [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))]


def test_it_is_one_screen():
    assert len(README.split()) <= 600
    assert max(map(len, README.split("\n"))) <= 130


def test_its_commands_name_what_exists():
    files = set(re.findall(r"(?:configs|rpcl_jax|tools|docs|results)/\w+\.\w+", README))
    assert len(files) >= 8
    for name in files:
        assert (ROOT / name).is_file(), name
    commands = set(re.findall(r"(?:^|`)rpcl (\w+) ", "\n".join(TEXTS), re.MULTILINE))
    assert len(commands) >= 10
    assert commands <= {*MODES, *TOOLS}


def test_what_its_commands_write_is_ignored_by_git():
    written = set(re.findall(r"--(?:out|output|html)=([a-z][\w./]+)(?=[\s`])", "\n".join(TEXTS)))
    assert {"report.html", "pairs.json", "tables"} <= written
    done = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        cwd=ROOT, input="\n".join(f"{name}/x" for name in written), capture_output=True, text=True,
    )  # fmt: skip
    assert {line.removesuffix("/x") for line in done.stdout.splitlines()} == written


@needs_minilm
@pytest.mark.slow
def test_its_first_example_is_what_the_packaged_model_finds(tmp_path):
    drawn, shown = re.findall(r"```\n(1  Mia.*?|\$ rpcl predict.*?)```", README, re.DOTALL)
    (python,) = re.findall(r"```py\n(from rpcl_jax import Pred.*?)```", README, re.DOTALL)
    turns = re.findall(r"^\d  (\w+) +(.*?)(?:   |$)", drawn, re.MULTILINE)
    (tmp_path / "talk.txt").write_text("".join(f"{name}: {text}\n" for name, text in turns))
    done = run_python("-m", "rpcl_jax", "predict", tmp_path / "talk.txt", f"--encoder={MINILM}")
    command, _, printed = shown.partition("\n")
    assert command == "$ rpcl predict talk.txt"
    assert done.stdout.startswith(printed)

    pairs = re.findall(r"\((\d), (\d)\)", drawn)
    code = python.replace("Predictor()", f"Predictor(encoder={str(MINILM)!r})")
    found = run_python("-c", code).stdout.strip()
    assert found == str([[int(i), int(j)] for i, j in pairs])
    assert f"  # {found}\n" in python


# Pages whose prose wraps at 100 columns, and whose links are checked.
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "results").rglob("*.md"),
]


def outside_code(text):
    """Returns the text with its blocks of code emptied, so that lines keep their numbers."""
    return re.sub(r"```.*?```", lambda m: "\n" * m[0].count("\n"), text, flags=re.DOTALL)


def anchors(path):
    """Returns the anchors that GitHub makes of a page's headings."""
    headings = re.findall(
        r"^#+ (.*)$", outside_code(path.read_text(encoding="utf-8")), re.MULTILINE
    )
    kept = (re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", h)) for h in headings)
    return {h.strip().lower().replace(" ", "-") for h in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", outside_code(page.read_text(encoding="utf-8")))
    for link in links:
        name, _, anchor = link.partition("#")
        if re.match(r"\w+:", name):
            continue
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_wraps_at_100_columns(page):
    lines = outside_code(page.read_text(encoding="utf-8")).split("\n")
    long = [line for line in lines if len(line) > 100 and not line.lstrip().startswith("|")]
    # A link, an URL or code may be longer, if it cannot be broken.
    assert not [line for line in long if len(line.lstrip("- ").split()) > 1]
