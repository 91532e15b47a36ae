"""From utterances to segments of word pieces, the text encoder's input."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from rpcl_jax.batching.tokenizer import WordPieces, word_pieces
from rpcl_jax.data.dialogue import Dialogue, Utterance


class Pieces(NamedTuple):
    """The word pieces of a dialogue's segments, one after the other.

    A segment is a sequence of word pieces that attend to each other. `utterances` is the utterance
    of the dialogue that a piece belongs to, -1 for special tokens.
    """

    token_ids: np.ndarray  # int32 [pieces]
    utterances: np.ndarray  # int32 [pieces]
    lengths: np.ndarray  # int [segments]


def encode_dialogue(
    dialogue: Dialogue,
    tokenizer: WordPieces,
    *,
    context: str,
    speaker_names: bool,
    max_tokens: int,
) -> Pieces:
    """Cuts a dialogue into segments of word pieces.

    Args:
      dialogue: already cut to the utterances that are kept.
      context: "utterance" for one segment per utterance; "dialogue" for segments of as many whole
        consecutive utterances as fit, each followed by the separator.
      speaker_names: whether to put "name:" before every utterance.
      max_tokens: maximal length of a segment, special tokens included. A longer utterance loses its
        end.
    """
    texts = [_text(utterance, speaker_names) for utterance in dialogue.utterances]
    start, end = tokenizer.special_id("cls_token"), tokenizer.special_id("sep_token")
    assert start is not None
    assert end is not None
    tokens: list[int] = []
    owners: list[int] = []
    lengths: list[int] = []
    for t, ids in enumerate(tokenizer.ids(texts)):
        ids = ids[: max_tokens - 2]
        if not lengths or context == "utterance" or lengths[-1] + len(ids) + 1 > max_tokens:
            tokens.append(start)
            owners.append(-1)
            lengths.append(1)
        tokens += [*ids, end]
        owners += [t] * len(ids) + [-1]
        lengths[-1] += len(ids) + 1
    return Pieces(np.array(tokens, np.int32), np.array(owners, np.int32), np.array(lengths))


def longest_utterance(
    dialogues: Iterable[Dialogue], tokenizer: WordPieces, speaker_names: bool
) -> int:
    """Returns how many word pieces the longest utterance has before it is cut."""
    lengths = (
        len(ids)
        for dialogue in dialogues
        for ids in tokenizer.ids([_text(u, speaker_names) for u in dialogue.utterances])
    )
    return max(lengths, default=0)


def _text(utterance: Utterance, speaker_names: bool) -> str:
    """Returns what is tokenized, without lone surrogates, which no tokenizer takes."""
    text = f"{utterance.speaker}: {utterance.text}" if speaker_names else utterance.text
    return text.encode("utf-8", "ignore").decode()


def word_tokenizer(dialogues: Iterable[Dialogue]) -> WordPieces:
    """Builds a lower-case word tokenizer over the words and speaker names of `dialogues`.

    Each Chinese character is a word. As with BERT, a text becomes `[CLS] words [SEP]` and a pair of
    texts `[CLS] words [SEP] words [SEP]`. The ids are [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, followed
    by the words in sorted order.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    lower = normalizers.Lowercase()
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),  # written without spaces
        ]
    )
    words = {
        word
        for dialogue in dialogues
        for utterance in dialogue.utterances
        for word, _ in split.pre_tokenize_str(lower.normalize_str(_text(utterance, True)))
    }
    vocabulary = {word: k for k, word in enumerate(special + sorted(words))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.normalizer = lower
    backend.pre_tokenizer = split
    backend.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    backend.add_special_tokens(special)
    names = ("pad_token", "unk_token", "cls_token", "sep_token")
    return word_pieces(backend, dict(zip(names, special, strict=True)))
