"""The tokenizer of configs without a pretrained encoder."""

import pytest

from rpcl_jax.batching.text import word_tokenizer
from rpcl_jax.data.dialogue import Dialogue, Utterance
from rpcl_jax.data.synthetic import generate_corpus


@pytest.fixture(scope="module")
def train():
    return generate_corpus(0, sizes={"train": 400})[0]["train"]


def test_round_trip(train):
    tokenizer = word_tokenizer(train)
    for dialogue in train[:50]:
        for u in dialogue.utterances:
            ids = tokenizer(u.text)["input_ids"]
            assert (ids[0], ids[-1]) == (2, 3)
            assert not {0, 1, 2, 3} & set(ids[1:-1])
            words = tokenizer.decode(ids, skip_special_tokens=True)
            assert words.replace(" ", "") == u.text.lower().replace(" ", "")
            assert 1 not in tokenizer(f"{u.speaker}: {u.text}")["input_ids"]


def test_splits_chinese_into_characters():
    said = ("水壶炸了！", "谁的水壶？")
    utterances = tuple(Utterance(str(t), "安", text) for t, text in enumerate(said))
    tokenizer = word_tokenizer([Dialogue("1", utterances)])
    assert tokenizer.tokenize("了谁，水 the") == ["了", "谁", "[UNK]", "水", "[UNK]"]
    assert tokenizer.tokenize("安: 水壶！") == ["安", ":", "水", "壶", "！"]


def test_has_the_layout_of_bert_and_a_sorted_vocabulary(train):
    tokenizer = word_tokenizer(train)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    assert vocabulary[:4] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    assert vocabulary[4:] == sorted(vocabulary[4:])
    assert 250 < len(vocabulary) < 500
    assert tokenizer.get_vocab() == word_tokenizer(train[::-1]).get_vocab()
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id) == (0, 1)
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id) == (2, 3)
    first, second = tokenizer.convert_tokens_to_ids(["train", "exam"])
    assert tokenizer("Train zzz")["input_ids"] == [2, first, 1, 3]
    assert tokenizer("Train", "exam")["input_ids"] == [2, first, 3, second, 3]
    padded = tokenizer(["train", "train exam"], padding=True)
    assert padded["input_ids"][0] == [2, first, 3, 0]
    assert padded["attention_mask"][0] == [1, 1, 1, 0]
