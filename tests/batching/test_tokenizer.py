"""Tokenizers of pretrained encoders: what is loaded, saved and read again is Transformers' own."""

import json
import sys

import pytest
from shared import MINILM, needs_minilm
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerFast

from rpcl_jax.batching.tokenizer import read_word_pieces, word_pieces
from rpcl_jax.models.pretrained import load_tokenizer

TEXTS = ["The kettle exploded!", "  naïve   Über-[SEP] ", "", "[MASK] 水壶 don't ~~ \u200b x" * 40]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "The", "kettle", "##s"]


def same(ours, theirs):
    assert ours.ids(TEXTS) == theirs(TEXTS, add_special_tokens=False)["input_ids"]
    special = [ours.special_id(name) for name in ("cls_token", "sep_token", "unk_token")]
    assert special == [theirs.cls_token_id, theirs.sep_token_id, theirs.unk_token_id]
    assert ours.size == len(theirs)


@pytest.fixture(params=[True, False])
def bert(request, tmp_path):
    """The folder of a BERT tokenizer whose class must be asked whether case matters."""
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=request.param).save_pretrained(
        tmp_path / "bert"
    )
    return tmp_path / "bert"


def test_bert_is_read_as_its_class_does(bert, tmp_path, monkeypatch):
    theirs = AutoTokenizer.from_pretrained(str(bert))
    loaded = load_tokenizer(bert, len(WORDS))
    same(loaded, theirs)
    loaded.save(tmp_path / "saved")
    same(loaded, AutoTokenizer.from_pretrained(str(tmp_path / "saved")))
    monkeypatch.setitem(sys.modules, "transformers", None)  # cannot be imported
    same(load_tokenizer(bert, len(WORDS)), theirs)
    same(load_tokenizer(tmp_path / "saved", len(WORDS)), theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"do_lower_case": "other"},
        {"strip_accents": False},
        {"tokenize_chinese_chars": False},
        {"additional_special_tokens": ["<x>"]},
        {"cls_token": "job"},
        {"bos_token": "the"},
        {"split_special_tokens": True},
    ],
)
def test_bert_whose_files_disagree_is_left_to_its_class(bert, change):
    path = bert / "tokenizer_config.json"
    config = json.loads(path.read_text())
    if change == {"do_lower_case": "other"}:
        change = {"do_lower_case": not config.get("do_lower_case", True)}
    path.write_text(json.dumps(config | change))
    theirs = AutoTokenizer.from_pretrained(str(bert))
    loaded = load_tokenizer(bert, theirs.backend_tokenizer.get_vocab_size())
    same(loaded, theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"max_input_chars_per_word": 2},
        {"max_input_chars_per_word": 200},
        {"continuing_subword_prefix": "@@"},
        {"unk_token": "[MASK]"},
    ],
)
def test_bert_whose_model_is_another(bert, change):
    path = bert / "tokenizer.json"
    written = json.loads(path.read_text())
    written["model"] |= change
    path.write_text(json.dumps(written))
    same(load_tokenizer(bert, len(WORDS)), AutoTokenizer.from_pretrained(str(bert)))


def test_bert_without_a_normalizer(bert):
    path = bert / "tokenizer.json"
    written = json.loads(path.read_text())
    del written["normalizer"], written["pre_tokenizer"]
    path.write_text(json.dumps(written))
    same(load_tokenizer(bert, len(WORDS)), AutoTokenizer.from_pretrained(str(bert)))


@needs_minilm
def test_a_real_tokenizer(tmp_path):
    theirs = AutoTokenizer.from_pretrained(str(MINILM))
    loaded = load_tokenizer(MINILM, 30522)
    same(loaded, theirs)
    assert read_word_pieces(MINILM) is not None, "without Transformers"
    loaded.save(tmp_path)
    read = read_word_pieces(tmp_path)
    same(read, theirs)
    assert read.backend.to_str() == loaded.backend.to_str()


def test_files_of_older_versions(tmp_path):
    """What a run of version 0.1 has; special pieces were objects in Transformers 4."""
    backend = Tokenizer(models.WordLevel({w: k for k, w in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.NFC(), pre_tokenizers.Whitespace()
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    theirs = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    theirs.save_pretrained(tmp_path)
    same(read_word_pieces(tmp_path), theirs)
    path = tmp_path / "tokenizer_config.json"
    written = json.loads(path.read_text())
    written["sep_token"] = {"content": "[SEP]", "lstrip": False, "special": True}
    path.write_text(json.dumps(written))
    same(read_word_pieces(tmp_path), theirs)


def test_it_neither_cuts_nor_pads():
    backend = Tokenizer(models.WordLevel({w: k for k, w in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.enable_truncation(2)
    backend.enable_padding(length=8)
    assert word_pieces(backend, {}).ids(["the kettle the", "the"]) == [[5, 7, 5], [5]]
