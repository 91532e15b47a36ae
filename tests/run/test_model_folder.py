"""Runs and exported runs: the same outputs, and what of a wrong folder is refused."""

import json
import math
import re
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import ModelCard
from safetensors.numpy import load_file, save_file
from shared import ROOT, assert_pointer_is_named, refusal, run_main, run_python, tiny_config

from rpcl_jax.batching.text import word_tokenizer
from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.evaluate import evaluate_run
from rpcl_jax.files import read_json
from rpcl_jax.predict import Predictor
from rpcl_jax.readers.corpus import load_corpus
from rpcl_jax.readers.semeval import parse_conversations
from rpcl_jax.reporting.experiments import read_run
from rpcl_jax.run.config import to_json
from rpcl_jax.run.export import export_run
from rpcl_jax.run.model_folder import load_model, read_description
from rpcl_jax.run.workdir import check_owner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    """`finished`, which reads text, audio and vision, by the command; do not write there."""
    folder = tmp_path_factory.mktemp("exported") / "my-model"
    done = run_python("tools/export.py", finished, f"--out={folder}")
    assert str(folder) in done.stdout
    assert done.stderr == ""
    return folder


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


def without_name(predicted, folder):
    """Takes the name of the model out of predictions, all of which are to have it."""
    names = {item["predicted_by"].pop("model") for item in predicted}
    assert names == {"/".join(folder.parts[-2:])}
    return predicted


def test_the_folder(exported, finished):
    names = {path.name for path in exported.iterdir()}
    assert names == {
        *("README.md", "config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    assert names - {"README.md"} < {path.name for path in finished.iterdir()}
    ours, theirs = read_description(finished), read_description(exported)
    assert theirs.keys() - ours.keys() == {"threshold", "emotion_threshold"}
    assert ours.keys() - theirs.keys() == {"folder"}
    assert ours["feature_tables"] == theirs["feature_tables"]
    assert set(ours["feature_tables"]) == {"audio", "vision"}
    assert theirs["threshold"] == read_json(finished / "result.json")["threshold"]
    for name in names - {"model.safetensors"}:
        text = (exported / name).read_text(encoding="utf-8")
        assert str(ROOT) not in text
        assert str(finished.parent) not in text


def test_equal_outputs(exported, finished, unlabelled):
    conversations = json.loads(unlabelled.read_text())
    tables = {
        modality: FeatureTable.load(unlabelled.parent / "features" / modality)
        for modality in ("audio", "vision")
    }
    wanted = Predictor(finished)(conversations, tables)
    assert sum(len(item["pair_confidences"]) for item in wanted) > 20
    found = Predictor(exported)(conversations, tables)
    assert without_name(found, exported) == without_name(wanted, finished)
    # Not only what is above the threshold.
    dialogues = parse_conversations(conversations, "conversations", labelled=False)
    runs = load_model(finished), load_model(exported)
    scores, others = (run.score_prepared(run.prepare(dialogues, tables))() for run in runs)
    assert scores.keys() == others.keys() == set(range(len(dialogues)))
    for index in scores:
        for array, same in zip(scores[index], others[index], strict=True):
            np.testing.assert_array_equal(array, same)


def test_the_command_predicts_with_it(exported, finished, unlabelled, tmp_path):
    features = unlabelled.parent / "features"
    flags = ["--mode=predict", f"--input={unlabelled}", f"--features={features}"]
    run_main(*flags, f"--workdir={exported}", f"--output={tmp_path / 'wanted.json'}")
    run_main(*flags, f"--model={finished}", f"--output={tmp_path / 'pairs.json'}")
    wanted, found = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("wanted", "pairs")
    )
    assert without_name(found, finished) == without_name(wanted, exported)


def test_the_model_card(exported, finished):
    result = read_json(finished / "result.json")
    card = ModelCard.load(exported / "README.md")
    assert (card.data.library_name, card.data.model_name) == ("rpcl_jax", "my-model")
    values = {r.metric_name: (r.metric_type, r.metric_value) for r in card.data.eval_results}
    assert values == {
        "Pair F1": ("f1", round(result["test"]["pair_f1"], 4)),
        "Pair AUPRC": ("average_precision", round(result["test"]["pair_auprc"], 4)),
    }
    for label, metric in (
        *(("Pair F1", "pair_f1"), ("Pair AUPRC", "pair_auprc")),
        *(("Pair precision", "pair_precision"), ("Pair recall", "pair_recall")),
        ("F1 of pairs with their emotions, weighted over categories", "weighted_f1"),
    ):
        row = re.search(rf"\| {label} \| (.*) \| \[(.*), (.*)\] \|", card.text)
        value, low, high = map(float, row.groups())
        assert value == pytest.approx(100 * result["test"][metric], abs=0.005)
        assert 0 <= low < value < high <= 100
        assert 1 < high - low < 40  # of 16 dialogues
    assert "| test | 8 | " in card.text
    assert f"at least {result['threshold']:.3f}" in card.text
    assert "Emotions: neutral, anger, " in card.text
    assert "text and audio and vision. Audio comes as features: extractor generated" in card.text
    assert "in this repository, but the tokenizer is a list of the words of" in card.text
    assert "It is trained to withstand the loss" in card.text
    for words in ("no evidence of what a person feels", "high stakes", "errors of speech"):
        assert words in card.text
    assert "{" not in card.text.partition("```py")[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("emotion_head.bias"), "emotion_head.bias is missing"),
        (lambda t: t.update(extra=np.zeros(2, np.float32)), "extra is left over"),
        (
            lambda t: t.update({"cause_head.bias": np.zeros(3, np.float32)}),
            "cause_head.bias is float32 [3] instead of float32 [2]",
        ),
        (
            lambda t: t.update({"cause_head.bias": np.zeros(2, np.float64)}),
            "cause_head.bias is float64 [2] instead of float32 [2]",
        ),
        (lambda t: t["cause_head.bias"].fill(np.nan), "cause_head.bias contains NaN"),
        (
            lambda t: [t.pop(name) for name in list(t) if name.startswith("text_encoder.")],
            "more like these",
        ),
    ],
)
def test_parameters_that_do_not_fit(copy, change, said):
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors")
    message = refusal(Predictor, copy)
    assert message.startswith(f"{copy / 'model.safetensors'}: does not fit config.json: ")
    assert said in message
    assert len(message) < 800


def test_what_is_not_safetensors(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(b"\x80\x04K\x01.")  # a pickle
    assert f"{weights}: unreadable" in refusal(load_model, copy)
    weights.unlink()
    assert f"{weights}: not found" in refusal(load_model, copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threshold": None}, "threshold is None"),
        ({"layout": 2}, "written by a newer version"),
        ({"layout": None}, "its 'layout' is missing or wrong"),
        ({"library_name": None}, "not of a model of this version"),
        ({"encoder.hidden_size": "8"}, "its 'encoder.hidden_size' is missing or wrong"),
        ({"emotions": ["neutral", "joy"]}, "emotion_head"),
        ({"emotions": [1]}, "its emotions or its features"),
        ({"emotions": [*EMOTIONS[:6], "joy"]}, "its emotions or its features"),
        ({"emotions": [*EMOTIONS[1:], "neutral"]}, "its emotions or its features"),
        ({"threshold": 7}, "threshold is 7"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"run.text": {"max_tokens": 100, "row_length": 100}}, "more than the 64 positions"),
        ({"feature_tables": {}}, "its emotions or its features"),
        ({"feature_tables": {"audio": 1, "vision": {}}}, "describes no model"),
        ({"encoder.num_heads": 5}, "describes no model"),
        ({"encoder.surprise": 5}, "describes no model"),
        ({"encoder.hidden_act": "silu"}, "describes no model"),
        ({"encoder.hidden_size": 2**40}, "does not fit"),
        ({"encoder.vocab_size": 20}, "has pieces up to number"),
        ({"run.model": {}}, "does not fit"),
        ({"run.model": {"width": -1}}, "not a config of this version"),
        ({"run.surprise": 1}, "not a config of this version"),
    ],
)
def test_a_config_that_does_not_fit(copy, change, said):
    path = copy / "config.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    for name, value in change.items():
        *outer, last = name.split(".")
        inner = described[outer[0]] if outer else described
        inner[last] = value
    path.write_text(json.dumps(described))
    assert said in refusal(load_model, copy)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_that_git_lfs_has_not_fetched(copy, name):
    assert_pointer_is_named(copy / name, load_model, copy)


def test_the_parameters_of_another_run(copy):
    """Names and shapes would not tell them apart."""
    path = copy / "config.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps(described | {"run": {**described["run"], "devices": 7}}))
    load_model(copy)
    path.write_text(json.dumps(described | {"run": {**described["run"], "seed": 7}}))
    assert f"{copy / 'model.safetensors'}: does not belong to {path}" in refusal(load_model, copy)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, math.nan, True, "0.5"])
def test_a_threshold_that_is_none(exported, threshold):
    assert f"threshold: is {threshold!r}" in refusal(Predictor, exported, threshold)


def test_other_folders(copy, finished, tmp_path):
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty/config.json'}: not found" in refusal(Predictor, tmp_path / "empty")
    for read in (read_run, evaluate_run):
        assert "of a model that `rpcl export` wrote" in refusal(read, copy)
    assert "of a model that `rpcl export` wrote" in refusal(check_owner, copy, tiny_config())
    assert f"{copy}: already exists" in refusal(export_run, finished, copy, "card")
    assert "has no revision 'v1'" in refusal(Predictor, copy, revision="v1")
    done = run_python("tools/export.py", tmp_path / "empty", f"--out={tmp_path / 'x'}", status=1)
    assert done.stderr.startswith(f"export: {tmp_path / 'empty/config.json'}: not found")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob(".x*"))


def test_a_folder_that_an_earlier_version_exported(tmp_path):
    """c2d5a83 wrote this config.json and computed these confidences from such parameters."""
    config = tiny_config()
    word_tokenizer(load_corpus(config).splits["train"]).save(tmp_path)
    before = json.loads((Path(__file__).parent / "layout_1.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(before["config.json"]))
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in before["shapes"].items()
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "flax"})
    turns = [
        {"speaker": "Ann", "text": "We won the cup!"},
        {"speaker": "Ben", "text": "Oh no, I am so sorry."},
        {"speaker": "Ann", "text": "That is wonderful, thank you!"},
    ]
    (found,) = Predictor(tmp_path)([{"id": "1", "utterances": turns}])
    assert found["predicted_by"]["threshold"] == 0.25
    assert found["pairs"] == [[1, 1], [2, 1], [2, 2], [3, 1], [3, 2], [3, 3]]
    wanted = [0.414, 0.797, 0.415, 0.494, 0.797, 0.414]
    assert found["pair_confidences"] == pytest.approx(wanted, abs=2e-3)


def test_a_run_of_an_older_version_is_refused(tmp_path):
    """Its config.json was the config alone."""
    (tmp_path / "config.json").write_text(json.dumps(to_json(tiny_config())))
    for read in (load_model, read_run, evaluate_run):
        message = refusal(read, tmp_path)
        assert message.startswith(f"{tmp_path / 'config.json'}: not of a model of this version")
        assert "train the run again" in message
    assert "train the run again" in refusal(check_owner, tmp_path, tiny_config())


def test_a_model_of_the_hub(exported, monkeypatch):
    asked = []

    def snapshot_download(name, *, revision, allow_patterns):
        asked.append((name, revision, "model*.safetensors" in allow_patterns))
        return str(exported)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    for load, revision in ((Predictor, None), (Predictor.from_pretrained, "v1")):
        predictor = load("someone/pairs", revision=revision)
        (found,) = predictor([{"utterances": [{"text": "Yes!", "speaker": "Ann"}], "id": "1"}])
        assert found["predicted_by"]["model"] == "someone/pairs"
    assert asked == [("someone/pairs", None, True), ("someone/pairs", "v1", True)]
