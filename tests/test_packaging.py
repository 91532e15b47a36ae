"""What `pip install .` installs, and that it works where there is no clone."""

import ast
import configparser
import shutil
import subprocess
import sys
import zipfile

import pytest
from shared import ENVIRONMENT, ROOT, run_python, tiny_flags

import rpcl_jax

BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The content of the wheel, which is built from a copy of what it is made of."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("rpcl_jax", "configs", "tools"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=source, capture_output=True, check=True
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if "__pycache__" not in p.parts
            and p.is_file()}  # fmt: skip


def test_the_wheel_has_every_file(installed):
    wanted = files(ROOT / "rpcl_jax")
    for folder in ("configs", "tools"):
        wanted |= {f"{folder}/{name}" for name in files(ROOT / folder)}
    assert "pretrained/model.safetensors" in wanted
    assert files(installed / "rpcl_jax") == wanted
    (metadata,) = installed.glob("*.dist-info")
    assert {path.name for path in installed.iterdir()} == {"rpcl_jax", metadata.name}
    scripts = configparser.ConfigParser()
    scripts.read(metadata / "entry_points.txt")
    assert dict(scripts["console_scripts"]) == {"rpcl": "rpcl_jax.__main__:main"}
    text = (metadata / "METADATA").read_text(encoding="utf-8")
    extras = {line.split()[1] for line in text.splitlines() if line.startswith("Provides-Extra")}
    assert extras == {"features", "cluster", "k8s", "tensorboard", "figures", "annotations",
                      "excel", "test", "check", "dev"}  # fmt: skip


@pytest.mark.slow
def test_it_trains_and_exports_in_an_empty_folder(installed, tmp_path):
    def rpcl(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "rpcl_jax", *arguments],
            cwd=tmp_path, env=ENVIRONMENT | {"PYTHONPATH": str(installed)},
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip

    _, *flags = tiny_flags()
    rpcl("train", "--config=demo:base", *flags, "--config.epochs=1")
    run = "runs/demo/base-tav-seed42"
    assert (tmp_path / run / "result.json").is_file()
    assert "exported: written" in rpcl("export", run, "--out=exported").stdout
    assert "| synthetic | total |" in rpcl("statistics", "--config=demo").stdout
    # A config that imports its neighbours.
    with pytest.raises(subprocess.CalledProcessError) as caught:
        rpcl("train", "--config=reccon_frozen")
    assert caught.value.stderr.startswith("rpcl_jax: data/RECCON")


LAZY = """
import sys
import rpcl_jax
assert not {"jax", "torch", "flax", "numpy"} & set(sys.modules)
rpcl_jax.losses.cdmr_loss, rpcl_jax.corruption.corrupt_context
assert "rpcl_jax.predict" not in sys.modules
from rpcl_jax import Predictor
from rpcl_jax.predict import Predictor as same
assert Predictor is same
assert not hasattr(rpcl_jax, "nosuch")
print("done")
"""


def test_the_package_imports_what_is_used():
    assert run_python("-c", LAZY).stdout == "done\n"
    source = (ROOT / "rpcl_jax/__init__.py").read_text(encoding="utf-8")
    (typed,) = (node for node in ast.parse(source).body if isinstance(node, ast.If))
    names = {name.name for imported in typed.body for name in imported.names}
    assert names == set(rpcl_jax._LAZY), "what type checkers see"
