"""Invented conversations whose causes nobody would doubt, on which a model can be tried."""

import shutil
from pathlib import Path

from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.readers.conversations import read_split

PLAIN = Path(__file__).parent / "plain_causes.jsonl"


def test_they_are_labelled_as_for_training(tmp_path):
    shutil.copy(PLAIN, tmp_path / "test.jsonl")
    dialogues = read_split(tmp_path, "test")
    pairs = [pair for dialogue in dialogues for pair in dialogue.pairs]
    assert (len(dialogues), len(pairs), sum(i == j for i, j in pairs)) == (30, 63, 25)
    assert {u.emotion for dialogue in dialogues for u in dialogue.utterances} == set(EMOTIONS)
