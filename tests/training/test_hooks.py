"""Other trackers of metrics: the example of docs/running.md with MLflow, in a store of files."""

import json
import re
from pathlib import Path

import pytest
from shared import ROOT, import_or_skip, tiny_config

from rpcl_jax.run import config as config_module
from rpcl_jax.training import logger

PAGE = (ROOT / "docs/running.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_mlflow_has_every_number_of_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = import_or_skip("mlflow")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"file:{tmp_path / 'store'}")
    monkeypatch.setattr(logger, "hooks", [])

    def tiny(path, objective):
        assert (ROOT / path).is_file()
        return tiny_config(objective)

    monkeypatch.setattr(config_module, "load_config_file", tiny)
    (example,) = (
        block for block in re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL) if "mlflow" in block
    )
    exec(example, {})

    (log,) = Path("runs").rglob("metrics.jsonl")
    wanted = {}
    for line in map(json.loads, log.read_text(encoding="utf-8").splitlines()):
        step = line.pop("step")
        for name, value in line.items():
            wanted.setdefault(name, []).append((step, value))
    assert {"train/loss", "dev/pair_f1", "mean_loss"} <= wanted.keys()
    (run,) = mlflow.search_runs(output_format="list")
    client = mlflow.MlflowClient()
    for name, values in wanted.items():
        found = client.get_metric_history(run.info.run_id, name)
        assert [(metric.step, metric.value) for metric in found] == values
    assert run.data.metrics.keys() == wanted.keys()
    assert run.info.status == "FINISHED"
