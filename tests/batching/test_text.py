import numpy as np
import pytest

from rpcl_jax.batching.text import encode_dialogue, word_tokenizer
from rpcl_jax.data.dialogue import Dialogue, Utterance

DIALOGUE = Dialogue(
    "1",
    (
        Utterance("a", "Ann", "the dog ran"),
        Utterance("b", "Bo", "no"),
        Utterance("c", "Ann", "the big dog ran away"),
    ),
)
TOKENIZER = word_tokenizer([DIALOGUE])


def words(segment):
    return [TOKENIZER.backend.id_to_token(int(piece)) for piece in segment.token_ids]


def encode(dialogue=DIALOGUE, tokenizer=TOKENIZER, **settings):
    """Returns the segments of a dialogue."""
    defaults = {"context": "dialogue", "speaker_names": False, "max_tokens": 64}
    pieces = encode_dialogue(dialogue, tokenizer, **(defaults | settings))
    ends = np.cumsum(pieces.lengths)
    assert ends[-1] == len(pieces.token_ids)
    return [
        pieces._replace(token_ids=ids, utterances=of)
        for ids, of in zip(*(np.split(x, ends[:-1]) for x in pieces[:2]), strict=True)
    ]


def test_an_utterance_is_a_segment():
    segments = encode(context="utterance")
    assert [words(s) for s in segments] == [
        ["[CLS]", "the", "dog", "ran", "[SEP]"],
        ["[CLS]", "no", "[SEP]"],
        ["[CLS]", "the", "big", "dog", "ran", "away", "[SEP]"],
    ]
    assert segments[1].utterances.tolist() == [-1, 1, -1]


def test_a_dialogue_is_a_segment_with_speakers_named():
    (segment,) = encode(speaker_names=True)
    assert " ".join(words(segment)) == (
        "[CLS] ann : the dog ran [SEP] bo : no [SEP] ann : the big dog ran away [SEP]"
    )
    assert segment.utterances.tolist() == [-1, *[0] * 5, -1, *[1] * 3, -1, *[2] * 7, -1]


def test_a_long_dialogue_is_cut_between_utterances():
    # 1 + 4 + 2 pieces fit into 8, the third utterance does not.
    first, second = encode(max_tokens=8)
    assert words(first) == ["[CLS]", "the", "dog", "ran", "[SEP]", "no", "[SEP]"]
    assert words(second) == ["[CLS]", "the", "big", "dog", "ran", "away", "[SEP]"]
    assert second.utterances.tolist() == [-1, 2, 2, 2, 2, 2, -1]


@pytest.mark.parametrize("context", ["utterance", "dialogue"])
def test_a_long_utterance_loses_its_end(context):
    segments = encode(context=context, max_tokens=5)
    assert words(segments[-1]) == ["[CLS]", "the", "big", "dog", "[SEP]"]
    assert all(len(s.token_ids) <= 5 for s in segments)
    assert all(s.token_ids.dtype == np.int32 for s in segments)


@pytest.mark.parametrize("context", ["utterance", "dialogue"])
def test_half_an_emoji_and_nothing_at_all_are_tokenized(context):
    broken = Dialogue(
        "1",
        (Utterance("a", "Ann\ud83d", "no \ud83d"), Utterance("b", "", ""), DIALOGUE.utterances[1]),
    )
    settings = {"context": context, "max_tokens": 64}
    segments = encode(broken, **settings)
    assert [t for s in segments for t in s.utterances.tolist() if t >= 0] == [0, 2]
    assert words(segments[0])[1] == words(segments[-1])[-2] == "no"
    named = encode(broken, speaker_names=True, **settings)
    assert words(named[0])[:4] == ["[CLS]", "ann", ":", "no"]
    assert words(encode(broken, word_tokenizer([broken]), speaker_names=True, **settings)[0])
