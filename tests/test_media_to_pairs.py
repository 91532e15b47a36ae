"""From films and their transcripts to a model that hears and sees, and from a new film to pairs.

The films are made on the spot: speech by espeak-ng, pictures of another colour and rhythm for every
emotion. The extractors are a small wav2vec 2.0 and a small CLIP of random weights.
"""

import dataclasses
import json

import numpy as np
import pytest
from media import write_clip, write_episode
from shared import needs_espeak, run_python
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_extractors import save_clip, save_wav2vec2

from rpcl_jax.data.dialogue import NEUTRAL, Clip
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.data.synthetic import generate_corpus
from rpcl_jax.readers.conversations import dialogue_object, write_conversations
from rpcl_jax.reporting.experiments import read_run, training_curves

SIZES = {"train": 12, "dev": 3, "test": 4}
SOUND = "alac"  # lossless, as a network of random weights takes the least noise for something else
SMALL = [
    "--config.text.encoder.hidden_size=32",
    "--config.text.encoder.num_layers=1",
    "--config.text.encoder.intermediate_size=64",
    "--config.model.width=32",
    "--config.model.fusion_layers=1",
    "--config.model.pair_width=32",
    "--config.batch_size=12",  # all of the training split: every batch has the same shape
    "--config.epochs=24",
]


def features_and_emotional(table, dialogues):
    utterances = [utterance for dialogue in dialogues for utterance in dialogue.utterances]
    rows, present = table.rows([u.id for u in utterances])
    return rows[present], np.array([u.emotion != NEUTRAL for u in utterances])[present]


@pytest.mark.slow
@needs_espeak
@pytest.mark.long
def test_from_films_to_pairs(tmp_path):
    splits, _ = generate_corpus(0, sizes=SIZES)
    data, clips = tmp_path / "data", tmp_path / "clips"
    clips.mkdir()
    for split, dialogues in splits.items():
        write_conversations(data / f"{split}.jsonl", dialogues)
        for dialogue in dialogues:
            for utterance in dialogue.utterances:
                path = clips / f"{utterance.id}.mp4"
                write_clip(path, utterance.text, utterance.emotion, SOUND)
    lost = splits["train"][0].utterances[0].id
    (clips / f"{lost}.mp4").unlink()

    corpus = [
        "--config=configs/demo.py",
        "--config.data.name=films",
        "--config.data.format=conversations",
        f"--config.data.root={data}",
    ]
    models = {
        "audio": ("wav2vec2", save_wav2vec2(tmp_path / "wav2vec2")),
        "vision": ("clip", save_clip(tmp_path / "clip")),
    }
    tables = {}
    for modality, (extractor, model) in models.items():
        done = run_python(
            "tools/extract_features.py", *corpus, f"--clips={clips}", f"--extractor={extractor}",
            f"--model={model}", f"--out={tmp_path / modality}",
        )  # fmt: skip
        assert f"{lost}: no {modality}" in done.stderr
        tables[modality] = FeatureTable.load(tmp_path / modality)
        assert set(tables[modality].absent) == {lost}
        # The rows are those of their utterances: in new conversations they tell emotion from none.
        x, y = features_and_emotional(tables[modality], splits["train"])
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x, y)
        x, y = features_and_emotional(tables[modality], splits["dev"] + splits["test"])
        separation = roc_auc_score(y, classifier.predict_proba(x)[:, 1])
        assert separation > {"audio": 0.7, "vision": 0.95}[modality], (modality, separation)

    workdir = tmp_path / "run"
    folders = [f"--config.data.{modality}={tmp_path / modality}" for modality in models]
    run_python("-m", "rpcl_jax.main", *corpus, *folders, *SMALL, f"--workdir={workdir}")
    result = json.loads((workdir / "result.json").read_text())
    assert result["modalities"] == "tav"
    assert result["test"]["gold_pairs"] == sum(len(d.pairs) for d in splits["test"])
    # It has learned something.
    losses, f1 = training_curves(read_run(workdir))
    assert losses[-1] < 0.8 * losses[0]
    assert f1.max() > f1[0]
    described = json.loads((workdir / "config.json").read_text())["feature_tables"]
    assert {m: d["extractor"] for m, d in described.items()} == {
        "audio": "wav2vec2",
        "vision": "clip",
    }

    # One film and its transcript, with times, to pairs: one command.
    films = tmp_path / "films"
    films.mkdir()
    dialogue = splits["test"][0]
    spans = write_episode(
        films / "episode.mp4", [(u.text, str(u.emotion)) for u in dialogue.utterances], SOUND
    )
    utterances = tuple(
        dataclasses.replace(utterance, emotion=None, clip=Clip("episode", *span))
        for utterance, span in zip(dialogue.utterances, spans, strict=True)
    )
    transcript = dialogue_object(dataclasses.replace(dialogue, utterances=utterances, pairs=None))
    (tmp_path / "transcript.json").write_text(json.dumps(transcript))
    predict = [
        "-m", "rpcl_jax.main", "--mode=predict", f"--workdir={workdir}",
        f"--input={tmp_path / 'transcript.json'}", f"--output={tmp_path / 'pairs.json'}",
        "--threshold=0",  # every candidate is a pair, so that all confidences can be seen
    ]  # fmt: skip

    def predicted(source):
        run_python(*predict, source)
        (found,) = json.loads((tmp_path / "pairs.json").read_text())
        for turn, given in zip(found["utterances"], transcript["utterances"], strict=True):
            assert turn.items() >= given.items()
        return dict(zip(map(tuple, found["pairs"]), found["pair_confidences"], strict=True))

    # Cut from the film or from the tables, made of files of their own, the utterances are the same;
    # but for the pictures, which x264 coded in another order.
    cut = predicted(f"--clips={films}")
    for modality in models:
        (tmp_path / "features" / modality).parent.mkdir(exist_ok=True)
        (tmp_path / modality).rename(tmp_path / "features" / modality)
    own = predicted(f"--features={tmp_path / 'features'}")
    n = len(dialogue.utterances)
    assert len(cut) == n * (n + 1) / 2
    assert max(cut.values()) > 2 * min(cut.values())
    assert cut == pytest.approx(own, abs=0.01)
    assert run_python(*predict, "--clips=x", "--features=y", status=2).stderr.count("\n") == 1
