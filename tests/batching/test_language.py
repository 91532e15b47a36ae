"""Texts in another language are told by the pieces of their words, chat and jargon are not."""

import pytest
from shared import ECF, MINILM, needs_ecf, needs_minilm
from small_encoders import make_tokenizer

from rpcl_jax.batching.language import PieceCounts, count_pieces, language_doubt, unknown_words
from rpcl_jax.batching.tokenizer import read_word_pieces, word_pieces
from rpcl_jax.readers.ecf import read_ecf_text

GERMAN = [
    *("Ich freue mich so, dass du endlich wieder da bist!", "Hast du die Stelle bekommen?"),
    *("Nein, sie haben sie jemand anderem gegeben.", "Das tut mir wirklich leid für dich."),
    "Ach, das macht nichts, ich finde schon etwas anderes.",
]
FRENCH = [
    *("Je suis tellement content que tu sois revenu !", "As-tu obtenu le poste ?"),
    *("Non, ils l'ont donné à quelqu'un d'autre.", "Je suis vraiment désolé pour toi."),
    "Ce n'est pas grave, je trouverai autre chose bientôt.",
]
CHAT = [
    *("omg im soooo happy ur back lol", "did u get the job??", "nah they gave it 2 some1 else smh"),
    *("aww im so sorry babe thats awful", "its ok ill find smth else soon enough tbh haha"),
]


def test_words_are_counted_without_numbers_and_punctuation():
    fast = make_tokenizer("bert", ["the", "kettle", "ex", "##plod", "##ed"]).backend_tokenizer
    tokenizer = word_pieces(fast, {"unk_token": "[UNK]"})
    texts = ["The kettle exploded!! 12", "zzz", "", "half \ud83d"]
    assert count_pieces(texts, tokenizer) == PieceCounts(words=5, pieces=7, unknown=2)
    assert unknown_words([*texts, "half", "the half"], tokenizer) == ["half", "zzz"]


@pytest.mark.parametrize(
    ("found", "doubt"),
    [
        (PieceCounts(100, 120, 0), None),
        (PieceCounts(100, 160, 0), "cuts a word into 1.6 pieces, and does not know 0% of them"),
        (PieceCounts(3, 16, 8), None),  # too few words
        (PieceCounts(4, 7, 0), "1.8 pieces"),  # of few words, more: 1.7 times
        (PieceCounts(12, 18, 0), None),
        (PieceCounts(12, 19, 0), "1.6 pieces"),
        (PieceCounts(100, 100, 8), "1.0 pieces, and does not know 8% of them"),
        (PieceCounts(100, 100, 7), None),  # 1 % in training
    ],
)
def test_when_there_is_doubt(found, doubt):
    said = language_doubt(found, PieceCounts(1000, 1000, 10))
    assert said is None if doubt is None else (doubt in said and "it was 1.0 and 1%" in said)
    assert language_doubt(found, PieceCounts(0, 0, 0)) is None  # a run that does not know


@needs_ecf
@needs_minilm
@pytest.mark.slow
def test_german_and_french_are_told_from_english():
    tokenizer = read_word_pieces(MINILM)
    dialogues = read_ecf_text(ECF / "test.txt")
    texts = [[u.text for u in dialogue.utterances] for dialogue in dialogues]
    trained = count_pieces((text for of in texts for text in of), tokenizer)
    for foreign in (GERMAN, FRENCH):
        assert language_doubt(count_pieces(foreign, tokenizer), trained)
    for own in (CHAT, *texts):
        assert language_doubt(count_pieces(own, tokenizer), trained) is None
