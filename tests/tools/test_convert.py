import pytest
from shared import ECF, ROOT, needs_ecf, run_python

from configs import demo
from rpcl_jax.readers import ecf
from rpcl_jax.readers.conversations import read_split, write_conversations
from rpcl_jax.readers.corpus import load_splits


def run(*arguments, status=0):
    return run_python("tools/convert.py", *arguments, status=status)


def test_what_is_converted_reads_back(tmp_path):
    config = demo.get_config()
    config.data.sizes = {"train": 5, "dev": 4, "test": 3}
    sizes = [f"--config.data.sizes.{split}={n}" for split, n in config.data.sizes.items()]
    done = run("--config=configs/demo.py", *sizes, f"--out={tmp_path / 'out'}")
    assert f"{tmp_path / 'out' / 'test.jsonl'}: 3 conversations" in done.stdout.splitlines()
    splits = load_splits(config)
    assert {split: len(of) for split, of in splits.items()} == {"train": 5, "dev": 4, "test": 3}
    for split, dialogues in splits.items():
        assert read_split(tmp_path / "out", split) == dialogues
    assert len(list((tmp_path / "out").iterdir())) == 3


@needs_ecf
def test_ecf(tmp_path):
    run("--config=configs/ecf.py", f"--config.data.root={ECF}", f"--out={tmp_path}")
    for split in ("train", "dev", "test"):
        assert read_split(tmp_path, split) == ecf.read_split(ECF, split)


def test_one_split_is_cut_into_three(tmp_path):
    source = demo.get_config()
    source.data.sizes = {"train": 4, "dev": 20, "test": 4}
    sizes = [f"--config.data.sizes.{split}={n}" for split, n in source.data.sizes.items()]
    run("--config=configs/demo.py", *sizes, "--splits=dev", "--cut=3,1,1", f"--out={tmp_path}")
    splits = [read_split(tmp_path, split) for split in ("train", "dev", "test")]
    assert [len(dialogues) for dialogues in splits] == [12, 4, 4]
    dev = load_splits(source, ["dev"])["dev"]
    assert sorted((d for of in splits for d in of), key=dev.index) == dev
    assert splits[0] != dev[:12], "mixed"


def test_a_dev_split_is_cut_off_and_test_is_kept(tmp_path):
    """As the message about a missing dev split says."""
    source = demo.get_config()
    source.data.sizes = {"train": 10, "dev": 1, "test": 3}
    splits = load_splits(source)
    write_conversations(tmp_path / "mine/train.jsonl", splits["train"])
    write_conversations(tmp_path / "mine/test.jsonl", splits["test"])
    arguments = [
        *("--config=configs/demo.py", "--config.data.format=conversations"),
        *(f"--config.data.root={tmp_path / 'mine'}", f"--out={tmp_path / 'cut'}"),
    ]
    advice = run(*arguments, status=1).stderr.split("tools/convert.py ")[1].split(" (docs")[0]
    run(*arguments, *advice.split())
    train, dev, test = (read_split(tmp_path / "cut", name) for name in ("train", "dev", "test"))
    assert (len(train), len(dev), test) == (9, 1, splits["test"])
    assert sorted(train + dev, key=splits["train"].index) == splits["train"]


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [
        (1, ["--config=configs/demo.py", "--out=x", "--splits=all"],
         "convert: 'all' is not a split"),
        (1, ["--config=configs/demo.py", "--out=x", "--cut=1,0"],
         "convert: --cut=1,0: must be three positive numbers"),
        (1, ["--config=configs/demo.py", "--out=x", "--cut=1000,1,0.1"],
         "convert: --cut=1000,1,0.1: nothing is left for"),
        (1, ["--config=configs/demo.py", "--out=README.md"], "convert: README.md: File exists"),
        (2, ["--config=configs/ecf.py"], "convert: --out is required"),
        (2, ["--out=x"], "convert: --config is required"),
        (1, ["--config=configs/ecf.py", "--config.data.root=nowhere", "--out=x"],
         "convert: nowhere/train.txt and nowhere/Subtask_2_train.json and"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_refused_in_one_line(status, arguments, message):
    refused = run(*arguments, status=status).stderr
    assert refused.startswith(message)
    assert refused.count("\n") == 1
    assert not (ROOT / "x").exists()
