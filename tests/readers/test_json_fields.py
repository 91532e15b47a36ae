"""JSON as the readers take it: strict where it is trained on, lenient where it is predicted."""

import json
from collections import Counter

import pytest

from rpcl_jax.errors import InputError
from rpcl_jax.readers.json_fields import field, parse_json, read_objects, said
from rpcl_jax.readers.transcripts import parse


@pytest.mark.parametrize(
    "text", ['[{"a": 1}, {"a": 2}]', '{"a": 1}\n{"a": 2}\n', '\ufeff{"a": 1}\r\n\r\n{"a": 2}']
)
def test_a_list_and_lines_are_the_same_objects(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode())
    assert read_objects(path) == [{"a": 1}, {"a": 2}]


def test_one_object_over_several_lines_is_one(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": [1, 2]}, indent=2))
    assert read_objects(path) == [{"a": [1, 2]}]


def test_all_broken_lines_are_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": }\n{"a": 3}\n{"a"\n{"a": 5, "a": 6}\n')
    with pytest.raises(InputError) as raised:
        read_objects(path)
    first, second, third = raised.value.args
    assert f"{path}: line 2, column 7 is not JSON" in first
    assert f"{path}: line 4, column 5 is not JSON" in second
    assert f"{path}:5: cannot be read ('a' is duplicated)" in third


def test_a_value_that_begins_later_in_a_file_is_named_by_its_line():
    assert parse_json("[1]", "x", 7) == [1]
    with pytest.raises(InputError, match="x: line 8, column 1 is not JSON"):
        parse_json("[1,\n", "x", 7)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({}, "has no 'speaker'"),
        ({"speaker": None}, "has no 'speaker'"),
        ({"speaker": " "}, "'speaker' is blank"),
        ({"speaker": 0}, "'speaker' cannot be '0'"),
        ("Ann", "expected an object with 'speaker' but found 'Ann'"),
    ],
)
def test_what_is_trained_on_must_be_right(item, reason):
    with pytest.raises(InputError, match=f"^here: .*{reason}"):
        field(item, "speaker", str, "here")
    with pytest.raises(InputError, match=f"^here: .*{reason}"):
        said(item, "speaker", "here", None)


def test_true_is_no_number():
    assert field({"t": 1}, "t", int, "here") == 1
    with pytest.raises(InputError, match="'t' cannot be 'True'"):
        field({"t": True}, "t", int, "here")


@pytest.mark.parametrize(
    ("value", "text", "counted"),
    [
        ("Ann", "Ann", {}),
        (0, "0", {"numbers as speaker": 1}),
        (2.5, "2.5", {"numbers as speaker": 1}),
        (None, "", {}),
        ("  ", "", {}),
        ("a\ud83d", "a\ud83d", {"half characters (lone surrogates)": 1}),
    ],
)
def test_what_is_predicted_may_be_untidy(value, text, counted):
    repaired = Counter()
    assert said({"speaker": value}, "speaker", "here", repaired) == text
    assert repaired == counted


def test_a_list_is_no_text():
    with pytest.raises(InputError, match="'text' cannot be"):
        said({"text": ["a"]}, "text", "here", Counter())


def test_a_field_that_is_not_called_text_is_named():
    """A prediction can do without text, but not where it has another name."""
    for key, name in (("utterances", "id"), ("conversation", "conversation_ID")):
        turns = [{"txt": "Hi", "speaker": "Ann"}, {"txt": "sad", "id": "b"}]
        with pytest.raises(InputError, match="no utterance has a 'text', but 'txt'; rename it"):
            parse({name: "1", key: turns}, "here", Counter())
        assert parse({name: "1", key: [{"speaker": "Ann"}, {}]}, "here", Counter())
