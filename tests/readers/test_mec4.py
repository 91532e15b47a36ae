"""MEC4's reader, on files made up from its documentation; the benchmark is not public."""

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rpcl_jax.data.dialogue import Clip, Dialogue, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.readers.mec4 import read_mec4, read_split, split_text

ROW: dict[str, Any] = {
    "dia_id": 12,
    "dia_len": 3,
    "text": "1.安：水壶炸了！ 2.博：又一次？ 3.安：别笑。",
    "pairs": "(3,2),(1,1)",
}
TURNS = [("安", "水壶炸了！"), ("博", "又一次？"), ("安", "别笑。")]


def dialogue(emotions=("emotional", "neutral", "emotional"), clips=(None, None, None)):
    return Dialogue(
        "12",
        tuple(
            Utterance(f"dia12utt{t}", *turn, emotion, clip)
            for t, (turn, emotion, clip) in enumerate(zip(TURNS, emotions, clips, strict=True), 1)
        ),
        ((0, 0), (2, 1)),
    )


def write(folder, rows, name="train.json"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return folder / name


def test_files_of_the_splits(tmp_path):
    for split, name in {"train": "train", "dev": "valid", "test": "test"}.items():
        with pytest.raises(InputError, match=rf"MEC4_text/{name}\.json: not found; request MEC4"):
            read_split(tmp_path, split)
        write(tmp_path / "MEC4_text", [{**ROW, "dia_id": f"{split}7"}, ROW], f"{name}.json")
        first, second = read_split(tmp_path, split)
        assert (first.id, first.utterances[2].id) == (f"{split}7", f"dia{split}7utt3")
        assert second == dialogue()


@pytest.mark.parametrize(
    "pairs",
    [
        "(3,2),(1,1)",
        "（3，2），（1，1）",
        "(3，2)、(1,1)",
        " (3, 2) (1, 1), ",
        "[3,2];[1,1]",
        "[(3,2),(1,1)]",
        "（３，２），（１，１）",
        [[3, 2], [1, 1]],
        ["(3,2)", "（1，1）"],
        ["(3,2),(1,1)"],
    ],
)
def test_pairs(tmp_path, pairs):
    assert read_mec4(write(tmp_path, [{**ROW, "pairs": pairs}])) == [dialogue()]


@pytest.mark.parametrize("pairs", ["", " ", None, [], "[]"])
def test_no_pairs(tmp_path, pairs):
    (read,) = read_mec4(write(tmp_path, [{**ROW, "pairs": pairs}]))
    assert read.pairs == ()
    assert [u.emotion for u in read.utterances] == ["neutral"] * 3


@pytest.mark.parametrize("key", ["emotion", "emotions"])
def test_optional_categories(tmp_path, key):
    path = write(tmp_path, [{**ROW, key: ["Happy", "neutral", "anger"]}])
    assert read_mec4(path) == [dialogue(("joy", "neutral", "anger"))]
    assert read_mec4(write(tmp_path, [{**ROW, key: None}])) == [dialogue()]


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        (ROW["text"], TURNS),
        ("1.安：水壶炸了！2.博：又一次？3.安：别笑。", TURNS),
        ("1．安:水壶炸了！\n2、博: 又一次？\n3. 安 ：别笑。\n", TURNS),
        ("１．安：水壶炸了！ ２．博：又一次？ ３．安：别笑。", TURNS),
        # The words contain colons and numbers.
        ("1.A：他说：好 2.B：12:30 见，2.5 折", [("A", "他说：好"), ("B", "12:30 见，2.5 折")]),
        ("1.Dr. No: I have 2. You? 2.Jo: Hi", [("Dr. No", "I have 2. You?"), ("Jo", "Hi")]),
        ("1.2号：走 2.甲，乙：好", [("2号", "走"), ("甲，乙", "好")]),
    ],
)  # fmt: skip
def test_split_text(text, turns):
    assert split_text(text, len(turns), "here") == turns


WORDS = st.text(alphabet="水 ab：:.、12，", min_size=1, max_size=12).map(str.strip).filter(bool)


@given(st.lists(st.tuples(st.sampled_from(["安", "b", "C.b"]), WORDS), min_size=1, max_size=4))
@example([("安", "1.安：x"), ("b", "2.b:")])
@example([("安", "两点：2.吃：饱"), ("b", "好")])
def test_a_text_is_split_in_the_only_way_or_refused(turns):
    text = " ".join(f"{t}.{speaker}：{words}" for t, (speaker, words) in enumerate(turns, 1))
    numbers = len(re.findall("[0-9]+[.、]", text))
    try:
        assert split_text(text, len(turns), "here") == turns
    except InputError:
        assert numbers > len(turns)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dia_len": 4}, "its text must be 4 utterances, .* after them are 1, 2, 3; correct the"),
        ({"dia_len": 2}, ".* must be 2 utterances, .* after them are 1, 2, 3;"),
        ({"dia_len": 0}, "dia_len cannot be '0'"),
        ({"dia_len": "three"}, "dia_len cannot be 'three'"),
        ({"dia_len": 10**8}, "its text must be 100000000 utterances"),
        ({"dia_len": None}, "it has no 'dia_len'"),
        ({"text": ROW["text"].replace("2.", "4.")}, ".* after them are 1, 4, 3;"),
        ({"text": ROW["text"].replace("博：", "博")}, ".* after them are 1, 3;"),
        ({"text": ROW["text"].replace("别笑", "第 3.我想：好")}, ".* after them are 1, 2, 3, 3;"),
        ({"text": "安：水壶炸了！"}, ".* after them are none;"),
        ({"text": ROW["text"].replace("又一次？", "")}, "utterance 2 of its text has no words"),
        ({"text": ROW["text"].replace("博", " ")}, "utterance 2 of its text has no speaker"),
        ({"text": "前言 " + ROW["text"]}, "its text must start with '1.speaker:'"),
        ({"text": " "}, "its 'text' is blank"),
        ({"pairs": "(3,2),(1"}, "'pairs' cannot be"),
        ({"pairs": "3,2"}, "'pairs' cannot be '3,2'"),
        ({"pairs": [3, 2]}, "'pairs' cannot be"),
        ({"pairs": {"3": 2}}, "'pairs' cannot be"),
        ({"pairs": "(4,2)"}, r"pair \(4,2\) points outside"),
        ({"emotions": ["joy"]}, "its emotions must be a list of 3 names"),
        ({"emotion": "joy"}, "its emotions must be a list of 3 names"),
        ({"emotions": ["joy", "", "joy"]}, "utterance 2 cannot have the emotion ''"),
    ],
)
def test_malformed_rows_are_refused_in_one_line(tmp_path, changes, message):
    path = write(tmp_path, [{**ROW, "dia_id": 1}, {**ROW, **changes}])
    place = re.escape(f"{path}: conversation number 2 (dia_id 12): ")
    with pytest.raises(InputError, match=f"^{place}{message}[^\n]*$"):
        read_mec4(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "contains no conversation"),
        (["1.A：x"], "conversation number 1: expected an object with 'dia_id'"),
        ([{k: v for k, v in ROW.items() if k != "pairs"}], ".*it has no 'pairs'"),
        ([ROW, {**ROW, "pairs": ""}], "conversation id 12 is duplicated"),
    ],
)
def test_malformed_files_are_refused_in_one_line(tmp_path, rows, message):
    path = write(tmp_path, rows)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: {message}[^\n]*$"):
        read_mec4(path)


CLIPS = (Clip("12", 0.5, 2.25), Clip("12", 62.5, 3723.004), Clip("12", 7, 8))


@pytest.mark.parametrize(
    ("spans", "clips"),
    [
        ([[0.5, 2.25], [62.5, 3723.004], [7, 8]], CLIPS),
        (
            [
                {"start": "00:00:00.500", "end": "00:00:02,250", "text": "水壶炸了！"},
                {"start": "0:01:02.5", "end": "01:02:03.004"},
                {"start": 7, "end": "00:00:08"},
            ],
            CLIPS,
        ),
        # Entries without a usable span lose only their own clip.
        ([[0.5, 2.25], [5, 5], [7, 8]], (CLIPS[0], None, CLIPS[2])),
        ([[0.5, 2.25], [-1, 5], [7, 8]], (CLIPS[0], None, CLIPS[2])),
        ([[0.5, 2.25], [2e7, 2.1e7], [7, 8]], (CLIPS[0], None, CLIPS[2])),
        ([[0.5, 2.25], ["soon", 5], [7, 8]], (CLIPS[0], None, CLIPS[2])),
        ([[0.5, 2.25], [10**400, True], [7, 8]], (CLIPS[0], None, CLIPS[2])),
        ([[0.5, 2.25], {"from": 1}, [7, 8, 9]], (CLIPS[0], None, None)),
        ([[0.5, 2.25], None, [7, 8]], (CLIPS[0], None, CLIPS[2])),
        # Unless there is one entry per utterance, the assignment is unknown.
        ([[0.5, 2.25], [7, 8]], (None, None, None)),
        ("00:00:00.500", (None, None, None)),
    ],
)
def test_clips(tmp_path, spans, clips):
    write(tmp_path / "MEC4_text", [ROW])
    write(tmp_path, {"12": spans, "13": []}, "subtitles.json")
    assert read_split(tmp_path, "train") == [dialogue(clips=clips)]


@pytest.mark.parametrize("subtitles", [{}, {"13": [[0, 1]] * 3}, [], [[0, 1]]])
def test_subtitles_with_another_layout_give_no_clips(tmp_path, subtitles):
    write(tmp_path / "MEC4_text", [ROW])
    write(tmp_path, subtitles, "subtitles.json")
    assert read_split(tmp_path, "train") == [dialogue()]
    (tmp_path / "subtitles.json").write_text("{")
    with pytest.raises(InputError, match=r"subtitles\.json: line 1, column 2 is not JSON"):
        read_split(tmp_path, "train")
