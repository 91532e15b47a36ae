"""Frozen text encoders: their vectors, the cache, and runs that read them."""

import dataclasses
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from shared import import_or_skip, refusal, tiny_config
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertModel

from rpcl_jax.batching.tokenizer import WordPieces
from rpcl_jax.data.dialogue import EMOTIONS, Dialogue, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.evaluate import evaluate_run
from rpcl_jax.evaluation.metrics import evaluate_split
from rpcl_jax.evaluation.scores_file import load_scores
from rpcl_jax.models.pretrained import load_tokenizer
from rpcl_jax.models.text_encoder import TextEncoderConfig
from rpcl_jax.predict import Predictor
from rpcl_jax.readers.corpus import Corpus, load_corpus
from rpcl_jax.reporting.predictions import pairs_of
from rpcl_jax.run import progress, text_encoder
from rpcl_jax.run.export import export_run
from rpcl_jax.run.text_encoder import (
    LoadedEncoder,
    cached_vectors,
    corpus_batches,
    encoder_digest,
    encoder_elsewhere,
    load_text_encoder,
    utterance_vectors,
    vectors_key,
)
from rpcl_jax.train import train_and_evaluate
from rpcl_jax.training.mesh import make_mesh

torch = import_or_skip("torch")
pytestmark = pytest.mark.slow
MAKE_ENCODE = text_encoder._make_encode


def frozen_config(folder, tmp_path):
    config = tiny_config()
    config.text.pretrained = str(folder)
    config.text.finetune = False
    config.text.cache = str(tmp_path / "cache")
    return config


def nudge(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"][3] += 1e-6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("devices", [1, 8])
def test_vectors_are_the_mean_of_transformers_own(small_bert, tmp_path, devices):
    config = frozen_config(small_bert, tmp_path)
    dialogues = load_corpus(config).splits["dev"]
    encoder = load_text_encoder(config, ())
    table = utterance_vectors(encoder, dialogues, config, make_mesh(devices), tmp_path / "table")
    model, theirs = (
        BertModel.from_pretrained(small_bert).eval(),
        AutoTokenizer.from_pretrained(small_bert),
    )
    utterances = [u for dialogue in dialogues for u in dialogue.utterances]
    assert len(table.values) == len(utterances)
    for utterance in utterances[:40]:
        tokens = theirs(utterance.text, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**tokens).last_hidden_state[0]
        expected = hidden[1:-1].mean(0).numpy()  # without the tokenizer's specials
        np.testing.assert_allclose(table.rows([utterance.id]).values[0], expected, atol=1e-5)


def test_the_key_is_made_of_all_that_matters_and_nothing_else(small_bert, tmp_path):
    config = frozen_config(small_bert, tmp_path)
    dialogues = load_corpus(config).splits["dev"]
    encoder = load_text_encoder(config, ())
    same = frozen_config(small_bert, tmp_path)
    same.text.dropout = 0.5
    same.seed = 7
    same.batch_size = 3
    same.text.row_length = 128
    assert vectors_key(encoder, dialogues, config) == vectors_key(
        load_text_encoder(same, ()), list(dialogues), same
    )

    keys = {vectors_key(encoder, dialogues, config)}
    for field, value in {
        "text.context": "dialogue",
        "text.speaker_names": True,
        "text.max_tokens": 32,
        "data.max_utterances": 5,
    }.items():
        changed = frozen_config(small_bert, tmp_path)
        changed.update_from_flattened_dict({field: value})
        keys.add(vectors_key(encoder, dialogues, changed))
    first = dialogues[0].utterances[0]
    other = dataclasses.replace(
        dialogues[0],
        utterances=(dataclasses.replace(first, text="x"), *dialogues[0].utterances[1:]),
    )
    keys.add(vectors_key(encoder, [other, *dialogues[1:]], config))
    keys.add(vectors_key(encoder, dialogues[1:], config))
    swapped = shutil.copytree(small_bert, tmp_path / "swapped")
    tokenizer = load_tokenizer(swapped, encoder.config.vocab_size)
    swap = {"cls_token": "[SEP]", "sep_token": "[CLS]"}
    tokenizer._replace(special={**tokenizer.special, **swap}).save(swapped)
    keys.add(
        vectors_key(load_text_encoder(frozen_config(swapped, tmp_path), ()), dialogues, config)
    )
    nudged = nudge(shutil.copytree(small_bert, tmp_path / "nudged"))
    keys.add(vectors_key(load_text_encoder(frozen_config(nudged, tmp_path), ()), dialogues, config))
    assert len(keys) == 9


def test_the_key_does_not_change_with_use(small_bert, tmp_path):
    """A tokenizer whose file asks for truncation and padding forgets both when it is used."""
    folder = shutil.copytree(small_bert, tmp_path / "bert")
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(path))
    config = frozen_config(folder, tmp_path)
    dialogues = load_corpus(config).splits["dev"]
    encoder = load_text_encoder(config, ())
    assert encoder.tokenizer.backend.truncation is None
    before = vectors_key(encoder, dialogues, config), encoder_digest(encoder)
    utterance_vectors(encoder, dialogues[:2], config, make_mesh(1), tmp_path / "table")
    assert (vectors_key(encoder, dialogues, config), encoder_digest(encoder)) == before


def test_what_is_said_of_an_encoder(small_bert, tmp_path, capsys):
    """Of one with heads whose tokenizer knows other words, and of one that has neither."""
    config = frozen_config(small_bert, tmp_path)
    train = load_corpus(config).splits["train"]
    load_text_encoder(config, train)
    assert capsys.readouterr().err == ""

    config.text.pretrained = str(shutil.copytree(small_bert, tmp_path / "classifier"))
    tensors = load_file(small_bert / "model.safetensors")
    tensors["classifier.weight"] = np.zeros((2, 32), np.float32)
    save_file(tensors, tmp_path / "classifier/model.safetensors", metadata={"format": "pt"})
    strange = [Dialogue("1", (Utterance("a", "Ann", "Сегодня " + "дождь " * 19),)), *train[:1]]
    load_text_encoder(config, strange)
    heads, unknown = capsys.readouterr().err.splitlines()
    assert heads == f"{config.text.pretrained}: its heads are not read: classifier"
    pieces = 20 + sum(len(re.findall(r"[^\W\d_]+", u.text)) for u in train[0].utterances)
    assert f"does not know {20 / pieces:.0%} of the word pieces" in unknown
    assert "such as 'дождь', 'Сегодня'; " in unknown
    load_text_encoder(config, ())
    assert capsys.readouterr().err == ""


def test_adapters_as_wide_as_the_encoder_are_refused(small_bert, tmp_path):
    config = frozen_config(small_bert, tmp_path)
    config.text.update({"finetune": True, "lora_rank": 31})
    load_text_encoder(config, ())
    config.text.lora_rank = 32
    message = refusal(load_text_encoder, config, ())
    assert message.startswith("config.text.lora_rank: 32 is not below 32, the width of")


def test_two_utterances_of_one_id_are_refused(small_bert, tmp_path):
    config = frozen_config(small_bert, tmp_path)
    dialogue = load_corpus(config).splits["dev"][0]
    twin = dataclasses.replace(dialogue, id="twin")
    encoder = load_text_encoder(config, ())
    with pytest.raises(InputError, match="is duplicated"):
        utterance_vectors(encoder, [dialogue, twin], config, make_mesh(1), tmp_path / "table")


def test_vectors_are_computed_once(small_bert, tmp_path, monkeypatch, capsys):
    config = frozen_config(small_bert, tmp_path)
    splits = {"dev": load_corpus(config).splits["dev"]}
    count = len([u for dialogue in splits["dev"] for u in dialogue.utterances])
    encoder = load_text_encoder(config, ())
    first = cached_vectors(encoder, splits, config, make_mesh(1))
    said = capsys.readouterr().err
    assert said.startswith(f"encoding {count} utterances with {small_bert}, once, for {tmp_path}")
    monkeypatch.setattr("rpcl_jax.run.text_encoder.utterance_vectors", None)
    again = cached_vectors(encoder, splits, config, make_mesh(1))
    np.testing.assert_array_equal(first.values, again.values)
    assert again.row_of_id == first.row_of_id
    assert not capsys.readouterr().err


def encode_small_corpus(small_bert, tmp_path, monkeypatch, devices=1, killed_in=0):
    """Returns the table and the number of encoded batches; is killed in one of them."""
    config = frozen_config(small_bert, tmp_path)
    config.batch_size = 8
    calls = 0

    def make_watched(*sizes):
        def encode(*arguments):
            nonlocal calls
            calls += 1
            if calls == killed_in:
                raise KeyboardInterrupt
            return MAKE_ENCODE(*sizes)(*arguments)

        return encode

    with monkeypatch.context() as patched:
        patched.setattr(text_encoder, "_make_encode", make_watched)
        splits, encoder = load_corpus(config).splits, load_text_encoder(config, ())
        return cached_vectors(encoder, splits, config, make_mesh(devices)), calls


def assert_same(found, expected):
    np.testing.assert_array_equal(found.values, expected.values)
    assert list(found.row_of_id) == list(expected.row_of_id)


@pytest.mark.parametrize("devices", [1, 8])
def test_what_was_encoded_before_a_kill_is_kept(small_bert, tmp_path, monkeypatch, capsys, devices):
    expected, batches = encode_small_corpus(small_bert, tmp_path / "a", monkeypatch, devices)
    with pytest.raises(KeyboardInterrupt):
        encode_small_corpus(small_bert, tmp_path / "b", monkeypatch, devices, killed_in=4)
    parts = sorted(tmp_path.glob("b/cache/.*.parts/*/*.npz"))
    assert [part.stem for part in parts] == ["0", "1", "2"]
    done = sum(len(np.load(part)["vectors"]) for part in parts)
    capsys.readouterr()
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    found, encoded = encode_small_corpus(small_bert, tmp_path / "b", monkeypatch, devices)
    assert encoded == batches - 3 > 0
    assert_same(found, expected)
    assert len(list((tmp_path / "b/cache").iterdir())) == 1, "the parts are removed"

    count = len(expected.values)
    lines = [line for line in capsys.readouterr().err.splitlines() if "compiling" not in line]
    (begin,) = (line for line in lines if line.startswith("encoding"))
    assert begin.startswith(f"encoding {count - done} of {count} utterances with {small_bert}, ")
    assert lines.index(begin) == 3
    assert lines[-1].startswith(f"{count} of {count} utterances, ")


def test_parts_that_cannot_be_read_are_encoded_again(small_bert, tmp_path, monkeypatch):
    expected, batches = encode_small_corpus(small_bert, tmp_path / "a", monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        encode_small_corpus(small_bert, tmp_path / "b", monkeypatch, killed_in=6)
    cut, empty, flipped, strange, kept = sorted(tmp_path.glob("b/cache/.*.parts/*/*.npz"))
    cut.write_bytes(cut.read_bytes()[:-9])
    empty.write_bytes(b"")
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    strange.write_bytes(kept.read_bytes())  # of other utterances
    found, encoded = encode_small_corpus(small_bert, tmp_path / "b", monkeypatch)
    assert encoded == batches - 1
    assert_same(found, expected)


def test_another_run_may_encode_the_same_and_finish_first(small_bert, tmp_path, monkeypatch):
    expected, batches = encode_small_corpus(small_bert, tmp_path / "a", monkeypatch)
    savez, written = np.savez, 0

    def savez_meanwhile(*arguments, **arrays):
        nonlocal written
        savez(*arguments, **arrays)
        written += 1
        if written == 2:
            encode_small_corpus(small_bert, tmp_path / "b", monkeypatch)

    monkeypatch.setattr(np, "savez", savez_meanwhile)
    found, encoded = encode_small_corpus(small_bert, tmp_path / "b", monkeypatch)
    assert encoded == batches, "the other has removed its parts"
    assert_same(found, expected)
    assert len(list((tmp_path / "b/cache").iterdir())) == 1


def test_a_frozen_run_from_training_to_new_pairs(small_bert, tmp_path):
    folder = shutil.copytree(small_bert, tmp_path / "bert")
    config, workdir = frozen_config(folder, tmp_path), tmp_path / "run"
    result = train_and_evaluate(config, workdir)
    assert result["test"]["dialogues"] == 8
    numbers = evaluate_run(workdir)
    assert numbers["test"] == result["test"]
    splits = load_corpus(config).splits
    scored = load_scores(workdir / "predictions/test.npz", splits["test"])
    expected = evaluate_split(scored, result["threshold"], EMOTIONS)
    assert expected.items() <= (result["test"] | {"threshold": result["threshold"]}).items()
    # The test split again, as conversations nobody labelled.
    predictions = json.loads((workdir / "predictions/test.json").read_text())
    tables = load_corpus(config).tables
    again = Predictor(workdir)(predictions, tables)
    assert list(map(pairs_of, again)) == list(map(pairs_of, predictions))

    # Exported, it has the encoder in it, which may change or go.
    export_run(workdir, tmp_path / "model", "card")
    nudge(folder)
    exported = Predictor(tmp_path / "model")(predictions, tables)
    assert [item | {"predicted_by": ""} for item in exported] == [
        item | {"predicted_by": ""} for item in again
    ]
    with pytest.raises(InputError, match="not the text encoder"):
        evaluate_run(workdir)
    (workdir / "result.json").unlink()
    with pytest.raises(InputError, match="the parameters of its text encoder have changed"):
        train_and_evaluate(config, workdir)


def test_what_a_run_keeps_of_an_encoder_elsewhere(small_bert, tmp_path, monkeypatch):
    config = frozen_config(small_bert, tmp_path)
    encoder = load_text_encoder(config, ())
    monkeypatch.chdir(small_bert.parent)
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda name, file: f"/hub/{name}/12ab/{file}"
    )
    for name, kept in (
        ("someone/encoder", {"name": "someone/encoder", "revision": "12ab"}),  # of the hub
        (small_bert.name, {"name": str(small_bert)}),
    ):
        config.text.pretrained = name
        named = encoder_elsewhere(encoder, config)
        assert named == kept | {"digest": encoder_digest(encoder)}
    config.text.finetune = True
    assert encoder_elsewhere(encoder, config) is None
    config.text.lora_rank = 2
    assert encoder_elsewhere(encoder, config) == named


def test_what_is_cut_is_said(capsys):
    def dialogue(name, length, pairs):
        turns = (Utterance(f"{name}{t}", "A", "well", "joy") for t in range(length))
        return Dialogue(name, tuple(turns), pairs)

    config = tiny_config()
    config.data.max_utterances = 3
    short, long = dialogue("a", 3, ((2, 2),)), dialogue("b", 5, ((2, 1), (3, 1), (4, 4)))
    corpus = Corpus({"train": [short, long, long], "dev": [short]}, {}, ("neutral", "joy"))
    corpus_batches(load_text_encoder(config, [short]), corpus, config, make_mesh(1))
    assert capsys.readouterr().err == (
        "train: 2 of 3 conversations have more than config.data.max_utterances, 3, and are cut; "
        "4 of 7 pairs are lost\n"
    )


def test_the_digest_of_an_encoder_stays_the_same():
    """Or frozen runs and cached vectors of before would be refused and computed again."""
    tokenizer = WordPieces(SimpleNamespace(to_str=lambda: "{}"), {})
    params = {"norm": {"bias": np.arange(4, dtype=np.float32)}}

    def digest(**options):
        config = TextEncoderConfig(7, 4, 1, 2, 8, 16, **options)
        return encoder_digest(LoadedEncoder(config, params, tokenizer))

    before = "9422dec02b7e2e55a6fc0e81658dcfc4581fd00de03f6c28d89e5fbc9ef380f4"  # at 05e5730
    assert digest() == digest(dropout=0.5, attention_dropout=0.5, lora_rank=3) == before
    others = digest(layer_norm_eps=1e-5), digest(relative="bias"), digest(pre_norm=True)
    assert len({before, *others}) == 4
