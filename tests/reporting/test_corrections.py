"""Predictions corrected on their page, by mouse, keyboard and finger; saved, and opened again."""

import json
from collections import Counter

import pytest
from report_pages import arcs_of, listed, predicted, slide, until, write_pairs_page

from rpcl_jax.data.dialogue import with_unique_ids
from rpcl_jax.readers.conversations import dialogue_object, read_conversations
from rpcl_jax.readers.transcripts import parse, read_dialogues
from rpcl_jax.reporting.pair_tables import Speakers


@pytest.fixture
def item():
    """Of eight utterances, with pairs that leave room for others."""
    return predicted(3, pairs=[(2, 1), (2, 2), (5, 3)])


def pairs_on(page):
    return {(i, j) for i, j, _ in arcs_of(page, 0)}


def save(page, path):
    """Saves the corrections, and returns the labelled conversations, which training accepts."""
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(path)
    assert read_conversations(path) == read_dialogues(path, labelled=True)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def emotion_of(page, t):
    return page.inner_text(f'.turn[data-turn="{t}"] .chip')


def test_pairs_emotions_and_speakers_by_mouse(tmp_path, open_page, item):
    page = open_page(write_pairs_page(tmp_path / "page.html", [item, predicted(4)]), fragment="#3")
    page.click('.cause[data-i="2"][data-j="1"]')
    assert pairs_on(page) == {(2, 2), (5, 3)}
    page.click('.turn[data-turn="6"]')
    page.click("text=add a cause")
    assert "causes the emotion of 7" in page.inner_text("#said")
    page.click('.turn[data-turn="4"]')
    assert pairs_on(page) == {(2, 2), (5, 3), (6, 4)}
    page.click("text=add a cause")
    page.click('.turn[data-turn="4"]')
    assert "7 caused by 5 is there already" in page.inner_text("#said")
    page.select_option('select[aria-label="Emotion of utterance 7"]', "surprise")
    page.fill('input[aria-label="Speaker of utterance 7"]', " Cleo ")
    page.click('.turn[data-turn="2"]')  # the field is left, and the click arrives
    page.select_option('select[aria-label="Emotion of utterance 3"]', "neutral")
    assert pairs_on(page) == {(5, 3), (6, 4)}, "a neutral utterance has no cause"
    page.keyboard.press("Control+z")
    page.click("#undo")
    assert pairs_on(page) == {(2, 2), (5, 3), (6, 4)}
    assert "Ann" in page.inner_text('.turn[data-turn="6"]')
    page.keyboard.press("Control+Shift+z")
    assert page.inner_text("#said") == (
        "Done again: The speaker of utterance 7 is now Cleo. Not saved yet."
    )
    slide(page, 1000)
    assert pairs_on(page) == {(2, 2), (5, 3), (6, 4)}, "what was checked stays"
    page.keyboard.press("j")
    assert pairs_on(page) == set()
    page.evaluate("filters.reset()")
    (saved,) = save(page, tmp_path / "saved.jsonl")  # the other one is not checked
    assert page.inner_text("#said") == (
        "Saved 1 conversation as talks.labelled.jsonl. "
        "Left out: 1 conversation not marked as checked."
    )
    assert saved["pairs"] == [[3, 3], [6, 4], [7, 5]]
    assert [turn["speaker"] for turn in saved["utterances"]] == ["Ann"] * 6 + ["Cleo", "Ann"]
    emotions = [turn["emotion"] for turn in saved["utterances"]]
    wanted = [turn["emotion"] for turn in item["utterances"]]
    assert emotions == [*wanted[:6], "surprise", wanted[7]]


def test_the_keyboard_suffices(tmp_path, open_page, item):
    page = open_page(write_pairs_page(tmp_path / "page.html", [item]))
    press = page.keyboard.press
    page.focus('.turn[data-turn="2"]')
    for _ in range(2):
        press("ArrowRight")
    press("Delete")
    assert pairs_on(page) == {(2, 2), (5, 3)}
    assert page.evaluate("document.activeElement.dataset.turn") == "2"
    press("ArrowLeft")
    press("Enter")
    assert pairs_on(page) == {(2, 0), (2, 2), (5, 3)}
    press("Escape")
    press("Enter")
    focused = "document.activeElement.getAttribute('aria-label')"
    press("Tab")
    assert page.evaluate(focused) == "Speaker of utterance 3"
    page.keyboard.type("Cleo")
    press("Tab")
    assert page.evaluate(focused) == "Emotion of utterance 3"
    page.keyboard.type("sad")
    press("Tab")
    press("Enter")  # add a cause
    press("Tab")  # the causes that it has
    assert page.evaluate(focused) == "Remove the pair: 3 caused by 1"
    press("Tab")
    press("Tab")
    press("Enter")
    assert pairs_on(page) == {(2, 0), (2, 2), (2, 3), (5, 3)}
    press("Control+z")
    press("Control+z")
    press("Control+y")
    assert page.input_value('[data-focus="emotion 2"]') == "sadness"
    assert pairs_on(page) == {(2, 0), (2, 2), (5, 3)}
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is seen"


def test_fingers_suffice(tmp_path, open_page, item):
    path = write_pairs_page(tmp_path / "page.html", [item])
    page = open_page(path, width=390, height=844, touch=True)
    page.tap('.cause[data-i="2"][data-j="1"]')
    page.tap('.turn[data-turn="6"]')
    for control in page.query_selector_all("button, .turn select, .turn input, label.check"):
        if control.is_visible():
            box = control.bounding_box()
            assert min(box["width"], box["height"]) >= 40, control.inner_text()
    page.tap("text=add a cause")
    page.tap('.turn[data-turn="5"]')
    assert pairs_on(page) == {(2, 2), (5, 3), (6, 5)}
    page.locator('.reach:left-of(.turn[data-turn="2"])').first.dispatch_event("click")
    page.tap("#toggle")
    assert len(pairs_on(page)) == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_pair_in_focus_stays_until_another_is_chosen(tmp_path, open_page, item):
    page = open_page(write_pairs_page(tmp_path / "page.html", [item]))
    cause = next(j for i, j, _ in item["candidates"] if i == 8)
    page.click(f'.map rect[data-i="7"][data-j="{cause - 1}"]')
    page.hover('.turn[data-turn="1"]')
    assert f"utterance {cause} causes the emotion of 8" in page.inner_text("#readout")
    page.click("#toggle")
    assert pairs_on(page) == {(2, 1), (2, 2), (5, 3), (7, cause - 1)}
    page.keyboard.press("Escape")
    page.hover('.turn[data-turn="1"]')
    assert "Utterance 2" in page.inner_text("#readout")


def test_saved_labels_stand_in_place_of_the_predictions(tmp_path, open_page, item):
    path = write_pairs_page(tmp_path / "page.html", [item, predicted(4)])
    page = open_page(path, fragment="#3")
    page.click('.cause[data-i="5"]')
    page.click('.turn[data-turn="2"]')
    page.select_option('[data-focus="emotion 2"]', "emotional")
    page.fill('[data-focus="speaker 2"]', "Bo")
    page.check("#checked")
    saved = save(page, tmp_path / "saved.jsonl")
    assert "1 utterance of “emotional” without a named category" in page.inner_text("#said")

    def check(page, name):
        assert page.inner_text("#said") == f"{name}: 1 conversation with labels."
        assert pairs_on(page) == {(2, 1), (2, 2)}
        assert emotion_of(page, 2) == "emotional"
        assert page.inner_text('.turn[data-turn="2"] b') == "Bo"
        assert page.is_checked("#checked")
        slide(page, 50)
        assert pairs_on(page) == {(2, 1), (2, 2)}, "of labels there is no threshold"
        assert save(page, tmp_path / "again.jsonl") == saved

    page = open_page(path)
    page.set_input_files("#file", tmp_path / "saved.jsonl")
    page.wait_for_selector("text=with labels")
    check(page, "saved.jsonl")
    # Dropped onto a page of other conversations, they are added.
    page = open_page(write_pairs_page(tmp_path / "other.html", [predicted(9)]))
    page.evaluate(
        """text => {
             const files = new DataTransfer();
             files.items.add(new File([text], "dropped.jsonl"));
             window.dispatchEvent(new DragEvent("drop", { dataTransfer: files }));
           }""",
        (tmp_path / "saved.jsonl").read_text(),
    )
    page.wait_for_selector("text=with labels")
    assert listed(page) == ["9", "3"]
    check(page, "dropped.jsonl")
    # Of another conversation with its id, it takes the place.
    page = open_page(write_pairs_page(tmp_path / "same.html", [predicted(9, id="3")]))
    page.set_input_files("#file", tmp_path / "saved.jsonl")
    page.wait_for_selector("text=with labels")
    assert "words 3 of 0" in page.inner_text('.turn[data-turn="0"]')
    check(page, "saved.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not JSON"),
        ("\n", "no conversation in it"),
        ('{"id": 1, "utterances": [{"text": "Hi"}]}', "conversation 1 is not labelled"),
        (json.dumps(predicted(1)), "conversation 1 is a prediction"),
        (json.dumps([predicted(1) | {"pairs": [[9, 1]]}]), "conversation 1 is not labelled"),
    ],
)
def test_other_files_are_refused(tmp_path, open_page, item, text, message):
    (tmp_path / "x.json").write_text(text)
    page = open_page(write_pairs_page(tmp_path / "page.html", [item]))
    page.set_input_files("#file", tmp_path / "x.json")
    page.wait_for_selector(f"text={message}")
    assert len(pairs_on(page)) == 3


def test_the_browser_asks_before_corrections_are_lost(tmp_path, open_page, item):
    page = open_page(write_pairs_page(tmp_path / "page.html", [item]))
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.click(".cause >> nth=0")
    page.evaluate("location.reload()")
    (tmp_path / "x.json").write_text("[]")
    page.set_input_files("#file", tmp_path / "x.json")
    until(page, "document.querySelector('#said').innerText .endsWith('Not saved yet.')")
    assert asked == ["beforeunload", "confirm"]
    assert len(pairs_on(page)) == 2
    save(page, tmp_path / "saved.jsonl")
    page.reload()
    assert len(asked) == 2
    assert len(pairs_on(page)) == 3


def test_what_is_saved_has_the_ids_and_clips_of_the_prediction(tmp_path, open_page):
    """So feature tables of the same conversations still match."""
    ours = predicted(1, source="day1/a.srt")
    ours["utterances"][0] |= {"id": "x", "clip": {"video": "film", "start": 1.5, "end": 2}}
    ours["utterances"][1] |= {"id": "x", "text": " "}
    semeval = {
        "conversation_ID": 1,
        "conversation": [
            {"utterance_ID": 1, "speaker": "Ann", "text": "Oh!", "video_name": "dia1utt1.mp4"}
        ],
        "emotion-cause_pairs": [["1_joy", "1"]],
        "pair_confidences": [0.9],
    }
    page = open_page(write_pairs_page(tmp_path / "page.html", [ours, semeval]))
    page.check("#checked")
    page.keyboard.press("j")
    page.check("#checked")
    saved = save(page, tmp_path / "saved.jsonl")
    assert [item["id"] for item in saved] == ["1", "1_2"], "training requires unique ones"
    assert [item.get("source") for item in saved] == ["day1/a.srt", None]
    used = Counter()
    for item, wanted in zip(saved, (ours, semeval), strict=True):
        dialogue = dialogue_object(with_unique_ids(parse(wanted, "x", Counter()), used))
        for turn, one in zip(item["utterances"], dialogue["utterances"], strict=True):
            assert (turn["id"], turn.get("clip")) == (one["id"], one.get("clip"))
            assert turn["text"] == (one["text"].strip() or "…")
    assert saved[1]["utterances"][0]["emotion"] == "emotional", "of a pair, and not named"


def test_the_table_of_speakers_counts_corrections(tmp_path, open_page):
    """As the table of `rpcl predict --speakers` counts predictions, of the file on the screen."""
    items = []
    for number, source in enumerate(("a.srt", "a.srt", "b.srt")):
        item = predicted(number, pairs=[(2, 1), (2, 2), (5, 3)], source=source)
        for turn, name in zip(item["utterances"], ["Ann", "Ben", "", "Cleo"] * 2, strict=True):
            turn["speaker"] = name
        items.append(item)
    page = open_page(write_pairs_page(tmp_path / "page.html", items))

    def counts(text):
        words = (word.rsplit(" ", 1) for word in text.split(", ") if word)
        return {name: int(count) for name, count in words}

    def shown():
        rows = page.eval_on_selector_all(
            ".speakers tbody tr", "n => n.map(row => [...row.cells].map(c => c.textContent))"
        )
        return {name: (int(n), *map(counts, rest)) for name, n, *rest in rows}

    speakers = Speakers()
    for item in items[:2]:
        speakers.add(item)
    wanted = {
        name: (emotions.total(), emotions, speakers.caused_by[of, name], speakers.caused[of, name])
        for (of, name), emotions in speakers.emotions.items()
    }
    assert shown() == wanted
    assert "Speakers of a.srt" in page.inner_text("#summary")
    page.click('.cause[data-i="5"]')
    page.click('.turn[data-turn="0"]')
    page.fill('[data-focus="speaker 0"]', "Dora")
    page.keyboard.press("Tab")
    page.select_option('[data-focus="emotion 0"]', "fear")
    assert shown()["Dora"] == (1, {"fear": 1}, {}, {})
    assert shown()["Ben"][2] == wanted["Ben"][2] - Counter(["Cleo"])
    page.check("input[name=hide]")
    assert shown()["unknown"][2] == {"Ben": 2}
