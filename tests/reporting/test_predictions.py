"""What is written of a prediction, in both forms of JSON and as a table."""

import copy
import csv
import gzip
import io
import json

import numpy as np
import pytest

from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.decode import Prediction, predict
from rpcl_jax.readers.conversations import parse_objects
from rpcl_jax.readers.semeval import parse_conversations
from rpcl_jax.readers.transcripts import read_dialogues
from rpcl_jax.reporting.predictions import COLUMNS, Summary, with_prediction, write_results

SAID = (("Ann", "They said no; =1+1"), (None, "Oh no,\n那太糟了 \ud83d"), ("Ann", "I feel awful."))
OURS = {
    "id": 7,
    "source": "a/talk.srt",
    "note": "kept",
    "utterances": [{"speaker": s, "text": t, "emotion": "unheard of"} for s, t in SAID],
    "pairs": [[3, 3]],
}
del OURS["utterances"][1]["speaker"]
SEMEVAL = {
    "conversation_ID": 7,
    "conversation": [
        {"utterance_ID": n, "speaker": s, "text": t} for n, (s, t) in enumerate(SAID, 1)
    ],
}
FOUND = Prediction(
    [(1, 0), (2, 0), (2, 1)],
    [0.51249, 0.9, 0.98765],
    ["neutral", "fear", "sadness"],
    [0.8, 0.25, 0.66666],
)
BY = {"model": "runs/rpcl", "threshold": 0.5}


def written(items, name):
    file = io.BytesIO()
    done = write_results([("place", item) for item in items], file, name, 35, pytest.fail)
    return file.getvalue(), done


def test_our_form_and_semevals():
    before = copy.deepcopy(OURS)
    ours = with_prediction(OURS, FOUND, BY)
    assert before == OURS, "a copy"
    assert ours == {
        "id": 7,
        "source": "a/talk.srt",
        "note": "kept",
        "utterances": [
            {"speaker": s, "text": t, "emotion": e, "emotion_probability": p}
            for (s, t), e, p in zip(
                (("Ann", SAID[0][1]), ("", SAID[1][1]), ("Ann", SAID[2][1])),
                FOUND.emotions, (0.8, 0.25, 0.667), strict=True,
            )
        ],
        "pairs": [[2, 1], [3, 1], [3, 2]],
        "pair_emotions": ["fear", "sadness", "sadness"],
        "pair_confidences": [0.512, 0.9, 0.988],
        "predicted_by": BY,
    }  # fmt: skip
    theirs = with_prediction(SEMEVAL, FOUND, BY)
    assert theirs["emotion-cause_pairs"] == [
        ["2_fear", "1"],
        ["3_sadness", "1"],
        ["3_sadness", "2"],
    ]
    # Other numbers become those that the pairs refer to.
    other = copy.deepcopy(SEMEVAL)
    for turn, number in zip(other["conversation"], (0.0, "u1", None), strict=True):
        turn["utterance_ID"] = number
    turns = with_prediction(other, FOUND)["conversation"]
    assert [turn["utterance_ID"] for turn in turns] == [1, 2, 3]
    del other["conversation"][0]["utterance_ID"]
    assert "utterance_ID" not in with_prediction(other, FOUND)["conversation"][0]
    assert theirs["conversation"][1]["speaker"] == "", "not null"
    assert theirs["conversation"][2]["emotion_probability"] == 0.667
    assert theirs["pair_confidences"] == ours["pair_confidences"]
    # Once corrected, either is a labelled corpus.
    for turn in (ours["utterances"][1], theirs["conversation"][1]):
        turn["speaker"] = "Ben"
    read = *parse_objects([ours], "here"), *parse_conversations([theirs], "here", True)
    for dialogue in read:
        assert list(dialogue.pairs) == FOUND.pairs
        assert [u.emotion for u in dialogue.utterances] == FOUND.emotions


def test_of_a_dialogue_that_was_cut_the_first_utterances_have_emotions():
    cut = with_prediction(OURS, FOUND._replace(emotions=["joy"], probabilities=[1.0], pairs=[]))
    assert [turn.get("emotion_probability") for turn in cut["utterances"]] == [1.0, None, None]
    assert "predicted_by" not in cut


def test_the_emotion_of_a_pair_is_that_of_its_utterance():
    probabilities = np.full((3, len(EMOTIONS)), 0.01)
    probabilities[:, 0] = 0.7  # neutral
    probabilities[1, EMOTIONS.index("fear")] = 0.2
    probabilities[2, EMOTIONS.index("joy")] = 0.9
    found = predict([(1, 0), (1, 1)], [0.5, 0.6], probabilities, EMOTIONS)
    assert found.emotions == ["neutral", "fear", "joy"]
    assert found.probabilities == pytest.approx([0.7, 0.2, 0.9])


@pytest.mark.parametrize("name", ["x.csv", "x.tsv.gz", "X.CSV"])
def test_a_table_has_a_row_for_every_utterance(name):
    items = [with_prediction(item, FOUND, BY) for item in (OURS, SEMEVAL)]
    data, done = written(items, name)
    assert done == Summary(conversations=2, utterances=6, pairs=6)
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=",\t"["tsv" in name]))
    assert rows[0] == list(COLUMNS)
    first, last = ["a/talk.srt", "7"], ["0.5", "runs/rpcl"]
    assert rows[1:4] == [
        [*first, "1", "Ann", SAID[0][1], "neutral", "0.8", "", "", *last],
        [*first, "2", "", "Oh no,\n那太糟了 ", "fear", "0.25", "1", "0.512", *last],
        [*first, "3", "Ann", SAID[2][1], "sadness", "0.667", "2 1", "0.988 0.9", *last],
    ]
    assert [row[1:] for row in rows[4:]] == [row[1:] for row in rows[1:4]]
    assert {row[0] for row in rows[4:]} == {""}, "not of a folder"
    assert written([], name)[1] == Summary()
    assert written([], "x.csv")[0].decode().split() == [",".join(COLUMNS)]


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.csv", "x.tsv"])
def test_every_output_can_be_an_input(tmp_path, name):
    items = [with_prediction(SEMEVAL | {"conversation_ID": n}, FOUND, BY) for n in (1, 2)]
    (tmp_path / name).write_bytes(written(items, name)[0])
    dialogues = read_dialogues(tmp_path / name)
    assert [d.id for d in dialogues] == ["1", "2"]
    said = [("Ann", SAID[0][1]), ("unknown", None), ("Ann", SAID[2][1])]
    for (speaker, text), utterance in zip(said, dialogues[1].utterances, strict=True):
        assert utterance.speaker == speaker
        assert text in (None, utterance.text)
        assert utterance.emotion is None, "labels are not read"


def test_what_cannot_be_read_is_left_out():
    rejected = []
    file = io.BytesIO()
    results = [("a", InputError("no")), ("b", with_prediction(OURS, FOUND, BY))]
    done = write_results(results, file, "x.json", 2, lambda *told: rejected.append(told))
    assert rejected == [("a", results[0][1])]
    assert (done.rejected, done.conversations, done.windowed) == (1, 1, 1)
    assert json.loads(file.getvalue()) == [json.loads(json.dumps(results[1][1]))]
