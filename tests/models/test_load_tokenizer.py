"""The tokenizer in an encoder's folder: what is loaded, and what is refused."""

import json
import sys

import pytest
import transformers
from shared import refusal
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from rpcl_jax.models.pretrained import load_tokenizer


@pytest.fixture
def folder(tmp_path):
    """The folder of a BERT, as far as Transformers asks for it."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return tmp_path


def word_level(folder, words=("rain",)):
    """Writes a tokenizer of words without [CLS] and [SEP], and returns it."""
    ids = {word: k for k, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    written = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    written.save_pretrained(folder)
    return written


def test_tokenizer(folder):
    written = word_level(folder)
    assert "[CLS]" in refusal(load_tokenizer, folder, 30)
    written.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
    written.save_pretrained(folder)
    assert load_tokenizer(folder, 5).ids(["rain fog"]) == [[4, 1]]


@pytest.mark.parametrize("added", [["one", "two", "three", "four", "five"], ["<extra>"]])
def test_a_tokenizer_with_more_pieces_than_embeddings(folder, added):
    written = word_level(folder)
    written.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
    written.add_tokens(added)
    written.save_pretrained(folder)
    assert written(added[0], add_special_tokens=False)["input_ids"] == [5]
    assert load_tokenizer(folder, 5 + len(added)).size == 5 + len(added)
    message = refusal(load_tokenizer, folder, 5)
    assert f"pieces up to number {4 + len(added)}" in message
    assert "embeddings of 0 to 4 only" in message
    assert repr(added[0]) in message


def test_no_tokenizer(folder):
    assert f"{folder}: no tokenizer" in refusal(load_tokenizer, folder, 30)
    (folder / "tokenizer.json").write_text("{")
    assert f"{folder}: unreadable tokenizer" in refusal(load_tokenizer, folder, 30)


@pytest.mark.parametrize("package", ["sentencepiece", "google.protobuf"])
def test_a_sentencepiece_model_without_its_packages(tmp_path, monkeypatch, package):
    rewrite = {"model_type": "xlm-roberta", "vocab_size": 30}
    (tmp_path / "config.json").write_text(json.dumps(rewrite))
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    message = refusal(load_tokenizer, tmp_path, 30)
    assert str(tmp_path / "sentencepiece.bpe.model") in message
    assert "pip install sentencepiece protobuf" in message
    assert "tiktoken" not in message


def test_the_tokenizer_of_another_family(tmp_path):
    """Transformers would make a tokenizer in which every text is empty."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nrain\n")
    message = refusal(load_tokenizer, tmp_path, 30)
    assert "no word pieces; vocab.txt is not what" in message
