"""MECAD's reader, on made-up files and on the real validation split if available."""

import copy
import json
import re
from typing import Any

import pytest
from shared import MECAD, needs_mecad

from rpcl_jax.data.corpus_statistics import split_statistics
from rpcl_jax.data.dialogue import Clip, Dialogue, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.readers.mecad import EVIDENCE, read_evidence, read_split

CONTENT: dict[str, Any] = {
    "kettle_1": [
        [
            {
                "turn": 1,
                "speaker": "安",
                "utterance": "水壶炸了！",
                "emotion": "Surprise",
                "utterance_name": "kettle_1_1",
                "video": "kettle_1_1.mp4",
                "cause_modality": ["t"],
                EVIDENCE: [1],
            },
            {
                "turn": 2,
                "speaker": "博",
                "utterance": "又\u2028一次？",
                "emotion": "Neutral",
                "utterance_name": "kettle_1_2",
                "video": "kettle_1_2.mp4",
            },
            {
                "turn": 3,
                "speaker": "安",
                "utterance": "别笑。",
                "emotion": "Sad",
                "utterance_name": "kettle_1_3",
                "video": "kettle_1_3.mp4",
                EVIDENCE: [2, 1],
            },
        ]
    ],
    "7": [[{"turn": 1, "speaker": "Cy", "utterance": "Hm .", "emotion": "happy"}]],
}
DIALOGUES = [
    Dialogue(
        "kettle_1",
        (
            Utterance("kettle_1_1", "安", "水壶炸了！", "surprise", Clip("kettle_1_1")),
            Utterance("kettle_1_2", "博", "又\u2028一次？", "neutral", Clip("kettle_1_2")),
            Utterance("kettle_1_3", "安", "别笑。", "sadness", Clip("kettle_1_3")),
        ),
        ((0, 0), (2, 0), (2, 1)),
    ),
    Dialogue("7", (Utterance("7_1", "Cy", "Hm .", "joy"),), ()),
]


def write(folder, content, name="valid_data_pair.json"):
    (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder / name


def changed(t=2, **changes):
    """Returns CONTENT with utterance `t` of its first conversation changed; None removes a key."""
    content = copy.deepcopy(CONTENT)
    turn = {**content["kettle_1"][0][t], **changes}
    content["kettle_1"][0][t] = {k: v for k, v in turn.items() if v is not None}
    return content


def test_files_of_the_splits(tmp_path):
    names = {"train": "train", "dev": "valid", "test": "test"}
    for split, name in names.items():
        with pytest.raises(InputError, match=rf"{name}_data_pair\.json: not found; download MECAD"):
            read_split(tmp_path, split)
        content = {f"{split}_only": CONTENT["7"], **CONTENT}
        write(tmp_path, content, f"{name}_data_pair.json")
        first, *others = read_split(tmp_path, split)
        assert (first.id, first.utterances[0].id) == (f"{split}_only", f"{split}_only_1")
        assert others == DIALOGUES


@pytest.mark.parametrize(
    ("changes", "name", "clip"),
    [
        ({}, "kettle_1_3", Clip("kettle_1_3")),
        ({"utterance_name": None, "video": "a/dia9utt3.mp4"}, "dia9utt3", Clip("dia9utt3")),
        ({"utterance_name": None, "video": "S01.E02_3"}, "S01.E02_3", Clip("S01.E02_3")),
        ({"utterance_name": "other"}, "other", Clip("kettle_1_3")),
        ({"utterance_name": None, "video": None}, "kettle_1_3", None),
    ],
)
def test_ids_and_clips(tmp_path, changes, name, clip):
    utterance = read_evidence(write(tmp_path, changed(**changes)))[0].utterances[2]
    assert (utterance.id, utterance.clip) == (name, clip)


@pytest.mark.parametrize(
    ("changes", "pairs"),
    [
        ({EVIDENCE: ["1", 2]}, ((0, 0), (2, 0), (2, 1))),
        ({EVIDENCE: ["b", 3]}, ((0, 0), (2, 2))),
        ({EVIDENCE: [1, 1, "b"]}, ((0, 0), (2, 0))),
        ({EVIDENCE: []}, ((0, 0),)),
        ({EVIDENCE: None}, ((0, 0),)),
        ({"emotion": "neutral"}, ((0, 0),)),
    ],
)
def test_evidence(tmp_path, changes, pairs):
    assert read_evidence(write(tmp_path, changed(**changes)))[0].pairs == pairs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], ": must be one object of conversations by id"),
        ({}, ": must be one object of conversations by id"),
        ([CONTENT, CONTENT], ": must be one object of conversations by id"),
        ([1], ": must be one object of conversations by id"),
        ({"a": CONTENT["7"][0]}, ": conversation a: must be a list of one list"),
        ({"a": CONTENT["7"] * 2}, ": conversation a: must be a list of one list"),
        ({" ": CONTENT["7"]}, ": a conversation's id is blank"),
        ({"a": []}, ": conversation a: must be a list of one list"),
        ({"a": [[]]}, ": conversation a: conversation a has no utterance"),
        ({"a": [["Hm ."]]}, ": conversation a, utterance number 1: expected an object with 'turn'"),
        (changed(turn=2), ": conversation kettle_1, utterance number 3: its turn is 2"),
        (changed(turn=None), ": conversation kettle_1, utterance number 3: it has no 'turn'"),
        (changed(emotion="joy, fear"), ".* utterance 3 cannot have the emotion 'joy, fear'"),
        (changed(emotion=None), ".*number 3: it has no 'emotion'"),
        (changed(utterance=" "), ".*number 3: its 'utterance' is blank"),
        (changed(speaker=5), ".*number 3: 'speaker' cannot be '5'"),
        (changed(utterance_name="kettle_1_1"), ".*: utterance id kettle_1_1 is duplicated"),
        (changed(**{EVIDENCE: [4]}), r".*: pair \(3,4\) points outside"),
        (changed(**{EVIDENCE: [0]}), r".*: pair \(3,0\) points outside"),
        (
            changed(**{EVIDENCE: "1"}),
            ".*number 3: 'expanded emotion cause evidence' must be a list",
        ),
        (changed(**{EVIDENCE: ["one"]}), ".*number 3: 'one' in .* is not a turn"),
        (changed(**{EVIDENCE: [True]}), ".*number 3: 'True' in .* is not a turn"),
        (changed(**{EVIDENCE: [1.5]}), ".*number 3: '1.5' in .* is not a turn"),
    ],
)
def test_malformed_files_are_refused_in_one_line(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}{message}[^\n]*$"):
        read_evidence(path)


@needs_mecad
def test_counts_of_the_validation_split():
    """Compares with the data's README and with counts of the file's lines."""
    dialogues = read_split(MECAD, "dev")
    text = (MECAD / "valid_data_pair.json").read_text(encoding="utf-8")
    assert split_statistics(dialogues)[:3] == (126, 1168, 744)
    pairs = sum(len(dialogue.pairs) for dialogue in dialogues)
    evidence = re.findall(rf'"{EVIDENCE}": \[([^\]]*)\]', text)
    assert pairs == sum(len(re.findall(r"\d+", turns)) for turns in evidence) == 977
    utterances = [u for dialogue in dialogues for u in dialogue.utterances]
    assert {u.id for u in utterances} == set(re.findall(r'"utterance_name": "([^"]*)"', text))
    assert all(u.clip == Clip(u.id) for u in utterances)
    for name, count in (("Happy", "joy"), ("Sad", "sadness"), ("Fear", "fear")):
        found = sum(u.emotion == count for u in utterances)
        assert found == len(re.findall(f'"emotion": "{name}"', text)) > 0
    # One emotional utterance has no evidence.
    caused = {(d.id, i) for d in dialogues for i, _ in d.pairs}
    assert len(caused) == len(evidence) == 743
