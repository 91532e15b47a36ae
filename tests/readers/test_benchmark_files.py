"""What all readers mend and count, what they refuse, and how they find a split."""

import json
from pathlib import Path

import pytest
from shared import RECCON, needs_reccon

from rpcl_jax.data.corpus_statistics import split_statistics
from rpcl_jax.data.dialogue import Dialogue, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.readers import ecf, mec4, mecad, reccon
from rpcl_jax.readers.benchmark_files import emotion_name
from rpcl_jax.readers.conversations import read_split as read_ours
from rpcl_jax.readers.corpus import READERS, SPLITS

# The same conversation in every form: its emotions are misspelt, and its only pair is there twice.
DIALOGUE = Dialogue(
    "7",
    (
        Utterance("dia7utt1", "Ann", "The kettle exploded .", "joy"),
        Utterance("dia7utt2", "Bo", "Oh .", "frustrated"),
    ),
    ((1, 0),),
)
TURNS = [("Ann", "The kettle exploded .", "Happines"), ("Bo", "Oh .", "frustrated")]
OURS = {
    "id": "7",
    "utterances": [{"speaker": s, "text": t, "emotion": e} for s, t, e in TURNS],
    "pairs": [[2, 1], [2, 1]],
}
SEMEVAL = {
    "conversation_ID": 7,
    "conversation": [
        {"utterance_ID": k, "speaker": s, "text": t, "emotion": e}
        for k, (s, t, e) in enumerate(TURNS, 1)
    ],
    "emotion-cause_pairs": [["2_frustrated", "1_The"], ["2_frustrated", "1_The"]],
}
EVIDENCE = {
    "7": [
        [
            {"turn": k, "speaker": s, "utterance": t, "emotion": e, "utterance_name": f"dia7utt{k}"}
            | ({"expanded emotion cause evidence": [1, 1, "b"]} if k == 2 else {})
            for k, (s, t, e) in enumerate(TURNS, 1)
        ]
    ]
}
MEC4 = {
    "dia_id": 7,
    "dia_len": 2,
    "text": "1.Ann：The kettle exploded . 2.Bo：Oh .",
    "pairs": "(2,1),(2,1)",
    "emotions": ["Happines", "frustrated"],
}
TEXT = "7 2\n(2,1),(2,1)\n" + "".join(
    f"{k} | {s} | {e} | {t} | Friends_S1E1: : - 0:00:01.0\n" for k, (s, t, e) in enumerate(TURNS, 1)
)
FORMS = [
    (read_ours, "train.jsonl", json.dumps(OURS)),
    (ecf.read_split, "train.txt", TEXT),
    (ecf.read_split, "Subtask_2_train.json", json.dumps([SEMEVAL])),
    (ecf.read_split, "Subtask_1_train.json", json.dumps([SEMEVAL])),
    (mecad.read_split, "train_data_pair.json", json.dumps(EVIDENCE)),
    (reccon.read_split, "dailydialog_train.json", json.dumps(EVIDENCE)),
    (mec4.read_split, "MEC4_text/train.json", json.dumps([MEC4])),
]


@pytest.mark.parametrize(("read_split", "name", "text"), FORMS)
def test_repetitions_count_once_and_misspellings_are_mapped(
    tmp_path, capsys, read_split, name, text
):
    (tmp_path / "MEC4_text").mkdir()
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_split(tmp_path, "train") == [DIALOGUE]
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / name}: 1 repetitions of pairs left out",
        f"{tmp_path / name}: emotions read: happines as joy (1)",
    ]


def test_a_conversation_that_is_there_twice_counts_once(tmp_path, capsys):
    quiet = DIALOGUE.utterances[1]
    item = {"id": 7, "utterances": [{"speaker": "Bo", "text": "Oh .", "emotion": quiet.emotion}]}
    lines = [{**item, "id": 6}, {**item, "id": 7}, {**item, "id": 7}, {**item, "id": 7}]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps({**line, "pairs": []}) for line in lines))
    assert [dialogue.id for dialogue in read_ours(tmp_path, "train")] == ["6", "7"]
    assert capsys.readouterr().err == f"{path}: 2 repetitions of conversations left out\n"
    lines[1] = {**item, "utterances": [*item["utterances"] * 2]}
    path.write_text("\n".join(json.dumps({**line, "pairs": []}) for line in lines))
    with pytest.raises(InputError, match="conversation id 7 is duplicated"):
        read_ours(tmp_path, "train")


def wrong(item, **changes):
    return {**json.loads(json.dumps(item)), **changes}


@pytest.mark.parametrize(
    ("read_split", "name", "text", "places"),
    [
        (
            *(read_ours, "train.jsonl"),
            "\n".join(
                json.dumps(item)
                for item in (
                    wrong(OURS, id=1, pairs=[[2, 3], [3, 1], ["x"]]),
                    wrong(OURS, id=2, utterances=[{"text": "a"}, {"speaker": "b"}]),
                    wrong(OURS, id=3, pairs=[[2, 3], [3, 1]]),
                    wrong(OURS, id=4),
                )
            ),
            ["number 1 (id 1): ['x']", "(id 1): pair (2,3)", "(id 1): pair (3,1)",
             "(id 2), utterance number 1: it has no 'speaker'",
             "(id 2), utterance number 2: it has no 'text'", "(id 2): conversation 2 has pairs",
             "(id 3): pair (2,3)", "(id 3): pair (3,1)"],
        ),
        (
            *(ecf.read_split, "train.txt"),
            "1 2\n(2,9)\n1 | A | joy | a\n2 | B | joy |  | F: 0:00:00.0 - 0:00:01.0\n"
            "2 1\n(1;1)\n1 | A | joy | a | F: 0:00:00.0 - 0:00:01.0\n" + TEXT,
            [":3: expected utterance 1", ":4: utterance 2 has no text", ":6: expected pairs"],
        ),
        (
            *(ecf.read_split, "Subtask_2_train.json"),
            json.dumps(
                [wrong(SEMEVAL, conversation_ID=1, **{"emotion-cause_pairs": [["a"], ["b"]]}),
                 wrong(SEMEVAL, conversation_ID=2,
                       **{"emotion-cause_pairs": [["1_fear", "1"], ["2_fear", "1"]]})]
            ),
            ["(conversation_ID 1): ['a']", "(conversation_ID 1): ['b']",
             "a pair gives utterance 1 the emotion 'fear'",
             "a pair gives utterance 2 the emotion 'fear'"],
        ),
        (
            *(mecad.read_split, "train_data_pair.json"),
            json.dumps({"a": [], "b": [[{"turn": 2}, {"turn": 2}]], "c": EVIDENCE["7"]}),
            ["conversation a: must be", "conversation b, utterance number 1: its turn is 2",
             "conversation b, utterance number 2: it has no 'emotion'"],
        ),
        (
            *(mec4.read_split, "MEC4_text/train.json"),
            json.dumps([wrong(MEC4, dia_id=1, pairs="2;1", emotions=["joy"]),
                        wrong(MEC4, dia_id=2, dia_len=3)]),
            ["(dia_id 1): 'pairs' cannot be", "(dia_id 1): its emotions must be a list of 2",
             "(dia_id 2): its text must be 3 utterances",
             "(dia_id 2): its emotions must be a list of 3"],
        ),
    ],
)  # fmt: skip
def test_everything_that_is_wrong_is_listed_at_once(tmp_path, read_split, name, text, places):
    (tmp_path / "MEC4_text").mkdir()
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_split(tmp_path, "train")
    lines = str(caught.value).splitlines()
    assert len(lines) == len(places)
    for line, place in zip(lines, places, strict=True):
        assert line.startswith(str(tmp_path / name))
        assert place in line


@pytest.mark.parametrize("name", READERS)
def test_a_missing_split_can_be_cut_from_another(tmp_path, name):
    def named(split):
        with pytest.raises(InputError, match=r"^(?!.*--cut)") as nothing:
            READERS[name](tmp_path, split)
        return Path(str(nothing.value).split(": not found")[0].split(" and ")[0])

    train, _, test = map(named, SPLITS)
    train.parent.mkdir(exist_ok=True)
    train.touch()
    whole = "not found; .*`rpcl convert --splits=train --cut=80,10,10"
    for split in ("dev", "test"):
        with pytest.raises(InputError, match=whole):
            READERS[name](tmp_path, split)
    test.touch()  # which is kept
    with pytest.raises(InputError, match="`rpcl convert --splits=train,test --cut=90,10`"):
        READERS[name](tmp_path, "dev")
    with pytest.raises(InputError, match=r"^(?!.*--cut)"):
        READERS[name](tmp_path / "nowhere", "train")


def test_a_test_split_without_labels(tmp_path):
    bare = {k: v for k, v in SEMEVAL.items() if k != "emotion-cause_pairs"}
    (tmp_path / "Subtask_1_test.json").write_text(json.dumps([bare, bare]))
    with pytest.raises(InputError, match="no conversation has 'emotion-cause_pairs'") as caught:
        ecf.read_split(tmp_path, "test")
    assert len(caught.value.args) == 1


def test_emotion_names():
    names = ["Happy", "Sad", "Anger ", "SURPRISED", "Disgusted", "fear", "Neutral"]
    ours = ["joy", "sadness", "anger", "surprise", "disgust", "fear", "neutral"]
    assert [emotion_name(name) for name in names] == ours
    assert [emotion_name(name) for name in ours] == ours
    assert [emotion_name(name) for name in ("happiness", "happines", "angry")] == [
        *("joy", "joy", "anger")
    ]
    for own in ("excited", "frustrated", "no emotion"):
        assert emotion_name(own) == own


def test_the_small_reccon_file(tmp_path):
    (tmp_path / "dailydialog_train.json").write_text(
        '{"tr_1": [[{"turn": 1, "speaker": "A", "utterance": "x", "emotion": "excited", '
        '"expanded emotion cause evidence": [1, 1, "b"]}]]}'
    )
    assert reccon.read_split(tmp_path, "train") == [
        Dialogue("tr_1", (Utterance("tr_1_1", "A", "x", "excited"),), ((0, 0),))
    ]


@needs_reccon
@pytest.mark.parametrize(
    ("split", "name", "counts", "distance", "repeated", "later", "longest"),
    [  # from ../shared/data/README.md
        ("train", "train", (834, 8206, 4562, 7029), 1.504, 242, 2, 31),
        ("dev", "valid", (47, 493, 200, 328), 1.210, 19, 0, 22),
        ("test", "test", (225, 2405, 1099, 1767), 1.377, 127, 0, 23),
    ],
)
def test_reccon_is_as_its_readme_counts_it(
    capsys, split, name, counts, distance, repeated, later, longest
):
    dialogues = reccon.read_split(RECCON, split)
    statistics = split_statistics(dialogues)
    assert statistics[:4] == counts
    assert round(statistics.mean_pair_distance, 3) == distance
    said = capsys.readouterr().err
    assert f"dailydialog_{name}.json: {repeated} repetitions of pairs left out" in said
    assert sum(j > i for d in dialogues for i, j in d.pairs) == later
    assert max(len(d.utterances) for d in dialogues) == longest
