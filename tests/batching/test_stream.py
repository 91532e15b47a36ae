"""Batches of a stream: all of it, in its place, in few shapes."""

import jax
import numpy as np
import pytest
from shared import tiny_config

from rpcl_jax.batching.stream import stream_batches
from rpcl_jax.batching.text import encode_dialogue, word_tokenizer
from rpcl_jax.data import synthetic
from rpcl_jax.data.dialogue import EMOTIONS, Dialogue, Utterance

SPLITS, TABLES = synthetic.generate_corpus(5, sizes={"train": 150})
DIALOGUES = SPLITS["train"]
TOKENIZER = word_tokenizer(DIALOGUES)


def batches_of(dialogues, devices=1, config=None, tables=TABLES, own=None):
    config = config or tiny_config()
    return stream_batches(dialogues, TOKENIZER, tables, config, devices, EMOTIONS, own)


def shapes_of(batches):
    return {tuple(x.shape for x in jax.tree.leaves(batch)) for _, batch in batches}


@pytest.mark.parametrize(
    ("devices", "count"), [(1, 150), (3, 150), (8, 150), (8, 3), (1, 1), (16, 20)]
)
def test_every_dialogue_is_there_once_whole_and_in_its_place(devices, count):
    config = tiny_config()
    if devices == 16:  # one dialogue a device, and many rows of text
        config.batch_size, config.text.row_length = 16, 64
    seen = []
    for places, batch in batches_of(DIALOGUES[:count], devices, config):
        assert len(places) == len(batch.utterance_mask)
        n = batch.utterance_mask.shape[1]
        share = len(places) // devices
        pieces = batch.text.utterance_ids.reshape(devices, -1)
        tokens = batch.text.token_ids.reshape(devices, -1)
        for place, index in enumerate(places):
            if index < 0:
                assert not batch.utterance_mask[place].any()
                continue
            seen.append(int(index))
            dialogue = DIALOGUES[index]
            ids = [u.id for u in dialogue.utterances]
            assert batch.utterance_mask[place].sum() == len(ids)
            heard = batch.audio.values[place, : len(ids)]
            np.testing.assert_array_equal(heard, TABLES["audio"].rows(ids).values)
            # Its words, in order, on the device that has it.
            device, first = place // share, place % share * n
            own = (pieces[device] >= first) & (pieces[device] < first + n)
            encoded = encode_dialogue(
                dialogue, TOKENIZER, context=config.text.context, max_tokens=64,
                speaker_names=config.text.speaker_names,
            )  # fmt: skip
            words = [
                int(token) for token, utterance in zip(*encoded[:2], strict=True) if utterance >= 0
            ]
            assert sorted(tokens[device][own].tolist()) == sorted(words)
    assert sorted(seen) == list(range(count))


@pytest.mark.parametrize("count", [150, 3])
def test_processes_make_the_shares_of_their_own_devices(count):
    whole, *parts = (
        batches_of(DIALOGUES[:count], 4, own=own) for own in (None, range(2), range(2, 4))
    )
    for all_of_it, *halves in zip(whole, *parts, strict=True):
        for places, _ in halves:
            np.testing.assert_array_equal(places, all_of_it[0])
        merged = jax.tree.map(lambda *x: np.concatenate(x), *(half for _, half in halves))
        jax.tree.map(np.testing.assert_array_equal, merged, all_of_it[1])


def test_no_dialogue_is_no_batch():
    assert batches_of([]) == []


@pytest.mark.parametrize("devices", [1, 3])
def test_a_long_stream_of_similar_dialogues_has_two_shapes_at_most(devices):
    long, _ = synthetic.generate_corpus(6, sizes={"train": 600})
    rng = np.random.default_rng(0)
    chunks = [rng.choice(600, 128, replace=False) for _ in range(4)]
    shapes = [
        shapes_of(batches_of([long["train"][i] for i in c], devices, tables={})) for c in chunks
    ]
    assert len(set.union(*shapes)) <= 2


def test_chunks_of_any_size_have_few_shapes():
    sizes = (*range(1, 35, 3), 64, 100, 129)
    batches = [batch for size in sizes for batch in batches_of(DIALOGUES[:size], tables={})]
    assert len(shapes_of(batches)) <= 16
    for _, batch in batches:
        rows = {len(batch.dialogue_rows.slots), len(batch.text.token_ids)}
        assert rows <= {1, 2, 4, 8, 16, 32, 64}


def test_rows_are_filled():
    """Of a long chunk, most places of the rows hold a word piece."""
    batches = batches_of(DIALOGUES, tables={})
    filled = sum((batch.text.segment_ids > 0).sum() for _, batch in batches)
    assert filled / sum(batch.text.segment_ids.size for _, batch in batches) > 0.85


def test_what_fills_more_rows_than_planned_gets_twice_as_many():
    """Utterances a little longer than half a row cannot share one, whatever their sum says."""
    config = tiny_config()
    turns = tuple(Utterance(str(t), "A", "well " * 40) for t in range(8))
    batches = batches_of([Dialogue(str(k), turns) for k in range(32)], 1, config, {})
    seen = [index for places, _ in batches for index in places if index >= 0]
    assert sorted(seen) == list(range(32))
    for _, batch in batches:
        rows = batch.text.token_ids.shape[0]
        assert rows & (rows - 1) == 0
