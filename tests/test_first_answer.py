"""The first command after installing: pairs of one's own conversation, printed and as tables."""

import csv
import json

import pytest
from shared import MINILM, needs_minilm, run_python

from rpcl_jax.evaluation.metrics import PREDICT_NOTHING
from rpcl_jax.predict import Predictor, predict_file
from rpcl_jax.run.model_folder import PACKAGED, PACKAGED_NAME

TALK = """WEBVTT

00:01.000 --> 00:03.000
<v Ann>Did you hear back about the job?

00:03.000 --> 00:05.000
<v Ben>They gave it to someone else.

00:05.000 --> 00:06.000
<v Ben>I feel awful.
"""


@pytest.fixture
def talk(tmp_path):
    path = tmp_path / "talk.vtt"
    path.write_text(TALK)
    return path


@pytest.mark.slow
def test_without_an_output_the_pairs_are_printed(reads_text, talk):
    done = run_python(
        "-m", "rpcl_jax", "predict", talk, f"--workdir={reads_text}", "--threshold=0"
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0] == "talk: 6 pairs in 3 utterances"
    assert lines[1] == "   1  0:00:01 Ann: Did you hear back about the job?"
    assert lines[-2].startswith(f"{talk}: 6 pairs in 1 conversation, 3 utterances in ")
    assert "--html=FILE.html draws them" in lines[-1]
    # Every utterance causes itself, and Ben's two Ann's question and one another.
    assert any(line.startswith("3 pairs of an utterance with itself") for line in lines)
    assert sum(line.endswith("  itself") for line in lines) == 3


def test_all_outputs_at_once(reads_text, talk, tmp_path, capsys):
    html, pairs, speakers, target = (
        tmp_path / name for name in ("a.html", "pairs.tsv", "speakers.csv", "a.json")
    )
    done = predict_file(
        reads_text, talk, target, threshold=0.0, html=html, pairs=pairs, speakers=speakers,
        own_causes=False,
    )  # fmt: skip
    assert done.pairs == 3
    (item,) = json.loads(target.read_text())
    assert item["pairs"] == [[2, 1], [3, 1], [3, 2]]
    rows = [*csv.DictReader(pairs.open(newline=""), delimiter="\t")]
    assert [[int(row[k]) for k in ("utterance_id", "cause_id")] for row in rows] == item["pairs"]
    assert [float(row["confidence"]) for row in rows] == item["pair_confidences"]
    assert [row["time"] for row in rows] == ["0:00:03", "0:00:05", "0:00:05"]
    by = {row["speaker"]: row["caused_by"] for row in csv.DictReader(speakers.open(newline=""))}
    assert by == {"Ann": "", "Ben": "Ann 2; Ben 1"}
    assert "candidates" not in item
    assert item["predicted_by"]["own_causes"] is False
    # The first is in no pair with another, and its emotion is decided as if it were in none.
    (whole,) = Predictor(reads_text, threshold=1.0)([{"utterances": item["utterances"]}])
    assert item["utterances"][0]["emotion"] == whole["utterances"][0]["emotion"]
    assert "They gave it to someone else." in html.read_text()
    assert not capsys.readouterr().out


@needs_minilm
@pytest.mark.slow
def test_the_package_comes_with_a_model(talk):
    assert sum(file.stat().st_size for file in PACKAGED.iterdir()) < 8e6
    done = run_python("-m", "rpcl_jax", "predict", talk, f"--encoder={MINILM}")
    assert "   3  0:00:05 Ben: I feel awful.\n      sadness 0." in done.stdout
    described = json.loads((PACKAGED / "config.json").read_text())
    assert described["encoder_elsewhere"]["name"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert len(described["encoder_elsewhere"]["revision"]) == 40
    assert 0 < described["threshold"] < PREDICT_NOTHING


def test_where_no_hub_is_reached_the_way_out_is_named(talk, monkeypatch, tmp_path):
    from rpcl_jax.errors import InputError

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"all-MiniLM-L6-v2: .* as --encoder$"):
        predict_file(PACKAGED_NAME, talk, tmp_path / "a.json")
