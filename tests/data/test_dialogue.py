"""The checks that every dialogue passes."""

from collections import Counter

import pytest

from rpcl_jax.data.dialogue import (
    BINARY,
    Clip,
    Dialogue,
    Utterance,
    check_dialogue,
    check_unique,
    emotion_class,
    with_unique_ids,
)
from rpcl_jax.errors import InputError

TURNS = (
    Utterance("dia7utt1", "Ann", "The kettle exploded .", "surprise"),
    Utterance("dia7utt2", "Bo", "Again ?", "neutral"),
)


def clipped(start, end):
    return (Utterance("a", "Ann", "Oh .", clip=Clip("film", start, end)),)


def test_a_valid_dialogue_is_returned_unchanged():
    for pairs in (((0, 0), (0, 1)), (), None):
        dialogue = Dialogue("7", TURNS, pairs)
        assert check_dialogue(dialogue, "here") is dialogue
    unlabelled = Dialogue("7", tuple(Utterance(u.id, u.speaker, u.text) for u in TURNS))
    assert check_dialogue(unlabelled, "here") is unlabelled


@pytest.mark.parametrize(
    ("utterances", "pairs", "message"),
    [
        ((), (), "conversation 7 has no utterance"),
        ((TURNS[0], TURNS[0]), (), "utterance id dia7utt1 is duplicated"),
        (
            (Utterance("a", "Ann", "Oh .", "a\nb"),),
            (),
            r"utterance 1 cannot have the emotion 'a\\nb'",
        ),
        ((TURNS[0], Utterance("b", "Bo", "Oh .")), (), "1 of its 2 utterances have no emotion"),
        (
            (Utterance("a\tb", "Ann", "Oh ."),),
            None,
            r"'a\\tb' contains characters that are not printable",
        ),
        (clipped(2.0, 1.0), None, r"the clip of utterance 1 runs from 2\.0 to 1\.0"),
        (clipped(1e7, None), None, "the clip of utterance 1 runs"),
        (clipped(None, 0.0), None, "the clip of utterance 1 runs from None to 0"),
        (clipped(-1.0, 2.0), None, "the clip of utterance 1 runs"),
        (clipped(0.0, 1.7e12), None, "the clip of utterance 1 runs"),
        (TURNS, ((0, 2),), r"pair \(1,3\) points outside the conversation of 2 utterances"),
        (TURNS, ((-1, 0),), r"pair \(0,1\) points outside"),
    ],
)
def test_an_invalid_dialogue_is_refused_in_one_line(utterances, pairs, message):
    with pytest.raises(InputError, match=f"^made.txt:3: .*{message}[^\n]*$"):
        check_dialogue(Dialogue("7", utterances, pairs), "made.txt:3")


def test_duplicated_dialogue_ids_are_refused():
    check_unique([Dialogue("7", TURNS), Dialogue("8", TURNS)], "made.txt")
    with pytest.raises(InputError, match=r"^made\.txt: conversation id 7 is duplicated"):
        check_unique([Dialogue("7", TURNS), Dialogue("8", TURNS), Dialogue("7", TURNS)], "made.txt")


def test_all_faults_of_a_dialogue_are_listed():
    utterances = (
        Utterance("a", "Ann", "Oh .", "joy, or so", Clip("film", 2.0, 1.0)),
        Utterance("a", "Bo", "Oh ."),
    )
    with pytest.raises(InputError) as caught:
        check_dialogue(Dialogue("7", utterances, ((2, 0), (0, 2))), "made.txt:3")
    lines = str(caught.value).splitlines()
    for line, part in zip(
        lines,
        ("id a is", "emotion 'joy, or so'", "the clip", "1 of its 2", "(3,1)", "(1,3)"),
        strict=True,
    ):
        assert line.startswith("made.txt:3: ")
        assert part in line


def test_emotion_class():
    assert [emotion_class(e, ("neutral", "joy", "fear")) for e in ("fear", "neutral")] == [2, 0]
    assert [emotion_class(e, BINARY) for e in ("fear", "neutral", "emotional")] == [1, 0, 1]
    # "emotional" may be one category among others.
    assert emotion_class("joy", ("neutral", "emotional", "joy")) == 2
    with pytest.raises(ValueError, match="not in tuple"):
        emotion_class("excited", ("neutral", "joy", "fear"))


def test_ids_are_changed_only_where_they_would_repeat():
    def named(*names):
        return Dialogue("0", tuple(Utterance(name, "A", "x", clip=Clip("v")) for name in names))

    def ids(dialogues):
        used = Counter()
        return [[u.id for u in with_unique_ids(d, used).utterances] for d in dialogues]

    assert ids([named("1", "2"), named("1", "2"), named("3")]) == [
        ["1", "2"],
        ["1_2", "2_2"],
        ["3"],
    ]
    assert ids([named("1", "1_2", "1", "1"), named("1_2")]) == [
        ["1", "1_2", "1_3", "1_4"],
        ["1_2_2"],
    ]
    many = [named("1")] * 50_000  # each looks for a free number where the last one found it
    assert len({names[0] for names in ids(many)}) == 50_000
    unchanged = named("1", "2")
    assert with_unique_ids(unchanged, Counter()) == unchanged
    assert with_unique_ids(unchanged, Counter("1")).utterances[0].clip == Clip("v")
