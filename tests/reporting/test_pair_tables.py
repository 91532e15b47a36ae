"""Tables of pairs and of speakers, and what is printed for reading."""

import csv

import pytest

from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.decode import Prediction
from rpcl_jax.reporting.pair_tables import (
    PAIR_COLUMNS,
    pair_lines,
    pair_table,
    printed,
    speaker_table,
)
from rpcl_jax.reporting.predictions import with_prediction

TURNS = [
    {
        "speaker": "Ann",
        "text": "Our dog died.",
        "clip": {"video": "a", "start": 3725.6, "end": 3727},
    },
    {"speaker": "Ben", "text": "=)\x07 Oh, \ud83dno!\ufffe"},
    {"speaker": "", "text": "He was fifteen."},
]
FOUND = Prediction(
    [(0, 0), (1, 0), (1, 1)],
    [0.9, 0.71, 0.4],
    ["sadness", "emotional", "neutral"],
    [0.8, 0.55, 0.9],
)
BY = {"model": "runs/rpcl", "threshold": 0.3}
OURS = with_prediction({"id": "dog", "source": "a.vtt", "utterances": TURNS}, FOUND, BY)
SEMEVAL = with_prediction({"conversation_ID": 3, "conversation": TURNS}, FOUND, BY)
NAMES = ("neutral", "joy", "sadness")


def rows(path):
    return [*csv.reader(path.open(newline=""), delimiter="\t" if path.suffix == ".tsv" else ",")]


@pytest.mark.parametrize(("item", "source", "name"), [(OURS, "a.vtt", "dog"), (SEMEVAL, "", "3")])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_row_for_each_pair(item, source, name, suffix, tmp_path):
    path = tmp_path / f"pairs{suffix}"
    with pair_table(path) as add:
        add(item)
        assert not path.exists()
    said = "=)\x07 Oh, no!\ufffe"
    assert rows(path) == [
        [*PAIR_COLUMNS],
        [source, name, "1:02:05", "1", "Ann", "sadness", "0.8", "Our dog died.", "1", "Ann",
         "Our dog died.", "0.9"],
        [source, name, "", "2", "Ben", "emotional", "0.55", said, "1", "Ann", "Our dog died.",
         "0.71"],
        [source, name, "", "2", "Ben", "emotional", "0.55", said, "2", "Ben", said, "0.4"],
    ]  # fmt: skip


def test_a_row_for_each_speaker(tmp_path):
    path = tmp_path / "speakers.csv"
    with speaker_table(path, NAMES) as add:
        add(OURS)
        add(OURS)
        add({**SEMEVAL, "source": "b"})
    header = [
        "source",
        "speaker",
        "utterances",
        *NAMES,
        "emotional",
        "pairs",
        "caused_by",
        "caused",
    ]
    assert rows(path) == [
        header,
        ["a.vtt", "Ann", "2", "0", "0", "2", "0", "2", "Ann 2", "Ann 2; Ben 2"],
        ["a.vtt", "Ben", "2", "0", "0", "0", "2", "4", "Ann 2; Ben 2", "Ben 2"],
        ["a.vtt", "unknown", "2", "2", "0", "0", "0", "0", "", ""],
        ["b", "Ann", "1", "0", "0", "1", "0", "1", "Ann 1", "Ann 1; Ben 1"],
        ["b", "Ben", "1", "0", "0", "0", "1", "2", "Ann 1; Ben 1", "Ben 1"],
        ["b", "unknown", "1", "1", "0", "0", "0", "0", "", ""],
    ]


def test_excel(tmp_path, monkeypatch):
    openpyxl = pytest.importorskip("openpyxl")
    with pair_table(tmp_path / "a.XLSX") as add:
        add(OURS)
    (sheet,) = openpyxl.load_workbook(tmp_path / "a.XLSX").worksheets
    table = [*sheet.iter_rows(values_only=True)]
    assert [table[0], len(table)] == [PAIR_COLUMNS, 4]
    assert table[2][7] == "=) Oh, no!"  # a text and no formula
    assert table[2][-1] == 0.71
    monkeypatch.setattr("rpcl_jax.reporting.pair_tables._MOST_ROWS", 3)
    with (
        pytest.raises(InputError, match="more rows than Excel has"),
        pair_table(tmp_path / "b.xlsx") as add,
    ):
        add(OURS)
    assert not (tmp_path / "b.xlsx").exists()


def test_what_is_printed(capsys):
    assert pair_lines(OURS) == [
        "a.vtt dog: 3 pairs in 3 utterances",
        "   1  1:02:05 Ann: Our dog died.",
        "      sadness 0.80, caused by",
        "      0.90  itself",
        "   2  Ben: =)\x07 Oh, \ud83dno!\ufffe",
        "      emotional, caused by",
        "      0.71   1  1:02:05 Ann: Our dog died.",
        "      0.40  itself",
    ]
    with printed() as add:
        add(
            with_prediction(
                {"id": 1, "utterances": TURNS[:1]}, FOUND._replace(pairs=[], confidences=[]), BY
            )
        )
    assert capsys.readouterr().out == "1: 0 pairs in 1 utterance\n"


def test_long_and_odd_turns_are_printed():
    turns = [
        {"speaker": "An" * 60, "text": "山" * 300, "clip": "film.mp4", "start": "00:01"},
        {"speaker": "", "text": None},
    ]
    found = Prediction([(0, 0), (1, 0)], [0.9, 0.8], ["joy", "joy"], [0.8, 0.7])
    item = {"id": "talk", "source": "talk.vtt", "utterances": turns}
    head, first, *_ = pair_lines(with_prediction(item, found, BY))
    assert head == "talk.vtt: 2 pairs in 2 utterances"
    assert first == f"   1  00:01 {'An' * 60}: {'山' * 20} …"
