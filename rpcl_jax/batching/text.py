"""From utterances to segments of word pieces, the text encoder's input."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from rpcl_jax.batching.tokenizer import WordPieces, word_pieces
from rpcl_jax.data.dialogue import Dialogue, Utterance


class Segment(NamedTuple):
    """A sequence of word pieces that attend to each other.

    `token_ids` is int32 [length]. `utterances`, int32 [length], is the utterance of the dialogue
    that each piece belongs to, -1 for special tokens.
    """

    token_ids: np.ndarray
    utterances: np.ndarray


class Pieces(NamedTuple):
    """The word pieces of a dialogue's segments, one after the other."""

    token_ids: np.ndarray  # int32 [pieces]
    utterances: np.ndarray  # int32 [pieces], see `Segment`
    lengths: np.ndarray  # int [segments]


def join_segments(segments: Sequence[Segment]) -> Pieces:
    """Returns the word pieces of at least one segment."""
    return Pieces(
        np.concatenate([segment.token_ids for segment in segments]),
        np.concatenate([segment.utterances for segment in segments]),
        np.array([len(segment.token_ids) for segment in segments]),
    )


def encode_dialogue(
    dialogue: Dialogue,
    tokenizer: WordPieces,
    *,
    context: str,
    speaker_names: bool,
    max_tokens: int,
) -> list[Segment]:
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
    segments: list[Segment] = []
    tokens, owners = [start], [-1]
    for t, ids in enumerate(tokenizer.ids(texts)):
        ids = ids[: max_tokens - 2]
        full = len(tokens) + len(ids) + 1 > max_tokens
        if len(tokens) > 1 and (context == "utterance" or full):
            segments.append(_segment(tokens, owners))
            tokens, owners = [start], [-1]
        tokens += [*ids, end]
        owners += [t] * len(ids) + [-1]
    segments.append(_segment(tokens, owners))
    return segments


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


def unknown_pieces(
    dialogues: Iterable[Dialogue], tokenizer: WordPieces, speaker_names: bool
) -> tuple[float, list[str]]:
    """Returns which share of the word pieces the tokenizer does not know.

    Returns:
      The share, from 0 to 1, and the text of the most frequent unknown pieces.
    """
    unknown_id = tokenizer.unknown_id
    unknown: Counter[str] = Counter()
    total = 0
    for dialogue in dialogues:  # all at once would take hundreds of MB
        texts = [_text(utterance, speaker_names) for utterance in dialogue.utterances]
        encoded = tokenizer.backend.encode_batch(texts, add_special_tokens=False)
        for text, pieces in zip(texts, encoded, strict=True):
            total += len(pieces.ids)
            unknown.update(
                text[start:end].strip()
                for piece, (start, end) in zip(pieces.ids, pieces.offsets, strict=True)
                if piece == unknown_id
            )
    return unknown.total() / max(total, 1), [piece for piece, _ in unknown.most_common(5)]


def _text(utterance: Utterance, speaker_names: bool) -> str:
    """Returns what is tokenized, without lone surrogates, which no tokenizer takes."""
    text = f"{utterance.speaker}: {utterance.text}" if speaker_names else utterance.text
    return text.encode("utf-8", "ignore").decode()


def _segment(tokens: Sequence[int], owners: Sequence[int]) -> Segment:
    return Segment(np.asarray(tokens, np.int32), np.asarray(owners, np.int32))


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
