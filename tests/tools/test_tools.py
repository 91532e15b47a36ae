"""Every command starts, and its --help answers before anything heavy is imported."""

import subprocess
import sys

import pytest
from shared import ENVIRONMENT, ROOT, run_python

from rpcl_jax.__main__ import MODES, TOOLS

FILES = {
    **dict.fromkeys(MODES, "rpcl_jax/main.py"),
    **{n: f"tools/{t}.py" for n, t in TOOLS.items()},
}
RUN = """
import sys
from rpcl_jax.__main__ import main
try:
    main()
except SystemExit as ended:
    print("ended with", ended.code or 0)
print("imported", sorted({"jax", "matplotlib", "torch", "transformers"} & set(sys.modules)))
"""


def test_every_tool_is_a_command():
    assert sorted(TOOLS.values()) == sorted(path.stem for path in (ROOT / "tools").glob("*.py"))


@pytest.mark.parametrize("command", FILES)
def test_help_from_any_folder(command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, command, "--help"],
        cwd=tmp_path, env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *help_, ended, imported = done.stdout.splitlines()
    assert help_[0] == (ROOT / FILES[command]).read_text(encoding="utf-8").splitlines()[0][3:]
    assert f"{ROOT / FILES[command]}:" in help_, "its own flags"
    assert any(line.startswith("  --[no]debug") for line in help_)
    assert (ended, imported) == ("ended with 0", "imported []")


def test_the_commands_are_listed():
    for arguments in ((), ("--help",), ("-h",)):
        lines = run_python("-m", "rpcl_jax", *arguments).stdout.splitlines()
        assert [line.split()[0] for line in lines[2:]] == list(FILES)
        assert (
            "  compare     Compares two settings, seed by seed, on the same test dialogues."
            in lines
        )
    done = run_python("-m", "rpcl_jax", "trian", status=2)
    assert done.stderr == "rpcl: trian: no such command; `rpcl --help` lists them\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["evaluate"],
            "rpcl_jax: --mode=evaluate requires --workdir, the folder of a run, or --",
        ),
        (
            ["train", "--config=dmo:base"],
            "rpcl_jax: --config=dmo:base: no such file; the shipped "
            "configs are base, demo, ecf, ecf_frozen, ecf_minilm, ecf_reccon, mec4, mecad, "
            "reccon_frozen, reccon_minilm",
        ),
        (
            ["train", "--config", "demo", "--config.sead=1"],
            "rpcl_jax: --config.sead: no field 'sead'",
        ),
        (["predict"], "rpcl_jax: --mode=predict requires --input, a file or folder of conversati"),
        (["predict", "a", "--input=b"], "rpcl_jax: a given and --input=b; give one of them"),
        (["predict", "a", "--pairs=b.json"], "rpcl_jax: --pairs: b.json must end in .csv, .tsv o"),
        (["train", "a", "--config=demo"], "rpcl_jax: a given; training takes only flags"),
        (["evaluate", "--workdir=a", "--encoder=b"], "rpcl_jax: --encoder needs --input"),
        (["export"], "export: nothing given; the command takes RUN\n"),
        (["export", "run"], "export: --out is required: The new folder."),
        (["export", "run", "other", "--out=x"], "export: run other given; the command takes RUN\n"),
        (["report", "--out=x.html"], "report: nothing given; the command takes RUN [RUN]\n"),
        (["examine", "a", "--without=text"], "examine: flag --without=text"),
        (
            ["convert", "a", "--config=demo"],
            "convert: a given; the command takes only flags",
        ),
    ],
)
def test_bad_usage(arguments, message):
    done = run_python("-m", "rpcl_jax", *arguments, status=2)
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_shipped_config_is_found_by_its_name(tmp_path):
    """One that imports its neighbours, in a folder where there are no configs."""
    done = subprocess.run(
        [sys.executable, "-m", "rpcl_jax", "train", "--config=reccon_minilm:base"],
        cwd=tmp_path, env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("rpcl_jax: data/RECCON"), done.stderr
