"""Several corpora are one training set whose ids, digests and numbers say which is which."""

import json

import pytest
from shared import tiny_config

from rpcl_jax.data.synthetic import generate_corpus
from rpcl_jax.errors import InputError
from rpcl_jax.evaluate import evaluate_run
from rpcl_jax.evaluation.scores_file import load_scores
from rpcl_jax.evaluation.split_numbers import outcome, split_numbers
from rpcl_jax.readers.conversations import write_conversations
from rpcl_jax.readers.corpus import load_splits
from rpcl_jax.reporting.experiments import benchmark_name, read_run
from rpcl_jax.run.config import check_config
from rpcl_jax.train import train_and_evaluate


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Two folders, whose conversations and utterances have the same ids."""
    folder = tmp_path_factory.mktemp("corpora")
    for seed, name in enumerate(("one", "two")):
        splits, _ = generate_corpus(seed, sizes={"train": 12, "dev": 6, "test": 5})
        (folder / name).mkdir()
        for split, dialogues in splits.items():
            write_conversations(folder / name / f"{split}.jsonl", dialogues)
    return folder


def config_of(*folders):
    config = tiny_config("base")
    config.data.update({"format": "conversations", "root": ",".join(map(str, folders)), "name": ""})
    config.modalities, config.epochs, config.batch_size = "t", 1, 8
    return config


def test_ids_begin_with_the_name_of_the_corpus(roots):
    both = load_splits(config_of(roots / "one", roots / "two"))
    for split, dialogues in both.items():
        alone = {n: load_splits(config_of(roots / n))[split] for n in ("one", "two")}
        assert [d.id for d in dialogues] == [f"{n}:{d.id}" for n in alone for d in alone[n]]
        ids = [u.id for d in dialogues for u in d.utterances]
        assert len(set(ids)) == len(ids)
        assert [d.pairs for d in dialogues] == [d.pairs for n in alone for d in alone[n]]


@pytest.mark.slow
def test_a_run_has_the_numbers_of_each(roots, tmp_path):
    config = config_of(roots / "one", roots / "two")
    config.data.name = "ecf,mine"
    result = train_and_evaluate(config, tmp_path / "run")
    assert benchmark_name(config) == "ECF + mine"
    assert [*result["corpora"]] == ["ecf", "mine"]
    run = read_run(tmp_path / "run")
    scored = run.scores(run.splits()["test"], "test")
    for name, of in (("ecf", scored[:5]), ("mine", scored[5:])):
        expected = split_numbers(
            of,
            result["threshold"],
            run.emotions,
            result["dev"]["cee_threshold"],
            **config.diagnostics,
        )
        assert result["corpora"][name]["test"] == pytest.approx(expected, nan_ok=True)
    shown = outcome(result).splitlines()
    assert [line.partition(":")[0] for line in shown[1:]] == ["ecf", "mine"]
    assert evaluate_run(tmp_path / "run")["corpora"] == result["corpora"]
    assert json.loads((tmp_path / "run/predictions/test.json").read_text())[5]["conversation_ID"]
    assert load_scores(tmp_path / "run/predictions/test.npz", run.splits()["test"])

    path = roots / "two/test.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]))
    with pytest.raises(InputError, match=r"since it was begun \(test of mine\)"):
        evaluate_run(tmp_path / "run")
    path.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.format": "ecf,reccon,mecad"}, "data.format: 'ecf,reccon,mecad' is not one format"),
        ({"data.format": "ecf,foo"}, "data.format: 'foo' is unknown"),
        ({"data.format": "ecf,synthetic"}, "data.format: 'ecf,synthetic' is not one format"),
        ({"data.root": "x/a,y/a"}, "data.name: a,a does not tell the corpora apart"),
        ({"data.name": "a:b,c"}, "data.name: a:b,c does not tell"),
        ({"data.name": "ecf"}, "data.name: ecf does not tell the corpora apart; give 2 diff"),
        ({"modalities": "ta", "data.audio": "x"}, "several corpora, one,two, are trained on as te"),
    ],
)
def test_what_is_no_list_of_corpora(fields, message):
    config = config_of("one", "two")
    config.update_from_flattened_dict(fields)
    with pytest.raises(InputError, match=message):
        check_config(config)
