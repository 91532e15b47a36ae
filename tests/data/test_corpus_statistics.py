"""Table 1 against independent counts."""

from shared import ECF, needs_ecf

from rpcl_jax.data.corpus_statistics import split_statistics
from rpcl_jax.data.dialogue import Dialogue, Utterance
from rpcl_jax.readers.ecf import read_split


def test_by_hand():
    emotions = ["joy", "neutral", "anger", "sadness"]
    utterances = tuple(Utterance(f"u{t}", "A", "x", e) for t, e in enumerate(emotions))
    dialogues = [
        Dialogue("a", utterances, ((0, 0), (2, 1), (2, 3))),
        Dialogue("b", utterances[:2], ()),
        Dialogue("c", utterances[1:], ((1, 1),)),
    ]
    assert split_statistics(dialogues) == (3, 9, 6, 4, 0.5)
    assert split_statistics([Dialogue("c", utterances[1:2], ())]) == (1, 1, 0, 0, 0)


@needs_ecf
def test_counts_of_ecf():
    """Compares with the counts of the data's README."""
    expected = {
        "train": (1001, 9966, 7055, 0.846),
        "dev": (112, 1087, 866, 0.984),
        "test": (261, 2566, 1873, 0.831),
    }
    for split, numbers in expected.items():
        s = split_statistics(read_split(ECF, split))
        distance = round(s.mean_pair_distance, 3)
        assert (s.conversations, s.utterances, s.pairs, distance) == numbers
        # Counted independently: utterance lines whose emotion is not neutral.
        lines = (ECF / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        fields = [line.split(" | ") for line in lines if line.count("|") >= 4]
        assert s.emotional_utterances == sum(f[2] != "neutral" for f in fields)
