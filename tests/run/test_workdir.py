"""Whose a run's folder is."""

import pytest
from shared import tiny_config

from rpcl_jax.errors import InputError
from rpcl_jax.run.workdir import check_owner, locked_run
from rpcl_jax.train import train_and_evaluate


def test_one_process_trains_in_a_folder(tmp_path):
    workdir = tmp_path / "run"
    with locked_run(workdir):
        with pytest.raises(InputError, match="another process is training in it"):
            train_and_evaluate(tiny_config(), workdir)
        assert [path.name for path in workdir.iterdir()] == ["lock"]
    with locked_run(workdir):  # and after that, the next one
        pass
    check_owner(workdir, tiny_config())  # a lock alone makes it nobody's
