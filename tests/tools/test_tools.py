"""Every tool starts as a script, and its --help answers before anything heavy is imported."""

import subprocess
import sys

import pytest
from shared import ENVIRONMENT, ROOT

TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py"))
RUN = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as ended:
    print("ended with", ended.code or 0)
print("imported", sorted({"jax", "matplotlib", "torch", "transformers"} & set(sys.modules)))
"""


def test_the_tools_are_found():
    assert {"convert", "make_tables", "run_grid", "corpus_statistics"} <= set(TOOLS)


@pytest.mark.parametrize("tool", TOOLS)
def test_help(tool):
    done = subprocess.run(
        [sys.executable, "-c", RUN, f"tools/{tool}.py"],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *help_, ended, imported = done.stdout.splitlines()
    assert any(f"{tool}.py" in line for line in help_)
    uses_argparse = help_[0].startswith("usage: ")
    assert ended == f"ended with {0 if uses_argparse else 1}"  # absl's --help ends with 1
    assert uses_argparse or any("--config" in line for line in help_)
    assert imported == "imported []"
