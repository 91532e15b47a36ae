"""Prediction of conversations without labels, by the command and by `Predictor`."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from shared import (
    assert_one_line,
    import_or_skip,
    page_data,
    run_main,
    run_python,
    tiny_config,
    write_lines,
)

from rpcl_jax.data.features import FeatureTable
from rpcl_jax.errors import InputError
from rpcl_jax.predict import Predictor, Summary, predict_file, say_what_is_absent
from rpcl_jax.readers.conversations import dialogue_object
from rpcl_jax.readers.semeval import parse_conversations
from rpcl_jax.reporting.predictions import pairs_of

pytestmark = pytest.mark.slow


def test_predict_finds_the_pairs_of_conversations_without_labels(finished, unlabelled, tmp_path):
    output = tmp_path / "pairs.json"
    arguments = ["--mode=predict", f"--workdir={finished}", f"--output={output}"]
    run_main(*arguments, f"--input={unlabelled}", f"--features={unlabelled.parent / 'features'}",
        f"--html={tmp_path / 'pairs.html'}")  # fmt: skip
    shown = page_data(tmp_path / "pairs.html")
    pairs = json.loads(output.read_text())
    wanted = json.loads((finished / "predictions/test.json").read_text())
    assert all(item.pop("note") == "kept" for item in pairs)
    assert [d["id"] for d in shown["dialogues"]] == [str(p["conversation_ID"]) for p in pairs]
    for p, w in zip(pairs, wanted, strict=True):
        np.testing.assert_allclose(p["pair_confidences"], w["pair_confidences"], atol=1.1e-3)
        assert pairs_of(p) == pairs_of(w)
        for found, named in zip(p["conversation"], w["conversation"], strict=True):
            # For scores, every emotion of a pair is named; for people, those that are sure enough.
            assert found["emotion"] in (named["emotion"], "emotional")
            assert found["emotion"] != "emotional" or named["emotion"] != "neutral"


def test_predictor_in_three_lines(finished, unlabelled):
    conversations = json.loads(unlabelled.read_text())[:2]
    tables = {
        name: FeatureTable.load(unlabelled.parent / "features" / name)
        for name in ("audio", "vision")
    }
    predictor = Predictor(finished)
    results = predictor(conversations, tables)
    assert [r["conversation_ID"] for r in results] == [c["conversation_ID"] for c in conversations]
    assert parse_conversations(results, "results", labelled=False)
    assert predictor([]) == predictor([], tables) == []

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
    with pytest.raises(
        InputError, match="extractor is 'wav2vec2', but the run was trained with 'gen"
    ):
        predictor(conversations, tables)


def test_what_is_not_given_is_absent(finished, unlabelled, tmp_path, capsys):
    """The same is predicted as with tables that say that every utterance lacks it."""
    tables = {m: FeatureTable.load(unlabelled.parent / "features" / m) for m in ("audio", "vision")}
    deaf = {
        m: FeatureTable(
            t.values[:0], {}, t.description, absent=dict.fromkeys(t.row_of_id, "broken")
        )
        for m, t in tables.items()
    }
    conversations = json.loads(unlabelled.read_text())
    predictor = Predictor(finished, 0.0)
    whole = predictor(conversations, tables)
    assert "given" not in capsys.readouterr().err
    heard = predictor(conversations, {"audio": tables["audio"]})
    assert "no vision given: counts as absent" in capsys.readouterr().err
    assert predictor(conversations, {"audio": tables["audio"]}) == heard
    assert "given" not in capsys.readouterr().err, "it has been said"
    assert {json.dumps(item["predicted_by"].pop("absent")) for item in heard} == {'["vision"]'}
    assert heard == predictor(conversations, {**tables, "vision": deaf["vision"]}) != whole
    read = predictor(conversations)
    assert "no audio and no vision given: count as absent" in capsys.readouterr().err
    assert all(item["predicted_by"].pop("absent") == ["audio", "vision"] for item in read)
    assert read == predictor(conversations, deaf) != heard

    # The command, with a folder that has one of the tables, and with none.
    shutil.copytree(unlabelled.parent / "features/audio", tmp_path / "heard/audio")
    target = tmp_path / "pairs.json"
    for wanted, features in ((heard, tmp_path / "heard"), (read, None)):
        predict_file(finished, unlabelled, target, features=features, threshold=0.0)
        found = json.loads(target.read_text())
        assert all(item["predicted_by"].pop("absent") for item in found)
        assert found == wanted


IN_PYTHON = """
import logging
from collections import Counter
from rpcl_jax.predict import say_what_is_absent
from rpcl_jax.reporting.predictions import Summary, log_summary
from rpcl_jax.run.base_config import base_config

def say():
    say_what_is_absent(["audio"], base_config())
    log_summary(Summary(windowed=7), Counter())

say()
logging.getLogger("rpcl_jax").setLevel(logging.CRITICAL)
say()
logging.basicConfig(format="%(message)s", force=True)
logging.getLogger("rpcl_jax").setLevel(logging.INFO)
say()
"""


@pytest.mark.slow
def test_in_python_warnings_are_shown_and_progress_on_demand():
    default, warning, info = run_python("-c", IN_PYTHON).stderr.splitlines()
    assert "no audio given" in default
    assert warning.startswith("no audio given")
    assert info.startswith("7 conversations are longer")


@pytest.mark.parametrize(("rate", "said"), [(0.0, "was not trained"), (0.3, "trained to expect")])
def test_a_run_that_was_not_trained_to_miss_something_says_so(rate, said, capsys):
    config = tiny_config()
    config.data.modality_dropout = rate
    say_what_is_absent([], config)
    say_what_is_absent(["audio"], config)
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_ids_that_repeat_are_keys_with_numbers(finished, unlabelled, tmp_path, monkeypatch):
    """As those of the table that `rpcl extract` makes of the same input."""
    predictor = Predictor(finished, 0.0)
    dialogues = parse_conversations(json.loads(unlabelled.read_text())[:2], "x", labelled=False)
    tables = {m: FeatureTable.load(unlabelled.parent / "features" / m) for m in ("audio", "vision")}
    repeated = [
        {
            "id": "same",
            "utterances": [
                dialogue_object(dialogue)["utterances"][t - 1] | {"id": str(t)}
                for t in range(1, len(dialogue.utterances) + 1)
            ],
        }
        for dialogue in dialogues
    ]
    names = {
        u.id: f"{t}_2" if k and t <= len(dialogues[0].utterances) else str(t)
        for k, dialogue in enumerate(dialogues)
        for t, u in enumerate(dialogue.utterances, 1)
    }
    for modality, table in tables.items():
        rows = {new: table.row_of_id[old] for old, new in names.items()}
        dataclasses.replace(table, row_of_id=rows).save(tmp_path / "features" / modality)
    wanted = predictor([dialogue_object(dialogue) for dialogue in dialogues], tables)
    source = write_lines(tmp_path / "in.jsonl", repeated)
    given = {m: FeatureTable.load(tmp_path / "features" / m) for m in tables}

    def from_clips(_, dialogues, *folders):
        assert [u.id for dialogue in dialogues for u in dialogue.utterances] == [*names.values()]
        return given

    extract = import_or_skip("rpcl_jax.extraction.extract")
    monkeypatch.setattr(extract, "extract_tables", from_clips)
    for way in ({"features": tmp_path / "features"}, {"clips": tmp_path}):
        predict_file(finished, source, tmp_path / "o.json", **way, threshold=0.0)
        found = json.loads((tmp_path / "o.json").read_text())
        assert [f["pair_confidences"] for f in found] == [w["pair_confidences"] for w in wanted]
    assert [f["utterances"][0]["id"] for f in found] == ["1", "1"], "as given"


def test_features_that_are_nowhere(finished, unlabelled, tmp_path):
    predict = ["--mode=predict", f"--workdir={finished}", f"--input={unlabelled}"]
    nowhere = [f"--output={tmp_path / 'x.json'}", f"--features={tmp_path / 'nosuch'}"]
    assert_one_line(run_main(*predict, *nowhere, status=1), "nosuch/audio/features.npy: not found")
    extract = import_or_skip("rpcl_jax.extraction.extract")
    with pytest.raises(InputError, match="contains no clip"):  # before an extractor is loaded
        extract.extract_tables(
            {"audio": {"extractor": "nosuch", "revision": "1"}}, [], tmp_path, tmp_path
        )
    (tmp_path / "file").write_text("")
    done = run_main(*predict, f"--output={tmp_path / 'file/x.json'}", status=1)
    assert_one_line(done, f"rpcl_jax: {tmp_path / 'file'}: is a file, so nothing can be written")


def test_no_conversations_have_no_pairs(finished, tmp_path):
    source, target = tmp_path / "empty.json", tmp_path / "pairs.json"
    source.write_text("[]")
    assert predict_file(finished, source, target, clips=tmp_path) == Summary()
    assert json.loads(target.read_text()) == []


@pytest.mark.parametrize("given", [{"conversation": []}, None, "pairs.json", iter([])])
def test_what_is_no_list_of_conversations_is_refused(given):
    with pytest.raises(InputError, match="must be a list of conversations, not of type"):
        object.__new__(Predictor)(given)
