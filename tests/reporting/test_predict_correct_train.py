"""From a model to a better one: predict, correct on the page, evaluate, go on training."""

import json
import shutil

import pytest
from report_pages import arcs_of, until
from shared import run_main, tiny_config, tiny_flags, write_lines

from rpcl_jax.readers.conversations import dialogue_object
from rpcl_jax.readers.corpus import load_splits

pytestmark = pytest.mark.slow


def test_predict_correct_evaluate_and_go_on_training(reads_text, tmp_path, open_page):
    talks = [dialogue_object(d) for d in load_splits(tiny_config(), ["test"])["test"][:3]]
    for talk in talks:
        del talk["pairs"]
        for turn in talk["utterances"]:
            del turn["emotion"]
    speaker = talks[2]["utterances"][0].pop("speaker")
    source = write_lines(tmp_path / "talks.jsonl", [*talks, "{\n"])
    talks[2]["utterances"][0]["speaker"] = speaker
    html = tmp_path / "talks.html"
    flags = f"--workdir={reads_text}", f"--input={source}", f"--html={html}"
    run_main("--mode=predict", *flags, status=1)

    page = open_page(html)
    assert page.inner_text("#subtitle").endswith(
        "repaired: utterances without speaker ('unknown'): 1 · 1 conversation could not be read"
    )
    last = len(talks[0]["utterances"]) - 1
    # The model may have found nothing: what is removed is drawn first, from the last utterance.
    for t in (0, 1):
        page.click(f'.turn[data-turn="{last}"] .who')
        page.click("text=add a cause")
        page.click(f'.turn[data-turn="{t}"]')
    page.click(f'.cause[data-i="{last}"][data-j="0"]')
    page.select_option(f'[data-focus="emotion {last}"]', "joy")
    page.fill(f'[data-focus="speaker {last}"]', "Zoe")
    page.keyboard.press("Tab")
    page.click('.turn[data-turn="0"] .who')
    page.fill('[data-focus="speaker 0"]', "nobody")
    page.keyboard.press("Tab")
    page.click("#undo")
    for number in range(len(talks)):
        page.keyboard.press("Escape")
        if number:
            page.keyboard.press("j")
            page.check("#checked")
        for t, words in enumerate(page.locator(".turn").all_inner_texts()):
            if "emotional" in words:
                page.click(f'.turn[data-turn="{t}"] b')
                page.select_option(f'[data-focus="emotion {t}"]', "anger")
    with page.expect_download() as download:
        page.click("#save")
    assert page.inner_text("#said") == "Saved 3 conversations as talks.labelled.jsonl."
    saved = tmp_path / "talks.labelled.jsonl"
    download.value.save_as(saved)

    first, *others = map(json.loads, saved.read_text().splitlines())
    assert [first["id"], *(item["id"] for item in others)] == [talk["id"] for talk in talks]
    assert [last + 1, 2] in first["pairs"]
    assert [last + 1, 1] not in first["pairs"]
    assert first["utterances"][last] == talks[0]["utterances"][last] | {
        "speaker": "Zoe",
        "emotion": "joy",
    }
    assert first["utterances"][0]["speaker"] == talks[0]["utterances"][0]["speaker"], "undone"

    done = run_main("--mode=evaluate", f"--workdir={reads_text}", f"--input={saved}")
    assert "Pair F1" in done.stdout
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "dev", "test"):
        shutil.copy(saved, data / f"{split}.jsonl")
    flags = ["--config.data.format=conversations", f"--config.data.root={data}"]
    flags += ["--config.modalities=t", "--config.epochs=1", "--config.batch_size=1"]
    run = tmp_path / "run"
    done = run_main(*tiny_flags(), *flags, f"--config.init={reads_text}", f"--workdir={run}")
    assert f"going on from {reads_text}" in done.stderr
    assert json.loads((run / "result.json").read_text())["test"]["dialogues"] == 3

    pairs = {(i - 1, j - 1) for i, j in first["pairs"]}
    page = open_page(html)
    page.set_input_files("#file", saved)
    until(page, "document.querySelector('#said').innerText.includes('3 conversations')")
    assert {(i, j) for i, j, _ in arcs_of(page, 0)} == pairs
    assert page.inner_text(f'.turn[data-turn="{last}"] b') == "Zoe"
