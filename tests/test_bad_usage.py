"""Bad usage and bad input end in one line and exit status 2 or 1, without a traceback."""

import numpy as np
import pytest
from shared import assert_one_line, run_main, tiny_flags

from rpcl_jax.data.features import FeatureTable


def write_ecf(root, pairs="(1,1)", emotion="joy"):
    root.mkdir()
    for number, split in enumerate(("train", "dev", "test"), 1):
        clip = "S1E1: 00:00:01.000 - 00:00:02.000"
        text = f"{number} 1\n{pairs}\n1 | Ann | {emotion} | hello | {clip}\n"
        (root / f"{split}.txt").write_text(text)
    return root


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--config=configs/demo.py", "--config.sead=1"], ["sead"]),
        (["--config=configs/demo.py:rcpl"], ["objective", "'rcpl'", "utterance_dropout"]),
        (["--config=configs/demo.py", "--config.seed=x"], ["seed"]),
        (["--config=configs/nosuch.py"], ["nosuch.py"]),
        ([], ["--config"]),
        (["--config=configs/demo.py", "--nosuch"], ["nosuch"]),
        (["--config=configs/demo.py", "--epochs=3"], ["write --config.epochs"]),
        (["--config=configs/demo.py", "--config.objective=base"], ["demo.py:OBJECTIVE"]),
        (["--mode=evaluate", "--config=configs/demo.py"], ["leave it out"]),
        (["--config=README.md"], ["README.md"]),
        (["--data.root=x", "--config=configs/demo.py"], ["write --config.data.root"]),
        (["--config=configs/demo.py", "--name=x"], ["write --config.data.name"]),
        (["--config=configs/demo.py", "train"], ["train"]),
        (["--mode=evaluate"], ["--workdir"]),
        (["--mode=predict", "--workdir=x", "--input=x", "--output=y", "--threshold=1.5"], ["to 1"]),
        (["--mode=predict", "--workdir=x", "--input=x", "--output=y", "--threshold=nan"], ["nan"]),
        (["--mode=predict", "--workdir=x", "--input=x", "--output=y.txt"], ["y.txt", ".jsonl"]),
        (
            ["--mode=predict", "--workdir=x", "--input=x", "--output=y.json", "--html=z.pdf"],
            ["z.pdf", ".html"],
        ),
        (["--mode=evaluate", "--workdir=x", "--threshold=0.5"], ["is for --mode=predict"]),
        (["--mode=predict", "--model=a/b", "--workdir=c"], ["--model", "in place of --workdir"]),
        (["--mode=predict", "--workdir=c", "--revision=v1"], ["--revision is for a --model"]),
    ],
)
def test_bad_flags(arguments, parts, tmp_path):
    if "--config" in "".join(arguments):
        arguments = [*arguments, f"--workdir={tmp_path / 'run'}"]
    assert_one_line(run_main(*arguments, status=2), *parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "parts"),
    [
        (["--config=configs/demo.py", "--config.modalities=av"], 2, ["modalities", "'av'"]),
        (["--config=nosuch.py:base"], 2, ["--config=nosuch.py:base: no such file"]),
        (["--mode=evaluate", "--workdir=/nosuch/run"], 1, ["/nosuch/run"]),
        (["--config=configs/demo.py", "--config.devices=99"], 1, ["99 devices requested"]),
        (["--config=configs/ecf.py", "--config.data.root=/nosuch"], 1, ["/nosuch", "git clone"]),
    ],
)
def test_bad_values_and_folders(arguments, status, parts, tmp_path):
    if "--config" in "".join(arguments):
        arguments = [*arguments, f"--workdir={tmp_path / 'run'}"]
    assert_one_line(run_main(*arguments, status=status), *parts)


@pytest.mark.slow
def test_a_mistake_in_a_config_has_a_line(tmp_path):
    config = tmp_path / "mine.py"
    config.write_text("def get_config():\n    return something\n")
    done = run_main(f"--config={config}", status=2)
    assert done.stderr == f"rpcl_jax: {config}:2: name 'something' is not defined\n"


@pytest.mark.slow
def test_bad_data_and_encoders(tmp_path):
    def fail(*arguments):
        return run_main("--config=configs/ecf.py", "--config.modalities=t",
                   f"--workdir={tmp_path / 'run'}", *arguments, status=1)  # fmt: skip

    def assert_a_line_for_each_split(done, *parts):
        lines = done.stderr.splitlines()
        assert len(lines) == 3
        for split, line in zip(("train", "dev", "test"), lines, strict=True):
            assert all(part in line for part in (f"{split}.txt", *parts))

    good = write_ecf(tmp_path / "good")
    root = write_ecf(tmp_path / "outside", pairs="(1,2)")
    assert_a_line_for_each_split(fail(f"--config.data.root={root}"), "(1,2)", "outside")
    root = write_ecf(tmp_path / "emotion", emotion="joy, bliss")
    assert_a_line_for_each_split(fail(f"--config.data.root={root}"), "bliss")
    root = write_ecf(tmp_path / "repeated")
    text = (root / "train.txt").read_text()
    (root / "train.txt").write_text(text + text.replace("(1,1)", ""))
    assert_one_line(fail(f"--config.data.root={root}"), "train.txt", "duplicated")
    empty = tmp_path / "encoder"
    empty.mkdir()
    done = fail(f"--config.data.root={good}", f"--config.text.pretrained={empty}")
    assert_one_line(done, str(empty))


@pytest.mark.slow
def test_bad_feature_tables(tmp_path):
    good = write_ecf(tmp_path / "good")
    ids = {f"dia{d}utt1": d - 1 for d in (1, 2, 3)}

    def fail(folder):
        return run_main("--config=configs/ecf.py", "--config.modalities=ta",
                   f"--config.data.root={good}", f"--config.data.audio={folder}",
                   f"--workdir={tmp_path / 'run'}", status=1)  # fmt: skip

    assert_one_line(fail(tmp_path / "nosuch"), "nosuch", "--config.modalities=t")
    values = np.ones((3, 4), np.float32)
    values[1, 2] = np.nan
    FeatureTable(values, ids, {}).save(tmp_path / "nan")
    assert_one_line(fail(tmp_path / "nan"), "dia2utt1")
    FeatureTable(np.ones((3, 4), np.float32), ids, {}).save(tmp_path / "width")
    description = tmp_path / "width/table.json"
    description.write_text(description.read_text().replace("4", "5"))
    assert_one_line(fail(tmp_path / "width"), "width", "5")


def test_debug_brings_the_traceback_back(tmp_path):
    done = run_main(
        "--config=configs/demo.py:nosuch", "--debug", f"--workdir={tmp_path / 'r'}", status=1
    )
    assert "Traceback" in done.stderr
    assert "InputError" in done.stderr


@pytest.mark.slow
def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    assert_one_line(
        run_main(*tiny_flags(), f"--workdir={tmp_path}", status=1), "not the folder of a run"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
