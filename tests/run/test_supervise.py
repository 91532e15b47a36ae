"""What the parent of a process of several shows of it."""

import pytest
from shared import run_python

from rpcl_jax.run.hosts import _ENDED

pytestmark = pytest.mark.slow
NOISE = "E1126 15:40:00.000000 1 coordination_service.cc:1] lost\n*** trace ***\n"


@pytest.mark.parametrize(
    ("written", "end", "status", "shown"),
    [
        ("rpcl_jax: why\n" + NOISE, "sys.exit(1)", 1, "rpcl_jax: why\n"),
        (NOISE + "rpcl_jax: why\n", "sys.exit(1)", 1, "rpcl_jax: why\n"),
        ("rpcl_jax: why\n" + NOISE, "os.abort()", 1, "rpcl_jax: why\n"),
        (NOISE, "os.abort()", 1, f"rpcl_jax: {_ENDED}\n"),
        ("epoch 1\n" + NOISE, "sys.exit(3)", 3, "epoch 1\n" + NOISE),
        (NOISE, "os.kill(os.getpid(), 9)", 137, NOISE + "rpcl_jax: ended by SIGKILL\n"),
        (
            "rpcl_jax: why\n" + NOISE,
            "os.kill(os.getpid(), 9)",
            137,
            "rpcl_jax: why\n" + NOISE + "rpcl_jax: ended by SIGKILL\n",
        ),
        ("rpcl_jax: why\n", "os.abort()", 1, "rpcl_jax: why\n"),
        ("rpcl_jax: a note\n", "sys.exit(0)", 0, "rpcl_jax: a note\n"),
        ("rpcl_jax: why\nmore\n", "sys.exit(1)", 1, "rpcl_jax: why\nmore\n"),
    ],
)
def test_what_is_shown_of_a_process(written, end, status, shown):
    """JAX's threads may write before a process says why it ends, and until it has ended."""
    code = "import os, sys; from rpcl_jax.run.hosts import supervise; supervise(); "
    code += f"sys.stderr.write({written!r}); sys.stderr.flush(); {end}"
    assert run_python("-c", code, status=status).stderr == shown
