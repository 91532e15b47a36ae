"""The command as a user runs it, on speech: kills, shards, what is missing, bad flags."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from media import STYLES, write_clip
from shared import ENVIRONMENT, ROOT, import_or_skip, needs_espeak, run_python, write_lines

from rpcl_jax.data.features import FeatureTable
from rpcl_jax.extraction.clips import read_audio

opensmile = import_or_skip("opensmile")

pytestmark = [needs_espeak, pytest.mark.slow]
TEXTS = ("Oh no!", "You did it.", "I lost it.", "Look at that!", "Leave me alone.", "Well.")
SIZES = {"train": 5, "dev": 1, "test": 1}  # conversations of six utterances
MISSING, BROKEN = "dia3utt2", "dia7utt6"
FILES = ("features.npy", "ids.txt", "table.json", "absent.txt")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """ECF's three files and its clips, in a folder for each conversation."""
    root, number, said = tmp_path_factory.mktemp("ecf"), 0, []
    for split, size in SIZES.items():
        lines = []
        for _ in range(size):
            number += 1
            lines += [f"{number} {len(TEXTS)}", "(1,1)"]
            for t, text in enumerate(TEXTS, 1):
                emotion = list(STYLES)[(number + t) % len(STYLES)] if t > 1 else "joy"
                at = "0:00:01.000 - 0:00:02.000"
                lines.append(f"{t} | Ann | {emotion} | {text} | clip: {at}")
                said.append((number, t, text, emotion))
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    for number, t, text, emotion in said:
        path = root / f"clips/{number}/dia{number}utt{t}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.stem == BROKEN:
            path.write_bytes(b"no film")
        elif path.stem != MISSING:
            write_clip(path, text, emotion)
    return root


def command(root, out, *arguments):
    return [
        *(sys.executable, "tools/extract_features.py", "--config=configs/ecf.py"),
        *(f"--config.data.root={root}", f"--clips={root / 'clips'}", "--extractor=opensmile"),
        *(f"--out={out}", *arguments),
    ]


def run(*arguments, status=0):
    return run_python(*command(*arguments)[1:], status=status)


def contents(out):
    return {name: (out / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "audio"
    return out, run(corpus, out)


def test_what_is_said_at_the_end(whole):
    out, done = whole
    assert f"{out}: 40 of 42 utterances" in done.stdout
    lines = done.stderr.strip().splitlines()
    assert f"{MISSING}: no audio: no file named clip or {MISSING} " in lines[-2]
    assert f"{BROKEN}: no audio: " in lines[-1]
    assert "Invalid data found" in lines[-1]
    assert "42/42" in done.stderr  # the bar, with its rate
    assert "clip/s" in done.stderr


def test_rows_are_those_of_opensmile(whole, corpus):
    table = FeatureTable.load(whole[0])
    assert table.dimension == 6373
    assert (table.description["extractor"], table.description["model"]) == (
        "opensmile",
        "ComParE_2016",
    )
    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
    for name in ("dia1utt1", "dia4utt5", "dia7utt3"):
        path = corpus / f"clips/{name[3]}/{name}.mp4"
        expected = smile.process_signal(read_audio(path, 0.0, 60.0), 16_000).to_numpy()
        np.testing.assert_allclose(table.rows([name]).values, expected, rtol=1e-5)
    assert len(np.unique(table.values, axis=0)) > 20  # voices and words differ


@pytest.mark.long
def test_killed_and_resumed_it_is_the_same(whole, corpus, tmp_path):
    out = tmp_path / "audio"
    process = subprocess.Popen(
        command(corpus, out), cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    first = tmp_path / "audio.partial/000000.npz"
    ends = time.monotonic() + 120
    while not first.exists() and time.monotonic() < ends:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert first.exists()
    assert not (tmp_path / "audio.partial/000002.npz").exists()  # it was in the middle
    run(corpus, out)
    assert contents(out) == contents(whole[0])
    assert not (tmp_path / "audio.partial").exists()


@pytest.mark.long
def test_shards_at_the_same_time_are_the_same(whole, corpus, tmp_path):
    out = tmp_path / "audio"
    processes = [
        subprocess.Popen(
            command(corpus, out, f"--shard={part}/2"),
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for part in (1, 2)
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "shard 2/2 is done; when all are, run the command without --shard" in said[1][0]
    assert MISSING in said[0][1] + said[1][1]
    assert not out.exists()
    run(corpus, out)
    assert contents(out) == contents(whole[0])


def test_strict_fails_and_makes_no_table(corpus, tmp_path):
    done = run(corpus, tmp_path / "audio", "--strict", status=1)
    assert done.stderr.strip().endswith("extract: 2 utterances have no audio")
    assert MISSING in done.stderr
    assert not (tmp_path / "audio").exists()


def test_conversations_without_labels_in_any_format(whole, corpus, tmp_path):
    turns = [{"id": f"dia1utt{t}", "text": "x" * (t == 1)} for t in range(1, 7)]
    recorded = {"video": "dia2utt1.mp4", "utterances": [{"text": "x", "start": 0, "end": 0.5}]}
    # Another conversation with an id of the first.
    again = {"utterances": [{"id": "dia1utt1", "text": "x", "video": "dia2utt1.mp4"}]}
    write_lines(tmp_path / "own.jsonl", [{"utterances": turns}, recorded, again])
    options = [f"--clips={corpus / 'clips'}", "--extractor=opensmile"]
    tool = ["tools/extract_features.py", *options]
    done = run_python(*tool, f"--input={tmp_path / 'own.jsonl'}", f"--out={tmp_path / 'audio'}")
    assert f"{tmp_path / 'audio'}: 8 of 8 utterances" in done.stdout
    assert (
        "repaired: conversations without id (named after their file): 3; empty utterances: 5;"
        in done.stderr
    )
    own, reference = (FeatureTable.load(path) for path in (tmp_path / "audio", whole[0]))
    names = [turn["id"] for turn in turns]
    np.testing.assert_array_equal(own.rows(names).values, reference.rows(names).values)
    assert own.rows(["diaown-2utt1"]).present.all()
    other = own.rows(["dia1utt1_2"]).values
    np.testing.assert_array_equal(other, reference.rows(["dia2utt1"]).values)


def test_ecf_with_the_clips_of_meld(whole, corpus, tmp_path):
    (tmp_path / "ecf").mkdir()
    for split in SIZES:
        (tmp_path / f"ecf/{split}.txt").write_bytes((corpus / f"{split}.txt").read_bytes())
    for folder in ("train_splits", "dev_splits_complete"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "dia0_utt3.mp4").symlink_to(corpus / "clips/1/dia1utt1.mp4")
    said = [f"{t} | A | joy | x | train_dia0_utt{t + 2}" for t in range(1, 3)]
    (tmp_path / "ecf/all_data_pair_ECFvsMELD.txt").write_text("1 2\n\n" + "\n".join(said) + "\n")
    out = tmp_path / "audio"
    done = run(tmp_path / "ecf", out, f"--clips={tmp_path}")
    assert f"{out}: 1 of 42 utterances" in done.stdout
    rows = FeatureTable.load(out).rows(["dia1utt1"])
    np.testing.assert_array_equal(
        rows.values, FeatureTable.load(whole[0]).rows(["dia1utt1"]).values
    )


def test_bad_flags_are_one_line(corpus, tmp_path):
    def refused(message, *arguments, status=1):
        done = run(corpus, tmp_path / "t", *arguments, status=status)
        assert message in done.stderr
        assert done.stderr.count("\n") == 1

    refused("extractor 'nosuch' is unknown", "--extractor=nosuch")
    # Before the extractor is loaded.
    refused("contains no clip", f"--clips={tmp_path}", "--extractor=nosuch")
    refused("--shard=0/2: must be i/n", "--shard=0/2")
    refused("extract: --clips is required", "--clips=", status=2)
    (tmp_path / "file").write_text("")
    refused("file: is a file, so nothing can be written", f"--out={tmp_path / 'file/t'}")
    refused("not found", f"--config.data.root={tmp_path}")


def test_the_table_says_where_it_is_from(whole):
    description = json.loads((whole[0] / "table.json").read_text())
    assert description == {
        "extractor": "opensmile",
        "model": "ComParE_2016",
        "revision": opensmile.__version__,
        "dimension": 6373,
    }
