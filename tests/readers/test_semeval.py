"""The format of SemEval-2024 Task 3: made-up conversations, and ECF converted to it."""

import copy
import json
import re
from typing import Any

import pytest
from shared import ECF, needs_ecf

from rpcl_jax.data.dialogue import Clip, Dialogue, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.readers.ecf import read_split
from rpcl_jax.readers.semeval import (
    conversation_object,
    parse_conversations,
    read_objects,
    read_semeval,
)

CONVERSATION: dict[str, Any] = {
    "conversation_ID": 5,
    "conversation": [
        {
            "utterance_ID": 1,
            "text": "The kettle exploded !",
            "speaker": "Ann",
            "emotion": "surprise",
        },
        {"utterance_ID": 2, "text": "Again_and again ?", "speaker": "Bo", "emotion": "neutral"},
        {"utterance_ID": 3, "text": "Do not laugh .", "speaker": "Ann", "emotion": "anger"},
    ],
    "emotion-cause_pairs": [["3_anger", "2"], ["1_surprise", "1"]],
}
DIALOGUE = Dialogue(
    "5",
    (
        Utterance("dia5utt1", "Ann", "The kettle exploded !", "surprise"),
        Utterance("dia5utt2", "Bo", "Again_and again ?", "neutral"),
        Utterance("dia5utt3", "Ann", "Do not laugh .", "anger"),
    ),
    ((0, 0), (2, 1)),
)
UNLABELLED = Dialogue("5", tuple(Utterance(u.id, u.speaker, u.text) for u in DIALOGUE.utterances))


def changed(**changes):
    return {**copy.deepcopy(CONVERSATION), **changes}


def changed_turn(t, **changes):
    """Returns CONVERSATION with utterance `t` changed; None removes a key."""
    conversation = copy.deepcopy(CONVERSATION)
    turn = {**conversation["conversation"][t], **changes}
    conversation["conversation"][t] = {k: v for k, v in turn.items() if v is not None}
    return conversation


def labelled_object(dialogue):
    """Returns a dialogue in the organizers' format, independently of the package."""
    causes = {"words": lambda j: f"{j + 1}_{dialogue.utterances[j].text}", "": lambda j: str(j + 1)}
    style = "words" if int(dialogue.id) % 2 else ""
    return {
        "conversation_ID": int(dialogue.id),
        "conversation": [
            {
                "utterance_ID": t,
                "text": u.text,
                "speaker": u.speaker,
                "emotion": u.emotion,
                "video_name": f"{u.id}.mp4",
            }
            for t, u in enumerate(dialogue.utterances, 1)
        ],
        "emotion-cause_pairs": [
            [f"{i + 1}_{dialogue.utterances[i].emotion}", causes[style](j)]
            for i, j in dialogue.pairs
        ],
    }


@needs_ecf
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_ecf_in_json_equals_ecf_in_text(tmp_path, split):
    # Only the clips differ: a file per utterance, or a span of an episode.
    dialogues = [
        Dialogue(
            dialogue.id,
            tuple(
                Utterance(u.id, u.speaker, u.text, u.emotion, Clip(f"{u.id}.mp4"))
                for u in dialogue.utterances
            ),
            dialogue.pairs,
        )
        for dialogue in read_split(ECF, split)
    ]
    objects = [labelled_object(dialogue) for dialogue in dialogues]
    (tmp_path / f"Subtask_2_{split}.json").write_text(json.dumps(objects, indent=1))
    assert read_split(tmp_path, split) == dialogues
    lines = "".join(json.dumps(o, ensure_ascii=False) + "\n" for o in objects)
    (tmp_path / "lines.jsonl").write_text(lines, encoding="utf-8")
    assert read_semeval(tmp_path / "lines.jsonl") == dialogues
    # conversation_object and the reader are inverse, except for the labels.
    unlabelled = parse_conversations([conversation_object(d) for d in dialogues], "here")
    assert [[(u.id, u.speaker, u.text) for u in d.utterances] for d in unlabelled] == [
        [(u.id, u.speaker, u.text) for u in d.utterances] for d in dialogues
    ]


def test_parse_conversations():
    assert parse_conversations([CONVERSATION], "here") == [DIALOGUE]
    assert parse_conversations([CONVERSATION], "here", labelled=True) == [DIALOGUE]
    assert parse_conversations([CONVERSATION], "here", labelled=False) == [UNLABELLED]
    assert parse_conversations([], "here") == []


def test_labels_are_optional_unless_required():
    bare = changed()
    del bare["emotion-cause_pairs"]
    assert parse_conversations([bare], "here") == [Dialogue("5", DIALOGUE.utterances)]
    for turn in bare["conversation"]:
        del turn["emotion"]
    assert parse_conversations([bare], "here") == [UNLABELLED]
    # Unknown categories are not an error if labels are ignored.
    foreign = changed_turn(0, emotion="glee")
    assert parse_conversations([foreign], "here", labelled=False) == [UNLABELLED]


@pytest.mark.parametrize(
    "pairs",
    [
        [["1", "1"], ["3", "2"]],
        [["1_surprise", "1_The kettle_exploded"], ["3_anger", "2_Again_and again"]],
        [["1_surprise", "1_The kettle"], ["1_surprise", "1_exploded"], ["3_anger", "2_Again"]],
    ],
)
def test_words_of_a_cause_are_ignored(pairs):
    assert parse_conversations([changed(**{"emotion-cause_pairs": pairs})], "here") == [DIALOGUE]


def test_ids_may_be_strings_and_a_video_names_its_utterance():
    spelt = changed(conversation_ID="5")
    for turn in spelt["conversation"]:
        turn["utterance_ID"] = str(turn["utterance_ID"])
    assert parse_conversations([spelt], "here") == [DIALOGUE]
    filmed = parse_conversations([changed_turn(1, video_name="clips/dia80utt4.mp4")], "here")
    assert [u.id for u in filmed[0].utterances] == ["dia5utt1", "dia80utt4", "dia5utt3"]
    assert [u.clip for u in filmed[0].utterances] == [
        None, Clip("clips/dia80utt4.mp4"), None,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["session1.mp4", "dia80utt4.mp4"])
def test_utterances_may_share_a_video(name):
    shared = changed()
    for turn in shared["conversation"]:
        turn["video_name"] = name
    both = parse_conversations([shared, {**shared, "conversation_ID": 6}], "here")
    assert [u.id for u in both[0].utterances] == ["dia5utt1", "dia5utt2", "dia5utt3"]
    assert [u.id for u in both[1].utterances] == ["dia6utt1", "dia6utt2", "dia6utt3"]
    assert {u.clip for dialogue in both for u in dialogue.utterances} == {Clip(name)}


def without(key):
    return {k: v for k, v in CONVERSATION.items() if k != key}


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ("kettle", "conversation number 1: expected an object with 'conversation_ID'"),
        (without("conversation_ID"), "conversation number 1: it has no 'conversation_ID'"),
        (without("conversation"), r"\(conversation_ID 5\): it has no 'conversation'"),
        (without("emotion-cause_pairs"), "it has no 'emotion-cause_pairs'"),
        (changed(conversation_ID=True), "'conversation_ID' cannot be 'True'"),
        (changed(conversation_ID=[5]), r"'conversation_ID' cannot be '\[5\]'"),
        (changed(conversation={}), "'conversation' cannot be '{}'"),
        (changed(conversation=[]), "conversation 5 has no utterance"),
        (changed(conversation=["Hello"]), "utterance number 1: expected an object"),
        (changed_turn(1, utterance_ID=3), "utterance number 2: its utterance_ID is '3'"),
        (changed_turn(0, utterance_ID=0), "utterance number 1: its utterance_ID is '0'"),
        (changed_turn(0, utterance_ID=1.0), "'utterance_ID' cannot be '1.0'"),
        (changed_turn(1, speaker=None), "utterance number 2: it has no 'speaker'"),
        (changed_turn(1, speaker=" "), "utterance number 2: its 'speaker' is blank"),
        (changed_turn(1, text=None), "utterance number 2: it has no 'text'"),
        (changed_turn(1, text=7), "utterance number 2: 'text' cannot be '7'"),
        (changed_turn(1, emotion=None), "utterance number 2: it has no 'emotion'"),
        (changed_turn(1, emotion="a" * 41), "utterance 2 cannot have the emotion 'aaa"),
        (changed(**{"emotion-cause_pairs": "3_anger"}), "'emotion-cause_pairs' cannot be"),
        (changed(**{"emotion-cause_pairs": ["3_anger"]}), "3_anger is not a pair"),
        (changed(**{"emotion-cause_pairs": [["3_anger"]]}), "is not a pair; write it as"),
        (changed(**{"emotion-cause_pairs": [["3_anger", "Again"]]}), "is not a pair"),
        (changed(**{"emotion-cause_pairs": [["anger_3", "1"]]}), "is not a pair"),
        (changed(**{"emotion-cause_pairs": [["4_anger", "1"]]}), r"pair \(4,1\) points outside"),
        (changed(**{"emotion-cause_pairs": [["3_anger", "0"]]}), r"pair \(3,0\) points outside"),
        (
            changed(**{"emotion-cause_pairs": [["3_joy", "1"]]}),
            "a pair gives utterance 3 the emotion 'joy', but the utterance has 'anger'",
        ),
    ],
)
def test_malformed_conversations_are_refused_in_one_line(conversation, message):
    with pytest.raises(InputError, match=f"^made.json: [^\n]*{message}[^\n]*$"):
        parse_conversations([conversation], "made.json", labelled=True)


def test_pairs_without_emotions_and_duplicated_ids_are_refused():
    with pytest.raises(InputError, match="1 of its 3 utterances have no emotion"):
        parse_conversations([changed_turn(1, emotion=None)], "here")
    other = changed(**{"conversation_ID": "5", "emotion-cause_pairs": []})
    with pytest.raises(InputError, match=r"^here: conversation id 5 is duplicated"):
        parse_conversations([CONVERSATION, other], "here")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "line 1, column 1"),
        ("[{}, {},\n {]", "line 2, column 3"),
        ('{"conversation_ID": 1,\n  "conversation" []}', "line 2, column 18"),
        ('{"conversation_ID": 1}\n\n{"conversation_ID": 2', "line 3, column 22"),
        ("[] []", "line 1, column 4"),
    ],
)
def test_malformed_json_is_refused_with_its_position(tmp_path, text, place):
    path = tmp_path / "made.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: {place} is not JSON[^\n]*$"):
        read_objects(path)


def test_every_broken_line_is_listed(tmp_path):
    path = tmp_path / "made.jsonl"
    path.write_text('{"id": 1}\n{"id": 2\n\n{"id": 3}\n{"id": 4, "id": 4}\n')
    with pytest.raises(InputError) as caught:
        read_objects(path)
    second, fifth = str(caught.value).splitlines()
    assert second.startswith(f"{path}: line 2, column ")
    assert fifth.startswith(f"{path}:5: cannot be read ('id' is duplicated)")


def test_read_objects_takes_a_list_lines_or_one_object(tmp_path):
    path = tmp_path / "made.json"
    for text, count in (
        ("[]", 0),
        (json.dumps([CONVERSATION] * 2), 2),
        (json.dumps(CONVERSATION, indent=2), 1),
        (f"{json.dumps(CONVERSATION)}\n\n{json.dumps(CONVERSATION)}", 2),
    ):
        path.write_text(text, encoding="utf-8-sig")
        assert read_objects(path) == [CONVERSATION] * count


def test_files_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json: No such file"):
        read_semeval(tmp_path / "nowhere.json")
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(InputError, match=r"empty\.json: contains no conversation"):
        read_semeval(tmp_path / "empty.json")
    for text in (
        '{"1": 5, "2": 6, "1": 7}',
        '[{"a": {"1": 5, "1": 5}}]',
        '{"a": 1}\n{"1": 2, "1": 3}',
    ):
        (tmp_path / "twice.json").write_text(text)
        with pytest.raises(InputError, match=r"twice\.json:.* \('1' is duplicated\)"):
            read_objects(tmp_path / "twice.json")
    (tmp_path / "latin.json").write_bytes('["é"]'.encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.json: byte 2 is not UTF-8"):
        read_semeval(tmp_path / "latin.json")


def test_conversation_object_has_no_labels():
    turns = [{k: v for k, v in t.items() if k != "emotion"} for t in CONVERSATION["conversation"]]
    assert conversation_object(DIALOGUE) == {"conversation_ID": 5, "conversation": turns}
    assert conversation_object(Dialogue("s1", DIALOGUE.utterances))["conversation_ID"] == "s1"


def test_the_clip_is_a_stretch_of_an_episode_or_of_a_video():
    source = ["S01E01", "00:07:40.335", "00:07:44.880"]
    for turn, identifier, clip in (
        ({"video_name": "dia1375utt1.mp4", "video_source": source}, "dia1375utt1",
         Clip("S01E01", 460.335, 464.88)),
        ({"video_source": source}, "dia5utt2", Clip("S01E01", 460.335, 464.88)),
        ({"video_source": ["S01E01", "7", "x"]}, "dia5utt2", None),
        ({"video_source": [None, "1", "2"], "video_name": "a.mp4"}, "dia5utt2", Clip("a.mp4")),
        ({"video_name": "d\\s.mp4", "start": 1.5, "end": "0:02"}, "dia5utt2",
         Clip("d\\s.mp4", 1.5, 2.0)),
        ({"video": "s.mp4", "start": 1.5}, "dia5utt2", Clip("s.mp4", 1.5)),
        ({"video_name": "dia1utt1.mp4", "video_source": ["S01E01", "7", "x"]}, "dia1utt1",
         Clip("dia1utt1.mp4")),
        ({"video_name": "s.mp4", "start": "soon", "end": 20}, "dia5utt2", None),
        ({"video_name": "s.mp4", "start": float("nan"), "end": 20}, "dia5utt2", None),
        ({"video_name": "s.mp4", "start": 12.5, "end": 3}, "dia5utt2", None),
    ):  # fmt: skip
        (dialogue,) = parse_conversations([changed_turn(1, **turn)], "here")
        assert (dialogue.utterances[1].id, dialogue.utterances[1].clip) == (identifier, clip)


def test_one_recording_for_all_turns(capsys):
    item = changed(video="session1.mp4")
    for turn, start in zip(item["conversation"], (1, "0:02", None), strict=True):
        turn.update({} if start is None else {"start": start, "end": 2.5})
    (dialogue,) = parse_conversations([item], "here")
    clips = [Clip("session1.mp4", 1.0, 2.5), Clip("session1.mp4", 2.0, 2.5), None]
    assert [u.clip for u in dialogue.utterances] == clips
    item["conversation"][0]["start"] = 3
    assert parse_conversations([item], "here")[0].utterances[0].clip is None
    assert capsys.readouterr().err == "here: 1 unusable clips left out\n"


@pytest.mark.parametrize(
    "numbers", [(1.0, 2.0, 3.0), (0, 1, 2), (3, 7, 9), ("u1", "u2", []), (None,) * 3]
)
def test_a_prediction_needs_no_numbers(numbers):
    item = changed()
    for turn, number in zip(item["conversation"], numbers, strict=True):
        turn["utterance_ID"] = number
    assert parse_conversations([item], "here", labelled=False) == [UNLABELLED]
    with pytest.raises(InputError, match="utterance_ID"):
        parse_conversations([item], "here", labelled=True)


def test_all_that_is_wrong_with_a_conversation_is_listed_at_once():
    item = changed_turn(0, utterance_ID=4, speaker="", text=5, emotion=3, video_name=5)
    item["emotion-cause_pairs"] = [["9_anger", "1"], ["3"]]
    with pytest.raises(InputError) as caught:
        parse_conversations([item], "here", labelled=True)
    for message in ("utterance_ID is '4'", "'speaker' is blank", "'text' cannot",
                    "'emotion' cannot", "'video_name' cannot", "(9,1) points outside",
                    "is not a pair"):  # fmt: skip
        assert sum(message in line for line in caught.value.args) == 1
    assert len(caught.value.args) == 7
