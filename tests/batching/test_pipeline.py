import threading

import jax
import numpy as np
import pytest
from shared import ECF, MINILM, needs_ecf, needs_minilm, tiny_config

from configs import ecf_minilm
from rpcl_jax.batching.pipeline import Batches, prefetched
from rpcl_jax.batching.text import word_tokenizer
from rpcl_jax.data import synthetic
from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.models.pretrained import load_tokenizer
from rpcl_jax.readers import ecf


@pytest.fixture(scope="module")
def corpus():
    return synthetic.generate_corpus(1, sizes={"train": 50})


def batches_of(corpus, devices=1, own=None):
    splits, tables = corpus
    tokenizer = word_tokenizer(splits["train"])
    return Batches(splits["train"], tokenizer, tables, tiny_config(), devices, EMOTIONS, own)


@pytest.mark.parametrize("devices", [1, 4])
def test_an_epoch_has_every_dialogue_once_whole_and_in_its_place(corpus, devices):
    splits, tables = corpus
    batches = batches_of(corpus, devices)
    seen = []
    for places, batch in batches.epoch(seed=3, epoch=1):
        share = batches.batch_size // devices
        n = batch.utterance_mask.shape[1]
        slots = batch.text.utterance_ids.reshape(devices, -1)
        for place, index in enumerate(places):
            if index < 0:
                assert not batch.utterance_mask[place].any()
                continue
            seen.append(int(index))
            dialogue = splits["train"][index]
            ids = [u.id for u in dialogue.utterances]
            assert batch.utterance_mask[place].sum() == len(ids)
            heard = batch.audio.values[place, : len(ids)]
            np.testing.assert_array_equal(heard, tables["audio"].rows(ids).values)
            assert batch.audio.present[place].sum() == len(ids)
            assert set(map(tuple, np.argwhere(batch.pair_labels[place]))) == set(dialogue.pairs)
            # The word pieces of the dialogue are on its own device.
            first = place % share * n
            own = slots[place // share]
            assert set(range(first, first + len(ids))) <= set(own)
    assert sorted(seen) == list(range(50))


def test_processes_make_the_shares_of_their_own_devices(corpus):
    whole, *parts = (batches_of(corpus, 8, own).epoch(3, 1) for own in (None, range(2), (2, 5)))
    for all_of_it, first, second in zip(whole, *parts, strict=True):
        for (places, part), own in ((first, [0, 1]), (second, [2, 5])):
            np.testing.assert_array_equal(places, all_of_it[0])
            of_devices = jax.tree.map(
                lambda x, own=own: x.reshape(8, -1, *x.shape[1:])[own], all_of_it[1]
            )
            merged = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), of_devices)
            jax.tree.map(np.testing.assert_array_equal, part, merged)


def test_the_next_batch_is_made_while_one_is_used(corpus, monkeypatch):
    batches, made, second = batches_of(corpus), [], threading.Event()
    make = batches.make
    assert len(batches) > 2

    def spied(members):
        made.append(threading.current_thread())
        if len(made) == 2:
            second.set()
        return make(members)

    monkeypatch.setattr(batches, "make", spied)
    epoch = batches.epoch(seed=1, epoch=1)
    next(epoch)
    assert second.wait(10)
    assert len(made) == 2
    assert threading.current_thread() not in made


def test_prefetched_keeps_the_order_and_passes_errors_on():
    assert list(prefetched(iter(range(5)))) == [0, 1, 2, 3, 4]

    def fails():
        yield 1
        raise KeyError("here")

    items = prefetched(fails())
    assert next(items) == 1
    with pytest.raises(KeyError, match="here"):
        next(items)


def test_the_order_is_a_function_of_seed_and_epoch(corpus):
    batches = batches_of(corpus)

    def order(seed, epoch):
        return [places.tolist() for places, _ in batches.epoch(seed, epoch)]

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)


def test_what_a_batch_holds_does_not_depend_on_the_devices(corpus):
    one = [sorted(places) for places, _ in batches_of(corpus, 1).epoch(1, 1)]
    four = [sorted(places) for places, _ in batches_of(corpus, 4).epoch(1, 1)]
    assert one == four


def test_a_batch_is_made_larger_where_the_devices_do_not_divide_it(corpus):
    assert [batches_of(corpus, devices).batch_size for devices in (1, 5)] == [16, 20]


@pytest.mark.slow
@needs_ecf
@needs_minilm
@pytest.mark.parametrize(
    ("context", "length", "devices", "padding"),
    [
        ("utterance", 128, 1, 0.03),
        ("utterance", 128, 8, 0.05),
        ("dialogue", 256, 1, 0.10),
        ("dialogue", 256, 8, 0.10),
    ],
)
def test_ecf_is_packed_with_little_padding_into_few_shapes(context, length, devices, padding):
    config = ecf_minilm.get_config()
    config.text.update({"context": context, "max_tokens": length, "row_length": length})
    config.batch_size = 16 * devices
    dialogues = ecf.read_split(ECF, "train")
    tokenizer = load_tokenizer(MINILM, 30522)
    batches = Batches(dialogues, tokenizer, {}, config, devices, EMOTIONS)
    shapes, real, computed = set(), 0, 0
    for epoch in (1, 2, 3):
        for _, batch in batches.epoch(config.seed, epoch):
            shapes.add((batch.text.token_ids.shape, batch.dialogue_rows.slots.shape))
            real += np.count_nonzero(batch.text.segment_ids)
            computed += batch.text.segment_ids.size
    assert len(shapes) <= 4
    assert 1 - real / computed <= padding
    assert real == 3 * sum(example.segments.sum() for example in batches.examples)
