"""The emotion classes of a run, and what is done about emotions that are none of them."""

import pytest
from shared import tiny_config

from rpcl_jax.data.dialogue import BINARY, EMOTIONS, Dialogue, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.readers.conversations import write_conversations
from rpcl_jax.readers.corpus import (
    emotion_classes,
    load_corpus,
    load_splits,
    named_emotions,
    with_classes,
)
from rpcl_jax.run.config import check_fields


def dialogue(name, *emotions):
    utterances = tuple(Utterance(f"{name}-{t}", "A", "x", e) for t, e in enumerate(emotions))
    return Dialogue(name, utterances, tuple((t, 0) for t in range(len(emotions))))


def config(emotions="auto", unknown="refuse"):
    c = tiny_config()
    c.data.emotions, c.data.unknown_emotion = emotions, unknown
    return c


@pytest.mark.parametrize(
    ("emotions", "train", "classes"),
    [
        ("auto", EMOTIONS[::-1], EMOTIONS),
        ("auto", ("sadness", "neutral", "joy"), ("neutral", "joy", "sadness")),
        ("auto", ("frustrated", "joy", "excited"), ("neutral", "excited", "frustrated", "joy")),
        ("auto", ("emotional", "neutral"), BINARY),
        ("binary", ("joy", "neutral"), BINARY),
        ("joy,Happy ,anger", ("joy",), None),
        ("sadness,happiness,neutral", ("joy",), ("neutral", "sadness", "joy")),
    ],
)
def test_classes(emotions, train, classes):
    if classes is None:
        with pytest.raises(InputError, match=r"data\.emotions: 'joy,Happy ,anger' is no list"):
            emotion_classes(config(emotions), [dialogue("1", *train)])
    else:
        assert emotion_classes(config(emotions), [dialogue("1", *train)]) == classes


@pytest.mark.parametrize("emotions", ["", "categories", "joy", "neutral,", ",", "joy,joy"])
def test_a_field_that_names_no_emotions(emotions):
    with pytest.raises(InputError, match=r"^config\.data\.emotions: .* it may be auto, binary or"):
        check_fields(config(emotions))


def test_classes_are_known_without_a_corpus_only_if_they_are_named():
    assert named_emotions(config("auto")) == ()
    assert named_emotions(config("joy,fear")) == ("neutral", "joy", "fear")


def test_unusual_classes_are_named(capsys):
    train = [dialogue("1", "excited", "joy", "excited", "sadnes"), dialogue("2", *EMOTIONS)]
    emotion_classes(config(), train)
    said = "emotions that are classes of their own: excited (2), sadnes (1)\n"
    assert capsys.readouterr().err == said
    emotion_classes(config(), train[1:])
    assert capsys.readouterr().err == ""


def test_categories_and_none_are_refused_together():
    with pytest.raises(InputError, match=r"1 emotions without a category beside anger, joy; .*bin"):
        emotion_classes(config(), [dialogue("1", "emotional", "joy", "anger")])


def test_a_training_split_without_emotions():
    with pytest.raises(InputError, match="the training split has no emotion"):
        emotion_classes(config(), [dialogue("1", "neutral")])


SPLITS = {
    "train": [dialogue("1", "joy", "neutral")],
    "dev": [dialogue("2", "joy", "awe"), dialogue("3", "awe", "excited"), dialogue("4", "joy")],
    "test": [dialogue("5", "joy"), dialogue("6", "excited", "neutral")],
}
CLASSES = ("neutral", "joy")


def test_unknown_emotions_are_refused_all_at_once():
    with pytest.raises(InputError) as caught:
        with_classes(SPLITS, CLASSES, config())
    awe, *excited = caught.value.args
    assert awe.startswith(
        "dev: the emotion 'awe' is not one of the classes; 2 utterances have it (conversation 2 "
        "utterance 2, conversation 3 utterance 1); correct them, or choose "
        "--config.data.unknown_emotion=neutral or skip"
    )
    for line, split, place in zip(
        excited, ("dev", "test"), ("3 utterance 2", "6 utt"), strict=True
    ):
        assert line.startswith(f"{split}: the emotion 'excited' is not one of the classes; 1 utt")
        assert f"(conversation {place}" in line
    many = [dialogue("7", *["awe"] * 9)]
    with pytest.raises(InputError, match=r"7 utterance 3, …\)"):
        with_classes({"dev": many}, CLASSES, config())


def test_unknown_emotions_are_taken_as_neutral(capsys):
    kept = with_classes(SPLITS, CLASSES, config(unknown="neutral"))
    assert kept == {
        "train": SPLITS["train"],
        "dev": [dialogue("2", "joy", "neutral"), dialogue("3", "neutral", "neutral"),
                dialogue("4", "joy")],
        "test": [dialogue("5", "joy"), dialogue("6", "neutral", "neutral")],
    }  # fmt: skip
    assert capsys.readouterr().err.splitlines() == [
        "dev: the emotion 'awe' is not one of the classes; 2 utterances have it, taken as neutral",
        "dev: the emotion 'excited' is not one of the classes; 1 utterances "
        "have it, taken as neutral",
        "test: the emotion 'excited' is not one of the classes; 1 utterances "
        "have it, taken as neutral",
    ]


def test_conversations_with_unknown_emotions_are_skipped(capsys):
    kept = with_classes(SPLITS, CLASSES, config(unknown="skip"))
    assert kept == {
        "train": SPLITS["train"], "dev": SPLITS["dev"][2:], "test": SPLITS["test"][:1]
    }  # fmt: skip
    *emotions, dev, test = capsys.readouterr().err.splitlines()
    assert len(emotions) == 3
    assert "2 utterances have it, so their conversations are skipped" in emotions[0]
    assert (dev, test) == ("dev: 2 conversations are skipped", "test: 1 conversations are skipped")
    with pytest.raises(InputError, match=r"^dev: no conversation is left"):
        with_classes(SPLITS | {"dev": SPLITS["dev"][:2]}, CLASSES, config(unknown="skip"))


@pytest.mark.parametrize("unknown", ["refuse", "neutral", "skip"])
def test_two_classes_know_every_emotion(unknown):
    assert with_classes(SPLITS, BINARY, config(unknown=unknown)) == SPLITS


def test_the_classes_of_a_corpus(tmp_path):
    c = config(unknown="skip")
    c.modalities, c.data.format, c.data.root = "t", "conversations", str(tmp_path)
    for split, dialogues in SPLITS.items():
        write_conversations(tmp_path / f"{split}.jsonl", dialogues)
    splits, tables, emotions, _ = load_corpus(c)
    assert (emotions, tables) == (("neutral", "joy"), {})
    assert splits["dev"] == SPLITS["dev"][2:]
    # A run that was trained with more classes keeps them, whatever its data have become.
    splits, _, emotions, _ = load_corpus(c, ("neutral", "awe", "joy"))
    assert emotions == ("neutral", "awe", "joy")
    assert [d.id for d in splits["dev"]] == ["2", "4"]


def test_what_is_wrong_with_any_split_is_listed_at_once(tmp_path):
    c = config()
    c.data.format, c.data.root = "conversations", str(tmp_path)
    for split in ("train", "test"):  # and no dev
        (tmp_path / f"{split}.jsonl").write_text('{"id": 1, "utterances": []}\n{"id": 2}\n')
    for labelled in (True, False):
        with pytest.raises(InputError) as caught:
            load_splits(c, labelled=labelled)
        files = [line.partition(":")[0].rpartition("/")[2] for line in caught.value.args]
        assert files == ["train.jsonl"] * 2 + ["dev.jsonl"] + ["test.jsonl"] * 2
    c.data.root = str(tmp_path / "another")  # one line for the folder
    with pytest.raises(InputError, match=r"^[^\n]*train\.jsonl: not found[^\n]*$"):
        load_splits(c)
