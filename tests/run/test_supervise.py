"""What the parent of a process of several shows of it."""

import pytest
from shared import run_python

from rpcl_jax.run.hosts import _LOST

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("end", "status", "shown"),
    [
        ("sys.exit(1)", 1, "why\n"),
        ("sys.exit(0)", 0, "why\n"),
        ("os.abort()", 1, f"why\nrpcl_jax: {_LOST}\n"),
        ("os.kill(os.getpid(), 9)", 137, "why\nrpcl_jax: ended by SIGKILL\n"),
    ],
)
def test_what_is_shown_of_a_process(end, status, shown):
    code = "import os, sys; from rpcl_jax.run.hosts import supervise; supervise({}); "
    code += "os.write(2, b'noise of C++\\n'); sys.stderr.write('why\\n'); " + end
    assert run_python("-c", code.format(False), status=status).stderr == shown
    assert "noise of C++" in run_python("-c", code.format(True), status=status).stderr
