"""Encoders of each family, fine-tuned and frozen: from a folder to a run, a model and pairs."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file
from shared import import_or_skip, tiny_config
from small_encoders import OPTIONS, SMALL, make_tokenizer

from rpcl_jax.batching.text import word_tokenizer
from rpcl_jax.models.pretrained import load_pretrained
from rpcl_jax.predict import Predictor
from rpcl_jax.readers.corpus import load_corpus
from rpcl_jax.reporting.predictions import pairs_of
from rpcl_jax.run.export import export_run
from rpcl_jax.train import train_and_evaluate

torch = import_or_skip("torch")
import transformers
from flax.traverse_util import flatten_dict

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module", params=[family for family in SMALL if family != "bert"])
def encoder(request, tmp_path_factory):
    """A small random encoder over the words of the tiny corpus, as save_pretrained writes it."""
    family = request.param
    words = word_tokenizer(load_corpus(tiny_config()).splits["train"]).backend.get_vocab()
    tokenizer = make_tokenizer(family, sorted(word for word in words if word[0] != "["))
    folder = tmp_path_factory.mktemp(family)
    tokenizer.save_pretrained(folder)
    layers = 2 if family == "modernbert" else 1  # its second is a local one
    sizes = {"hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 64, "max_position_embeddings": 66, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **sizes, **OPTIONS.get(family, {}))
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("finetune", [True, False])
def test_from_an_encoder_to_pairs(encoder, tmp_path, finetune):
    config = tiny_config("base")  # whose training step compiles fastest
    config.modalities = "t"
    config.model.fusion_layers = 0
    config.data.sizes.train = 16  # one step
    config.optimizer.warmup = 0.0
    config.devices = 1
    config.epochs = 1
    config.text.pretrained = str(shutil.copytree(encoder, tmp_path / "encoder"))
    config.text.finetune = finetune
    config.text.cache = str(tmp_path / "cache")
    train_and_evaluate(config, tmp_path / "run")
    predictions = json.loads((tmp_path / "run/predictions/test.json").read_text())
    found = Predictor(tmp_path / "run")(predictions)
    assert sum(len(item["emotion-cause_pairs"]) for item in predictions) > 5
    for item, wanted in zip(found, predictions, strict=True):
        assert pairs_of(item) == pairs_of(wanted)
        np.testing.assert_allclose(
            item["pair_confidences"], wanted["pair_confidences"], atol=1.1e-3
        )

    export_run(tmp_path / "run", tmp_path / "model", "card")
    shutil.rmtree(tmp_path / "encoder")
    again = Predictor(tmp_path / "model")(predictions)
    assert [item | {"predicted_by": ""} for item in again] == [
        item | {"predicted_by": ""} for item in found
    ]
    # Training has changed every parameter of the encoder, or none.
    exported = load_file(tmp_path / "model/model.safetensors")
    for name, before in flatten_dict(load_pretrained(encoder)[1], sep=".").items():
        assert np.array_equal(before, exported[f"text_encoder.{name}"]) != finetune, name
