"""Our own format: it survives a round trip, and malformed input is refused."""

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from shared import ECF, MECAD, needs_ecf, needs_mecad

from rpcl_jax.data.dialogue import EMOTIONAL, EMOTIONS, Clip, Dialogue, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.readers import ecf, mecad
from rpcl_jax.readers.conversations import (
    dialogue_object,
    is_ours,
    parse_objects,
    read_conversations,
    read_split,
    write_conversations,
)

OBJECT: dict[str, Any] = {
    "id": "1",
    "utterances": [
        {
            "id": "dia1utt1",
            "speaker": "Ann",
            "text": "The kettle exploded !",
            "emotion": "surprise",
            "clip": {"video": "x", "start": 1.5, "end": 2.0},
        },
        {"id": "b", "speaker": "Bo", "text": "Ah", "emotion": "neutral", "clip": {"video": "y"}},
        {"id": "c", "speaker": "Ann", "text": "Do not laugh .", "emotion": "anger"},
    ],
    "pairs": [[1, 1], [3, 2]],
}
DIALOGUE = Dialogue(
    "1",
    (
        Utterance("dia1utt1", "Ann", "The kettle exploded !", "surprise", Clip("x", 1.5, 2.0)),
        Utterance("b", "Bo", "Ah", "neutral", Clip("y")),
        Utterance("c", "Ann", "Do not laugh .", "anger"),
    ),
    ((0, 0), (2, 1)),
)

TEXTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from('"\\\n\r\u2028\u2029\x85\x00水')),
    min_size=1,
    max_size=8,
).filter(str.strip)
SECONDS = st.floats(0, 1e6)
CLIPS = st.one_of(
    st.none(),
    st.builds(Clip, TEXTS),
    st.tuples(TEXTS, SECONDS, SECONDS)
    .filter(lambda c: c[1] != c[2])
    .map(lambda c: Clip(c[0], *sorted(c[1:]))),
)


@st.composite
def dialogues_of(draw):
    names = draw(st.lists(TEXTS.filter(str.isprintable), min_size=1, max_size=5, unique=True))
    labelled = draw(st.booleans())
    emotions = st.sampled_from((*EMOTIONS, EMOTIONAL))
    if not labelled:
        emotions = st.none() | emotions
    utterances = tuple(
        Utterance(name, draw(TEXTS), draw(TEXTS), draw(emotions), draw(CLIPS)) for name in names
    )
    places = st.integers(0, len(names) - 1)
    pairs = draw(st.sets(st.tuples(places, places), max_size=4)) if labelled else None
    return Dialogue(draw(TEXTS), utterances, None if pairs is None else tuple(sorted(pairs)))


@pytest.mark.slow
@given(st.lists(dialogues_of(), min_size=1, max_size=4, unique_by=lambda d: d.id))
@example([Dialogue("\ud800", (Utterance("u", "a\u2028", 'a\nb\r\n"c" \\ud800'),))])
def test_round_trip(tmp_path_factory, dialogues):
    path = tmp_path_factory.mktemp("written") / "deep" / "made.jsonl"
    write_conversations(path, dialogues)
    assert read_conversations(path) == dialogues
    assert [entry.name for entry in path.parent.iterdir()] == ["made.jsonl"]
    lines = path.read_bytes().decode().removesuffix("\n").split("\n")
    assert [json.loads(line) for line in lines] == [dialogue_object(d) for d in dialogues]


@needs_ecf
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_ecf_survives_the_conversion(tmp_path, split):
    dialogues = ecf.read_split(ECF, split)
    write_conversations(tmp_path / f"{split}.jsonl", dialogues)
    assert read_split(tmp_path, split) == dialogues


@needs_mecad
def test_mecad_survives_the_conversion(tmp_path):
    dialogues = mecad.read_split(MECAD, "dev")
    write_conversations(tmp_path / "dev.jsonl", dialogues)
    assert read_split(tmp_path, "dev") == dialogues


def test_format_of_a_conversation():
    assert dialogue_object(DIALOGUE) == OBJECT
    assert parse_objects([OBJECT], "here") == [DIALOGUE]
    bare = Dialogue("1", (Utterance("u", "Ann", "Oh"),))
    written = {"id": "1", "utterances": [{"id": "u", "speaker": "Ann", "text": "Oh"}]}
    assert dialogue_object(bare) == written
    assert parse_objects([written], "here") == [bare]
    assert dialogue_object(Dialogue("1", DIALOGUE.utterances, ()))["pairs"] == []
    assert parse_objects([], "here") == []


def test_optional_fields_and_unsorted_pairs():
    least = {"id": 7, "utterances": [{"speaker": "Ann", "text": "Oh"}], "pairs": None, "more": 1}
    assert parse_objects([least], "here") == [
        Dialogue("7", (Utterance("dia7utt1", "Ann", "Oh"),), None)
    ]
    unsorted = {**OBJECT, "pairs": [[3, 2], [1, 1]]}
    assert parse_objects([unsorted], "here") == [DIALOGUE]


def test_is_ours():
    assert is_ours(OBJECT)
    assert is_ours({"utterances": "wrong"})
    for other in ({"conversation_ID": 1, "conversation": []}, [], "utterances", None):
        assert not is_ours(other)


def test_a_failed_write_keeps_the_existing_file(tmp_path):
    path = tmp_path / "made.jsonl"
    write_conversations(path, [DIALOGUE])

    def failing():
        yield Dialogue("other", DIALOGUE.utterances)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_conversations(path, failing())
    assert read_conversations(path) == [DIALOGUE]


def changed(t=None, **changes):
    """Returns OBJECT with changed fields, its own or those of utterance `t`."""
    item = copy.deepcopy(OBJECT)
    (item if t is None else item["utterances"][t]).update(changes)
    return item


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("x", r": expected an object with 'id' but found 'x'"),
        (changed(id=None), ": it has no 'id'; add it"),
        (changed(id=1.5), ": 'id' cannot be '1.5'"),
        (changed(id=" "), ": its 'id' is blank"),
        (changed(utterances=None), r" \(id 1\): it has no 'utterances'"),
        (changed(utterances={}), r" \(id 1\): 'utterances' cannot be"),
        (changed(utterances=[]), r" \(id 1\): conversation 1 has no utterance"),
        (changed(utterances=["Oh"]), ".*number 1: expected an object with 'text'"),
        (changed(2, speaker=""), ".*number 3: its 'speaker' is blank"),
        (changed(2, text=5), ".*number 3: 'text' cannot be '5'"),
        (changed(2, id=5), ".*number 3: 'id' cannot be '5'"),
        (changed(2, id="b"), r" \(id 1\): utterance id b is duplicated"),
        (changed(2, emotion="joy, fear"), ".*utterance 3 cannot have the emotion 'joy, fear'"),
        (changed(2, emotion=3), ".*number 3: 'emotion' cannot be '3'"),
        (changed(2, emotion=None), r" \(id 1\): conversation 1 has pairs, but 1 of its 3"),
        (changed(2, clip="x"), ".*number 3, its clip: expected an object with 'video'"),
        (changed(2, clip={"start": 1}), ".*number 3, its clip: it has no 'video'"),
        (changed(2, clip={"video": "x", "start": "soon"}), ".*its clip: 'start' cannot be 'soon'"),
        (changed(2, clip={"video": "x", "start": True}), ".*its clip: 'start' cannot be 'True'"),
        (
            changed(2, clip={"video": "x", "start": -1}),
            ".*clip of utterance 3 runs from -1.0 to None",
        ),
        (
            changed(2, clip={"video": "x", "start": 2, "end": 2}),
            ".*runs from 2.0 to 2.0",
        ),
        (
            changed(2, clip={"video": "x", "start": 0, "end": float("nan")}),
            ".*'end' cannot be 'nan'",
        ),
        (changed(pairs="3,1"), r" \(id 1\): 'pairs' cannot be '3,1'"),
        (changed(pairs=[[3, 1], [3]]), r" \(id 1\): \[3\] is not a pair; write \[3, 1\]"),
        (changed(pairs=[[3, "1"]]), r".*\[3, '1'\] is not a pair"),
        (changed(pairs=[[True, 1]]), r".*\[True, 1\] is not a pair"),
        (changed(pairs=[[4, 1]]), r".*pair \(4,1\) points outside"),
        (changed(pairs=[[3, 0]]), r".*pair \(3,0\) points outside"),
    ],
)
def test_malformed_conversations_are_refused_in_one_line(item, message):
    with pytest.raises(InputError, match=f"^here: conversation number 2{message}[^\n]*$"):
        parse_objects([{**OBJECT, "id": 2}, item], "here")


def test_malformed_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "dev.jsonl"
    with pytest.raises(InputError, match=r"dev\.jsonl: not found; write it with `rpcl convert`"):
        read_split(tmp_path, "dev")
    unlabelled = {key: value for key, value in OBJECT.items() if key != "pairs"}
    for text, message in {
        "": ": line 1, column 1 is not JSON",
        "[]": ": contains no conversation; check that it is the right file",
        json.dumps(OBJECT) + "\n{": ": line 2, column 2 is not JSON",
        json.dumps(OBJECT) + "\n" + json.dumps(changed(pairs=[])): ": conversation id 1 is dupl",
        json.dumps(unlabelled): ": conversation 1 has no 'pairs'; training and evaluation require",
    }.items():
        path.write_text(text)
        with pytest.raises(InputError, match=f"^{re.escape(str(path))}{message}[^\n]*$"):
            read_split(tmp_path, "dev")


def test_one_recording_for_all_utterances():
    turns = [{"text": "Oh", "speaker": "A", "start": 1, "end": 2.5}, {"text": "No", "speaker": "B"},
             {"text": "x", "speaker": "A", "video": "b.mp4"},
             {"text": "x", "speaker": "A", "end": 9},
             {"text": "x", "speaker": "A", "clip": {"video": "c"}, "start": 1},
             {"text": "x", "speaker": "A", "start": "0:01:02", "end": "63.5", "video_name": "d"},
             ]  # fmt: skip
    (dialogue,) = parse_objects([{"id": 1, "video": "a.mp4", "utterances": turns}], "here")
    assert [u.clip for u in dialogue.utterances] == [
        Clip("a.mp4", 1, 2.5), None, Clip("b.mp4"), Clip("a.mp4", None, 9), Clip("c"),
        Clip("d", 62.0, 63.5),
    ]  # fmt: skip
    (dialogue,) = parse_objects([{"id": 1, "video": 5, "utterances": turns[:1]}], "here")
    assert dialogue.utterances[0].clip is None
    with pytest.raises(InputError, match=r"clip of utterance 1 runs from 3\.0 to 2\.0"):
        parse_objects([{"id": 1, "utterances": [turns[2] | {"start": 3, "end": 2}]}], "here")


def test_all_that_is_wrong_with_a_conversation_is_listed_at_once():
    item = changed(0, speaker="", text=5, emotion=3, clip={"video": "x", "start": "soon"})
    item["utterances"][2]["id"] = "b"
    item["pairs"] = [[9, 1], [3]]
    with pytest.raises(InputError) as caught:
        parse_objects([item], "here")
    for message in ("'speaker' is blank", "'text' cannot", "'emotion' cannot", "'start' cannot",
                    "b is duplicated", "(9,1) points outside", "[3] is not a pair"):  # fmt: skip
        assert sum(message in line for line in caught.value.args) == 1
    assert len(caught.value.args) == 7
    item["utterances"][1] = "Oh"  # then pairs are not looked at, which seem to point elsewhere
    with pytest.raises(InputError) as caught:
        parse_objects([item], "here")
    assert not any("points outside" in line for line in caught.value.args)


def test_ids_that_repeat_within_a_conversation_get_numbers_in_a_prediction():
    turns = [{"id": "x", "text": "Oh"}, {"id": "x", "text": "No"}]
    (dialogue,) = parse_objects([{"id": 1, "utterances": turns}], "here", labelled=False)
    assert [u.id for u in dialogue.utterances] == ["x", "x_2"]
