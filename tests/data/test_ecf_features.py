"""ECF's official tables: their pickled map is read as np.load reads it, and never run."""

import os
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import ECF, needs_ecf

from rpcl_jax.data import ecf_features, features
from rpcl_jax.data.dialogue import Dialogue, Utterance
from rpcl_jax.data.ecf_features import read_mapping, read_official
from rpcl_jax.data.readers.ecf import read_split
from rpcl_jax.errors import InputError

ROWS = {"dia1utt1": 1, "dia1utt2": 2, "dia2utt1": 4}


def write(path, pickled):
    """A .npy as np.save writes it for an object, with any pickle in it."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickled)
    return path


def refused(path, read=read_mapping):
    with pytest.raises(InputError) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


@pytest.fixture
def mapping(tmp_path):
    np.save(tmp_path / "mapping.npy", ROWS, allow_pickle=True)
    return tmp_path / "mapping.npy"


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), st.integers(0, 2**31 - 1)),
    st.sampled_from([3, 4, 5]),
)
def test_a_map_is_what_pickle_would_make_of_it(tmp_path_factory, rows, protocol):
    array = np.empty((), object)
    array[()] = rows
    folder = tmp_path_factory.mktemp("map")
    path = write(folder / "mapping.npy", pickle.dumps(array, protocol))
    assert read_mapping(path) == rows
    assert np.load(path, allow_pickle=True).item() == rows
    np.save(folder / "saved.npy", rows, allow_pickle=True)
    assert read_mapping(folder / "saved.npy") == rows


def test_a_map_longer_than_a_batch_of_items_in_a_pickle(tmp_path):
    rows = {f"dia{d}utt1": d for d in range(3500)}
    np.save(tmp_path / "mapping.npy", rows, allow_pickle=True)
    assert read_mapping(tmp_path / "mapping.npy") == rows


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


class Evil:
    """Its pickle, run, makes the folder `ran`."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def short(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


def hostile(folder):
    """Pickles by name, each of which runs, or asks for, something."""
    ran = str(folder / "ran")
    array = np.empty((), object)
    whole = {}
    for name, item in {
        "call": Evil(os.mkdir, (ran,)),
        "system": Evil(os.system, (f"mkdir {ran}",)),
        "eval": Evil(eval, (f"__import__('os').mkdir({ran!r})",)),
        "in a dict": {"dia1utt1": Evil(os.mkdir, (ran,))},
        "in a key": {("dia1utt1", Evil(os.mkdir, (ran,))): 1},
        "in a state": Evil(object.__new__, (Path,), {"mkdir": Evil(os.mkdir, (ran,))}),
    }.items():
        array[()] = item
        for protocol in (0, 2, 3, 4, 5):
            whole[f"{name}, in an array, protocol {protocol}"] = pickle.dumps(array, protocol)
            whole[f"{name}, bare, protocol {protocol}"] = pickle.dumps(item, protocol)
    mkdir = b"cos\nmkdir\n"
    argument = b"X" + struct.pack("<I", len(ran)) + ran.encode()
    whole |= {
        "GLOBAL and REDUCE": b"\x80\x03" + mkdir + argument + b"\x85R.",
        "STACK_GLOBAL": b"\x80\x04" + short("os") + short("mkdir") + b"\x93" + argument + b"\x85R.",
        "INST": b"(" + b"V" + ran.encode() + b"\nios\nmkdir\n.",
        "OBJ": b"(" + mkdir + argument + b"o.",
        "NEWOBJ": b"\x80\x02" + mkdir + argument + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + mkdir + argument + b"\x85}\x92.",
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT2": b"\x80\x02\x83\x01\x00.",
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "PERSID": b"Pmkdir\n.",
        "BINPERSID": argument + b"Q.",
        "BUILD": b"\x80\x03" + mkdir + b"}b.",
        "a name, not called": b"\x80\x03" + mkdir + b".",
        "a name of NumPy": b"\x80\x03cnumpy\nload\n" + argument + b"\x85R.",
        "a dotted name": b"\x80\x04" + short("numpy") + short("dtype.__init__") + b"\x93.",
        "ndarray called": b"\x80\x03cnumpy\nndarray\nK\x05\x85R.",
        "dtype called": b"\x80\x03cnumpy\ndtype\n" + argument + b"\x89\x88\x87R.",
        "_reconstruct of another": b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\n"
        b"K\x00\x85C\x01b\x87R.",
    }
    return whole


def test_nothing_in_a_map_is_ever_run(tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("was unpickled")

    programs = hostile(tmp_path)
    ran = tmp_path / "ran"
    # The test can tell: the first two do what they say when they are run.
    pickle.loads(programs["GLOBAL and REDUCE"])
    ran.rmdir()
    pickle.loads(programs["in a dict, in an array, protocol 4"])
    ran.rmdir()
    monkeypatch.setattr(pickle, "loads", forbidden)
    monkeypatch.setattr(pickle, "load", forbidden)
    monkeypatch.setattr(pickle, "Unpickler", forbidden)
    monkeypatch.setattr(os, "system", forbidden)
    assert len(programs) > 70
    for name, program in programs.items():
        message = refused(write(tmp_path / "mapping.npy", program))
        assert "nothing was run" in message, name
        assert not ran.exists(), name


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (b"", "pickle exhausted"),
        (b"\xff.", "opcode b'\\\\xff' unknown"),
        (b".", "not enough values to unpack"),
        (b"N.", "NoneType instead of Array"),
        (b"NN.", "too many values to unpack"),
        (b"}.", "dict instead of Array"),
        (b"R.", "too few operands"),
        (b"NR.", "too few operands"),
        (b"NNR.", "a call"),
        (b"Nb.", "list index out of range"),
        (b"NNb.", "a state"),
        (b"q\x00.", "list index out of range"),
        (b"h\x00.", "0"),
        (b"j\xff\xff\xff\xff.", "4294967295"),
        (b"Nr\xff\xff\xff\xff.", "NoneType instead of Array"),  # pickle would make room for 2**32
        (b"t.", "no mark"),
        (b"u.", "no mark"),
        (b"(\x85.", "too few operands"),
        (b"}(NNu.", "NoneType instead of str"),
        (b"}(Nu.", "shorter"),
        (b"NNNs.", "NoneType instead of dict"),
        (b"NNa.", "NoneType instead of list"),
        (b"N(Ne.", "NoneType instead of list"),
        (b"N2.", "the instruction DUP"),
        (b"G\x00\x00\x00\x00\x00\x00\x00\x00.", "the instruction BINFLOAT"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "byte count > sys.maxsize"),
        (b"X\xff\xff\xff\xff.", "expected 4294967295 bytes"),
        (b"X\x01\x00\x00\x00\xff.", "utf-8"),
    ],
)
def test_broken_programs_are_refused(tmp_path, program, reason):
    message = refused(write(tmp_path / "mapping.npy", program))
    assert re.search(reason, message), message


def test_a_key_that_takes_for_ever_to_hash_is_not_hashed(tmp_path):
    pairs = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(200))
    message = refused(write(tmp_path / "mapping.npy", b"}K\x01" + pairs + b"Ns."))
    assert "tuple instead of str" in message


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([1, 2], "list instead of dict"),
        ({1: 2}, "int instead of str"),
        ({"dia1utt1": "1"}, "the row of 'dia1utt1' is no whole number"),
        ({"dia1utt1": True}, "the row of 'dia1utt1' is no whole number"),
        ({"dia1utt1": None}, "the row of 'dia1utt1' is no whole number"),
        ({"dia1utt1": {}}, "the row of 'dia1utt1' is no whole number"),
        ({"dia1utt1": 1.0}, "the instruction BINFLOAT"),
        ({"dia1utt1": np.int64(1)}, "the name numpy"),
        ({"dia1utt1": 2**40}, "the instruction LONG1"),
    ],
)
def test_other_contents_are_refused(tmp_path, rows, reason):
    array = np.empty((), object)
    array[()] = rows
    np.save(tmp_path / "mapping.npy", array, allow_pickle=True)
    assert re.search(reason, refused(tmp_path / "mapping.npy"))


def test_other_files_are_refused(tmp_path, mapping, monkeypatch):
    np.save(tmp_path / "numbers.npy", np.arange(3))
    np.save(tmp_path / "two.npy", np.array([ROWS, ROWS]), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", a=1)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(ROWS))
    (tmp_path / "cut.npy").write_bytes(mapping.read_bytes()[:70])
    for name in ("numbers.npy", "two.npy", "archive.npz", "bare.npy", "cut.npy"):
        assert "is no NumPy array of one object" in refused(tmp_path / name)
    assert "No such file" in refused(tmp_path / "nowhere.npy")
    whole = mapping.read_bytes()
    for end in range(128, len(whole)):
        (tmp_path / "cut.npy").write_bytes(whole[:end])
        assert "nothing was run" in refused(tmp_path / "cut.npy")
    monkeypatch.setattr(ecf_features, "_MOST_BYTES", len(whole) - 1)
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
            assert "row 4 ('dia2utt1') holds NaN, infinity, or a number too large" in message()
            assert message().endswith("NUSTM/MECPE again")
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
