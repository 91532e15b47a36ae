"""Feature tables: saving, loading, normalisation, and malformed files."""

import dataclasses
import json
import os
import re

import numpy as np
import pytest
from shared import assert_pointer_is_named

from rpcl_jax.data import features
from rpcl_jax.data.dialogue import Dialogue, Utterance
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.errors import InputError

IDS = ["dia1utt1", "dia1utt2", "dia2utt1"]


def make_table(dtype=np.float32):
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(dtype)
    described = {"extractor": "made up", "model": "none", "revision": "0"}
    return FeatureTable(values, {i: row for row, i in enumerate(IDS)}, described)


@pytest.fixture
def folder(tmp_path):
    make_table().save(tmp_path / "audio")
    return tmp_path / "audio"


def refused(folder):
    with pytest.raises(InputError) as error:
        FeatureTable.load(folder)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(folder))
    return str(error.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_saved_tables_load_unchanged(tmp_path, dtype):
    table = make_table(dtype)
    table.save(tmp_path / "deep" / "audio")
    assert os.listdir(tmp_path / "deep") == ["audio"]
    loaded = FeatureTable.load(tmp_path / "deep" / "audio")
    assert isinstance(loaded.values, np.memmap)
    assert loaded.values.dtype == dtype
    assert (loaded.row_of_id, loaded.dimension) == (table.row_of_id, 4)
    assert loaded.description == {**table.description, "dimension": 4}
    rows, present = loaded.rows(["dia2utt1", "dia1utt1", "dia2utt1"])
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, table.values[[2, 0, 2]].astype(np.float32))
    assert present.tolist() == [True] * 3
    assert loaded.rows([]).values.shape == (0, 4)
    assert loaded.absent == {}


def test_the_order_of_ids_is_the_order_of_rows(tmp_path):
    table = FeatureTable(np.eye(2, dtype=np.float32), {"b": 1, "a": 0})
    table.save(tmp_path / "audio")
    assert (tmp_path / "audio" / "ids.txt").read_text() == "a\nb\n"
    np.testing.assert_array_equal(
        FeatureTable.load(tmp_path / "audio").rows(["b"]).values, [[0, 1]]
    )


def dialogue(*ids):
    return Dialogue("1", tuple(Utterance(i, "A", "x") for i in ids))


def test_absent_utterances_are_kept_with_the_reason_and_have_no_row(tmp_path):
    absent = {"dia9utt1": "no sound in\nclip.mp4", "dia9utt2": ""}
    dataclasses.replace(make_table(), absent=absent).save(tmp_path / "audio")
    table = FeatureTable.load(tmp_path / "audio")
    assert table.absent == {"dia9utt1": "no sound in clip.mp4", "dia9utt2": ""}
    rows, present = table.rows(["dia9utt2", "dia1utt2"])
    assert present.tolist() == [False, True]
    assert rows[0].tolist() == [0] * 4
    np.testing.assert_array_equal(rows[1], table.values[1])
    table.check_covers([dialogue("dia1utt1", "dia9utt1")], "dev")
    with pytest.raises(InputError, match="no row for 1 of the 2 utterances of dev"):
        table.check_covers([dialogue("dia1utt1", "dia9utt3")], "dev")
    (tmp_path / "audio" / "absent.txt").write_text("dia1utt2\tgone\n")
    assert "'dia1utt2' also has a row" in refused(tmp_path / "audio")


def test_only_rows_with_ids_are_saved(tmp_path):
    """ECF's official tables have a row without an id and may be float64."""
    values = np.arange(8.0).reshape(4, 2)
    FeatureTable(values, {"b": 3, "a": 1}).save(tmp_path / "audio")
    table = FeatureTable.load(tmp_path / "audio")
    assert table.values.dtype == np.float32
    assert table.rows(["a", "b"]).values.tolist() == [[2, 3], [6, 7]]


def test_features_of_another_extractor_are_refused():
    table = make_table()
    same = {**table.description, "dimension": 4, "model": "/another/path"}
    table.check_same_extractor(same)
    for name, other in (("dimension", 5), ("extractor", "clip"), ("revision", "1")):
        with pytest.raises(InputError, match=f"its {name} is .* trained with {other!r}"):
            table.check_same_extractor(same | {name: other})


@pytest.mark.parametrize("at_once", [1, 1 << 24])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_normalisation_uses_the_rows_of_the_dialogues(monkeypatch, at_once, dtype):
    monkeypatch.setattr(features, "_CHECKED_AT_ONCE", at_once)
    values = np.random.default_rng(1).normal(300, 2, size=(40, 3)).astype(dtype)
    values[:, 1] = 0.1  # whose sum is inexact
    ids = [f"u{k}" for k in range(40)]
    table = FeatureTable(values, {i: k for k, i in enumerate(ids)}, absent={"u99": "gone"})
    mean, scale = table.normalisation([dialogue(*ids[:10], "u99"), dialogue(*ids[10:30])])
    expected = values[:30].astype(np.float64)
    np.testing.assert_allclose(mean, expected.mean(0), rtol=1e-6)
    np.testing.assert_allclose(scale, np.where([1, 0, 1], expected.std(0), 1), rtol=1e-5)
    denormal = dataclasses.replace(table, values=(values[:, :1] * 1e-40).astype(np.float32))
    assert denormal.normalisation([dialogue(*ids)])[1].tolist() == [1]
    mean, scale = table.normalisation([dialogue("u99")])
    assert (mean.tolist(), scale.tolist()) == ([0] * 3, [1] * 3)


def test_saving_never_overwrites_and_is_atomic(tmp_path, folder, monkeypatch):
    with pytest.raises(InputError, match="audio: already exists"):
        make_table().save(folder)

    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(OSError, match="disk full"):
        make_table().save(tmp_path / "vision")
    assert os.listdir(tmp_path) == ["audio"]


def test_check_covers():
    table = make_table()
    turns = [Utterance(i, "Ann", "Oh .") for i in [*IDS, "dia3utt1", "dia3utt2"]]
    table.check_covers([Dialogue("1", tuple(turns[:2])), Dialogue("2", (turns[2],))], "train")
    with pytest.raises(InputError) as error:
        table.check_covers(
            [Dialogue("1", tuple(turns[:2])), Dialogue("3", tuple(turns[3:]))], "dev"
        )
    message = "no row for 2 of the 4 utterances of dev, the first being dia3utt1"
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["features.npy", "ids.txt", "table.json"])
def test_a_missing_file_is_named_with_a_remedy(folder, name):
    (folder / name).unlink()
    message = refused(folder)
    assert message.startswith(f"{folder / name}: not found")
    assert "--config.modalities=t" in message


def test_a_missing_folder_is_named(tmp_path):
    assert "audio" in refused(tmp_path / "audio")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 4)), r"is float64 \[3, 4\]"),
        (np.zeros((3, 4), np.int32), r"is int32 \[3, 4\]"),
        (np.zeros((3, 4), ">f4"), r"is >f4 \[3, 4\]"),
        (np.zeros(12, np.float32), r"is float32 \[12\]"),
        (np.zeros((3, 2, 2), np.float32), r"is float32 \[3, 2, 2\]"),
        (np.zeros((3, 5), np.float32), "has 5 features per row, but table.json says 4"),
        (np.zeros((2, 4), np.float32), "has 3 ids, but features.npy has 2 rows"),
    ],
)
def test_an_array_of_the_wrong_type_or_shape_is_refused(folder, values, message):
    np.save(folder / "features.npy", values)
    assert re.search(message, refused(folder))


def test_one_of_several_processes_reads_the_values(folder):
    np.save(folder / "features.npy", np.full((3, 4), np.nan, np.float32))
    assert "NaN" in refused(folder)
    assert FeatureTable.load(folder, check_values=False).dimension == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("at_once", [1, 8, 1 << 24])
def test_a_number_that_is_not_finite_is_refused(folder, monkeypatch, bad, row, at_once):
    monkeypatch.setattr(features, "_CHECKED_AT_ONCE", at_once)
    FeatureTable.load(folder)
    values = np.ones((3, 4), np.float32)
    values[row:, 2] = bad
    np.save(folder / "features.npy", values)
    message = refused(folder)
    assert f"row {row} ({IDS[row]!r}) contains NaN, infinity" in message
    assert message.endswith("; extract it again")


class Trap:
    """An object whose pickle, if executed, creates a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_is_refused_and_never_executed(tmp_path, folder):
    sprung = str(tmp_path / "sprung")
    trap = np.array([[Trap(sprung)]], object)
    np.save(folder / "features.npy", trap, allow_pickle=True)
    assert "nothing is ever unpickled" in refused(folder)
    (folder / "features.npy").write_bytes(trap.dumps())
    assert "nothing is ever unpickled" in refused(folder)
    assert not os.path.exists(sprung)
    np.load(folder / "features.npy", allow_pickle=True)
    assert os.path.exists(sprung)  # verifies that the trap works


def test_files_that_are_not_arrays_are_refused(folder):
    whole = (folder / "features.npy").read_bytes()
    unclosed = whole.replace(b"}", b" ", 1)  # not handled by NumPy itself
    true = whole.replace(b"(3, 4), }  ", b"(True, 4),}", 1)
    assert len({whole, unclosed, true}) == 3
    for content in (b"", b"no array", whole[:50], whole[:-4], unclosed, true):
        (folder / "features.npy").write_bytes(content)
        assert "features.npy: cannot be read as a NumPy array" in refused(folder)
    with (folder / "features.npy").open("wb") as file:
        np.savez(file, np.zeros((3, 4), np.float32))
    assert "features.npy: cannot be read as a NumPy array" in refused(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("table.json", b"{", r"table\.json: is not JSON"),
        ("table.json", b"\xff", r"table\.json: is not JSON"),
        ("table.json", b"[4]", "is not a JSON object"),
        ("table.json", b'{"model": "none"}', "'dimension' is missing or wrong"),
        ("table.json", b'{"dimension": 0}', "4 features per row, but table.json says 0"),
        ("ids.txt", b"a\nb\n", r"ids\.txt: has 2 ids, but features\.npy has 3 rows"),
        ("ids.txt", b"a\nb\na\n", r"ids\.txt:3: 'a' is also on line 1"),
        ("ids.txt", b"a\n\xff\nb\n", r"ids\.txt: byte 2 is not UTF-8"),
    ],
)
def test_malformed_ids_and_descriptions_are_refused(folder, name, content, message):
    (folder / name).write_bytes(content)
    assert re.search(message, refused(folder))


@pytest.mark.parametrize("name", ["features.npy", "table.json", "ids.txt", "absent.txt"])
def test_a_table_that_git_lfs_has_not_fetched(folder, name):
    assert_pointer_is_named(folder / name, FeatureTable.load, folder)
