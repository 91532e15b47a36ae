"""Tables in MELD's and in other layouts, ConvoKit's utterances, and Whisper's segments."""

import csv
import io
import json
import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcl_jax.data.dialogue import Clip
from rpcl_jax.errors import InputError
from rpcl_jax.readers.json_fields import seconds
from rpcl_jax.readers.json_turns import single_turn
from rpcl_jax.readers.tables import group_turns
from rpcl_jax.readers.transcripts import conversations_in, parse
from rpcl_jax.reporting.predictions import write_results


def table(rows, **style):
    file = io.StringIO(newline="")
    csv.writer(file, **style).writerows(rows)
    return file.getvalue()


def read(path, content):
    """Places and items of a file, and the dialogues of those that have no error."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    items = [(place.removeprefix(str(path)), item) for place, item in
             conversations_in(path, Counter())]  # fmt: skip
    return items, [
        parse(item, place, Counter(), labelled=True)
        for place, item in items
        if not isinstance(item, InputError)
    ]


MELD = [
    ["Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID",
     "Season", "Episode", "StartTime", "EndTime"],
    ["1", 'The kettle, I said, "exploded"!', "Ann", "surprise", "negative", "559", "0", "8", "21",
     "00:16:16,059", "00:16:21,731"],
    ["2", "Again?\nReally?", "Bo", "neutral", "neutral", "559", "1", "8", "21", "00:16:21,940",
     "00:16:20,442"],
    ["3", "Do not laugh.", "Ann", "anger", "negative", "560", "0", "10", "3", "0:00:01", "0:00:02"],
]  # fmt: skip


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_like_those_of_meld(tmp_path, delimiter, encoding):
    content = table(MELD, delimiter=delimiter).encode(encoding)
    for name in ("dev_sent_emo.csv", "dev.tsv", "dev.txt"):
        items, dialogues = read(tmp_path / name, content)
        assert [place for place, _ in items] == [": conversation '559'", ": conversation '560'"]
        assert [d.id for d in dialogues] == ["559", "560"]
        first, second = dialogues[0].utterances
        assert (first.id, first.speaker, first.text) == ("dia559_utt0", "Ann", MELD[1][1])
        assert (first.emotion, first.clip) == ("surprise", Clip("S08E21", 976.059, 981.731))
        assert (second.id, second.text, second.clip) == ("dia559_utt1", "Again?\nReally?", None)
        assert dialogues[1].utterances[0].clip == Clip("S10E03", 1.0, 2.0)
        assert all(d.pairs is None for d in dialogues)


def test_tables_of_other_columns(tmp_path):
    path = tmp_path / "x.csv"
    _, (a, b) = read(path, "dialogue_id,speaker,text\na,Ann,Oh\nb,Bo,No\n\na,,\n,Ann\n")
    assert [(u.id, u.speaker, u.text) for u in a.utterances] == [
        ("diaautt1", "Ann", "Oh"), ("diaautt2", "unknown", ""), ("diaautt3", "Ann", ""),
    ]  # fmt: skip
    assert [(u.id, u.speaker, u.text) for u in b.utterances] == [("diabutt1", "Bo", "No")]
    # Excel in Germany; turns by number; a film with times.
    excel = (
        "sep=;\r\nTurn;Name;Text;Video;Start;End\r\n"
        "10;Zoë;Zwei;d/film.MP4;12,5;1:02\r\n2;Bo;Eins;;;\r\n"
    )
    _, (only,) = read(path, excel.encode("utf-8-sig"))
    assert only.id == "x"
    assert [(u.speaker, u.text, u.clip) for u in only.utterances] == [
        ("Bo", "Eins", None), ("Zoë", "Zwei", Clip("d/film.MP4", 12.5, 62.0)),
    ]  # fmt: skip
    # Times alone are times of a recording with the table's name.
    _, (only,) = read(
        tmp_path / "talk.csv", "conversation id,turn,utterance,start\n1,1,a,2\n1,2,b,3"
    )
    assert [(u.id, u.clip) for u in only.utterances] == [
        ("dia1_utt1", Clip("talk", 2.0)), ("dia1_utt2", Clip("talk", 3.0)),
    ]  # fmt: skip
    # Of two columns with texts, the one with the commoner name counts.
    _, (only,) = read(path, "Utterance,text,speaker\na,b,c\n")
    assert [u.text for u in only.utterances] == ["b"]
    # Many tables with tabs know no quotation marks.
    _, (only,) = read(tmp_path / "x.tsv", 'speaker\ttext\nAnn\t"Oh" she said\nBo\t"No\n')
    assert [u.text for u in only.utterances] == ['"Oh" she said', '"No']


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        ("a,b\n1,2\n", "", "its first line names no column 'text' or 'Utterance', but a, b"),
        ('text,speaker\n"a" b,c\n', "", "',' expected after '\"'; put texts in quotation marks"),
        ('text,speaker\n"a,c\n', "", "unexpected end of data; put texts"),
        (
            "speaker,text\nAnn,Oh, no\n",
            ": conversation 'x'",
            "more cells than there are columns, at",
        ),
        (f"speaker,text\nAnn,{'a' * 140_000}\n", "", "field larger than field limit"),
        ("dialogue_id,text\n\n", "", "has no row below its first line"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, content, place, message):
    items, dialogues = read(tmp_path / "x.csv", content)
    assert dialogues == []
    assert [p for p, _ in items] == [place]
    assert all(str(e).startswith(f"{tmp_path}/x.csv{place}: ") and message in str(e)
               for _, e in items)  # fmt: skip


def test_one_bad_row_costs_one_conversation(tmp_path):
    content = "dialogue_id,text\n1,a, b\n2,c\n2,d,\n"
    items, dialogues = read(tmp_path / "x.csv", content)
    assert isinstance(items[0][1], InputError)
    assert [[u.text for u in d.utterances] for d in dialogues] == [["c", "d"]]


def utterance(name, root="a", reply=None, time=None):
    """A line of `utterances.jsonl` as ConvoKit documents it."""
    return {
        "id": name,
        "conversation_id": root,
        "text": f"{name}!",
        "speaker": f"s-{name}",
        "meta": {"score": math.nan},
        "reply-to": reply,
        "timestamp": time,
        "vectors": [],
    }


def texts(*turns):
    return ["".join(u["text"][0] for u in item["utterances"])
            for _, item in group_turns(map(single_turn, turns), "x", "y", Counter())]  # fmt: skip


def test_convokit(tmp_path):
    lines = [utterance("b", reply="a", time=5), utterance("x", "x", time="1"),
             utterance("c", reply="b", time=3.0), utterance("a", time=4)]  # fmt: skip
    (tmp_path / "corpus").mkdir()
    for name in ("speakers", "conversations", "corpus", "index"):
        (tmp_path / f"corpus/{name}.json").write_text("{}")
    path = tmp_path / "corpus/utterances.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n{broken\n")
    (bad, error), *found = conversations_in(path.parent, Counter())
    assert bad == f"{path}:5"
    assert isinstance(error, InputError)
    assert [place for place, _ in found] == [f"{path}: conversation '{k}'" for k in "ax"]
    dialogue = parse(found[0][1], "here", Counter())
    assert [(u.id, u.speaker, u.text) for u in dialogue.utterances] == [
        ("a", "s-a", "a!"), ("b", "s-b", "b!"), ("c", "s-c", "c!"),
    ]  # fmt: skip
    nobody = texts(utterance("a", "a"), utterance("b", math.nan), utterance("c", " "))
    assert nobody == ["abc"], "of the conversation before"
    old = {"id": "1", "root": "1", "user": "Ann", "text": "Oh", "reply_to": None}
    _, (only,) = read(tmp_path / "old.json", json.dumps([old]))
    assert [(u.id, u.speaker) for u in only.utterances] == [("1", "Ann")]


def test_the_order_of_replies_and_times():
    u = utterance
    assert texts(u("c", reply="b"), u("b", reply="a"), u("a"), u("d", reply="a")) == ["abcd"]
    assert texts(u("a", time=3), u("b", time=1), u("c", time=2)) == ["bca"]
    assert texts(u("a", time=3), u("b", time=1), u("c", time=None)) == ["abc"]
    dates = ["2020-05-01T10:00:00", "2020-05-01 09:00", "2019-12-31T23:59:59"]
    assert texts(*(u(n, time=t) for n, t in zip("abc", dates, strict=True))) == ["cba"]
    # A reply to what is not there, to itself, or in a circle.
    assert texts(u("a", reply="z", time=2), u("b", reply="b", time=1)) == ["ba"]
    assert texts(u("a", reply="b", time=2), u("b", reply="a", time=1), u("c", time=9)) == ["cab"]


@given(st.integers(1, 12), st.randoms(use_true_random=False))
def test_a_reply_follows_and_otherwise_the_earliest_is_next(count, rng: random.Random):
    parents = [None] + [rng.choice([None, *range(k)]) for k in range(1, count)]
    times = [rng.randint(0, 3) for _ in range(count)]
    turns = [utterance(str(k), reply=None if p is None else str(p), time=t)
             for k, (p, t) in enumerate(zip(parents, times, strict=True))]  # fmt: skip
    rng.shuffle(turns)
    ((_, item),) = group_turns(map(single_turn, turns), "x", "here", Counter())
    order = [int(u["id"]) for u in item["utterances"]]
    said: set = {None}
    for k in order:
        open_ = [j for j in range(count) if j not in said and parents[j] in said]
        assert k in open_
        assert times[k] == min(times[j] for j in open_)
        said.add(k)
    assert len(order) == count


def segments(**changes):
    """The JSON that WhisperX writes, and Whisper without the speakers."""
    first = {"id": 0, "seek": 0, "start": 0.36, "end": 2.5, "text": " Did you hear?",
             "tokens": [50364, 2], "avg_logprob": math.nan, "no_speech_prob": 0.01,
             "words": [{"word": "Did", "start": 0.36, "end": 0.5, "score": 0.9,
                        "speaker": "SPEAKER_00"}], "speaker": "SPEAKER_00"}  # fmt: skip
    second = {"id": 1, "start": 2.5, "end": 2.5, "text": " No."}
    return {"text": " Did you hear? No.", "segments": [first, second | changes], "language": "en"}


def test_whisper(tmp_path):
    name = "session1.json"
    for content in (segments(), segments()["segments"]):
        for indent in (None, 2):
            items, (only,) = read(tmp_path / name, json.dumps(content, indent=indent))
            assert len(items) == 1
            assert only.id == "session1"
            assert [(u.id, u.speaker, u.text, u.clip) for u in only.utterances] == [
                ("diasession1utt1", "SPEAKER_00", "Did you hear?", Clip("session1", 0.36, 2.5)),
                ("diasession1utt2", "unknown", "No.", None),
            ]
    (_, odd), (_, none) = read(tmp_path / "x.jsonl", '{"segments": [5]}\n{"segments": []}')[0]
    assert "nor a list of turns that is known" in str(odd)
    assert "no speech was found" in str(none)
    lines = "\n".join(json.dumps(segments(end=3)) for _ in range(2))
    assert [d.id for d in read(tmp_path / "all.jsonl", lines)[1]] == ["all", "all-2"]


def test_seconds():
    for time, expected in {
        "1:02:03,5": 3723.5, "02:03.25": 123.25, "3.5": 3.5, " 7 ": 7.0, 2: 2.0, 2.5: 2.5,
        "1:2:3:4": None, "": None, "x": None, True: None, None: None, "-1": None, 1e10: None,
    }.items():  # fmt: skip
        assert seconds(time) == expected
    assert seconds(math.nan) is None
    assert seconds([1]) is None


def test_unusable_times_are_left_out_and_counted(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,start,end\na,soon,20\nb,5,3\nc,,\nd,nan,7\ne,1,2\n")
    repaired = Counter()
    ((place, item),) = conversations_in(path, repaired)
    clips = [u.clip for u in parse(item, place, Counter()).utterances]
    assert clips == [None, None, None, None, Clip("x", 1.0, 2.0)]
    assert repaired["unusable clips (left out)"] == 3


def test_a_table_of_predictions_is_read_as_what_it_was(tmp_path):
    """Also where ids repeat, in one source and in several."""

    def conversation(source, *words):
        turns = [{"text": word, "speaker": "A", "emotion": "joy", "emotion_probability": 0.5}
                 for word in words]  # fmt: skip
        by = {"threshold": 0.5, "model": "m"}
        return {"source": source, "id": "0", "utterances": turns, "pairs": [[1, 1]],
                "pair_confidences": [0.5], "predicted_by": by}  # fmt: skip

    given = [conversation("mon.csv", "a", "b"), conversation("tue.csv", "c", "d", "e"),
             conversation("tue.csv", "f")]  # fmt: skip
    for name in ("o.csv", "o.tsv"):
        with (tmp_path / name).open("wb") as file:
            write_results([("", item) for item in given], file, name, 9, print)
        found = [item for _, item in conversations_in(tmp_path / name, Counter())]
        assert [item["source"] for item in found] == ["mon.csv", "tue.csv", "tue.csv"]
        assert [item["id"] for item in found] == ["0"] * 3
        assert [[u["text"] for u in item["utterances"]] for item in found] == [
            ["a", "b"], ["c", "d", "e"], ["f"],
        ]  # fmt: skip
    # Of other tables, a column of this name says where a turn is from.
    _, (only,) = read(tmp_path / "x.csv", "dialogue_id,text,source\n1,a,web\n1,b,phone\n")
    assert [u.text for u in only.utterances] == ["a", "b"]
