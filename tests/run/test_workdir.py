"""Whose a run's folder is, and what must not change once the run has begun."""

import numpy as np
import pytest
from shared import tiny_config

from rpcl_jax.batching.text import word_tokenizer
from rpcl_jax.data.dialogue import Dialogue, Utterance
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.errors import InputError
from rpcl_jax.models.text_encoder import TextEncoderConfig
from rpcl_jax.run.text_vectors import LoadedEncoder
from rpcl_jax.run.workdir import check_owner, locked_run, save_description
from rpcl_jax.train import train_and_evaluate


def test_one_process_trains_in_a_folder(tmp_path):
    workdir = tmp_path / "run"
    with locked_run(workdir):
        with pytest.raises(InputError, match="another process is training in it"):
            train_and_evaluate(tiny_config(), workdir)
        assert [path.name for path in workdir.iterdir()] == ["lock"]
    with locked_run(workdir):  # and after that, the next one
        pass
    check_owner(workdir, tiny_config())  # a lock alone makes it nobody's


def tables_of(extractor):
    values = np.zeros((2, 3), np.float32)
    return {"audio": FeatureTable(values, {"a": 0, "b": 1}, {"extractor": extractor})}


def encoder_of(bias, words):
    dialogue = Dialogue("1", (Utterance("a", "Ann", words),))
    tokenizer = word_tokenizer([dialogue])
    sizes = TextEncoderConfig(len(tokenizer), 8, 1, 2, 8, 16)
    return LoadedEncoder(sizes, {"bias": np.full(3, bias, np.float32)}, tokenizer)


def test_a_run_that_has_begun_keeps_its_extractors_and_its_encoder(tmp_path):
    config = tiny_config()
    config.text.finetune = False
    encoder, tables = encoder_of(0, "a dog"), tables_of("wav2vec2")
    save_description(tmp_path, config, encoder, tables, begun=False)
    save_description(tmp_path, config, encoder, tables, begun=True)
    before = (tmp_path / "model.json").read_text()
    for other_encoder, other_tables, message in (
        (encoder, tables_of("opensmile"), "extractor is 'opensmile'"),
        (encoder_of(1e-6, "a dog"), tables, "not the encoder that"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            save_description(tmp_path, config, other_encoder, other_tables, begun=True)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "model.json").read_text() == before
    # Before the first checkpoint nothing depends on them.
    save_description(tmp_path, config, encoder_of(1, "a dog"), tables_of("opensmile"), begun=False)


def test_a_trained_encoder_keeps_its_sizes_and_its_words(tmp_path):
    config = tiny_config()
    save_description(tmp_path, config, encoder_of(0, "a dog"), {}, begun=False)
    save_description(tmp_path, config, encoder_of(1, "a dog"), {}, begun=True)  # in the checkpoint
    with pytest.raises(InputError, match="the words of its training split"):
        save_description(tmp_path, config, encoder_of(0, "a cat and a dog"), {}, begun=True)
