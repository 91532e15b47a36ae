"""Files and folders of conversations as one stream: places, repairs, encodings, hostile bytes."""

import codecs
import gzip
import json
import math
import os
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shared import POINTER, tiny_config

from rpcl_jax.data.dialogue import Clip
from rpcl_jax.errors import InputError
from rpcl_jax.files import json_bytes, write_json
from rpcl_jax.readers import transcripts
from rpcl_jax.readers.corpus import load_splits
from rpcl_jax.readers.transcripts import conversations_in, describe, parse

OURS = {"id": "a", "utterances": [{"speaker": "Ann", "text": "Oh"}], "note": [1]}
SEMEVAL = {
    "conversation_ID": 7,
    "conversation": [{"utterance_ID": 1, "text": "Oh", "speaker": "Ann"}],
}
LINES = "".join(json.dumps(item) + "\n" for item in (OURS, SEMEVAL)).encode()


def found(path, content=None):
    """What is in a file, written anew if `content` is given, and what was repaired."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    repaired = Counter()
    return [(place.removeprefix(str(path)), item) for place, item in
            conversations_in(path, repaired)], repaired  # fmt: skip


def test_lists_and_lines_are_yielded_with_their_places_as_they_stood_there(tmp_path):
    for name, content, places in (
        ("a.jsonl", LINES, [":1", ":2"]),
        ("a.ndjson", b"\n" + LINES.replace(b"\n", b"\r\n\r\n"), [":2", ":4"]),
        ("a.json", json.dumps([OURS, SEMEVAL]), [": conversation 'a'", ": conversation 7"]),
        ("b.json", json.dumps([OURS, SEMEVAL], indent=2), [": conversation 'a'"] * 1
         + [": conversation 7"]),
        ("c.json", LINES, [":1", ":2"]),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0), [":1", ":2"]),
        ("no suffix", gzip.compress(LINES, mtime=0), [":1", ":2"]),
        ("a.txt", b" " + LINES, [":1", ":2"]),
    ):  # fmt: skip
        items, repaired = found(tmp_path / name, content)
        assert items == list(zip(places, (OURS, SEMEVAL), strict=True))
        assert describe(repaired) == ""
    assert found(tmp_path / "one.json", json.dumps(OURS, indent=1)) == (
        [(": conversation 'a'", OURS)],
        Counter(),
    )
    assert found(tmp_path / "none.json", "[]") == ([], Counter())


def test_what_a_prediction_does_not_need_is_mended_and_counted(tmp_path):
    turns = [
        {"speaker": "Ann", "text": "oh no \ud83d",
         "clip": {"video": "v", "start": 12.5, "end": None}},
        {"text": "Hi", "avg_logprob": math.nan, "huge": math.inf},
        {"speaker": 0, "text": ""},
        {"speaker": " ", "text": None, "id": 5, "clip": {"video": "v", "start": 2, "end": 1}},
        {"speaker": math.nan, "text": 7, "clip": "v"},
    ]  # fmt: skip
    ((place, item),), repaired = found(tmp_path / "own.jsonl", json.dumps({"utterances": turns}))
    assert place == ":1"
    assert item["utterances"][1] == {"text": "Hi", "avg_logprob": None, "huge": None}
    assert describe(repaired) == (
        "conversations without id (named after their file): 1; empty utterances: 2; half "
        "characters (lone surrogates): 1; numbers as id: 1; numbers as speaker: 1; numbers as "
        "text: 1; numbers that are not finite (null): 3; unusable clips (left out): 2; "
        "utterances without speaker ('unknown'): 3"
    )
    dialogue = parse(item, place, Counter())
    assert dialogue.id == "own-1"
    assert [(u.id, u.speaker, u.text) for u in dialogue.utterances] == [
        ("diaown-1utt1", "Ann", "oh no \ud83d"),
        ("diaown-1utt2", "unknown", "Hi"),
        ("diaown-1utt3", "0", ""),
        ("5", "unknown", ""),
        ("diaown-1utt5", "unknown", "7"),
    ]
    assert [u.clip for u in dialogue.utterances] == [Clip("v", 12.5, None)] + [None] * 4
    write_json(tmp_path / "out.json", item)
    assert json.loads((tmp_path / "out.json").read_text()) == item


def test_only_what_is_kept_is_counted(tmp_path):
    kept = {"id": 1, "utterances": [{"speaker": 7, "text": "a"},
         {"text": "", "start": math.nan, "video": "v"}]}  # fmt: skip
    refused = {"id": 2, "utterances": [{"speaker": 7, "text": "", "n": math.inf}, {"text": []}]}
    items, repaired = found(tmp_path / "x.json", json.dumps([kept, refused]))
    assert [isinstance(item, InputError) for _, item in items] == [False, True]
    assert describe(repaired) == (
        "empty utterances: 1; numbers as speaker: 1; numbers that are not finite (null): 1; "
        "unusable clips (left out): 1; utterances without speaker ('unknown'): 1"
    )
    write_json(tmp_path / "out.json", items[0][1])


def test_semeval_is_mended_too(tmp_path):
    turns = [
        {"utterance_ID": 1, "speaker": 3, "video_name": "session1.mp4"},
        {"text": "Hi", "video_name": "session1.mp4"},
        {"utterance_ID": "3", "text": "\ud83d", "speaker": "Ann", "video_name": 5},
    ]
    (first, second), repaired = found(
        tmp_path / "x.json", json.dumps([{"conversation": turns}, {"conversation": turns}])
    )
    assert first == (": conversation number 1", {"conversation_ID": "x-1", "conversation": turns})
    assert repaired["conversations without id (named after their file)"] == 2
    assert repaired["utterances without speaker ('unknown')"] == 2
    dialogues = [parse(item, place, Counter()) for place, item in (first, second)]
    assert [(u.id, u.speaker, u.text, u.clip) for u in dialogues[1].utterances] == [
        ("diax-2utt1", "3", "", Clip("session1.mp4")),
        ("diax-2utt2", "unknown", "Hi", Clip("session1.mp4")),
        ("diax-2utt3", "Ann", "\ud83d", None),
    ]


def test_what_pandas_writes_for_nothing_is_nothing():
    item = {"id": "a", "utterances": [{"speaker": math.nan, "text": math.nan}]}
    (utterance,) = parse(item, "here", Counter()).utterances
    assert (utterance.speaker, utterance.text) == ("unknown", "")


def test_ids_that_no_table_could_hold_are_changed():
    item = {"id": "a\tb\ud800", "utterances": [{"id": "x\ny"}, {}]}
    assert [u.id for u in parse(item, "here", Counter()).utterances] == ["x_y", "diaa_b_utt2"]


def test_labels_are_read_on_demand():
    turn = {"speaker": 1, "text": "Oh", "emotion": "joy"}
    item = {"id": "a", "utterances": [turn], "pairs": [[1, 1]]}
    assert parse(item, "here", Counter()).pairs is None
    labelled = parse(item, "here", Counter(), labelled=True)
    assert (labelled.pairs, labelled.utterances[0].emotion) == (((0, 0),), "joy")
    for missing in ({}, {"emotion-cause_pairs": [["1_joy", "1"]]}):
        semeval = {"conversation": [turn], **missing}
        pairs = parse(semeval, "here", Counter(), labelled=True).pairs
        assert pairs == (((0, 0),) if missing else None)


def test_everything_that_cannot_be_read_is_named_and_the_rest_is_read(tmp_path):
    good = json.dumps(OURS).encode()
    deep = b"[" * 200 + b"]" * 200
    lines = [
        b'{"utterances": 5}', good, b"{", b"[1]", b'{"id": 1}', b'{"a": 1, "a": 2}',
        b'{"utterances": []}', b'{"utterances": [5]}', b'{"utterances": [{"text": ["Oh"]}]}',
        b'{"conversation": [{"text": {}}]}', b"\x81\x82", b'{"utterances": ' + deep + b"}",
        b'{"utterances": ' + b"9" * 5000 + b"}", b'{"utterances": ' + deep * 500 + b"}",
    ]  # fmt: skip
    items, _ = found(tmp_path / "x.jsonl", b"\n".join(lines))
    assert [place for place, _ in items] == [f":{k}" for k in range(1, len(lines) + 1)]
    assert items.pop(1) == (":2", OURS)
    messages = [str(error) for _, error in items]
    for message, expected in zip(
        messages,
        ["'utterances' cannot be '5'", "line 3, column 2 is not JSON", "nothing in it looks",
         "neither 'utterances'", "'a' is duplicated", "has no utterance", "found '5'",
         "'text' cannot be", "'text' cannot be", "not UTF-8", "deeper than 100",
         "cannot be read", "is not JSON"],
        strict=True,
    ):  # fmt: skip
        assert expected in message
        assert message.startswith(str(tmp_path / "x.jsonl"))
        assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", b"", ": is empty"),
        ("x.json", b"\xef\xbb\xbf \n", ": is empty"),
        ("x.txt.gz", gzip.compress(b"", mtime=0), ": is empty"),
        ("x.csv", b"\xef\xbb\xbf\n", ": is empty"),
        ("x.txt", b"\xef\xbb\xbf", ": is empty"),
        ("x.json", b"[" + LINES, ": line 2, column 1 is not JSON"),
        ("x.json", b"[{},\n {]", ": line 2, column 3 is not JSON"),
        ("x.json", b'{\n"id": 5,\n"utterances"', ": line 3, column 13 is not JSON"),
        ("x.jsonl.gz", gzip.compress(LINES, mtime=0)[:-12], ": the gzip file is damaged"),
        ("x.jsonl.gz", b"\x1f\x8b\x08\x00" + b"x" * 60, ": "),
        ("x.json", POINTER, ": is a Git LFS pointer"),
        ("x.txt", POINTER, ": is a Git LFS pointer"),
        ("x.docx", b"PK\x03\x04\x00", ": is no text; export it as one of .json,"),
        ("x.jsonl", codecs.BOM_UTF16_LE + b"\x00\xd8\x00", ": not utf-16"),
    ],
)
def test_files_that_cannot_be_read_at_all(tmp_path, name, content, message):
    ((place, error),), _ = found(tmp_path / name, content)
    assert place == ""
    assert str(error).startswith(str(tmp_path / name) + message)
    assert len(error.args) == 1


def test_a_broken_line_hides_no_other(tmp_path):
    for name in ("x.json", "x.jsonl"):
        items, _ = found(tmp_path / name, b"{broken\n" + LINES)
        assert [place for place, _ in items] == [":1", ":2", ":3"]
        assert "line 1, column 2 is not JSON" in str(items[0][1])
        assert [item for _, item in items[1:]] == [OURS, SEMEVAL]


def test_encodings(tmp_path):
    text = '{"utterances": [{"speaker": "Zo", "text": "It’s – “well”…"}], "id": "e"}\n'
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1250", "cp1251", "cp1252", "cp1257"):
        for name in ("x.jsonl", "x.json"):
            ((_, item),), repaired = found(tmp_path / name, text.encode(encoding))
            assert item == json.loads(text)
            assert sum(repaired.values()) == encoding.startswith("cp")
    ((_, error),), _ = found(tmp_path / "x.txt", "甲：你好，今天怎么样\n乙：很好\n".encode("gbk"))
    assert "byte 0 is not UTF-8, and its encoding is unknown; save it as UTF-8" in str(error)
    for encoding in ("utf-8", "utf-16"):
        items, _ = found(tmp_path / "x.txt", "Zoë: ça va\r\nJö: oui".encode(encoding))
        assert [u["speaker"] for u in items[0][1]["utterances"]] == ["Zoë", "Jö"]


RUSSIAN, CHINESE = "Они отдали эту работу другому.", "他们把那份工作给了别人。"
JAPANESE, GREEK = "その仕事は他の人に渡されました。", "Έδωσαν τη δουλειά σε άλλον."


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        *[("cp1251", RUSSIAN), ("koi8-r", RUSSIAN), ("gbk", CHINESE), ("gb18030", CHINESE)],
        *[
            ("shift_jis", JAPANESE),
            ("cp1253", GREEK),
            ("cp1252", "Das ist schön."),
            ("cp850", "schön"),
        ],
        *[("cp1250", "Cześć, jak się masz?"), ("cp1254", "Günaydın, iyi."), ("cp1257", "Ačiū.")],
    ],
)
def test_other_letters_in_an_old_encoding_are_refused(tmp_path, encoding, words):
    cues = [f"{k}\n00:00:0{k},000 --> 00:00:0{k},900\n<i>Ann: {words}</i>\n" for k in (1, 2, 3)]
    line = '{"utterances": [{"speaker": "Ann", "text": "%s"}]}' % words  # noqa: UP031
    for name, text in (("x.srt", "\n".join(cues)), ("x.jsonl", line), ("x.txt", f"Ann: {words}")):
        ((_, error),), repaired = found(tmp_path / name, text.encode(encoding))
        assert "iconv -f ENCODING -t utf-8 x." in str(error)
        assert not repaired


def test_a_folder_is_read_file_by_file(tmp_path):
    (tmp_path / "b/c").mkdir(parents=True)
    write = {
        "b/c/two.txt.gz": gzip.compress(b"Ann: a\n\nBo: b"), "a.SRT": b"", ".hidden.json": b"{",
        "b/.git/x.json": b"{", "b/._two.txt": b"\0", "film.mp4": b"\0", "z.jsonl": LINES,
        "corpus/utterances.jsonl": b'{"id": "u", "conversation_id": "u", "text": "t"}',
        "corpus/speakers.json": b'{"s": {}}', "corpus/index.json": b"{}",
    }  # fmt: skip
    for name, content in write.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    items, _ = found(tmp_path)
    assert [place for place, _ in items] == [
        "/a.SRT", "/b/c/two.txt.gz:1", "/corpus/utterances.jsonl: conversation 'u'",
        "/z.jsonl:1", "/z.jsonl:2",
    ]  # fmt: skip
    assert isinstance(items[0][1], InputError)
    assert [item["id"] for _, item in items[1:4]] == ["b/c/two", "u", "a"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no file in it ends in .*\.srt"):
        found(tmp_path / "empty")
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        found(tmp_path / "nowhere")


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "x.txt").write_text("Ann: a\nBen: b")
    assert len(list(conversations_in("~/*.txt", Counter()))) == 1
    transcripts.convert(Path("~/x.txt"), Path("~/new/train.jsonl"))
    config = tiny_config()
    config.data.format, config.data.root = "conversations", "~/new"
    assert len(load_splits(config, ("train",), labelled=False)["train"]) == 1


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path, watch):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "x.json").write_bytes(LINES)
    monkeypatch.setattr(transcripts, "_Watched", refuse)
    ((_, error),), _ = found(tmp_path / "x.json")
    assert str(error) == f"{tmp_path / 'x.json'}: Permission denied; check the file"


def test_a_line_is_yielded_before_the_next_is_there():
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb", 0) as file:
        items = conversations_in(Path(f"/dev/fd/{reader}"), Counter())
        for _ in range(3):
            file.write(json.dumps(OURS).encode() + b"\n")
            assert next(items)[1] == OURS


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    long = json_bytes({**OURS, "note": "x" * 2000})
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(long * 3000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in conversations_in(tmp_path / "x.jsonl.gz", Counter())) == 3000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


PIECES = [
    b"{", b"}", b"[", b"]", b",", b'"', b'"text": ', b'"utterances": [', b'"conversation": [',
    b'"segments": [', b'{"speaker": "A", "text": "x"}', b'{"text": NaN, "start": "1:2", "id": 5}',
    b'{"conversation_id": "c", "text": "x", "id": "u", "reply-to": "u", "timestamp": "5"}\n',
    b"WEBVTT\n", b"00:00:01,000 --> 00:00:02.5", b"\n", b"\r\n", b"\n\n", b"<v A>", b"- ", b"[A]: ",
    b"Ann: ", b"10:30 ", b"text,speaker,dialogue_id,turn\n", b"text;start\n", b'"a""b"', b"1e999",
    b"\\ud83d", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"\x00", b"\xe9", "：甲".encode(),
    b"Season,Episode,EndTime,Utterance\n", b"9" * 30, b"sep=;\n", b"true", b"null", b"-Infinity",
]  # fmt: skip
CONTENTS = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=12).map(b"".join)
SUFFIXES = ["", ".json", ".jsonl", ".srt", ".vtt", ".ass", ".ttml", ".smi", ".sbv", ".csv", ".tsv",
            ".txt", ".txt.gz", ".gz", ".cha", ".eaf", ".TextGrid"]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=400)
@given(CONTENTS, st.sampled_from(SUFFIXES), st.booleans())
@example(b'{"utterances": [{"text": "' + b"\\ud83d" + b'", "n": 1e999}]}', ".json", False)
@example(b"text,season,episode,start\nx,inf,1e999,1\n", ".csv", False)
def test_any_bytes_are_conversations_or_one_line_errors(tmp_path_factory, content, suffix, zipped):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(gzip.compress(content) if zipped else content)
    for place, item in conversations_in(path, Counter()):
        assert place.startswith(str(path))
        if isinstance(item, InputError):
            assert all(message.startswith(str(path)) for message in item.args)
        else:
            assert parse(json.loads(json_bytes(item)), place, Counter()).utterances


def test_a_recording_without_speech_says_so(tmp_path):
    ((_, error),), _ = found(tmp_path / "x.json", b'{"text": "", "segments": []}')
    assert "no speech was found" in str(error)
