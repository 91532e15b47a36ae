"""Settings of JAX and file systems that people have: the same numbers, or one line."""

import errno
import json

import jax
import pytest
from shared import refusal, run_python, tiny_config

from rpcl_jax import files
from rpcl_jax.errors import InputError
from rpcl_jax.train import train_and_evaluate

SETTINGS = {
    "JAX_ENABLE_X64": "1",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_TRANSFER_GUARD": "disallow",
}


@pytest.mark.slow
def test_settings_that_decide_numbers_are_ignored(reads_text, tmp_path):
    from shared import tiny_flags

    flags = [*tiny_flags(), "--config.modalities=t", "--config.epochs=1"]
    command = ["-m", "rpcl_jax.main", *flags, f"--workdir={tmp_path / 'run'}"]
    done = run_python(*command, environment=SETTINGS)
    for name, value in SETTINGS.items():
        assert f"{name}={value} is ignored" in done.stderr
    results = []
    for folder in (tmp_path / "run", reads_text):
        results.append(json.loads((folder / "result.json").read_text()) | {"seconds": 0})
    assert results[0] == results[1]


@pytest.mark.slow
def test_a_platform_that_is_not_there_is_one_line(reads_text, tmp_path):
    (tmp_path / "talk.txt").write_text("Ann: Oh no\nBen: Why?\nAnn: So.\n")
    predict = [f"--input={tmp_path}/talk.txt", f"--output={tmp_path}/o.json"]
    for command in (
        ["predict", f"--workdir={reads_text}", *predict],
        ["evaluate", f"--workdir={reads_text}"],
        ["examine", reads_text],
        ["export", reads_text, f"--out={tmp_path}/model"],
        ["grid", "--config=demo", f"--out={tmp_path}/grid"],
    ):
        cuda = {"JAX_PLATFORMS": "cuda"}
        errors = run_python("-m", "rpcl_jax", *command, environment=cuda, status=1).stderr
        assert "correct or unset JAX_PLATFORMS" in errors, command
        assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("setting", "value"), [("jax_enable_x64", True), ("jax_threefry_partitionable", False)]
)
def test_in_python_they_are_refused(setting, value, tmp_path):
    usual = getattr(jax.config, setting)
    try:
        jax.config.update(setting, value)
        error = refusal(train_and_evaluate, tiny_config(), tmp_path / "run")
    finally:
        jax.config.update(setting, usual)
    assert error == (
        f"{setting} is {value}, with which the same seed gives other numbers; set it to {usual}"
    )


def test_a_file_system_without_locks(monkeypatch, tmp_path, caplog):
    def fail(number):
        def lock(*_, **__):
            raise OSError(number, "not there")

        return lock

    monkeypatch.setattr(files.filelock, "lock_descriptor", fail(errno.ENOSYS))
    with files.locked(tmp_path / "lock", "busy"):
        assert "this file system has no locks" in caplog.text
    monkeypatch.setattr(files.filelock, "lock_descriptor", fail(errno.EIO))
    with pytest.raises(InputError, match="cannot be locked"), files.locked(tmp_path / "l", "busy"):
        pass


@pytest.mark.parametrize("address", ["s3://bucket/run", "gs://bucket/run", "hdfs://host/run"])
def test_addresses_are_no_folders(address, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    error = refusal(train_and_evaluate, tiny_config(), files.Path(address))
    assert "is not a folder of this machine" in error
    assert list(tmp_path.iterdir()) == []
