"""The recipe for an objective in CONTRIBUTING.md, followed to the letter in a copy of the code."""

import shutil
import subprocess
import sys

import pytest
from shared import ENVIRONMENT, ROOT

# What the recipe asks for, in its order: (file, a line that is there, what is written below it).
PENALTY = [
    (
        "rpcl_jax/run/base_config.py",
        '    "no_top_k": {"top_k": 0},\n',
        '    "penalty": _NO_RANKING | _NO_CORRUPTION | {"penalty_weight": 0.1},\n',
    ),
    (
        "tests/test_objective.py",
        '    "no_top_k": (True, "adaptive", "all", "protected", True, True),\n',
        '    "penalty": (False, None, None, None, False, False, {"penalty_weight": 0.1}),\n',
    ),
    (
        "rpcl_jax/reporting/figures.py",
        '    "no_top_k": "#F0E442",\n',
        '    "penalty": "#123456",\n',
    ),
    (
        "rpcl_jax/losses.py",
        "from rpcl_jax.shapes import check_shapes\n",
        """

def penalty_loss(pair_logits, candidate_mask, *, axis_name=None):
    \"\"\"Returns 1/|V| Σ_V p².\"\"\"
    candidates = candidate_mask.astype(bool)
    p = pair_confidence(_fill(pair_logits, candidates))
    return _masked_mean(jnp.square(p), candidates, axis_name)
""",
    ),
    (
        "rpcl_jax/run/base_config.py",
        "    c.rpcl.alignment_weight = 0.2  # λ_ali\n",
        "    c.rpcl.penalty_weight = 0.0\n",
    ),
    (
        "rpcl_jax/objective.py",
        "    alignment_weight: float  # λ_ali\n",
        "    penalty_weight: float = 0.0\n",
    ),
    (
        "rpcl_jax/objective.py",
        '        loss += terms["stability"]\n',
        """\
    if objective.penalty_weight:
        terms["penalty"] = losses.penalty_loss(
            clean.pair_logits, batch.candidate_mask, axis_name=axis_name
        )
        loss += objective.penalty_weight * terms["penalty"]
""",
    ),
    (
        "tests/reference.py",
        "# The reference: what the equations say, one candidate at a time.\n",
        """

def reference_penalty(batch):
    pairs = zip(batch["pair"][batch["candidates"]], strict=True)
    return np.mean([softmax(logits)[1] ** 2 for (logits,) in pairs])
""",
    ),
    ("tests/test_objective.py", "    reference_cross_entropy,\n", "    reference_penalty,\n"),
    (
        "tests/test_objective.py",
        '        "stability": reference_ccps(x, x["pair"], *weights),\n',
        '        "penalty": reference_penalty(x),\n',
    ),
    (
        "tests/test_objective.py",
        '    loss = terms["supervised"] + objective.row_weight * terms["ranking"]'
        ' + terms["stability"]\n',
        '    loss += objective.penalty_weight * terms["penalty"]\n',
    ),
    (
        "tests/test_objective.py",
        "    objective = Objective(0.7, 0.4, True, 2, 0.6, protect, 0.35, 1.5)\n",
        "    objective = objective._replace(penalty_weight=0.9)\n",
    ),
]


@pytest.mark.long
@pytest.mark.slow
def test_an_objective_with_a_term_of_its_own(tmp_path):
    for name in ("rpcl_jax", "configs", "tools", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, line, below in PENALTY:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.count(line) == 1, (name, line)
        (tmp_path / name).write_text(text.replace(line, line + below), encoding="utf-8")
    tests = "tests/test_objective.py", "tests/run/test_config.py", "tests/reporting/test_figures.py"
    about = "table or every_number or papers or weight or colour"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", about],
        cwd=tmp_path, env=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
