"""Maps of rows as ECF's official tables have one, and what looks like one."""

import pickle
import struct

import numpy as np
import pytest

from rpcl_jax.errors import InputError
from rpcl_jax.readers.ecf_features import read_mapping


def write(path, program):
    """A .npy as np.save writes it for an object, with any pickle in it."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    path.unlink(missing_ok=True)  # some file systems wait for the disk to overwrite a file
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + program)
    return path


def pickled(item, protocol, dumps=pickle.dumps):
    """The pickle of an array whose one element is `item`, as NumPy writes it."""
    array = np.empty((), object)
    array[()] = item
    return dumps(array, protocol)


def short(text):
    """The instruction that puts a string on the stack."""
    return b"\x8c" + bytes([len(text)]) + text.encode()


def with_items(items):
    """The pickle of an array of a dict, with any instructions for the items of it."""
    before, after = pickled({"x": 7}, 3).split(b"X\x01\x00\x00\x00xq\x0eK\x07s")
    return before + items + after


def refused(path, read=read_mapping):
    """The message, one line that begins with the path, with which `path` is refused."""
    with pytest.raises(InputError) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)
