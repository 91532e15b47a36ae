"""The config: every field is checked, flags win, and folders of the previous version are read."""

import inspect
import json
import math
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from shared import ROOT, assert_one_line, run_main, tiny_config, tiny_flags

from configs import demo
from rpcl_jax import losses
from rpcl_jax.errors import InputError
from rpcl_jax.objective import Objective
from rpcl_jax.run.base_config import OBJECTIVES, base_config
from rpcl_jax.run.config import (
    check_config,
    flatten,
    load_config_file,
    objective_of,
    parse_config,
    to_json,
)

FIELDS = flatten(base_config())
# configs/base.py names no data, so that it is only what others start from.
SHIPPED = sorted(path for path in ROOT.glob("configs/*.py") if path.name != "base.py")


def refusal(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def set_field(config, field, value):
    """Sets a field to a value of any type, which ConfigDict itself would refuse."""
    *sections, name = field.split(".")
    for section in sections:
        config = config[section]
    with config.ignore_type():
        config[name] = value


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_shipped_config_is_valid(path, objective):
    config = load_config_file(path, objective)
    check_config(config)
    assert config.objective == objective
    assert {field: config.rpcl[field] for field in OBJECTIVES[objective]} == OBJECTIVES[objective]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("patience", value) for value in (-1, 1.5, "5", None)),
        *(("epochs", value) for value in (0, -1, True)),
        *(("batch_size", value) for value in (0, -4)),
        *(("seed", value) for value in (-1, 2**32)),
        ("data.seed", -1),
        *((f"data.sizes.{split}", 0) for split in ("train", "dev", "test")),
        *(("data.max_utterances", value) for value in (0, -1)),
        *(
            (f"data.{name}", "nosuch")
            for name in ("format", "emotions", "candidates", "unknown_emotion")
        ),
        *(("modalities", value) for value in ("", "av", "ta ", "at")),
        ("objective", "rcpl"),
        ("data.root", 3),
        ("text.context", "sentence"),
        ("text.dtype", "float16"),
        ("text.max_tokens", 2),
        ("text.row_length", 63),  # less than text.max_tokens
        ("text.finetune", 1),
        ("text.finetune", False),  # without text.pretrained
        ("text.encoder.hidden_size", 0),
        ("text.encoder.hidden_size", 66),  # not a multiple of 4 heads
        ("text.encoder.num_layers", -1),
        ("model.width", 66),  # not a multiple of 4 heads
        ("model.width", 0),
        ("model.backbone", "nosuch"),
        ("model.heads", 0),
        ("model.scorer_layers", 0),
        ("model.pair_width", 3),
        ("model.fusion_layers", -1),
        *((f"text.{name}", v) for name in ("dropout", "attention_dropout") for v in (1.0, -0.1)),
        *(("model.dropout", value) for value in (1, -0.1, math.nan)),
        *(("rpcl.corruption_rate", value) for value in (1.0, 1.5, -0.1, math.nan)),
        *(
            (f"rpcl.{name}", value)
            for name in ("row_weight", "corruption_weight", "alignment_weight", "base_margin")
            for value in (-0.1, math.nan, math.inf)
        ),
        *(("rpcl.top_k", value) for value in (-1, None, 8.0)),
        ("rpcl.protect_gold", 0),
        ("diagnostics.top_k", 0),
        ("diagnostics.base_margin", -0.05),
        ("optimizer.schedule", "cosine"),
        ("optimizer.warmup", 1.0),
        *(
            (f"optimizer.{name}", value)
            for name in (
                *("encoder_learning_rate", "learning_rate"),
                *("weight_decay", "clip_norm"),
            )
            for value in (-1e-5, math.nan, math.inf)
        ),
        ("optimizer.clip_norm", 0.0),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(field, value):
    config = demo.get_config()
    set_field(config, field, value)
    message = refusal(check_config, config)
    assert message.startswith(f"config.{field}: ")
    assert str(value) in message


@pytest.mark.parametrize("field", [f for f, v in FIELDS.items() if type(v) is int])
def test_a_number_beyond_any_real_run_is_refused(field):
    """It would end in a MemoryError or an overflow, deep in a library."""
    config = demo.get_config()
    set_field(config, field, 10**12)
    assert refusal(check_config, config).startswith(f"config.{field}: is {10**12}; it must be from")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patience", 0),
        ("rpcl.top_k", 0),
        ("rpcl.corruption_rate", 0.0),
        ("rpcl.corruption_rate", 0),  # an integer is a number too
        ("model.dropout", 0.99),
        ("seed", 2**32 - 1),
        ("text.max_tokens", 3),
        ("optimizer.weight_decay", 0.0),
        *(("modalities", value) for value in ("t", "ta", "tv", "tav")),
    ],
)
def test_a_value_at_the_limit_is_accepted(field, value):
    config = demo.get_config()
    set_field(config, field, value)
    check_config(config)


def test_every_field_exists_and_no_other():
    config = demo.get_config()
    config.rpcl.margin = 1.0
    assert "config.rpcl.margin does not exist" in refusal(check_config, config)
    config = demo.get_config()
    del config.data.seed
    assert "config.data.seed is missing" in refusal(check_config, config)
    config = demo.get_config()
    set_field(config, "text", "roberta")
    assert "config.text" in refusal(check_config, config)


def test_what_must_go_together():
    config = demo.get_config()
    config.model.update({"width": 300, "heads": 8})
    message = refusal(check_config, config)
    assert "config.model.width: 300" in message
    assert "config.model.heads, 8" in message
    for backbone in ("hilo", "two_step"):
        config = demo.get_config()
        config.model.update({"backbone": backbone, "width": 33, "heads": 3})
        message = refusal(check_config, config)
        assert "config.model.width: 33 is odd" in message
        assert backbone in message
        config.model.update({"width": 36, "fusion_layers": 0})
        if backbone == "two_step":
            assert "config.model.fusion_layers: is 0" in refusal(check_config, config)
        else:
            check_config(config)
    config = load_config_file(ROOT / "configs/ecf.py", "rpcl")
    config.text.pretrained = ""
    message = refusal(check_config, config)
    assert "config.text.encoder.hidden_size" in message
    assert "config.text.pretrained" in message


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--config.patience=-1"], ["config.patience", "-1"]),
        (["--config.epochs=0"], ["config.epochs"]),
        (["--config.batch_size=0"], ["config.batch_size"]),
        (["--config.data.max_utterances=0"], ["config.data.max_utterances"]),
        (["--config.model.width=300", "--config.model.heads=8"], ["config.model.width"]),
        (["--config.rpcl.row_weight=nan"], ["config.rpcl.row_weight", "nan"]),
        (["--config.model.backbone=M3HG"], ["'M3HG' is unknown", "hilo, two_step, graph"]),
    ],
)
@pytest.mark.slow
def test_the_command_refuses_a_wrong_value_in_one_line(flags, parts, tmp_path):
    done = run_main("--config=configs/demo.py", *flags, f"--workdir={tmp_path / 'r'}", status=2)
    assert_one_line(done, *parts)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            ["--config=configs/ecf.py:rcpl"],
            "rpcl_jax: 'rcpl' is not an objective; the objectives are " + ", ".join(OBJECTIVES),
        ),
        (
            ["--config=configs/ecf.py", "--config.sead=1"],
            'rpcl_jax: --config.sead: no field \'sead\'; did you mean "seed" instead of "sead"?',
        ),
        (
            ["--config=configs/ecf.py", "--config.seed=1", "--config.rpc.top_k=1"],
            'rpcl_jax: --config.rpc.top_k: no field \'rpc\'; did you mean "rpcl" instead of "rpc"?',
        ),
    ],
)
def test_a_misspelt_objective_or_field(flags, line):
    assert run_main(*flags, status=2).stderr == f"{line}\n"


@pytest.mark.slow
def test_flags_win_over_the_objective(tmp_path):
    small = [*tiny_flags()[1:], "--config.epochs=1", "--config.modalities=t"]
    workdir = tmp_path / "run"
    flags = ["--config.rpcl.row_weight=0.5", f"--workdir={workdir}"]
    assert OBJECTIVES["base"]["row_weight"] == 0
    run_main("--config=configs/demo.py:base", *small, *flags)
    written = json.loads((workdir / "config.json").read_text())
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert written["run"]["objective"] == "base"
    assert written["run"]["rpcl"]["row_weight"] == 0.5
    assert any("train/ranking" in x for x in lines)


def test_the_losses_defaults_are_the_papers():
    rpcl = base_config().rpcl
    for loss, fields in (
        (losses.cdmr_loss, {"top_k", "base_margin", "adaptive_margin"}),
        (losses.ccps_loss, {"corruption_weight", "alignment_weight"}),
    ):
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(loss).parameters.items()
            if parameter.default is not inspect.Parameter.empty and name != "axis_name"
        }
        assert defaults == {field: rpcl[field] for field in fields}


def test_diagnostics_are_the_same_for_every_objective():
    assert {
        json.dumps(base_config(objective).diagnostics.to_dict()) for objective in OBJECTIVES
    } == {'{"base_margin": 0.05, "top_k": 8}'}


def test_objectives_are_the_weights_of_the_config():
    paper = Objective(0.3, 0.05, True, 8, 0.3, True, 0.75, 0.2)
    assert objective_of(base_config("rpcl")) == paper
    assert objective_of(base_config("base")) == paper._replace(
        row_weight=0, corruption_weight=0, alignment_weight=0
    )
    assert objective_of(base_config("no_top_k")) == paper._replace(top_k=None)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"objective": "rcpl"}, "rcpl"),
        ({"objective": None}, "None"),
        ({"epochs": "many"}, "epochs"),
        ({"epochs": 0}, "config.epochs"),
        ({"rpcl": 3}, "not a config"),
        ({"invented": 1}, "config.invented"),  # of a newer version
        ({"model": {"width": 0}}, "config.model.width"),
    ],
)
def test_a_config_that_cannot_be_read(change, part):
    path = Path("run/config.json")
    message = refusal(parse_config, to_json(tiny_config()) | change, path)
    assert message.startswith(f"{path}: ")
    assert part in message
    assert "train the run again, or update rpcl_jax" in message


def test_what_is_written_is_read_again():
    config = tiny_config("base")
    config.rpcl.row_weight = 0.5  # flags may differ from the objective
    written = json.loads(json.dumps(to_json(config)))
    assert parse_config(written, Path("config.json")).to_dict() == config.to_dict()
    assert flatten(ConfigDict({"a": 1, "b": {"c": 2}})) == {"a": 1, "b.c": 2}
