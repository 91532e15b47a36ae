"""Prediction in one pass: the same pairs, long conversations in windows, what cannot be read."""

import csv
import gzip
import json
from contextlib import nullcontext

import pytest
from shared import assert_one_line, assert_same_pairs, page_data, run_main, write_lines

from rpcl_jax import predict
from rpcl_jax.data.synthetic import generate_corpus
from rpcl_jax.errors import InputError
from rpcl_jax.files import write_json
from rpcl_jax.predict import Predictor, predict_file

pytestmark = pytest.mark.slow
DIALOGUES = generate_corpus(3, sizes={"train": 90})[0]["train"]
OURS = [
    {"id": k, "utterances": [{"speaker": u.speaker, "text": u.text} for u in d.utterances]}
    for k, d in enumerate(DIALOGUES)
]


@pytest.fixture(scope="module")
def predictor(reads_text):
    return Predictor(reads_text)


def found(items):
    return [(f"place {k}", item) for k, item in enumerate(items)]


def test_a_stream_has_the_pairs_of_a_call_and_the_errors_in_their_places(predictor, monkeypatch):
    monkeypatch.setattr(predict, "_CHUNK", 1)  # so that there are six chunks
    items = [*OURS[:40], InputError("no"), {"id": 7, "utterances": 3}, *OURS[40:], InputError("ye")]
    results = list(predictor.stream(found(items)))
    assert [place for place, _ in results] == [place for place, _ in found(items)]
    errors = {k: str(item) for k, (_, item) in enumerate(results) if isinstance(item, InputError)}
    assert errors.keys() == {40, 41, len(items) - 1}
    assert "place 41" in errors[41]
    good = [item for _, item in results if isinstance(item, dict)]
    assert [item["id"] for item in good] == list(range(90))
    assert sum(len(item["pairs"]) for item in good) > 0
    monkeypatch.undo()
    assert_same_pairs(good, predictor(OURS))


def test_a_stream_is_not_read_ahead_of_what_is_used(predictor, monkeypatch):
    monkeypatch.setattr(predict, "_CHUNK", 1)
    read = []
    endless = ((read.append(k), (str(k), OURS[k % 90]))[1] for k in iter(range(10**9)))
    stream = predictor.stream(endless)
    for _ in range(100):
        next(stream)
    assert len(read) <= 100 + 4 * 16  # the chunks on the devices and in preparation
    stream.close()


def test_a_long_conversation_is_scored_in_windows(predictor, monkeypatch):
    """Each pair has the score of the window in which it lies deepest, scored by itself."""
    monkeypatch.setattr(predictor, "_threshold", 0.0)  # every candidate is a pair
    turns = [turn for item in OURS for turn in item["utterances"]][:83]
    [result] = predictor([{"id": 1, "utterances": turns}])
    score = dict(zip(map(tuple, result["pairs"]), result["pair_confidences"], strict=True))
    emotions = dict(zip(map(tuple, result["pairs"]), result["pair_emotions"], strict=True))
    starts = [0, 17, 34, 48]
    scored = [predictor([{"id": 1, "utterances": turns[s : s + 35]}])[0] for s in starts]
    windows = [
        {
            (i + s, j + s): (p, emotion)
            for (i, j), p, emotion in zip(
                w["pairs"], w["pair_confidences"], w["pair_emotions"], strict=True
            )
        }
        for s, w in zip(starts, scored, strict=True)
    ]
    for pair, window in (((5, 1), 0), ((33, 28), 1), ((60, 50), 2), ((80, 79), 3), ((40, 30), 1)):
        assert score[pair] == pytest.approx(windows[window][pair][0], abs=1.1e-3)
        assert emotions[pair] == windows[window][pair][1]
    assert {(i, j) for i in range(1, 84) for j in range(max(1, i - 17), i + 1)} <= score.keys()
    assert result["pairs"] == sorted(result["pairs"])


def test_a_file_with_what_cannot_be_read(reads_text, tmp_path, capsys):
    lines = [*OURS[:20], "{broken\n", {"id": 8, "utterances": []}, *OURS[20:40], {"speaker": "A"}]
    source = write_lines(tmp_path / "in.jsonl.gz", lines)
    target = tmp_path / "out.jsonl"
    done = predict_file(reads_text, source, target)
    assert (done.conversations, done.rejected) == (40, 3)
    assert done.utterances == sum(len(item["utterances"]) for item in OURS[:40])
    written = [json.loads(line) for line in target.read_text().splitlines()]
    assert [item["id"] for item in written] == list(range(40))
    errors = capsys.readouterr().err.splitlines()
    assert [line for line in errors if "cannot be read" in line] == errors[-3:]
    for line, number in zip(errors[-3:], (21, 22, 43), strict=True):
        assert f"{source}" in line
        assert f"{number}" in line

    # Strictly, all of them are listed and nothing is predicted.
    with pytest.raises(InputError, match="3 conversations cannot be read"):
        predict_file(reads_text, source, tmp_path / "strict.jsonl", strict=True)
    assert len(capsys.readouterr().err.splitlines()) == 3
    assert not (tmp_path / "strict.jsonl").exists()
    with pytest.raises(InputError, match="no conversation in it can be read"):
        predict_file(reads_text, write_lines(tmp_path / "bad.jsonl", ["{\n", "{\n"]), target)
    assert len(target.read_text().splitlines()) == 40, "not touched"


def test_a_threshold_and_what_lies_below_it(reads_text, predictor):
    given = Predictor(reads_text, 0.3)
    (item,) = given([OURS[0]])
    assert item["predicted_by"] == {"model": f"{reads_text.parent.name}/text", "threshold": 0.3}
    (_, below), *_ = given.stream(found([OURS[0]]), floor=0.0)
    n = len(OURS[0]["utterances"])
    candidates = {(i, j): p for i, j, p in below.pop("candidates")}
    assert candidates.keys() == {(i, j) for i in range(1, n + 1) for j in range(1, i + 1)}
    assert len(below.pop("emotion_choices")) == n
    assert below == item
    assert dict(zip(map(tuple, item["pairs"]), item["pair_confidences"], strict=True)) == {
        pair: p for pair, p in candidates.items() if p >= 0.3
    }


def test_of_a_folder_the_files_are_named(reads_text, tmp_path, monkeypatch):
    for name, number in (("a.jsonl", 1), ("deep/b.jsonl.gz", 2)):
        write_lines(tmp_path / "in" / name, [OURS[number] | {"id": "same"}])
    (tmp_path / "in/c.txt").write_text("Ann: We won!\nBen: Yes!\n")
    turns = [{"text": "We won!", "speaker": None}, {"text": "Yes!"}]
    (tmp_path / "in/d.json").write_text(json.dumps([{"conversation_ID": 4, "conversation": turns}]))
    (tmp_path / "in/e.csv").write_text("dialogue_id,speaker,text\n5,,We won!\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    predict_file(reads_text, "~/in", "~/out.json")
    results = json.loads((tmp_path / "out.json").read_text())
    sources = ["a.jsonl", "c.txt", "d.json", "deep/b.jsonl.gz", "e.csv"]
    assert [item["source"] for item in results] == sources
    # Each keeps its form; whoever has no name has none in one way.
    assert ["conversation" in item for item in results] == [False, False, True, False, False]
    nameless = [*results[2]["conversation"], *results[4]["utterances"]]
    assert [turn["speaker"] for turn in nameless] == ["", "", ""]
    # As an input, the output keeps what it names.
    (tmp_path / "again").mkdir()
    (tmp_path / "out.json").rename(tmp_path / "again/out.json")
    predict_file(reads_text, tmp_path / "again", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows if row["utterance_id"] == "1"] == [
        item["source"] for item in results
    ]
    assert [row["emotion"] for row in rows] == [
        turn["emotion"]
        for item in results
        for turn in item.get("utterances", item.get("conversation"))
    ]


def test_a_run_that_reads_text_alone_needs_no_clips(reads_text, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/first one.mp4").touch()
    first, *others = OURS[0]["utterances"]
    turns = [first | {"clip": {"video": "first one"}}, *others]
    source = write_lines(tmp_path / "in.jsonl", [OURS[0] | {"utterances": turns}])
    output, page = tmp_path / "out.json", tmp_path / "page.html"
    done = predict_file(reads_text, source, output, clips=tmp_path / "clips", html=page)
    assert done.conversations == 1
    # The page plays them nevertheless.
    (dialogue,) = page_data(page)["dialogues"]
    assert dialogue["addresses"][0] == "./clips/first%20one.mp4"
    assert not any(dialogue["addresses"][1:])


def test_forms_of_the_output(reads_text, predictor, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [{**OURS[0], "note": "half \ud83d, line\nbreak"}])
    predict_file(reads_text, source, tmp_path / "list.json", html=tmp_path / "page.html")
    predict_file(reads_text, source, tmp_path / "lines.jsonl.gz")
    results = json.loads((tmp_path / "list.json").read_text())
    write_json(tmp_path / "whole.json", results)
    assert (tmp_path / "list.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    with gzip.open(tmp_path / "lines.jsonl.gz", "rt") as file:
        assert [json.loads(line) for line in file] == results
    assert results[0]["note"] == "half \ud83d, line\nbreak"
    # The page has what could be a pair; the file does not.
    assert not {"candidates", "emotion_choices"} & results[0].keys()
    data = page_data(tmp_path / "page.html")
    (_, below), *_ = predictor.stream(found(results), floor=0.05)
    assert data["lowest"] == 50
    assert {(i + 1, int(j) + 1) for i, row in enumerate(data["dialogues"][0]["scores"][0]["p"])
            for j in row} == {(i, j) for i, j, _ in below["candidates"]}  # fmt: skip
    for choices, turn in zip(
        data["dialogues"][0]["scores"][0]["choices"], results[0]["utterances"], strict=True
    ):
        names = [data["emotions"][emotion] for emotion, _ in choices]
        assert turn["emotion"] in names
        assert names[1] != "neutral"
    assert not [p.name for p in tmp_path.iterdir() if p.suffix == ".tmp"]


def test_the_bar_is_of_the_bytes_that_were_read(reads_text, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        predict,
        "progress_bar",
        lambda *total: nullcontext(lambda *done: shown.append((*total, *done))),
    )
    source = write_lines(tmp_path / "in.jsonl.gz", OURS)
    predict_file(reads_text, source, tmp_path / "out.jsonl")
    size = source.stat().st_size
    assert {(total, unit) for total, unit, _, _ in shown} == {(size, "B")}
    assert sum(utterances for _, _, utterances, _ in shown) == sum(
        len(c["utterances"]) for c in OURS
    )
    assert shown[-1][-1] == size


def test_the_command(reads_text, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [*OURS[:10], {"id": 3}])
    predict_by = ["--mode=predict", f"--workdir={reads_text}", f"--input={source}"]
    done = run_main(
        *predict_by, f"--output={tmp_path / 'out.jsonl'}", "--threshold=0.125", status=1
    )
    assert "utterances/s" in done.stdout
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [item["predicted_by"]["threshold"] for item in written] == [0.125] * 10
    rejected, last = done.stderr.strip().splitlines()[-2:]
    assert f"{source}:11" in rejected
    assert last.startswith(f"rpcl_jax: {source}: 1 conversation")
    done = run_main(*predict_by, "--address=auto", "--output=x", status=2)
    assert_one_line(done, "--address requires --engine=ray")


def test_words_that_the_model_does_not_know_are_said(reads_text, tmp_path, capsys):
    strange = {"id": "1", "utterances": [{"speaker": "Ann", "text": "zzz " * 90 + "the dog " * 10}]}
    source = write_lines(tmp_path / "in.jsonl", [strange])
    predict_file(reads_text, source, tmp_path / "out.jsonl")
    assert "does not know 82% of them; in training it was 1.0 and 0%" in capsys.readouterr().err
    known = {"id": "1", "utterances": [{"speaker": "Ann", "text": "the dog " * 20}]}
    predict_file(reads_text, write_lines(source, [known]), tmp_path / "out.jsonl")
    said = capsys.readouterr().err
    assert "does not know" not in said
    assert "were left out" not in said


def test_an_utterance_that_is_cut_is_said(reads_text, tmp_path, capsys):
    most = Predictor(reads_text).max_tokens
    for words, cut in ((most - 1, True), (most - 2, False)):  # beside the two special pieces
        turn = {"speaker": "Ann", "text": "the " * words}
        source = write_lines(tmp_path / "in.jsonl", [{"id": "1", "utterances": [turn]}])
        predict_file(reads_text, source, tmp_path / "out.jsonl")
        said = f"reads {most} word pieces at most; the ends of longer ones were left out"
        assert (said in capsys.readouterr().err) == cut
