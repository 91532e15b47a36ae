"""The command line, end to end: runs, kills, resumptions, predictions and bad input."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from shared import ECF, ENVIRONMENT, MINILM, ROOT, needs_ecf, needs_minilm, run_python

from rpcl_jax.data.features import FeatureTable
from rpcl_jax.data.synthetic import generate_corpus
from rpcl_jax.errors import InputError
from rpcl_jax.predict import Predictor
from rpcl_jax.readers.conversations import dialogue_object
from rpcl_jax.readers.semeval import conversation_object, parse_conversations
from rpcl_jax.training.checkpoint import Checkpoints

# tests/shared.py's tiny_config, said on the command line.
TINY = [
    "--config=configs/demo.py",
    "--config.data.sizes.train=48",
    "--config.data.sizes.dev=16",
    "--config.data.sizes.test=16",
    "--config.text.encoder.hidden_size=32",
    "--config.text.encoder.num_layers=1",
    "--config.text.encoder.intermediate_size=64",
    "--config.model.width=32",
    "--config.model.fusion_layers=1",
    "--config.model.pair_width=32",
    "--config.epochs=3",
]


def command(*arguments):
    return [sys.executable, "-m", "rpcl_jax.main", *map(str, arguments)]


def run(*arguments, status=0):
    return run_python(*command(*arguments)[1:], status=status)


def parameters(workdir):
    """Every number of the last checkpoint's state, by name."""
    checkpoints = Checkpoints(workdir)
    state = checkpoints.restore_state(checkpoints.last())
    leaves = {}

    def walk(prefix, tree):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree or ())
        for key, value in items:
            if isinstance(value, dict | list | tuple) or value is None:
                walk(f"{prefix}/{key}", value)
            else:
                leaves[f"{prefix}/{key}"] = np.asarray(value)

    walk("", state)
    return leaves


def assert_same_run(one, other):
    a, b = parameters(one), parameters(other)
    assert a.keys() == b.keys()
    assert len(a) > 50
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    results = [json.loads((w / "result.json").read_text()) for w in (one, other)]
    assert results[0].pop("seconds") != results[1].pop("seconds")
    assert results[0] == results[1]
    lines = [
        [
            line
            for line in (w / "metrics.jsonl").read_text().splitlines()
            if "per_second" not in line
        ]
        for w in (one, other)
    ]
    assert lines[0] == lines[1]
    for split in ("dev", "test"):
        assert filecmp_text(one, other, f"predictions/{split}.json")


def filecmp_text(one, other, name):
    return (one / name).read_text() == (other / name).read_text()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    done = run(*TINY, f"--workdir={workdir}")
    assert "test Pair F1" in done.stdout
    assert done.stderr.count("validation Pair F1") == 3, "plain lines, one an epoch"
    # No note of a library's stands among them.
    assert {line.split()[0] for line in done.stderr.splitlines()} <= {"epoch", "compiling"}
    return workdir


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
    assert sum("train/loss" in line for line in lines) == 9, "three steps, three epochs"
    kept = {p.name for p in (finished / "checkpoints").iterdir() if p.name.isdigit()}
    assert kept == {"3", str(result["best_epoch"])}


def test_predictions_are_the_decoded_test_split(finished):
    result = json.loads((finished / "result.json").read_text())
    predictions = json.loads((finished / "predictions/test.json").read_text())
    splits, _ = generate_corpus(0, sizes={"train": 48, "dev": 16, "test": 16})
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
        assert all(p >= result["threshold"] for p in item["pair_confidences"])
        assert not any("neutral" in emotion for emotion, _ in item["emotion-cause_pairs"])


def test_a_finished_run_prints_its_result_again(finished):
    before = (finished / "result.json").stat().st_mtime_ns
    assert "test Pair F1" in run(*TINY, f"--workdir={finished}").stdout
    assert (finished / "result.json").stat().st_mtime_ns == before


def test_another_config_is_refused_in_a_runs_folder(finished):
    done = run(*TINY, f"--workdir={finished}", "--config.seed=7", status=1)
    assert_one_line(done, "another config", "seed: 42 there, 7 asked for", "--workdir")


def test_evaluate_computes_the_same_numbers_from_the_checkpoint(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "predictions")
    result = json.loads((copy / "result.json").read_text())
    spoiled = result | {"dev": {}, "test": {}, "threshold": -1.0}
    (copy / "result.json").write_text(json.dumps(spoiled))
    run("--mode=evaluate", f"--workdir={copy}")
    assert json.loads((copy / "result.json").read_text()) == result
    assert filecmp_text(finished, copy, "predictions/test.json")


@pytest.mark.slow
def test_the_same_command_gives_the_same_bits(finished, tmp_path):
    run(*TINY, f"--workdir={tmp_path / 'again'}")
    assert_same_run(finished, tmp_path / "again")


def kill_when(condition, workdir):
    """Starts the run and kills it as soon as `condition()` holds."""
    with subprocess.Popen(
        command(*TINY, f"--workdir={workdir}"),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 300
        while not condition():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
    assert not (workdir / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["between", "during"])
def test_a_killed_run_goes_on_to_the_same_bits(finished, tmp_path, moment):
    workdir = tmp_path / "run"
    checkpoints = workdir / "checkpoints"

    def whole():
        return (checkpoints / "1").is_dir()

    def half_written():
        return whole() and any("2.orbax-checkpoint-tmp" in p.name for p in checkpoints.iterdir())

    kill_when(whole if moment == "between" else half_written, workdir)
    if moment == "during":
        assert not (checkpoints / "2").exists()
    done = run(*TINY, f"--workdir={workdir}")
    assert "continuing after epoch 1 of 3\n" in done.stderr
    assert done.stderr.count("validation Pair F1") == 2
    assert_same_run(finished, workdir)


@pytest.mark.slow
def test_ctrl_c_says_how_to_continue(tmp_path):
    process = subprocess.Popen(
        command(*TINY, "--config.epochs=1000", f"--workdir={tmp_path}"),
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stderr:
        if line.startswith("epoch 1/"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    *epochs, last = errors.splitlines()
    assert all(line.startswith("epoch ") for line in epochs)
    assert last == "rpcl_jax: interrupted; run the same command again to continue"


# What a user does with a run.


@pytest.fixture(scope="module")
def unlabelled(finished, tmp_path_factory):
    """The test split as somebody without labels has it, with its features in a folder."""
    folder = tmp_path_factory.mktemp("input")
    splits, tables = generate_corpus(0, sizes={"train": 48, "dev": 16, "test": 16})
    conversations = [conversation_object(dialogue) for dialogue in splits["test"]]
    for conversation in conversations:
        conversation["note"] = "kept"
    path = folder / "conversations.json"
    path.write_text(json.dumps(conversations))
    for name, table in tables.items():
        table.save(folder / "features" / name)
    return path


def test_predict_finds_the_pairs_of_conversations_without_labels(finished, unlabelled, tmp_path):
    output = tmp_path / "pairs.json"
    arguments = ["--mode=predict", f"--workdir={finished}", f"--output={output}"]
    run(*arguments, f"--input={unlabelled}", f"--features={unlabelled.parent / 'features'}")
    pairs = json.loads(output.read_text())
    wanted = json.loads((finished / "predictions/test.json").read_text())
    assert all(item.pop("note") == "kept" for item in pairs)
    assert [p["emotion-cause_pairs"] for p in pairs] == [w["emotion-cause_pairs"] for w in wanted]
    for p, w in zip(pairs, wanted, strict=True):
        np.testing.assert_allclose(p["pair_confidences"], w["pair_confidences"], atol=1e-5)


def test_predictor_in_three_lines(finished, unlabelled):
    conversations = json.loads(unlabelled.read_text())[:2]
    tables = {
        name: FeatureTable.load(unlabelled.parent / "features" / name)
        for name in ("audio", "vision")
    }
    predictor = Predictor.from_workdir(finished)
    results = predictor(conversations, tables)
    assert [r["conversation_ID"] for r in results] == [c["conversation_ID"] for c in conversations]
    assert parse_conversations(results, "results", labelled=False)
    assert predictor([], tables) == []

    # In our own form, labels and all, which are not looked at.
    dialogues = parse_conversations(conversations, "conversations", labelled=False)
    ours = [dialogue_object(dialogue) | {"note": "kept"} for dialogue in dialogues]
    ours[0]["utterances"][0]["emotion"] = "unheard of"
    for item, wanted in zip(predictor(ours, tables), results, strict=True):
        assert item["note"] == "kept"
        said = [
            [f"{i}_{emotion}", str(j)]
            for (i, j), emotion in zip(item["pairs"], item["pair_emotions"], strict=True)
        ]
        assert said == wanted["emotion-cause_pairs"]
        assert item["pair_confidences"] == wanted["pair_confidences"]

    # Features of another extractor are not what the run has learned to read.
    described = {**tables["audio"].description, "extractor": "wav2vec2"}
    tables["audio"] = dataclasses.replace(tables["audio"], description=described)
    with pytest.raises(InputError, match="extractor is 'wav2vec2', the run was trained with 'gen"):
        predictor(conversations, tables)


def test_the_features_statistics_travel_in_the_checkpoint(finished):
    splits, tables = generate_corpus(0, sizes={"train": 48, "dev": 16, "test": 16})
    ids = [utterance.id for dialogue in splits["train"] for utterance in dialogue.utterances]
    saved = parameters(finished)
    for name, table in tables.items():
        values = table.values[[table.row_of_id[i] for i in ids]].astype(np.float64)
        for kind, expected in (("mean", values.mean(0)), ("scale", values.std(0))):
            found = saved[f"/params/fusion/{name}/{kind}"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_run_that_hears_and_sees_says_which_features_it_misses(finished, unlabelled, tmp_path):
    done = run(
        "--mode=predict",
        f"--workdir={finished}",
        f"--input={unlabelled}",
        f"--output={tmp_path / 'x.json'}",
        status=1,
    )
    assert_one_line(done, "reads audio", "--features")
    predict = ["--mode=predict", f"--workdir={finished}", f"--input={unlabelled}"]
    nowhere = [f"--output={tmp_path / 'x.json'}", f"--features={tmp_path / 'nosuch'}"]
    assert_one_line(run(*predict, *nowhere, status=1), "nosuch/audio/features.npy: not there")
    (tmp_path / "file").write_text("")
    done = run(*predict, f"--output={tmp_path / 'file/x.json'}", status=1)
    assert_one_line(done, f"rpcl_jax: {tmp_path / 'file'}: ")


@pytest.mark.slow
def test_a_benchmark_that_says_no_categories(tmp_path):
    """MEC4's form and two classes of emotion, from its files to pairs and to the report."""
    splits, _ = generate_corpus(0, sizes={"train": 24, "dev": 8, "test": 8})
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
        *TINY, "--config.data.name=mec4", "--config.data.format=mec4", "--config.epochs=1",
        f"--config.data.root={tmp_path}", "--config.modalities=t", f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    assert_one_line(run(*arguments, status=1), "--config.data.emotions=binary")
    run(*arguments, "--config.data.emotions=binary")
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


# Real data, cut short: from file to result.json and to pairs for new conversations.


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
def test_real_ecf_from_file_to_result_and_to_new_pairs(tmp_path):
    root, workdir = tmp_path / "ECF", tmp_path / "run"
    root.mkdir()
    for split, size in (("train", 16), ("dev", 8), ("test", 8)):
        (root / f"{split}.txt").write_text(cut_ecf(ECF / f"{split}.txt", size), encoding="utf-8")
    run(
        "--config=configs/ecf.py",
        f"--config.data.root={root}",
        f"--config.text.pretrained={MINILM}",
        "--config.modalities=t",
        "--config.epochs=1",
        "--config.batch_size=8",
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
    run("--mode=predict", f"--workdir={workdir}", f"--input={source}", f"--output={tmp_path / 'o'}")
    (predicted,) = json.loads((tmp_path / "o").read_text())
    assert predicted["conversation"] == conversation
    assert len(predicted["emotion-cause_pairs"]) == len(predicted["pair_confidences"])


# Bad input: one line, status 1 or 2, no traceback.


def assert_one_line(done, *parts):
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("rpcl_jax: ")
    for part in parts:
        assert part in lines[0]
    assert "Traceback" not in done.stdout + done.stderr


def write_ecf(root, pairs="(1,1)", emotion="joy"):
    root.mkdir()
    for number, split in enumerate(("train", "dev", "test"), 1):
        clip = "S1E1: 00:00:01.000 - 00:00:02.000"
        text = f"{number} 1\n{pairs}\n1 | Ann | {emotion} | hello | {clip}\n"
        (root / f"{split}.txt").write_text(text)
    return root


@pytest.mark.parametrize(
    ("arguments", "status", "parts"),
    [
        (["--config=configs/demo.py", "--config.sead=1"], 2, ["sead"]),
        (["--config=configs/demo.py:rcpl"], 1, ["objective", "'rcpl'", "utterance_dropout"]),
        (["--config=configs/demo.py", "--config.modalities=av"], 1, ["modalities", "'av'"]),
        (["--config=configs/demo.py", "--config.seed=x"], 2, ["seed"]),
        (["--config=configs/nosuch.py"], 2, ["nosuch.py"]),
        ([], 2, ["--config"]),
        (["--config=configs/demo.py", "--nosuch"], 2, ["nosuch"]),
        (["--config=configs/demo.py", "--epochs=3"], 2, ["write --config.epochs"]),
        (["--data.root=x", "--config=configs/demo.py"], 2, ["write --config.data.root"]),
        (["--config=configs/demo.py", "--name=x"], 2, ["write --config.data.name"]),
        (["--config=configs/demo.py", "train"], 2, ["train"]),
        (["--mode=evaluate"], 2, ["--workdir"]),
        (["--mode=evaluate", "--workdir=/nosuch/run"], 1, ["/nosuch/run"]),
        (["--config=configs/ecf.py", "--config.data.root=/nosuch"], 1, ["/nosuch", "git clone"]),
    ],
)  # fmt: skip
def test_bad_usage(arguments, status, parts, tmp_path):
    if "--config" in "".join(arguments):
        arguments = [*arguments, f"--workdir={tmp_path / 'run'}"]
    assert_one_line(run(*arguments, status=status), *parts)


def test_bad_data_and_encoders(tmp_path):
    def fail(*arguments):
        return run("--config=configs/ecf.py", "--config.modalities=t",
                   f"--workdir={tmp_path / 'run'}", *arguments, status=1)  # fmt: skip

    good = write_ecf(tmp_path / "good")
    root = write_ecf(tmp_path / "outside", pairs="(1,2)")
    assert_one_line(fail(f"--config.data.root={root}"), "train.txt", "(1,2)", "outside")
    root = write_ecf(tmp_path / "emotion", emotion="bliss")
    assert_one_line(fail(f"--config.data.root={root}"), "train.txt", "bliss")
    root = write_ecf(tmp_path / "repeated")
    text = (root / "train.txt").read_text()
    (root / "train.txt").write_text(text + text)
    assert_one_line(fail(f"--config.data.root={root}"), "train.txt", "twice")
    empty = tmp_path / "encoder"
    empty.mkdir()
    done = fail(f"--config.data.root={good}", f"--config.text.pretrained={empty}")
    assert_one_line(done, str(empty))


def test_bad_feature_tables(tmp_path):
    good = write_ecf(tmp_path / "good")
    ids = {f"dia{d}utt1": d - 1 for d in (1, 2, 3)}

    def fail(folder):
        return run("--config=configs/ecf.py", "--config.modalities=ta",
                   f"--config.data.root={good}", f"--config.data.audio={folder}",
                   f"--workdir={tmp_path / 'run'}", status=1)  # fmt: skip

    assert_one_line(fail(tmp_path / "nosuch"), "nosuch", "--config.modalities=t")
    values = np.ones((3, 4), np.float32)
    values[1, 2] = np.nan
    FeatureTable(values, ids, {}).save(tmp_path / "nan")
    assert_one_line(fail(tmp_path / "nan"), "dia2utt1")
    FeatureTable(np.ones((3, 4), np.float32), ids, {}).save(tmp_path / "width")
    description = tmp_path / "width/table.json"
    description.write_text(description.read_text().replace("4", "5"))
    assert_one_line(fail(tmp_path / "width"), "width", "5")


def test_debug_brings_the_traceback_back(tmp_path):
    done = run(
        "--config=configs/demo.py:nosuch", "--debug", f"--workdir={tmp_path / 'r'}", status=1
    )
    assert "Traceback" in done.stderr
    assert "InputError" in done.stderr


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    assert_one_line(run(*TINY, f"--workdir={tmp_path}", status=1), "no run of ours")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_help_answers_at_once():
    started = time.monotonic()
    done = subprocess.run(command("--help"), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "--config" in done.stdout
    assert time.monotonic() - started < 5
