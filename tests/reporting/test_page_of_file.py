"""The page of a file of predictions, and the files of which there is none."""

import io
import json

import pytest
from report_pages import BY, arcs_of, make_report, predicted
from shared import write_lines

from rpcl_jax.errors import InputError
from rpcl_jax.reporting import pairs_page
from rpcl_jax.reporting.predictions import write_results


def test_of_a_file_with_pairs_alone_the_slider_begins_at_their_threshold(tmp_path, open_page):
    items = [predicted(number, candidates=False) for number in range(3)]
    data = io.BytesIO()
    write_results((("", item) for item in items), data, "x.json", 35, pytest.fail)
    (tmp_path / "pairs.json").write_bytes(data.getvalue())
    pairs_page.write_page(tmp_path / "pairs.json", tmp_path / "page.html")
    page = open_page(tmp_path / "page.html", fragment="#1")
    assert page.get_attribute("input[type=range]", "min") == "400"
    assert "no confidence below 0.400" in page.inner_text("#counted")
    assert "emotions stay those at the prediction's threshold" in page.inner_text("#counted")
    page.evaluate("filters.reset()")
    pairs = {(i - 1, j - 1) for i, j in items[1]["pairs"]}
    assert {(i, j) for i, j, _ in arcs_of(page, 0)} == pairs


@pytest.mark.parametrize(
    ("by", "said", "noted"),
    [
        (({}, {}), "threshold 0.400, that of the prediction", False),
        ((None, None), "threshold of the prediction: unknown", False),
        (({}, {"threshold": 0.6}), "thresholds of the predictions, 0.400 to 0.600", True),
        (({}, None), "thresholds of the predictions, 0.400, some unknown", True),
    ],
)
def test_the_threshold_is_that_of_the_prediction_or_unknown(tmp_path, open_page, by, said, noted):
    items = [predicted(number, candidates=False) for number in range(2)]
    for item, changed in zip(items, by, strict=True):
        del item["predicted_by"]
        if changed is not None:
            item["predicted_by"] = BY | changed
    pairs_page.write_page(write_lines(tmp_path / "x.jsonl", items), tmp_path / "page.html")
    page = open_page(tmp_path / "page.html")
    assert page.inner_text("#slid") == said
    assert page.input_value("input[type=range]") == "400"
    assert ("different thresholds" in page.inner_text("#counted")) == noted


GOOD = predicted(0, candidates=False)
TURN = GOOD["utterances"][0]
COUNT = len(GOOD["pairs"])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"pairs": [[1, 99]], "pair_confidences": [0.5]}, "damaged .*pair 1, 99 of 8 utterances"),
        ({"pairs": None}, "damaged"),
        ({"pair_confidences": None}, "'pair_confidences' are not numbers from 0 to 1"),
        ({"pair_confidences": [2] * COUNT}, "'pair_confidences' are not numbers from 0 to 1"),
        ({"pair_confidences": [-1] * COUNT}, "'pair_confidences' are not numbers from 0 to 1"),
        ({"pair_confidences": ["0.5"] * COUNT}, "'pair_confidences' are not numbers from 0 to 1"),
        ({"predicted_by": BY | {"threshold": "0.3"}}, "threshold is not a number from 0 to 1"),
        ({"predicted_by": BY | {"threshold": None}}, "threshold is not a number from 0 to 1"),
        ({"predicted_by": {"model": "a"}}, "threshold is not a number from 0 to 1"),
        ({"predicted_by": BY | {"model": 3}}, "model is not a name"),
        ({"predicted_by": "me"}, "'predicted_by' is not an object"),
        ({"utterances": [TURN | {"emotion_probability": 7}]}, "utterance 1 has no emotion"),
        ({"utterances": [TURN | {"emotion": ["joy"]}]}, "utterance 1 has no emotion"),
        (
            {"pairs": [[1, 1], *GOOD["pairs"]]},
            f"has {COUNT + 1} pairs and {COUNT} confidences; a corrected file is data to train on",
        ),
        ({"pairs": GOOD["pairs"][1:]}, f"has {COUNT - 1} pairs and {COUNT} confidences"),
    ],
)
def test_damaged_and_corrected_predictions_are_refused(tmp_path, broken, message):
    source = write_lines(tmp_path / "x.jsonl", [GOOD, GOOD | broken])
    with pytest.raises(InputError, match=f"x.jsonl:2: .*{message}") as refused:
        pairs_page.write_page(source, tmp_path / "page.html")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "page.html").exists()


def test_a_field_of_the_user_is_no_candidate(tmp_path):
    fields = {"candidates": "Ann, Ben", "emotion_choices": 3}
    for name, item in (("a", GOOD), ("b", GOOD | fields)):
        source = write_lines(tmp_path / name / "x.jsonl", [item])
        pairs_page.write_page(source, tmp_path / f"{name}.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.slow
def test_files_of_which_no_page_can_be_made(tmp_path):
    page, good = tmp_path / "page.html", write_lines(tmp_path / "good.jsonl", [GOOD])
    for name, items, message in (
        (
            "plain.jsonl",
            [{"id": 1, "utterances": [{"text": "Hi"}]}],
            ":1: has no 'pair_confidences'",
        ),
        ("cut.jsonl", ["{\n"], "is not JSON"),
        ("table.CSV.gz", ["text\nHi\n"], "a table has too little for a page; .* as .json"),
    ):
        with pytest.raises(InputError, match=message):
            pairs_page.write_page(write_lines(tmp_path / name, items), page)
    with pytest.raises(InputError, match="is the input"):
        pairs_page.write_page(tmp_path / "cut.jsonl", tmp_path / "cut.jsonl")
    with pytest.raises(InputError, match="contains no clip"):
        pairs_page.write_page(good, page, tmp_path)
    assert not page.exists()
    done = make_report(good, tmp_path, "--out", page, status=1)
    assert done.stderr.count("\n") == 1
    assert "give it alone" in done.stderr
    done = make_report(tmp_path / "mistyped.json", "--out", page, status=1)
    assert "mistyped.json: no such file or folder" in done.stderr
    done = make_report(good, "--out", tmp_path / "page.pdf", status=2)
    assert "page.pdf is not the name of a page" in done.stderr
    (tmp_path / "empty.json").write_text(json.dumps([]))
    with pytest.raises(InputError, match="contains no conversation"):
        pairs_page.write_page(tmp_path / "empty.json", page)
