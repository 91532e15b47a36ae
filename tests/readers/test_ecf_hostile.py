"""Malformed and malicious pickles: all are refused and none is executed."""

import itertools
import os
import pickle
import pickletools
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from maps import pickled, refused, short, with_items, write

from rpcl_jax.errors import InputError
from rpcl_jax.readers.ecf_features import read_mapping

A = short("a")


class Evil:
    """An object whose pickle, if executed, creates the folder `ran`."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def hostile(folder):
    """Returns pickles by name, each of which calls or imports something."""
    ran = str(folder / "ran")
    whole = {}
    for name, item in {
        "call": Evil(os.mkdir, (ran,)),
        "system": Evil(os.system, (f"mkdir {ran}",)),
        "eval": Evil(eval, (f"__import__('os').mkdir({ran!r})",)),
        "in a dict": {"dia1utt1": Evil(os.mkdir, (ran,))},
        "in a key": {("dia1utt1", Evil(os.mkdir, (ran,))): 1},
        "in a state": Evil(object.__new__, (Path,), {"mkdir": Evil(os.mkdir, (ran,))}),
    }.items():
        for protocol in (0, 2, 3, 4, 5):
            whole[f"{name}, in an array, protocol {protocol}"] = pickled(item, protocol)
            whole[f"{name}, bare, protocol {protocol}"] = pickle.dumps(item, protocol)
    mkdir = b"cos\nmkdir\n"
    argument = b"X" + struct.pack("<I", len(ran)) + ran.encode()
    for name, program in {
        "GLOBAL and REDUCE": mkdir + argument + b"\x85R",
        "STACK_GLOBAL": short("os") + short("mkdir") + b"\x93" + argument + b"\x85R",
        "INST": b"(" + b"V" + ran.encode() + b"\nios\nmkdir\n",
        "OBJ": b"(" + mkdir + argument + b"o",
        "NEWOBJ": mkdir + argument + b"\x85\x81",
        "NEWOBJ_EX": mkdir + argument + b"\x85}\x92",
        "EXT1": b"\x82\x01",
        "EXT2": b"\x83\x01\x00",
        "EXT4": b"\x84\x01\x00\x00\x00",
        "PERSID": b"Pmkdir\n",
        "BINPERSID": argument + b"Q",
        "BUILD": mkdir + b"}b",
        "a name, not called": mkdir,
        "a name of NumPy": b"cnumpy\nload\n" + argument + b"\x85R",
        "a dotted name": short("numpy") + short("dtype.__init__") + b"\x93",
        "ndarray called": b"cnumpy\nndarray\nK\x05\x85R",
        "dtype called": b"cnumpy\ndtype\n" + argument + b"\x89\x88\x87R",
        "_reconstruct of another": b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\n"
        b"K\x00\x85C\x01b\x87R",
    }.items():
        whole[f"{name}, bare"] = b"\x80\x04" + program + b"."
        whole[f"{name}, a row"] = with_items(short("dia1utt1") + program + b"s")
        whole[f"{name}, an id"] = with_items(program + b"K\x01s")
        whole[f"{name}, among items"] = with_items(b"(" + short("a") + b"K\x01" + program + b"u")
        whole[f"{name}, on the dict"] = with_items(program)
    return whole


def test_a_map_is_never_executed(tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("unpickled")

    programs = hostile(tmp_path)
    ran = tmp_path / "ran"
    # Verifies that the test would notice: these are executed by pickle.loads.
    for name in ("GLOBAL and REDUCE, bare", "in a dict, in an array, protocol 4", "INST, a row"):
        pickle.loads(programs[name])
        ran.rmdir()
    monkeypatch.setattr(pickle, "loads", forbidden)
    monkeypatch.setattr(pickle, "load", forbidden)
    monkeypatch.setattr(pickle, "Unpickler", forbidden)
    monkeypatch.setattr(os, "system", forbidden)
    assert len(programs) == 60 + 18 * 5
    for name, program in programs.items():
        message = refused(write(tmp_path / "mapping.npy", program))
        assert "nothing was executed" in message, name
        assert not ran.exists(), name


# The opcodes that the pickle of an array of a dict may contain, and those that never matter.
NEEDED = {
    *("PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "MARK", "STOP"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "SHORT_BINBYTES"),
    *("BINUNICODE", "SHORT_BINUNICODE", "EMPTY_TUPLE", "TUPLE1", "TUPLE3", "TUPLE"),
    *("EMPTY_LIST", "APPEND", "EMPTY_DICT", "SETITEM", "SETITEMS"),
}
HARMLESS = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT"}


def example(opcode):
    """Returns an instruction with this opcode and the shortest argument."""
    size = opcode.arg.n if opcode.arg else 0
    code = opcode.code.encode("latin-1")
    if size == pickletools.UP_TO_NEWLINE:
        return code + {b"S": b"''\n", b"c": b"os\nmkdir\n", b"i": b"os\nmkdir\n"}.get(code, b"0\n")
    lengths = {
        pickletools.TAKEN_FROM_ARGUMENT1: 1,
        pickletools.TAKEN_FROM_ARGUMENT4: 4,
        pickletools.TAKEN_FROM_ARGUMENT4U: 4,
        pickletools.TAKEN_FROM_ARGUMENT8U: 8,
    }
    return code + bytes(lengths.get(size, size))


@pytest.mark.parametrize("protocol", [3, 4])
def test_inserted_and_replaced_instructions_are_refused(tmp_path, protocol):
    path = tmp_path / "mapping.npy"
    whole = pickled({"dia1utt1": 1, "dia1utt2": 2}, protocol)
    starts = [at for _, _, at in pickletools.genops(whole)]
    for opcode in pickletools.opcodes:
        if opcode.name in HARMLESS:
            continue
        extra = example(opcode)
        assert next(pickletools.genops(extra + b"."))[0] is opcode
        for start, end in itertools.pairwise(starts):
            rest = whole[start if opcode.name in NEEDED else end :]
            refused(write(path, whole[:start] + extra + rest))


def test_a_damaged_map_is_refused_or_read_as_pickle_reads_it(tmp_path):
    path = tmp_path / "mapping.npy"
    whole = pickled({"dia1utt1": 1, "dia1utt2": 300}, 3)
    accepted = 0
    for at in range(2, len(whole)):  # skips the protocol
        for bit in range(8):
            write(path, whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            try:
                rows = read_mapping(path)
            except InputError:
                continue
            assert np.load(path, allow_pickle=True).item() == rows  # safe: it was accepted as a map
            accepted += 1
    assert accepted > 100  # changed ids, rows and memo indices


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("rows", [{"dia1utt1": 300}, {"dia1utt1": 1, "dia1utt2": 2**30}])
def test_a_truncated_map_is_refused(tmp_path, protocol, rows):
    whole = write(tmp_path / "mapping.npy", pickled(rows, protocol)).read_bytes()
    for end in range(len(whole)):
        (tmp_path / "cut.npy").write_bytes(whole[:end])
        message = refused(tmp_path / "cut.npy")
        assert "is not a NumPy array" in message or "nothing was executed" in message


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"\xff.",
        b".",
        b"}.",
        b"q\x00h\x00.",
        pickled({}, 3).replace(b"cnumpy\nnd", b"inumpy\nnd"),
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"X\x01\x00\x00\x00\xff.",
        *(
            with_items(items)
            for items in (
                *(b".", b"(", b"((", b"u", b"s", A, A + b"."),
                *(A + b"h\x00s", A + b"K\x01", A + b"K\x01.", A + b"K\x01" + A + b"K\x01s"),
                *(b"(" + A + b"u", b"(" + A + b"K\x01s", b"K\x01K\x01s", b"C\x01aK\x01s"),
                *(b"h\x00K\x01s", b"h\xffK\x01s", b"j\xff\xff\xff\xffK\x01s"),
                *(A + b"\x8a\x01\x01s", A + b"I1\ns", A + b"L1L\ns"),
            )
        ),
    ],
)
def test_broken_programs_are_refused(tmp_path, program):
    assert "nothing was executed" in refused(write(tmp_path / "mapping.npy", program))


def test_programs_that_exhaust_time_or_memory_are_refused(tmp_path):
    nested = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(100, 200))
    lists = b"".join(b"](h" + bytes([i]) + b"h" + bytes([i + 1]) + b"e" for i in range(100, 200))
    long_string = b"X" + struct.pack("<I", 1 << 19) + b"a" * (1 << 19)
    tracemalloc.start()
    for items in (
        b")" + nested + b"K\x01s",  # a key of 2**100 tuples to hash
        A + b"]" + lists + b"s",
        long_string,
        long_string + b"q\x63" + b"h\x63" * 100_000,
        b"X\xff\xff\xff\xff",
        b"\x8d" + struct.pack("<Q", sys.maxsize),
        b"\x8e" + struct.pack("<Q", sys.maxsize),
        b"\x96" + struct.pack("<Q", sys.maxsize),
        b"\x8b" + struct.pack("<i", 2**31 - 1),
        b"L" + b"9" * 100_000 + b"L\n",
        A + b"r\xff\xff\xff\xff",  # pickle would allocate 2**32 memo entries
    ):
        for program in (items, with_items(items)):
            assert len(refused(write(tmp_path / "mapping.npy", program))) < 1000
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
