"""Files that are written whole or not at all, and locks between processes."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from shared import ENVIRONMENT, ROOT, assert_pointer_is_named

from rpcl_jax import files
from rpcl_jax.data.features import map_array
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.scores_file import load_scores
from rpcl_jax.files import (
    atomic_write,
    check_not_pointer,
    locked,
    make_folder,
    read_json,
    write_json,
)
from rpcl_jax.readers.corpus import READERS
from rpcl_jax.readers.ecf_features import read_mapping

KILLED = """
import os, signal, sys
from pathlib import Path
from rpcl_jax.files import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
HOLDING = """
import sys
from pathlib import Path
from rpcl_jax.files import locked
with locked(Path(sys.argv[1]), "busy", shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder/file"
    with atomic_write(path) as file:
        file.write(b"old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(bytes([1 // 0]))
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    with atomic_write(path) as one, atomic_write(path) as other:  # as two processes would
        one.write(b"one")
        other.write(b"other")
    assert path.read_bytes() == b"one"


def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    path = tmp_path / "file"
    full = OSError(errno.ENOSPC, "No space left on device")  # as `write` raises it, without a name
    with pytest.raises(OSError, match="No space left") as raised, atomic_write(path):
        raise full
    assert raised.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as raised, atomic_write(path):
        (tmp_path / "another").read_bytes()
    assert raised.value.filename == str(tmp_path / "another")
    monkeypatch.setattr(files, "make_folder", lambda path: None)
    with pytest.raises(FileNotFoundError) as raised, atomic_write(tmp_path / "nosuch/file"):
        pass
    assert raised.value.filename == str(tmp_path / "nosuch/file")
    assert not list(tmp_path.iterdir())


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with start(KILLED, path) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_json(tmp_path):
    write_json(tmp_path / "x.json", {"ü": [1, None]})
    assert (
        read_json(tmp_path / "x.json")
        == {"ü": [1, None]}
        == json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    )
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", float("nan"))
    with pytest.raises(InputError, match=r"nosuch\.json"):
        read_json(tmp_path / "nosuch.json")
    (tmp_path / "x.json").write_text("{\n1")
    with pytest.raises(InputError, match="line 2"):
        read_json(tmp_path / "x.json")


PAIR = {f"pair_{metric}": 0.5 for metric in ("precision", "recall", "f1", "auprc")}
RESULT = {
    **{"objective": "rpcl", "modalities": "t", "seed": 1, "threshold": 1},
    **{"dev": PAIR, "test": PAIR},
}


def test_a_damaged_result_is_one_line(tmp_path):
    path, whole = tmp_path / "result.json", RESULT
    write_json(path, whole)
    assert read_json(path) == whole
    texts = [b"", b"\xff", b"[]", b"{}", b"3", b"null", b"[" * 100_000]
    for field, value in whole.items():
        for wrong in (None, True, "x" if isinstance(value, dict) else {}):
            texts.append(json.dumps(whole | {field: wrong}).encode())
        texts.append(json.dumps({k: v for k, v in whole.items() if k != field}).encode())
    for text in texts:
        path.write_bytes(text)
        with pytest.raises(InputError, match=r"Restore it or start anew") as refused:
            read_json(path)
        assert str(refused.value).startswith(f"{path}: ")
        assert "\n" not in str(refused.value)
    write_json(path, whole | {"test": {"pair_f1": 1.0}})
    with pytest.raises(InputError, match=r"its 'test.pair_precision' is"):
        read_json(path)


@pytest.mark.parametrize(("theirs", "ours"), [("alone", False), ("alone", True), ("shared", False)])
def test_a_lock_is_held_until_its_process_ends(tmp_path, theirs, ours):
    path = tmp_path / "folder/lock"
    with start(HOLDING, path, theirs) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="taken"), locked(path, "taken", shared=ours):
            pass
        process.kill()
        process.wait(60)
        with locked(path, "taken", shared=ours) as descriptor:
            os.fstat(descriptor)


def test_a_shared_lock_is_shared(tmp_path):
    with start(HOLDING, tmp_path / "lock", "shared") as process:
        assert process.stdout.readline() == "held\n"
        with locked(tmp_path / "lock", "taken", shared=True):
            pass
        process.kill()


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "ro").write_text("")
    for path in (tmp_path / "ro", tmp_path / "ro/a", tmp_path / "ro/a/b"):
        with pytest.raises(InputError, match=f"^{tmp_path / 'ro'}: is a file, so nothing"):
            make_folder(path)
    with pytest.raises(InputError, match="is a file"), atomic_write(tmp_path / "ro/x.json"):
        pass
    make_folder(tmp_path / "new/folder")
    make_folder(tmp_path / "new/folder")
    assert (tmp_path / "new/folder").is_dir()


def test_where_locks_cannot_be_shared(tmp_path, monkeypatch):
    """As on Windows, where one shard after the other is extracted."""
    monkeypatch.setattr("rpcl_jax.files.fcntl", None)
    with locked(tmp_path / "lock", "taken", shared=True):
        for shared in (False, True):
            with pytest.raises(InputError, match="taken"):
                locked(tmp_path / "lock", "taken", shared=shared).__enter__()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("result.json", read_json),
        ("scores.npz", lambda path: load_scores(path, [])),
        ("audio.npy", lambda path: map_array(path, ["float32"], "")),
        ("video_id_mapping.npy", read_mapping),
        *(
            (name, lambda path, form=form: READERS[form](path.parent, "train"))
            for form, name in (
                *(("ecf", "train.txt"), ("ecf", "Subtask_2_train.json")),
                ("mecad", "train_data_pair.json"),
                *(("reccon", "dailydialog_train.json"), ("conversations", "train.jsonl")),
            )
        ),
    ],
)
def test_a_file_that_git_lfs_has_not_fetched(tmp_path, name, read):
    assert_pointer_is_named(tmp_path / name, read, tmp_path / name)


def test_what_is_no_pointer(tmp_path):
    """A pipe can be read only once, and what may not be read is somebody else's to report."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("version https://git-lfs")
    for name in ("pipe", "file", "none", "."):
        check_not_pointer(tmp_path / name)
