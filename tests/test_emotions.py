"""A run whose emotions are not ECF's, from RECCON's files to evaluation, report and prediction."""

import json

import numpy as np
import pytest
from shared import tiny_config

from rpcl_jax.data.synthetic import generate_corpus
from rpcl_jax.errors import InputError
from rpcl_jax.evaluate import evaluate_run
from rpcl_jax.evaluation.entailment import entailment
from rpcl_jax.predict import Predictor
from rpcl_jax.reporting.experiments import read_run
from rpcl_jax.reporting.report import report_data
from rpcl_jax.train import train_and_evaluate

NAMES = {"joy": "Excited", "sadness": "frustrated"}
CLASSES = ("neutral", "anger", "disgust", "excited", "fear", "frustrated", "surprise")


def write_reccon(folder):
    """Writes a generated corpus with other emotions; the test split has one that train lacks."""
    splits, _ = generate_corpus(0, sizes=tiny_config().data.sizes)
    for split, dialogues in splits.items():
        content = {
            f"{split}_{d.id}": [
                [
                    {
                        "turn": t,
                        "speaker": u.speaker,
                        "utterance": u.text,
                        "emotion": NAMES.get(u.emotion, u.emotion),
                        "expanded emotion cause evidence": [
                            j + 1 for i, j in d.pairs if i == t - 1
                        ],
                    }
                    for t, u in enumerate(d.utterances, 1)
                ]
            ]
            for d in dialogues
        }
        if split == "test":
            emotional = [t for (of,) in content.values() for t in of if t["emotion"] == "anger"]
            emotional[0]["emotion"] = "awe"
        name = {"dev": "valid"}.get(split, split)
        (folder / f"dailydialog_{name}.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.slow
def test_a_run_with_emotions_of_its_own(tmp_path, capsys):
    write_reccon(tmp_path)
    config = tiny_config()
    config.modalities, config.epochs = "t", 4  # as in test_train.py: the same programs
    config.data.format, config.data.root = "reccon", str(tmp_path)
    workdir = tmp_path / "run"
    with pytest.raises(InputError, match=r"^test: the emotion 'awe' is not one of the classes; 1 "):
        train_and_evaluate(config, workdir)
    assert not (workdir / "checkpoints").exists()

    config.data.unknown_emotion = "neutral"
    result = train_and_evaluate(config, workdir)
    said = capsys.readouterr().err
    assert (
        "test: the emotion 'awe' is not one of the classes; 1 utterances have it, taken as neutral"
        in said
    )
    assert tuple(json.loads((workdir / "config.json").read_text())["emotions"]) == CLASSES
    with np.load(workdir / "predictions/test.npz") as scores:
        assert scores["emotion_probabilities"].shape[1] == len(CLASSES)

    # Causal Emotion Entailment, with the threshold of validation.
    run = read_run(workdir)
    scored = {split: run.scores(run.splits()[split], split) for split in ("dev", "test")}
    threshold = result["dev"]["cee_threshold"]
    assert entailment(scored["dev"], None).items() <= result["dev"].items()
    assert entailment(scored["test"], threshold).items() <= result["test"].items()
    assert entailment(scored["test"], None)["cee_threshold"] != threshold, "chosen on test?"

    # Once trained, the run has its classes, and what the training split has become is no matter.
    train = tmp_path / "dailydialog_train.json"
    train.write_text(train.read_text().replace("frustrated", "anger"))
    again = evaluate_run(workdir)
    for split in ("dev", "test"):
        assert again[split] == pytest.approx(result[split], abs=1e-6)
    assert tuple(report_data([run])["emotions"]) == CLASSES

    turns = [{"speaker": "Ann", "text": text} for text in ("I passed the exam.", "Wonderful!")]
    predictor = Predictor(workdir)
    predictor._threshold = 0.0  # every candidate
    (found,) = predictor([{"id": 1, "utterances": turns}])
    assert len(found["pair_emotions"]) == 3
    assert set(found["pair_emotions"]) <= {*CLASSES[1:], "emotional"}
