"""A run scored on other labelled conversations: by the command, and in Python."""

import json

import numpy as np
import pytest
from shared import run_main, tiny_config

from rpcl_jax import Predictor
from rpcl_jax.data.dialogue import Dialogue, Utterance
from rpcl_jax.evaluate import evaluate_on
from rpcl_jax.readers.conversations import write_conversations
from rpcl_jax.readers.corpus import load_splits

pytestmark = pytest.mark.slow


def evaluate(*flags, status=0):
    return run_main("--mode=evaluate", *flags, status=status)


@pytest.fixture
def own_test(tmp_path):
    """The run's test split as a file."""
    write_conversations(tmp_path / "test.jsonl", load_splits(tiny_config(), ["test"])["test"])
    return tmp_path / "test.jsonl"


def test_its_own_test_split_has_the_numbers_of_the_run(reads_text, own_test, tmp_path):
    output = tmp_path / "numbers.json"
    done = evaluate(f"--workdir={reads_text}", f"--input={own_test}", f"--output={output}")
    numbers, run = (json.loads(path.read_text()) for path in (output, reads_text / "result.json"))
    same = [name for name in run["test"] if not name.startswith("cee_")]
    assert len(same) > 30
    for name in same:
        assert numbers[name] == pytest.approx(run["test"][name], abs=1e-4), name
    assert numbers["best"]["pair_f1"] >= numbers["pair_f1"]
    assert f"Pair F1 {100 * numbers['pair_f1']:.2f} (precision" in done.stdout
    low, high = numbers["intervals"]["pair_f1"]
    assert low <= numbers["pair_f1"] <= high
    assert low < high
    assert numbers["unknown_emotions"] == {}
    # The same split by the name that the config gives it, and by the model's other flag.
    demo = "--config=configs/demo.py", "--config.data.sizes.train=32"
    sizes = "--config.data.sizes.dev=8", "--config.data.sizes.test=8"
    again = evaluate(f"--model={reads_text}", *demo, *sizes, "--input=test")
    assert again.stdout == done.stdout


def test_other_labels_longer_conversations_and_no_labels(reads_text, own_test, tmp_path):
    predictor = Predictor(reads_text)
    lines = [*map(json.loads, own_test.read_text().splitlines())]
    emotional = next(u for u in lines[0]["utterances"] if u["emotion"] != "neutral")
    emotional["emotion"] = "nostalgia"
    (tmp_path / "other.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = evaluate(f"--workdir={reads_text}", f"--input={tmp_path / 'other.jsonl'}")
    assert "does not know, and so never finds: nostalgia 1" in done.stderr

    # One that is as long as two windows: each pair has the confidence that a prediction gives it.
    length = predictor.max_utterances + 5
    words = [u["text"] for line in lines for u in line["utterances"]]
    utterances = tuple(
        Utterance(str(t), "Ann", words[t % len(words)], "joy") for t in range(length)
    )
    long = Dialogue("long", utterances, pairs=((0, 0), (length - 1, length - 1)))
    (scored,) = predictor.score([long])
    everything = Predictor(reads_text, threshold=0)
    (found,) = everything(
        [{"utterances": [{"speaker": "Ann", "text": u.text} for u in utterances]}]
    )
    assert len(found["pairs"]) == scored.candidate_mask.sum()
    for (i, j), p in zip(found["pairs"], found["pair_confidences"], strict=True):
        assert scored.pair_confidence[i - 1, j - 1] == pytest.approx(p, abs=6e-4)
    numbers = evaluate_on(predictor, [long])
    assert (numbers["gold_pairs"], numbers["gold_pairs_cut"]) == (2, 0)
    assert np.isfinite(numbers["pair_auprc"])

    for change, message in (
        ({"pairs": None}, "has no 'pairs'; label it, with [] if there are none"),
        ({"predicted_by": {"model": "m"}}, "its labels are what a model predicted"),
    ):
        wrong = {key: value for key, value in (lines[1] | change).items() if value is not None}
        (tmp_path / "wrong.jsonl").write_text(json.dumps(wrong))
        flags = f"--workdir={reads_text}", f"--input={tmp_path / 'wrong.jsonl'}"
        errors = evaluate(*flags, status=1).stderr
        assert message in errors
        assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output=x.json"], "--output: --mode=evaluate takes it with --input"),
        (["--config=configs/demo.py"], "uses the run's config; leave it out"),
        (["--input=x", "--output=x.csv"], "x.csv must end in .json"),
        (["--input=x", "--threshold=0.5"], "--threshold: is for --mode=predict"),
        (["--input=x", "--config=configs/demo.py", "--columns=text=a"], "--columns: is for a file"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message):
    done = evaluate("--workdir=x", *flags, status=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
