"""The tokenizer of configs without a pretrained encoder, as Transformers reads what it saves."""

import pytest
from transformers import AutoTokenizer

from rpcl_jax.batching.text import word_tokenizer
from rpcl_jax.data.dialogue import Dialogue, Utterance
from rpcl_jax.data.synthetic import generate_corpus


def saved(dialogues, folder):
    """The tokenizer over these words, and what Transformers makes of its files."""
    tokenizer = word_tokenizer(dialogues)
    tokenizer.save(folder)
    return tokenizer, AutoTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def train():
    return generate_corpus(0, sizes={"train": 400})[0]["train"]


def test_round_trip(train, tmp_path):
    tokenizer, theirs = saved(train, tmp_path)
    texts = [u.text for dialogue in train[:50] for u in dialogue.utterances]
    assert tokenizer.ids(texts) == theirs(texts, add_special_tokens=False)["input_ids"]
    for dialogue in train[:50]:
        for u in dialogue.utterances:
            ids = theirs(u.text)["input_ids"]
            assert (ids[0], ids[-1]) == (2, 3)
            assert not {0, 1, 2, 3} & set(ids[1:-1])
            words = theirs.decode(ids, skip_special_tokens=True)
            assert words.replace(" ", "") == u.text.lower().replace(" ", "")
            assert 1 not in theirs(f"{u.speaker}: {u.text}")["input_ids"]


def test_splits_chinese_into_characters(tmp_path):
    said = ("水壶炸了！", "谁的水壶？")
    utterances = tuple(Utterance(str(t), "安", text) for t, text in enumerate(said))
    _, theirs = saved([Dialogue("1", utterances)], tmp_path)
    assert theirs.tokenize("了谁，水 the") == ["了", "谁", "[UNK]", "水", "[UNK]"]
    assert theirs.tokenize("安: 水壶！") == ["安", ":", "水", "壶", "！"]


def test_has_the_layout_of_bert_and_a_sorted_vocabulary(train, tmp_path):
    tokenizer, theirs = saved(train, tmp_path)
    vocabulary = sorted(theirs.get_vocab(), key=theirs.get_vocab().get)
    assert vocabulary[:4] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    assert vocabulary[4:] == sorted(vocabulary[4:])
    assert 250 < len(vocabulary) == tokenizer.size < 500
    assert theirs.get_vocab() == word_tokenizer(train[::-1]).backend.get_vocab()
    assert (theirs.pad_token_id, theirs.unk_token_id) == (0, 1)
    assert (theirs.cls_token_id, theirs.sep_token_id) == (2, 3)
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    assert [*map(tokenizer.special_id, names)] == [0, 1, 2, 3, None]
    first, second = theirs.convert_tokens_to_ids(["train", "exam"])
    assert theirs("Train zzz")["input_ids"] == [2, first, 1, 3]
    assert theirs("Train", "exam")["input_ids"] == [2, first, 3, second, 3]
    padded = theirs(["train", "train exam"], padding=True)
    assert padded["input_ids"][0] == [2, first, 3, 0]
    assert padded["attention_mask"][0] == [1, 1, 1, 0]
