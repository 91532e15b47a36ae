"""The page of a file of predictions, and the files of which there is none."""

import io
import json

import pytest
from report_pages import arcs_of, make_report, predicted
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


@pytest.mark.slow
def test_files_of_which_no_page_can_be_made(tmp_path):
    page, good = tmp_path / "page.html", predicted(0, candidates=False)
    unfit = good | {"pairs": [[1, 99]], "pair_confidences": [0.5]}
    for name, items, message in (
        (
            "plain.jsonl",
            [{"id": 1, "utterances": [{"text": "Hi"}]}],
            ":1: has no 'pair_confidences'",
        ),
        ("unfit.jsonl", [good, unfit], ":2: its predictions are damaged"),
        ("short.jsonl", [good | {"pair_confidences": []}], ":1: its predictions are damaged"),
        ("odd.jsonl", [good | {"pairs": None}], ":1: its predictions are damaged"),
        ("cut.jsonl", ["{\n"], "is not JSON"),
    ):
        with pytest.raises(InputError, match=message):
            pairs_page.write_page(write_lines(tmp_path / name, items), page)
    with pytest.raises(InputError, match="is the input"):
        pairs_page.write_page(tmp_path / "cut.jsonl", tmp_path / "cut.jsonl")
    with pytest.raises(InputError, match="contains no clip"):
        pairs_page.write_page(tmp_path / "unfit.jsonl", page, tmp_path)
    assert not page.exists()
    done = make_report(tmp_path / "unfit.jsonl", tmp_path, "--out", page, status=1)
    assert done.stderr.count("\n") == 1
    assert "give it alone" in done.stderr
    (tmp_path / "empty.json").write_text(json.dumps([]))
    with pytest.raises(InputError, match="contains no conversation"):
        pairs_page.write_page(tmp_path / "empty.json", page)
