"""What libraries raise when a file cannot be written becomes an OSError."""

import errno
import os

import pytest
import tokenizers

from rpcl_jax.errors import file_errors


def test_failed_writes_of_libraries_are_file_errors(tmp_path):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)) as raised, file_errors("folder"):
        tokenizer.save(str(tmp_path / "nosuch/tokenizer.json"))
    assert (raised.value.errno, raised.value.filename) == (errno.ENOENT, "folder")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)), file_errors("folder"):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing [os_error_code='28']")
    with pytest.raises(ValueError, match="something else"), file_errors("folder"):
        raise ValueError("something else")
