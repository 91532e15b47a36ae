"""Whether texts are in the language of a model, by how its tokenizer cuts their words.

A word-piece tokenizer cuts words of another language into pieces that it knows, so that unknown
pieces alone do not tell: all-MiniLM-L6-v2 cuts an English word of ECF into 1.03 pieces and a German
one into 1.9.
"""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from rpcl_jax.batching.tokenizer import WordPieces

_WORD = re.compile(r"[^\W\d_]+")
_FEWEST_WORDS = 4
# Limits of n words, each a + b / n: of the pieces a word is cut into, as a multiple of training's,
# and of the share of unknown pieces, above training's. With MiniLM's tokenizer, stretches of ECF's
# test split are over the first limit in 0.5 % (n = 4), 0.5 % (8) and 0 % (30), German ones in 51 %,
# 89 % and 100 %.
_MORE_PIECES, _MORE_UNKNOWN = (1.4, 1.2), (0.05, 1.0)


class PieceCounts(NamedTuple):
    """How a tokenizer cuts texts; of several sets of texts, add the fields."""

    words: int
    pieces: int
    unknown: int


def count_pieces(texts: Iterable[str], tokenizer: WordPieces) -> PieceCounts:
    """Counts the words of texts, without numbers and punctuation, and the pieces of these."""
    cut = [" ".join(_words(text)) for text in texts]
    ids = tokenizer.ids(cut)
    return PieceCounts(
        sum(len(text.split()) for text in cut),
        sum(map(len, ids)),
        sum(row.count(tokenizer.unknown_id) for row in ids if tokenizer.unknown_id is not None),
    )


def unknown_words(texts: Iterable[str], tokenizer: WordPieces) -> list[str]:
    """Returns the five most frequent words of which the tokenizer does not know a piece."""
    counts = Counter(word for text in texts for word in _words(text)).most_common()
    ids = tokenizer.ids([word for word, _ in counts])
    found = (
        word for (word, _), row in zip(counts, ids, strict=True) if tokenizer.unknown_id in row
    )
    return list(islice(found, 5))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.encode("utf-8", "ignore").decode())  # no tokenizer takes surrogates


def language_doubt(found: PieceCounts, trained: PieceCounts) -> str | None:
    """Returns why texts do not seem to be in the language of the model, in words, or None.

    Args:
      found: of the texts.
      trained: of the texts that the model was trained on.
    """
    if found.words < _FEWEST_WORDS or not trained.words:
        return None
    (much, unknown), (usual, usually) = (
        (c.pieces / c.words, c.unknown / max(c.pieces, 1)) for c in (found, trained)
    )
    pieces, unknowns = (a + b / found.words for a, b in (_MORE_PIECES, _MORE_UNKNOWN))
    if much <= pieces * usual and unknown <= usually + unknowns:
        return None
    return (
        f"the model cuts a word into {much:.1f} pieces, and does not know {unknown:.0%} of them; "
        f"in training it was {usual:.1f} and {usually:.0%}; are these conversations in its "
        "language, and about what it was trained on?"
    )
