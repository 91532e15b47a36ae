"""Conversations that are untidy in every way that is repaired, from the file to the pairs."""

import json
import math

import numpy as np
import pytest

from rpcl_jax.predict import predict_file
from rpcl_jax.reporting.predictions import pairs_of

pytestmark = pytest.mark.slow


def test_untidy_conversations_have_finite_pairs_and_leave_the_others_alone(
    finished, unlabelled, tmp_path, capsys
):
    untidy = json.loads(unlabelled.read_text())[:3]
    for turn in untidy[0]["conversation"][1:]:  # nearly nothing was said
        turn["text"] = ""
        del turn["speaker"]
    first, second, third, *_ = untidy[1]["conversation"]
    first.update(text="oh no \ud83d", speaker=0, avg_logprob=math.nan)
    del second["text"]
    third.update(text=None, speaker="\udc00")
    (tmp_path / "in.json").write_text(json.dumps(untidy))
    predict_file(
        finished,
        tmp_path / "in.json",
        tmp_path / "out.json",
        features=unlabelled.parent / "features",
    )
    results = json.loads((tmp_path / "out.json").read_text())
    turns = len(untidy[0]["conversation"])
    assert f"empty utterances: {turns + 1};" in capsys.readouterr().err
    for item, given in zip(results, untidy, strict=True):
        assert np.isfinite(item["pair_confidences"]).all()
        assert len(item["conversation"]) == len(given["conversation"])
    assert results[1]["conversation"][0]["text"] == "oh no \ud83d"
    assert results[1]["conversation"][0]["avg_logprob"] is None
    wanted = json.loads((finished / "predictions/test.json").read_text())[2]
    assert pairs_of(results[2]) == pairs_of(wanted)
    np.testing.assert_allclose(
        results[2]["pair_confidences"], wanted["pair_confidences"], atol=1.1e-3
    )
