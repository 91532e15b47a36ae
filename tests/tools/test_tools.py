"""Every tool starts as a script: tools/statistics.py stands in nobody's way."""

import subprocess
import sys

import pytest
from shared import ENVIRONMENT, ROOT

# results.py is what the others share; it is no script.
TOOLS = sorted(
    path.stem
    for path in (ROOT / "tools").glob("*.py")
    if path.stem not in ("__init__", "results")
)  # fmt: skip


def test_the_tools_are_found():
    assert {"convert", "make_tables", "run_grid", "statistics"} <= set(TOOLS)


# What `python tools/x.py --help` does, and then what a library does later that wants Python's.
RUN = """
import runpy, sys
path = sys.argv.pop(1)
sys.argv[0] = path
sys.path[0] = path.rpartition("/")[0]
try:
    runpy.run_path(path, run_name="__main__")
except SystemExit as ended:
    print("ended with", ended.code or 0)
import statistics
print(statistics.fmean([1, 2]))
"""


@pytest.mark.parametrize("tool", TOOLS)
def test_help(tool, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, ROOT / "tools" / f"{tool}.py", "--help"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *help_, ended, mean = done.stdout.splitlines()
    assert any(f"{tool}.py" in line for line in help_)
    uses_argparse = help_[0].startswith("usage: ")
    assert ended == f"ended with {0 if uses_argparse else 1}"  # absl's --help ends with 1
    assert uses_argparse or any("--config" in line for line in help_)
    assert mean == "1.5"
