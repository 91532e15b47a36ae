"""The tokenizer in an encoder's folder: what is loaded, and what is refused."""

import json
import sys

import pytest
import transformers
from shared import assert_pointer_is_named, import_or_skip, refusal
from small_encoders import SMALL, WORD_PIECES, make_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer

from rpcl_jax.models.pretrained import HUB_FILES, load_tokenizer

WORDS = [
    *("rain", "again", "the", "fog", "cafe", "naive", "##s", "##g", "##a", "##i", "##n", "##o"),
    *("r", "f", ",", "!", "'", "-"),
]
TEXTS = [
    *("Rain, again!", " the rain's  CAFÉ fog", "naïve 雨 ☂ fog-rain\n"),
    *("", "  ", "<s>fog [CLS] rain [MASK]</s>"),
]


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


@pytest.mark.parametrize(
    ("family", "name"), [("xlm-roberta", "sentencepiece.bpe.model"), ("deberta-v2", "spm.model")]
)
@pytest.mark.parametrize("package", ["sentencepiece", "google.protobuf"])
def test_a_sentencepiece_model_without_its_packages(tmp_path, monkeypatch, family, name, package):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    (tmp_path / name).write_bytes(b"")
    assert name in HUB_FILES
    monkeypatch.setitem(sys.modules, package, None)
    message = refusal(load_tokenizer, tmp_path, 30)
    assert message.startswith(f"{tmp_path / name}: a SentencePiece model")
    assert "pip install sentencepiece protobuf" in message
    assert "tiktoken" not in message


def test_the_tokenizer_of_another_family(tmp_path):
    """Transformers would make a tokenizer in which every text is empty."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nrain\n")
    message = refusal(load_tokenizer, tmp_path, 30)
    assert "no word pieces; vocab.txt is not what" in message


def check_equals_transformers(folder, family):
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    theirs, ours = AutoTokenizer.from_pretrained(folder), load_tokenizer(folder, 300)
    first, last = ours.special_id("cls_token"), ours.special_id("sep_token")
    assert first != last
    wanted = theirs(TEXTS)["input_ids"]
    assert [[first, *pieces, last] for pieces in ours.ids(TEXTS)] == wanted
    assert ours.unknown_id == theirs.unk_token_id
    assert len({number for pieces in wanted for number in pieces}) > 10  # they know the texts


@pytest.mark.parametrize("family", SMALL)
def test_a_familys_tokenizer_as_it_is_saved(tmp_path, family):
    make_tokenizer(family, WORDS).save_pretrained(tmp_path)
    check_equals_transformers(tmp_path, family)


@pytest.mark.parametrize("written", [{"do_lower_case": True}, {"do_lower_case": False}])
@pytest.mark.parametrize("family", WORD_PIECES)
def test_a_list_of_word_pieces_as_old_models_have_it(tmp_path, family, written):
    ids = make_tokenizer(family, WORDS).get_vocab()
    pieces = sorted(ids, key=ids.__getitem__)
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(written))
    check_equals_transformers(tmp_path, family)


def test_debertas_sentencepiece_model(tmp_path):
    sentencepiece = import_or_skip("sentencepiece")
    with (tmp_path / "spm.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["the rain and the fog again, café naïve rain!"] * 50),
            model_writer=file, vocab_size=40, hard_vocab_limit=False, minloglevel=2,
            pad_id=0, bos_id=1, eos_id=2, unk_id=3,
            pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]",
        )  # fmt: skip
    check_equals_transformers(tmp_path, "deberta-v2")


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "vocab.txt", "spm.model", "tokenizer_config.json"]
)
def test_a_tokenizer_that_git_lfs_has_not_fetched(folder, name):
    if name == "tokenizer_config.json":
        word_level(folder)
    assert_pointer_is_named(folder / name, load_tokenizer, folder, 30)
