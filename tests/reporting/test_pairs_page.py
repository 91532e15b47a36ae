"""The page of predictions in a browser: arcs, emotions, the threshold, clips, and much of it."""

import time
import wave

import numpy as np
import pytest
from report_pages import BY, arcs_of, listed, predicted, slide, until, write_pairs_page

from rpcl_jax.reporting import pairs_page


def test_arcs_emotions_and_the_threshold(tmp_path, open_page):
    items = [predicted(number, source=f"day{number}/talk.srt") for number in range(12)]
    page = open_page(write_pairs_page(tmp_path / "page.html", items))
    assert "talks" in page.inner_text("h1")
    assert "mine/rpcl" in page.inner_text("#subtitle")
    assert "left" not in page.inner_text("body")
    assert listed(page) == [f"talk.srt {number}" for number in range(12)]
    assert page.get_attribute("input[type=range]", "min") == "50"

    def check(threshold=None):
        total = 0
        for item in items:
            wanted = {(i - 1, j - 1) for i, j, p in item["candidates"] if p >= (threshold or 0)}
            if threshold is None:  # as they were decided, before confidences were rounded
                wanted = {(i - 1, j - 1) for i, j in item["pairs"]}
            assert {(i, j) for i, j, _ in arcs_of(page, 0)} == wanted
            said = page.eval_on_selector_all(".turn .chip", "chips => chips.map(c => c.innerText)")
            paired = {i for i, _ in wanted}
            for t, (likeliest, expressed) in enumerate(item["emotion_choices"]):
                name, probability = said[t].split()
                assert name == (expressed if t in paired else likeliest)[0]
                assert float(probability) == pytest.approx(
                    dict([likeliest, expressed])[name], abs=0.0006
                )
                assert t not in paired or name != "neutral"
            assert page.inner_text(".viewhead h2") == f"{item['source']} {item['id']}"
            total += len(wanted)
            page.keyboard.press("j")
        assert page.inner_text("#count") == f"12 conversations, {total} pairs"
        page.focus("#list")
        page.keyboard.press("Home")

    check()
    slide(page, 200)
    check(0.2)
    slide(page, 800)
    check(0.8)
    assert "0.80" in page.inner_text("#slider")
    slide(page, 1000)
    check(1.0)
    neutral = [item["emotion_choices"][0][0][0] for item in items].index("neutral")
    slide(page, 50)
    for _ in range(neutral):
        page.keyboard.press("j")
    felt = items[neutral]["emotion_choices"][0][1][0]
    page.hover('.turn[data-turn="0"]')
    readout = page.inner_text("#readout")
    assert f"Ann: {felt}\n" in readout
    assert f"emotion {felt} " in readout
    page.select_option("select[name=emotion]", "neutral")
    assert listed(page) == []

    # Filters are those of the report; an emotion is that of the emotion utterance.
    slide(page, 400)
    page.select_option("select[name=emotion]", "joy")
    page.select_option("select[name=distance]", "3")
    wanted = [
        f"talk.srt {item['id']}"
        for item in items
        if any(
            item["emotion_choices"][i - 1][1][0] == "joy" and i - j >= 3
            for i, j, p in item["candidates"]
            if p >= 0.4
        )
    ]
    assert listed(page) == wanted
    assert 0 < len(wanted) < 12
    page.select_option("select[name=emotion]", "")
    page.fill("input[name=words]", "WORDS 7 of 3")
    assert listed(page) == ["talk.srt 7"]


def test_the_row_of_an_utterance_and_the_cells_of_the_map(tmp_path, open_page):
    item = predicted(3)
    page = open_page(write_pairs_page(tmp_path / "page.html", [item]))
    confidence = {(i - 1, j - 1): p for i, j, p in item["candidates"]}
    page.hover('.turn[data-turn="7"]')
    shown = [page.inner_text(f'.turn[data-turn="{j}"] .confidences') for j in range(8)]
    for j, text in enumerate(shown):
        assert (text == "") == ((7, j) not in confidence)
        if text:
            assert float(text) == pytest.approx(confidence[7, j], abs=0.0006)
    best = max((p, j) for (i, j), p in confidence.items() if i == 7)[1]
    assert f"causes {best + 1}:" in page.inner_text("#readout")
    cells = page.locator(".map rect[data-i]").evaluate_all(
        "nodes => nodes.map(n => [Number(n.dataset.i), Number(n.dataset.j)])"
    )
    assert {tuple(cell) for cell in cells} == confidence.keys()
    dots = page.locator(".map circle").count()
    assert dots == sum(p >= 0.4 for p in confidence.values())
    assert page.locator(".scale").inner_text().split() == ["0", ".25", ".5", ".75", "1"]


def sound(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.zeros(8000 * seconds, "<i2").tobytes())


@pytest.mark.slow
def test_the_clip_of_an_utterance_plays_when_it_is_chosen(tmp_path, open_page):
    item = predicted(0, length=3)
    for t, clip in enumerate(({"video": "a b#1?", "start": 1.5, "end": 2.0}, {"video": "song"})):
        item["utterances"][t]["clip"] = clip
    films = tmp_path / "shared/clips 100%"
    sound(films / "a b#1?.wav", 4)
    (films / "song.mkv").write_bytes(b"not a film")
    (tmp_path / "shared/pages").mkdir()
    write_pairs_page(tmp_path / "shared/pages/page.html", [item], films)
    (tmp_path / "shared").rename(tmp_path / "sent")  # together, they can be given away
    page = open_page(tmp_path / "sent/pages/page.html")
    page.hover('.turn[data-turn="0"]')
    assert page.locator("video").count() == 0, "pointing is not choosing"
    page.click('.turn[data-turn="0"]')
    until(page, "document.querySelector('video').currentTime > 1.9")
    until(page, "document.querySelector('video').paused")
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(2, abs=0.3)
    assert "2 of 3 utterances have a clip" in page.inner_text("#counted")
    page.focus('.turn[data-turn="2"]')
    page.keyboard.press("Enter")
    assert "has no clip" in page.inner_text("#player")
    page.click('.turn[data-turn="1"]')
    until(page, "document.querySelector('#player').innerText.includes('cannot play')")
    assert page.get_attribute("#player a", "href").endswith("song.mkv")
    page.keyboard.press("Escape")


def test_what_a_browser_could_not_show_is_left_out_and_said(tmp_path, open_page, monkeypatch):
    monkeypatch.setattr(pairs_page, "_MOST_CONVERSATIONS", 4)
    items = [predicted(number) for number in range(9)]
    items[1]["predicted_by"] = BY | {"absent": ["audio", "vision"]}
    page = open_page(write_pairs_page(tmp_path / "a.html", items))
    assert listed(page) == ["0", "1", "2", "3"]
    assert "Predicted without audio and vision" in page.inner_text("#counted")
    assert "4 of 9 conversations are shown" in page.inner_text("#counted")
    monkeypatch.setattr(pairs_page, "_MOST_UTTERANCES", 20)
    page = open_page(write_pairs_page(tmp_path / "b.html", map(predicted, range(9))))
    assert listed(page) == ["0", "1"]


@pytest.mark.slow
def test_five_thousand_conversations_open(tmp_path, open_page):
    items = [predicted(number % 50) | {"id": f"talk {number}"} for number in range(5200)]
    path = write_pairs_page(tmp_path / "page.html", items)
    started = time.monotonic()
    page = open_page(path)
    assert len(listed(page)) == 300
    assert time.monotonic() - started < 10
    assert page.inner_text(".list .more") == "4700 more"
    page.click(".list .more")
    assert len(listed(page)) == 600
    milliseconds = page.evaluate(
        """() => {
             const start = performance.now();
             const slider = filters.elements.threshold;
             slider.value = 300;
             slider.dispatchEvent(new Event("input", { bubbles: true }));
             document.body.offsetHeight;
             return performance.now() - start;
           }"""
    )
    assert milliseconds < 2000
    page.focus("#list")
    page.keyboard.press("End")
    assert page.inner_text(".viewhead h2") == "Conversation talk 4999"


def test_of_a_long_conversation_the_map_shows_a_part(tmp_path, open_page):
    pairs = [(k, k - 1) for k in range(1, 200, 5)]
    page = open_page(write_pairs_page(tmp_path / "page.html", [predicted(1, 200, pairs)]))
    assert page.locator(".turn").count() == 200
    card = page.locator(".columns .card")
    assert "Utterances 1 to 60 of 200" in card.inner_text()
    page.hover('.turn[data-turn="151"]')
    assert "Utterances 107 to 166 of 200" in card.inner_text()
    rows = page.locator(".map rect[data-i]").evaluate_all("n => n.map(m => Number(m.dataset.i))")
    assert min(rows) >= 106
    assert max(rows) == 165
    assert page.locator(".map .frame").get_attribute("d").endswith(",45H46v1H0Z")


def test_causes_that_come_after_are_offered_where_there_are_some(tmp_path, open_page):
    items = [predicted(0), predicted(1)]
    page = open_page(write_pairs_page(tmp_path / "past.html", items))
    assert page.locator("option[value=after]").count() == 0
    items[1]["candidates"].append([2, 4, 0.5])
    page = open_page(write_pairs_page(tmp_path / "all.html", items))
    slide(page, 400)
    page.select_option("select[name=distance]", "after")
    assert listed(page) == ["1"]
    assert page.inner_text("#count") == "1 conversation, 1 pair"


def test_ids_that_repeat_and_texts_that_are_markup(tmp_path, open_page):
    hostile = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"
    items = [predicted(n, source=hostile) | {"id": "same"} for n in range(3)]
    items[1]["utterances"][0] |= {"text": hostile, "speaker": hostile, "emotion": hostile}
    page = open_page(write_pairs_page(tmp_path / "page.html", items), fragment="#same_2")
    assert page.inner_text('.turn[data-turn="0"] > div >> nth=1') == hostile
    assert page.evaluate("window.ran") is None
    assert page.locator("img").count() == 0
    assert [name.split()[-1] for name in listed(page)] == ["same", "same_2", "same_3"]
    page.keyboard.press("j")
    assert page.evaluate("location.hash") == "#same_3"


LONG = "https://example.org/" + "unbroken" * 40


@pytest.mark.parametrize("width", [390, 1280])
def test_long_words_do_not_make_the_page_scroll_sideways(tmp_path, open_page, width):
    def at(item, **fields):
        item["utterances"][0] |= fields
        return item

    items = [
        at(predicted(0), text=LONG),
        at(predicted(1), speaker=LONG),
        predicted(2, source=LONG),
        predicted(3, id=LONG),
        at(predicted(4), text=LONG, speaker=LONG),
    ]
    page = open_page(write_pairs_page(tmp_path / "page.html", items), width=width)
    for _ in items:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.keyboard.press("j")
    assert page.inner_text(".viewhead h2") == "Conversation 4"
    text, box = (page.locator(of).first.bounding_box() for of in (".turn", "#conversation"))
    if width == 390:
        assert text["x"] - box["x"] < 0.15 * width, "the arcs leave the width to the text"


def test_a_phone_shows_the_conversation_at_once(tmp_path, open_page):
    page = open_page(
        write_pairs_page(tmp_path / "page.html", map(predicted, range(9))), width=390, height=844
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".turn").first.bounding_box()["y"] < 844 / 2
    assert not page.is_visible("input[type=range]")
    page.click("#fields summary")
    assert page.is_visible("input[type=range]")


def test_pairs_of_an_utterance_with_itself_are_explained_and_can_be_hidden(tmp_path, open_page):
    item = predicted(1, pairs=[(2, 1), (2, 2), (5, 5)])
    page = open_page(write_pairs_page(tmp_path / "page.html", [item, predicted(2, pairs=[(0, 0)])]))
    assert "is its own cause" in page.inner_text("#fields")
    assert {(i, j) for i, j, _ in arcs_of(page, 0)} == {(2, 1), (2, 2), (5, 5)}
    page.check("input[name=hide]")
    assert {(i, j) for i, j, _ in arcs_of(page, 0)} == {(2, 1)}
    assert page.locator(".cause").count() == 1
    assert page.inner_text("#count") == "2 conversations, 1 pair"
    assert page.eval_on_selector_all(".count", "n => n.map(m => m.textContent)") == ["1", "·"]


def test_an_emotion_that_is_not_sure_has_no_probability(tmp_path, open_page):
    item = predicted(1, pairs=[(2, 1)])
    item["utterances"][2]["emotion"] = item["pair_emotions"][0] = "emotional"
    item["emotion_choices"][2][1] = ("emotional", 0.31)
    page = open_page(write_pairs_page(tmp_path / "page.html", [item]))
    assert page.inner_text('.turn[data-turn="2"] .chip') == "emotional"
    page.hover('.turn[data-turn="2"]')
    assert "emotion emotional; causes" in page.inner_text("#readout")


def test_conversations_are_named_with_their_files(tmp_path, open_page):
    names = [("a/talk", "a/talk.vtt"), ("1", "b/x.JSON.gz"), ("2", None)]
    items = [predicted(n, id=id, source=source) for n, (id, source) in enumerate(names)]
    page = open_page(write_pairs_page(tmp_path / "page.html", items))
    assert listed(page) == ["talk.vtt", "x.JSON.gz 1", "2"]
    heads = []
    for _ in items:
        heads.append(page.inner_text(".viewhead h2"))
        page.keyboard.press("j")
    assert heads == ["a/talk.vtt", "b/x.JSON.gz 1", "Conversation 2"]
