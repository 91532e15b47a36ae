"""The command from its flags to the files of a run, and on real data."""

import json
import shutil
import subprocess
import sys
import time

import pytest
from safetensors import safe_open
from shared import (
    ECF,
    ENVIRONMENT,
    MINILM,
    ROOT,
    assert_one_line,
    needs_ecf,
    needs_minilm,
    run_main,
    run_python,
    tiny_config,
    tiny_flags,
)

from rpcl_jax.data.synthetic import generate_corpus
from rpcl_jax.run.base_config import base_config
from rpcl_jax.run.config import flatten


@pytest.mark.slow
def test_a_run_leaves_what_is_promised(finished):
    result = json.loads((finished / "result.json").read_text())
    for split in ("dev", "test"):
        assert {
            "pair_precision",
            "pair_recall",
            "pair_f1",
            "pair_auprc",
            "emotion_f1",
            "cause_f1",
            "weighted_f1",
            "emotion_weighted_f1",
            "gold_pairs_cut",
            "gold_pairs_outside_candidates",
            "gold_confidence",
            "gap_hard",
            "gap_all",
            "severity_hard",
            "severity_all",
        } <= result[split].keys()
        assert 0 <= result[split]["pair_f1"] <= 1
    assert {"threshold", "seed", "versions", "device", "seconds", "best_epoch"} <= result.keys()
    assert result["dev"]["threshold"] == result["test"]["threshold"] == result["threshold"]
    assert list(finished.glob("events.out.tfevents.*"))
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert sum("train/loss" in line for line in lines) == 6, "two steps, three epochs"
    assert json.loads((finished / "config.json").read_text())["folder"] == str(ROOT)
    kept = {p.name for p in (finished / "checkpoints").iterdir() if p.name.isdigit()}
    assert kept == {"9"}, "after three epochs of two steps, and one number for each epoch's end"
    with safe_open(finished / "model.safetensors", framework="numpy") as opened:
        facts = json.loads(opened.metadata()["rpcl_jax"])
    assert (facts["epoch"], facts["threshold"]) == (result["best_epoch"], result["threshold"])


@pytest.mark.slow
def test_predictions_are_the_decoded_test_split(finished):
    result = json.loads((finished / "result.json").read_text())
    predictions = json.loads((finished / "predictions/test.json").read_text())
    splits, _ = generate_corpus(0, sizes=tiny_config().data.sizes)
    gold = [set(dialogue.pairs) for dialogue in splits["test"]]
    found = [
        {(int(e.split("_")[0]) - 1, int(c) - 1) for e, c in item["emotion-cause_pairs"]}
        for item in predictions
    ]
    right = sum(len(g & f) for g, f in zip(gold, found, strict=True))
    total = sum(map(len, gold)) + sum(map(len, found))
    assert result["test"]["pair_f1"] == pytest.approx(2 * right / total)
    assert sum(map(len, found)) == result["test"]["predicted_pairs"] > 0
    for item in predictions:
        assert len(item["pair_confidences"]) == len(item["emotion-cause_pairs"])
        assert all(p >= round(result["threshold"], 3) for p in item["pair_confidences"])
        assert not any("neutral" in emotion for emotion, _ in item["emotion-cause_pairs"])


@pytest.mark.slow
def test_a_finished_run_prints_its_result_again(finished):
    before = (finished / "result.json").stat().st_mtime_ns
    assert "test Pair F1" in run_main(*tiny_flags(), f"--workdir={finished}").stdout
    assert (finished / "result.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_another_config_is_refused_in_a_runs_folder(finished):
    done = run_main(*tiny_flags(), f"--workdir={finished}", "--config.seed=7", status=1)
    assert_one_line(done, "another config", "seed: 42 there, 7 asked for", "--workdir")


@pytest.mark.slow
def test_evaluate_computes_the_same_numbers_from_the_checkpoint(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "predictions")
    result = json.loads((copy / "result.json").read_text())
    wrong = {split: dict.fromkeys(result[split], -1.0) for split in ("dev", "test")}
    spoiled = result | wrong | {"threshold": -1.0}
    (copy / "result.json").write_text(json.dumps(spoiled))
    run_main("--mode=evaluate", f"--workdir={copy}")
    assert json.loads((copy / "result.json").read_text()) == result
    name = "predictions/test.json"
    assert (finished / name).read_text() == (copy / name).read_text()


@pytest.mark.slow
def test_a_benchmark_without_emotion_categories(tmp_path):
    """MEC4's format with two emotion classes, from its files to pairs and to the report."""
    splits, _ = generate_corpus(0, sizes=tiny_config().data.sizes)
    (tmp_path / "MEC4_text").mkdir()
    for split, dialogues in splits.items():
        rows = [
            {
                "dia_id": dialogue.id,
                "dia_len": len(dialogue.utterances),
                "text": " ".join(
                    f"{t}.{u.speaker}：{u.text}" for t, u in enumerate(dialogue.utterances, 1)
                ),
                "pairs": ",".join(f"({i + 1},{j + 1})" for i, j in dialogue.pairs),
            }
            for dialogue in dialogues
        ]
        name = {"dev": "valid"}.get(split, split)
        (tmp_path / f"MEC4_text/{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    arguments = [
        *tiny_flags(), "--config.data.name=mec4", "--config.data.format=mec4", "--config.epochs=1",
        f"--config.data.root={tmp_path}", "--config.modalities=t", f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    run_main(*arguments)
    result = json.loads((tmp_path / "run/result.json").read_text())["test"]
    assert result["utterances"] == sum(len(d.utterances) for d in splits["test"])
    assert result["gold_pairs"] == sum(len(d.pairs) for d in splits["test"])
    assert result["weighted_f1"] == result["pair_f1"], "one category"
    predicted = json.loads((tmp_path / "run/predictions/test.json").read_text())
    said = [pair[0] for item in predicted for pair in item["emotion-cause_pairs"]]
    assert said
    assert {emotion.partition("_")[2] for emotion in said} == {"emotional"}
    run_python("tools/make_report.py", tmp_path / "run", "--out", tmp_path / "report.html")
    assert '"emotions":["neutral","emotional"]' in (tmp_path / "report.html").read_text()


# The first conversations of real data: from files to result.json and to new pairs.


def cut_ecf(path, conversations):
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept, place = [], 0
    for _ in range(conversations):
        size = int(lines[place].split()[1]) + 2
        kept += lines[place : place + size]
        place += size
    return "".join(kept)


@needs_ecf
@needs_minilm
@pytest.mark.slow
@pytest.mark.long
def test_real_ecf_from_file_to_result_and_to_new_pairs(tmp_path):
    root, workdir = tmp_path / "ECF", tmp_path / "run"
    root.mkdir()
    for split, size in (("train", 16), ("dev", 8), ("test", 8)):
        (root / f"{split}.txt").write_text(cut_ecf(ECF / f"{split}.txt", size), encoding="utf-8")
    run_main(
        "--config=configs/ecf.py",
        f"--config.data.root={root}",
        f"--config.text.pretrained={MINILM}",
        "--config.modalities=t",
        "--config.epochs=1",
        "--config.batch_size=16",
        f"--workdir={workdir}",
    )
    result = json.loads((workdir / "result.json").read_text())
    assert result["test"]["dialogues"] == 8
    assert result["objective"] == "rpcl"
    said = ["Did you get the job?", "They said no. I am so disappointed.", "Oh no, I am sorry."]
    conversation = [
        {"utterance_ID": t, "speaker": "AB"[t % 2], "text": text} for t, text in enumerate(said, 1)
    ]
    source = tmp_path / "new.jsonl"
    source.write_text(json.dumps({"conversation_ID": "a", "conversation": conversation}) + "\n")
    run_main(
        "--mode=predict",
        f"--workdir={workdir}",
        f"--input={source}",
        f"--output={tmp_path / 'o.json'}",
    )
    (predicted,) = json.loads((tmp_path / "o.json").read_text())
    for turn, given in zip(predicted["conversation"], conversation, strict=True):
        assert 0 < turn.pop("emotion_probability") < 1
        assert turn == given | {"emotion": turn["emotion"]}
    assert len(predicted["emotion-cause_pairs"]) == len(predicted["pair_confidences"])


def test_help_answers_at_once():
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "rpcl_jax.main", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "--config" in done.stdout
    assert time.monotonic() - started < 5


MY_CONFIG = """
from rpcl_jax.run.base_config import base_config


def get_config(objective="rpcl"):
    c = base_config(objective)
"""


@pytest.mark.slow
def test_a_config_outside_the_repository(tmp_path):
    config, elsewhere = tmp_path / "configs/my_config.py", tmp_path / "elsewhere"
    config.parent.mkdir()
    mine, fields = tiny_config(), flatten(base_config())
    mine.modalities, mine.epochs = "t", 1
    differing = [(k, v) for k, v in flatten(mine).items() if v != fields[k]]
    lines = [f"    c.{field} = {value!r}\n" for field, value in differing]
    config.write_text(MY_CONFIG + "".join(lines) + "    return c\n")
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "rpcl_jax.main", f"--config={config}:base"],
        cwd=elsewhere, env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((elsewhere / "runs/my_config/base-t-seed42/result.json").read_text())
    assert (result["objective"], result["test"]["dialogues"]) == ("base", 8)
