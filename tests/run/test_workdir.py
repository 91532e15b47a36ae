"""Whose a run's folder is, and what must not change once the run has begun."""

import numpy as np
import pytest
from shared import tiny_config

from rpcl_jax.batching.text import word_tokenizer
from rpcl_jax.data.dialogue import EMOTIONS, Dialogue, Utterance
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.errors import InputError
from rpcl_jax.files import read_json
from rpcl_jax.models.text_encoder import TextEncoderConfig
from rpcl_jax.readers.corpus import Corpus
from rpcl_jax.run.text_encoder import LoadedEncoder
from rpcl_jax.run.workdir import (
    begin_run,
    check_owner,
    locked_run,
    run_name,
)
from rpcl_jax.train import train_and_evaluate

TEXT_ALONE = Corpus({"train": []}, {}, EMOTIONS)


def test_one_process_trains_in_a_folder(tmp_path):
    workdir = tmp_path / "run"
    with locked_run(workdir):
        with pytest.raises(InputError, match="another process is training in it"):
            train_and_evaluate(tiny_config(), workdir)
        assert [path.name for path in workdir.iterdir()] == ["lock"]
    with locked_run(workdir):  # and after that, the next one
        pass
    check_owner(workdir, tiny_config())  # a lock alone makes it nobody's
    (workdir / "config.json.0123.tmp").touch()  # by a process that was killed as it began
    check_owner(workdir, tiny_config())
    (workdir / "notes.txt").touch()
    with pytest.raises(InputError, match="not the folder of a run"):
        check_owner(workdir, tiny_config())


def tables_of(extractor):
    values = np.zeros((2, 3), np.float32)
    tables = {"audio": FeatureTable(values, {"a": 0, "b": 1}, {"extractor": extractor})}
    return Corpus({"train": []}, tables, EMOTIONS)


def encoder_of(bias, words):
    dialogue = Dialogue("1", (Utterance("a", "Ann", words),))
    tokenizer = word_tokenizer([dialogue])
    sizes = TextEncoderConfig(tokenizer.size, 8, 1, 2, 8, 16)
    return LoadedEncoder(sizes, {"bias": np.full(3, bias, np.float32)}, tokenizer)


def test_a_run_that_has_begun_keeps_its_extractors_and_its_encoder(tmp_path):
    config = tiny_config()
    config.text.finetune = False
    encoder, tables = encoder_of(0, "a dog"), tables_of("wav2vec2")
    begin_run(tmp_path, config, encoder, tables, begun=False)
    begin_run(tmp_path, config, encoder, tables, begun=True)
    before = (tmp_path / "config.json").read_text()
    for other_encoder, other_tables, message in (
        (encoder, tables_of("opensmile"), "extractor is 'opensmile'"),
        (encoder_of(1e-6, "a dog"), tables, "the parameters of its text encoder have changed"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            begin_run(tmp_path, config, other_encoder, other_tables, begun=True)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "config.json").read_text() == before
    # Before the first checkpoint nothing depends on them.
    begin_run(tmp_path, config, encoder_of(1, "a dog"), tables_of("opensmile"), begun=False)


def test_a_trained_encoder_keeps_its_sizes_and_its_words(tmp_path):
    config = tiny_config()
    begin_run(tmp_path, config, encoder_of(0, "a dog"), TEXT_ALONE, begun=False)
    begin_run(tmp_path, config, encoder_of(1, "a dog"), TEXT_ALONE, begun=True)  # in the checkpoint
    other = encoder_of(0, "a cat and a dog")
    with pytest.raises(InputError, match="the words of its training split"):
        begin_run(tmp_path, config, other, TEXT_ALONE, begun=True)


def test_a_run_keeps_its_emotions(tmp_path):
    config, encoder = tiny_config(), encoder_of(0, "a dog")
    begin_run(tmp_path, config, encoder, Corpus({"train": []}, {}, ("neutral", "joy")), begun=False)
    assert read_json(tmp_path / "config.json")["emotions"] == ["neutral", "joy"]
    for emotions in (("neutral", "joy", "excited"), ("neutral", "anger")):
        with pytest.raises(InputError, match="the emotions of its training split have changed"):
            begin_run(tmp_path, config, encoder, Corpus({"train": []}, {}, emotions), begun=True)
    begin_run(tmp_path, config, encoder, Corpus({"train": []}, {}, ("neutral", "joy")), begun=True)


def test_the_name_of_a_run_tells_what_it_is():
    config = tiny_config()
    assert run_name(config) == "rpcl-tav-seed42"
    config.model.backbone = "hilo"
    assert run_name(config) == "rpcl-tav-hilo-seed42"
