"""Small encoders and tokenizers of each family, as Transformers has them."""

from collections.abc import Iterable
from typing import Any

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

DISENTANGLED = {
    "relative_attention": True,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "pos_att_type": "p2c|c2p",
    "position_buckets": 4,
}
# What the config.json of a small encoder has beside sizes, because Transformers' defaults are of
# other models, or too large.
OPTIONS: dict[str, dict[str, Any]] = {
    "distilbert": {"hidden_dim": 12},
    "deberta-v2": DISENTANGLED | {"position_biased_input": False},
    "modernbert": {
        f"{name}_token_id": k for k, name in enumerate(("pad", "bos", "eos", "cls", "sep"))
    },
}
# Families whose tokenizers are a list of word pieces, and all that have small encoders.
WORD_PIECES = {
    "bert": transformers.BertTokenizer,
    "electra": transformers.ElectraTokenizer,
    "distilbert": transformers.DistilBertTokenizer,
    "mpnet": transformers.MPNetTokenizer,
}
SMALL = (*WORD_PIECES, "deberta-v2", "modernbert")


def make_tokenizer(family: str, words: Iterable[str]) -> transformers.PreTrainedTokenizerBase:
    """Returns a tokenizer of the kind that a family's models have, which knows some word pieces."""
    if family == "deberta-v2":
        return _unigrams(words)
    if family == "modernbert":
        return _byte_pairs(words)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    if family == "mpnet":
        pieces = ["<s>", "<pad>", "</s>", "<unk>", *words, "[UNK]", "<mask>"]
    return WORD_PIECES[family](vocab={piece: number for number, piece in enumerate(pieces)})


def _unigrams(words: Iterable[str]) -> transformers.PreTrainedTokenizerBase:
    words = [word.removeprefix("##") for word in words]
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    pieces = dict.fromkeys([*(f"▁{word}" for word in words), *"".join(words), "▁"])
    scored = [(piece, len(piece) - 30.0) for piece in pieces]  # rather one long than many short
    vocabulary = [*((piece, 0.0) for piece in special), *scored, ("[MASK]", 0.0)]
    return transformers.DebertaV2Tokenizer(vocab=vocabulary, unk_id=3)


def _byte_pairs(words: Iterable[str]) -> transformers.PreTrainedTokenizerBase:
    special = [f"[{name}]" for name in ("UNK", "CLS", "SEP", "PAD", "MASK")]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    every_byte = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=special, initial_alphabet=every_byte, show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(words)] * 5, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    named = {f"{piece[1:-1].lower()}_token": piece for piece in special}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
