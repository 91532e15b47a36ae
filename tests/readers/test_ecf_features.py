"""ECF's official tables: the map is read as np.load reads it, and features are checked."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maps import pickled, refused, short, write
from shared import ECF, needs_ecf

from rpcl_jax.data import features
from rpcl_jax.data.dialogue import Dialogue, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.readers import ecf_features
from rpcl_jax.readers.ecf import read_split
from rpcl_jax.readers.ecf_features import read_mapping, read_official

ROWS = {"dia1utt1": 1, "dia1utt2": 2, "dia2utt1": 4}


@pytest.fixture
def mapping(tmp_path):
    np.save(tmp_path / "mapping.npy", ROWS, allow_pickle=True)
    return tmp_path / "mapping.npy"


@given(
    st.dictionaries(
        # Of texts with one character, such as the "|" in the array's dtype, Python has one copy.
        st.text(st.characters(codec="utf-8"), min_size=2, max_size=5),
        st.integers(0, 2**31 - 1),
    ),
    st.sampled_from([3, 4, 5]),
)
def test_a_map_is_read_as_pickle_reads_it(tmp_path_factory, rows, protocol):
    folder = tmp_path_factory.mktemp("map")
    path = write(folder / "mapping.npy", pickled(rows, protocol))
    assert read_mapping(path) == rows
    assert np.load(path, allow_pickle=True).item() == rows
    np.save(folder / "saved.npy", rows, allow_pickle=True)
    assert read_mapping(folder / "saved.npy") == rows


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_pickle_protocols_and_module_names_of_numpy_1_and_2(tmp_path, module):
    path = tmp_path / "mapping.npy"
    rows = {"dia1utt1": 1, "dia1utt2": 255, "dia1utt3": 2**16 - 1, "dia1utt4": 2**31 - 1}
    ours = np.ndarray.__reduce__(np.empty((), object))[0].__module__
    for protocol in range(6):
        whole = pickled(rows, protocol)
        whole = whole.replace(b"c" + ours.encode(), b"c" + module.encode())
        whole = whole.replace(short(ours), short(module))
        assert module.encode() in whole
        if protocol < 2:
            refused(write(path, whole))
        else:
            assert read_mapping(write(path, whole)) == rows


@pytest.mark.parametrize("size", [0, 1, 2, 999, 1000, 1001, 3500])
def test_batches_of_items(tmp_path, size):
    """Pickle writes 1000 items at a time."""
    rows = {f"dia{d}utt1": d for d in range(size)}
    path = write(tmp_path / "mapping.npy", pickled(rows, 4))
    assert list(read_mapping(path).items()) == list(rows.items())


@needs_ecf
def test_the_official_map_names_every_utterance_of_ecf():
    rows = read_mapping(ECF / "video_id_mapping.npy")
    ids = [
        utterance.id
        for split in ("train", "dev", "test")
        for dialogue in read_split(ECF, split)
        for utterance in dialogue.utterances
    ]
    assert len(rows) == len(ids) == 13619
    assert set(rows) == set(ids)
    assert sorted(rows.values()) == list(range(1, 13620))
    assert (rows["dia1utt1"], rows["dia1374utt5"]) == (1, 13619)


@pytest.mark.parametrize(
    "rows",
    [
        [1, 2],
        {1: 2},
        *({"dia1utt1": row} for row in ("1", True, None, {}, 1.0, np.int64(1), 2**31)),
    ],
)
def test_other_contents_are_refused(tmp_path, rows):
    array = np.empty((), object)
    array[()] = rows
    np.save(tmp_path / "mapping.npy", array, allow_pickle=True)
    assert "other than a dict of rows" in refused(tmp_path / "mapping.npy")


def test_other_files_are_refused(tmp_path, mapping, monkeypatch):
    np.save(tmp_path / "numbers.npy", np.arange(3))
    np.save(tmp_path / "two.npy", np.array([ROWS, ROWS]), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", a=1)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(ROWS))
    for name in ("numbers.npy", "two.npy", "archive.npz", "bare.npy"):
        assert "is not a NumPy array of one object" in refused(tmp_path / name)
    assert "No such file" in refused(tmp_path / "nowhere.npy")
    (tmp_path / "cut.npy").write_bytes(mapping.read_bytes()[:70])
    assert "is not a NumPy array of one object" in refused(tmp_path / "cut.npy")
    size = mapping.stat().st_size
    monkeypatch.setattr(ecf_features, "_MOST_BYTES", size)
    assert read_mapping(mapping) == ROWS
    monkeypatch.setattr(ecf_features, "_MOST_BYTES", size - 1)
    assert "has more than" in refused(mapping)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_rows_of_a_table(tmp_path, mapping, dtype):
    values = np.random.default_rng(0).normal(size=(5, 6)).astype(dtype)
    values[0] = np.nan  # no id has row 0
    np.save(tmp_path / "audio.npy", values)
    table = read_official(tmp_path / "audio.npy", mapping)
    assert isinstance(table.values, np.memmap)
    assert (table.values.dtype, table.dimension) == (dtype, 6)
    assert table.row_of_id == ROWS
    rows, present = table.rows(["dia2utt1", "dia1utt1"])
    assert present.all()
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, values[[4, 1]].astype(np.float32))
    covered = Dialogue("1", (Utterance("dia1utt2", "Ann", "Oh"),))
    table.check_covers([covered], "train")
    with pytest.raises(InputError, match=r"audio\.npy: no row for 1 of the 1 utterances of dev"):
        table.check_covers([Dialogue("3", (Utterance("dia3utt1", "Ann", "Oh"),))], "dev")


def test_tables_that_cannot_be_used_are_refused(tmp_path, mapping, monkeypatch):
    path = tmp_path / "audio.npy"

    def message():
        return refused(path, lambda path: read_official(path, mapping))

    assert "No such file" in message()
    for values, reason in (
        (np.ones(5), r"is float64 \[5\]; it must be"),
        (np.ones((5, 0)), r"is float64 \[5, 0\]; it must be"),
        (np.ones((5, 2), int), r"is int64 \[5, 2\]; it must be"),
    ):
        np.save(path, values)
        assert re.search(reason, message())
    np.save(path, np.array([None]), allow_pickle=True)
    assert "cannot be read as a NumPy array of numbers" in message()
    for bad in (np.nan, np.inf, 1e300):
        values = np.ones((5, 2))
        values[4, 1] = bad
        for checked_at_once in (1 << 24, 2):
            monkeypatch.setattr(features, "_CHECKED_AT_ONCE", checked_at_once)
            np.save(path, values)
            assert "row 4 ('dia2utt1') contains NaN, infinity, or a number too large" in message()
            assert message().endswith("from https://github.com/NUSTM/MECPE")
    whole = mapping.read_bytes()
    np.save(mapping, {"dia\n" * 1000: 4}, allow_pickle=True)
    assert len(message()) < len(str(path)) + 250
    mapping.write_bytes(whole)
    np.save(path, np.ones((4, 2)))
    with pytest.raises(InputError, match=r"mapping\.npy: 'dia2utt1' has row 4, but .* has 4 rows"):
        read_official(path, mapping)
    np.save(mapping, {"dia1utt1": -1}, allow_pickle=True)
    with pytest.raises(InputError, match=r"mapping\.npy: 'dia1utt1' has row -1, but"):
        read_official(path, mapping)
