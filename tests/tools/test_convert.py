import json

import pytest
from shared import ECF, ROOT, needs_ecf, run_python

from configs import demo
from rpcl_jax.errors import InputError
from rpcl_jax.readers import ecf
from rpcl_jax.readers.conversations import read_split, write_conversations
from rpcl_jax.readers.corpus import load_splits
from rpcl_jax.readers.transcripts import convert


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
    with pytest.raises(InputError) as missing:
        read_split(tmp_path / "mine", "dev")
    advice = str(missing.value).rsplit("`rpcl convert ", 1)[1].partition("`")[0]
    run(
        *("--config=configs/demo.py", "--config.data.format=conversations", *advice.split()),
        *(f"--config.data.root={tmp_path / 'mine'}", f"--out={tmp_path / 'cut'}"),
    )
    train, dev, test = (read_split(tmp_path / "cut", name) for name in ("train", "dev", "test"))
    assert (len(train), len(dev), test) == (9, 1, splits["test"])
    assert sorted(train + dev, key=splits["train"].index) == splits["train"]


def test_ids_that_repeat_get_a_number(tmp_path):
    """Two tables with a dialogue 0 each become data that training takes."""
    for name in ("day1", "day2"):
        rows = (
            "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\nYes!,Ann,joy,0,0\nNo.,Bo,joy,0,1\n"
        )
        (tmp_path / f"{name}.csv").write_text(rows)
    done = run(f"--input={tmp_path}", f"--out={tmp_path / 'data/train.jsonl'}")
    assert "repeated ids of conversations (given a number): 1" in done.stderr
    written = [
        json.loads(line) for line in (tmp_path / "data/train.jsonl").read_text().splitlines()
    ]
    assert [item["id"] for item in written] == ["0", "0_2"]
    assert [u["id"] for item in written for u in item["utterances"]] == [
        *("dia0_utt0", "dia0_utt1", "dia0_utt0_2", "dia0_utt1_2")
    ]


def test_transcripts_become_our_format(tmp_path):
    source, target = tmp_path / "sessions", tmp_path / "deep/mine.jsonl"
    source.mkdir()
    wrapped = (
        "Ann: Oh no, as they had all said, we lost it\nwhen we were not there, in the very\nnight"
    )
    (source / "a.txt").write_text(f"{wrapped}\nBo: No\n")
    (source / "b.srt").write_text("1\n00:00:01,000 --> 00:00:02,500\n[Bo]: Yes\n")
    (source / "c.csv").write_text("who,text,emotion\nAnn,Look!,Surprise\n,,\n")
    (source / "d.json").write_text("{")
    (source / "e.json").write_text('{"id": 5, "utterances": [{"text": "Oh", "speaker": 1, "emotion"'
                                   ': "Happy"}], "pairs": [[1, 1]]}')  # fmt: skip
    # What a flag gives for tables is not asked of other formats.
    done = run(f"--input={source}", f"--out={target}", "--columns=speaker=who", status=1)
    assert done.stdout == f"{target}: 4 conversations\n"
    bad, repaired, last = done.stderr.splitlines()
    assert bad.startswith(f"cannot be read: {source / 'd.json'}: line 1, column 2 is not JSON")
    assert repaired.startswith(
        "repaired: lines without a name (of the turn before): 2; notices, titles, times, sounds "
        "and files (nobody said them; left out): 1; numbers as speaker: 1"
    )
    assert last == "convert: 1 conversations cannot be read and were left out"
    a, b, c, e = map(json.loads, target.read_text().splitlines())
    assert [u["text"] for u in a["utterances"]] == [wrapped[5:].replace("\n", " "), "No"]
    clip = {"video": "b", "start": 1.0, "end": 2.5}
    assert b["utterances"] == [{"id": "diabutt1", "speaker": "Bo", "text": "Yes", "clip": clip}]
    assert [u["speaker"] for u in c["utterances"]] == ["Ann"]
    assert [u.get("emotion") for u in c["utterances"]] == ["surprise"]
    assert (e["utterances"][0]["emotion"], e["pairs"]) == ("joy", [[1, 1]])
    # What was converted can be read without labels, and with them where there are some.
    config = demo.get_config()
    config.data.update({"format": "conversations", "root": str(tmp_path)})
    target.rename(tmp_path / "test.jsonl")
    unlabelled = load_splits(config, ["test"], labelled=False)["test"]
    assert [d.id for d in unlabelled] == ["a", "b", "c", "5"]
    assert {d.pairs for d in unlabelled} == {None}
    with pytest.raises(InputError, match="conversation a has no 'pairs'"):
        load_splits(config, ["test"])
    (tmp_path / "test.jsonl").write_text('{"utterances": 5}\n{\n')
    with pytest.raises(InputError, match=r"test\.jsonl:1 .*\n.*test\.jsonl: line 2, column 2"):
        load_splits(config, ["test"], labelled=False)
    assert not convert(source / "b.srt", tmp_path / "b.jsonl")[1]
    with pytest.raises(InputError, match=r"d\.json: no conversation can be read, so nothing was"):
        convert(source / "d.json", tmp_path / "d.jsonl")
    assert not (tmp_path / "d.jsonl").exists()


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [
        (1, ["--config=configs/demo.py", "--out=x", "--splits=all"],
         "convert: 'all' is not a split"),
        (1, ["--config=configs/demo.py", "--out=x", "--cut=1,0"],
         "convert: --cut=1,0: must be three positive numbers"),
        (1, ["--config=configs/demo.py", "--out=x", "--cut=1000,1,0.1"],
         "convert: --cut=1000,1,0.1: nothing is left for"),
        (1, ["--config=configs/demo.py", "--out=README.md"], "convert: README.md: is a file,"),
        (2, ["--config=configs/ecf.py"], "convert: --out is required"),
        (2, ["--out=x"], "convert: --config is required"),
        (2, ["--out=x", "--input=x"], "convert: --out is required with --input, a file whose name"),
        (2, ["--out=x", "--input=x", "--cut=1,1"], "convert: --input takes no --config"),
        (1, ["--out=x.jsonl", "--input=x", "--columns=text"], "convert: --columns: 'text' must be"),
        (2, ["--config=configs/demo.py", "--out=x", "--columns=text=a"], "convert: --columns is"),
        (1, ["--out=x.jsonl", "--input=nowhere"], "convert: nowhere: no such file or folder"),
        (1, ["--config=configs/ecf.py", "--config.data.root=nowhere", "--out=x"],
         "convert: nowhere/train.txt and nowhere/Subtask_2_train.json and"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_refused_in_one_line(status, arguments, message):
    refused = run(*arguments, status=status).stderr
    assert refused.startswith(message)
    assert refused.count("\n") == 1
    assert not (ROOT / "x").exists()


def test_a_tilde_is_the_home_in_every_path(tmp_path):
    (tmp_path / "a.txt").write_text("Ann: Hi\nBo: Oh\n")
    home = {"HOME": str(tmp_path)}
    run_python("tools/convert.py", "--input=~/a.txt", "--out=~/deep/b.jsonl", environment=home)
    assert (tmp_path / "deep/b.jsonl").exists()
    assert not (ROOT / "~").exists()
