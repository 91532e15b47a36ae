"""Subtitles as real tools write them, with pysubs2 as the reference, and lines of `Name: words`."""

import gzip
from collections import Counter

import pysubs2
import pytest

from rpcl_jax.errors import InputError
from rpcl_jax.readers.subtitles import is_subtitle, recording
from rpcl_jax.readers.transcripts import conversations_in, parse


def read(path, text=None):
    """The conversations of a file: turns (speaker, text, clip's start, end)."""
    if text is not None:
        path.write_text(text, encoding="utf-8", newline="")
    conversations = []
    for place, item in conversations_in(path, Counter()):
        assert parse(item, place, Counter()), "readable"
        clips = [u.get("clip", {}) for u in item["utterances"]]
        conversations.append([
            (u["speaker"], u["text"], clip.get("start"), clip.get("end"))
            for u, clip in zip(item["utterances"], clips, strict=True)
        ])  # fmt: skip
    return conversations


@pytest.mark.parametrize("suffix", ["srt", "vtt", "srt.gz"])
def test_what_pysubs2_writes(tmp_path, suffix):
    texts = [
        "[SPEAKER_00]: Did you hear?",
        "[SPEAKER_01]: They said\\Nno.",
        "42",
        r"{\i1}Oh{\i0}",
        "",
    ]
    subtitles = pysubs2.SSAFile()
    for k, text in enumerate(texts):
        subtitles.append(pysubs2.SSAEvent(3_599_000 + 1500 * k, 3_600_250 + 1500 * k, text=text))
    path = tmp_path / f"talk.{suffix.removesuffix('.gz')}"
    subtitles.save(str(path))
    if suffix.endswith(".gz"):
        (tmp_path / "talk.srt.gz").write_bytes(gzip.compress(path.read_bytes()))
    (turns,) = read(tmp_path / f"talk.{suffix}")
    assert [turn[:2] for turn in turns[:4]] == [
        ("SPEAKER_00", "Did you hear?"), ("SPEAKER_01", "They said no."), ("", "42"), ("", "Oh"),
    ]  # fmt: skip
    reference = pysubs2.load(str(path))
    times = [(event.start / 1000, event.end / 1000) for event in reference]
    assert [turn[2:] for turn in turns] == times[:4], "nobody says the empty cue"


def test_web_captions_of_meetings(tmp_path):
    # As Teams writes them: cues have names, speakers are voices, a cue may have two.
    teams = (
        "WEBVTT\r\n\r\n5f0c-aa/12-0\r\n00:00:03.459 --> 00:00:05.159\r\n<v Lee, Ann>Did you &amp; "
        "Bo hear</v>\r\n\r\n5f0c-aa/13-0\r\n00:00:05.200 --> 00:00:09.000 align:start\r\n"
        "<v.loud Bo>No.\r\nAnd you?</v>\r\n<v Lee, Ann>Yes.</v>\r\n"
    )
    assert read(tmp_path / "teams.vtt", teams) == [[
        ("Lee, Ann", "Did you & Bo hear", 3.459, 5.159),
        ("Bo", "No. And you?", 5.2, 9.0),
        ("Lee, Ann", "Yes.", 5.2, 9.0),
    ]]  # fmt: skip
    # As Zoom writes them; with a note, a style and times without hours, as the standard allows.
    zoom = (
        "\ufeffWEBVTT - made up\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nNOTE 00:10\n\n"
        "1\n00:01.000 --> 00:02.500\nAnn Lee: Listen: no <00:00:01.500><c>one</c> knew.\n\n"
        "NOTE a note\nof two lines\n\n2\n00:59:59.000 --> 01:00:00.000\nBo: Is 1 < 2?\n\n"
        "01:00:01.000 --> 01:00:02.000\nAnn Lee: Yes.\n\n01:00:03.000 --> 01:00:04.000\nBo:\nOh."
    )
    assert read(tmp_path / "zoom.vtt", zoom) == [[
        ("Ann Lee", "Listen: no one knew.", 1.0, 2.5),
        ("Bo", "Is 1 < 2?", 3599.0, 3600.0),
        ("Ann Lee", "Yes.", 3601.0, 3602.0),
        ("Bo", "Oh.", 3603.0, 3604.0),
    ]]  # fmt: skip


def test_captions_that_appear_word_by_word(tmp_path):
    """As YouTube makes them: the first line of a cue is a space, or the line before."""
    text = (
        "WEBVTT\nKind: captions\nLanguage: en\n\n"
        "00:00:00.000 --> 00:00:02.000 align:start position:0%\n \n"
        "hello<00:00:00.500><c> everyone</c>\n\n"
        "00:00:02.000 --> 00:00:02.010 align:start position:0%\nhello everyone\n \n\n"
        "00:00:02.010 --> 00:00:04.000 align:start position:0%\nhello everyone\n"
        "today<00:00:02.500><c> we</c>\n\n"
        "00:00:04.000 --> 00:00:04.010\ntoday we\n \n"
    )
    ((first, second),) = read(tmp_path / "x.vtt", text)
    assert first == ("", "hello everyone", 0.0, 2.0)
    assert second == ("", "today we", 2.01, 4.0)
    # Without such marks, a line may be said twice; a space is no end of a cue.
    plain = "WEBVTT\n\n00:00.000 --> 00:01.000\n \nNo.\n\n00:01.000 --> 00:02.000\nNo.\n"
    ((first, second),) = read(tmp_path / "y.vtt", plain)
    assert first[1] == second[1] == "No."


def test_film_subtitles(tmp_path):
    film = (
        "1\n00:00:01,000 --> 00:00:02,000\n- Who is it?\n-It's me.\n\n"
        "2\n00:00:03,000 --> 00:00:04,000 X1:4\n{\\an8}ANN: Listen: the <font a=1>door</font>\n\n"
        "3\n00:00:05,000 --> 00:00:06,000\n\n"
        "4\n00:00:07,000 --> 00:00:08,000\n>> BO: Yes.\n>> ANN: It is -5 degrees,\nat 10:30.\n\n"
        "5\n00:00:09,000 --> 00:00:10,000\nListen: I know.\n\nAnd wait.\n\n"
        "6\n0:0:11.5 --> 0:0:12.25\n42"
    )  # fmt: skip
    for name in ("film.srt", "film.txt", "film"):  # also told by content
        assert read(tmp_path / name, film) == [[
            ("", "Who is it?", 1.0, 2.0), ("", "It's me.", 1.0, 2.0),
            ("ANN", "Listen: the door", 3.0, 4.0),
            ("BO", "Yes.", 7.0, 8.0), ("ANN", "It is -5 degrees, at 10:30.", 7.0, 8.0),
            ("", "Listen: I know. And wait.", 9.0, 10.0),
            ("", "42", 11.5, 12.25),
        ]]  # fmt: skip


def test_subtitles_name_their_recording(tmp_path):
    (tmp_path / "day 1").mkdir()
    cue = "1\n00:00:01,000 --> 00:00:02,000\nOh\n"
    for name, film in {
        "talk.srt": "talk", "talk.en.srt": "talk", "talk.mp4.pt-BR.srt": "talk",
        "day 1/S1E2.MP3.srt": "S1E2", "v1.2.srt": "v1.2", "en.srt": "en",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(cue)
        ((_, item),) = conversations_in(tmp_path / name, Counter())
        assert item["id"] == name.rpartition("/")[2].removesuffix(".srt")
        assert [u["clip"]["video"] for u in item["utterances"]] == [film]
    assert recording(".en") == ".en"


def test_a_file_without_cues_is_refused(tmp_path):
    for name in ("x.srt", "x.vtt"):
        (tmp_path / name).write_text("WEBVTT\n\nNOTE 00:01 --> soon\n")
        ((_, error),) = conversations_in(tmp_path / name, Counter())
        assert isinstance(error, InputError)
        assert f"{name}: has no cue such as" in str(error)
    assert not is_subtitle("Ann: from 00:01 --> 00:02")


def plain(path, text):
    return [[turn[:2] for turn in turns] for turns in read(path, text)]


def test_names_and_words(tmp_path):
    text = (
        "Ann Lee:  Did you hear: it?\r\nDr. Bo-2 (host): They gave it all at once to one\r\n"
        "else: Cy\r\n张三：你好\r\n[3rd Customer]: 10: no\r\n[SPEAKER_00]: Hm.\r\n"
        "[00:01:05] Ann Lee: At 10:30 we left.\r\n张三： 好\r\nDr. Bo-2 (host): Oh\r\n"
        "00:01:06.5 Bo: See http://x.org\r\n12/31/20, 9:41 PM - Cy: Yes\r\n- Ann Lee: No\r\n"
    )
    expected = [
        ("Ann Lee", "Did you hear: it?"),
        ("Dr. Bo-2 (host)", "They gave it all at once to one else: Cy"),
        ("张三", "你好"), ("3rd Customer", "10: no"), ("SPEAKER_00", "Hm."),
        ("Ann Lee", "At 10:30 we left."), ("张三", "好"), ("Dr. Bo-2 (host)", "Oh"),
        ("Bo", "See http://x.org"), ("Cy", "Yes"), ("Ann Lee", "No"),
    ]  # fmt: skip
    for name in ("chat.txt", "chat", "chat.log"):
        assert plain(tmp_path / name, text) == [expected]
    assert plain(tmp_path / "mac.txt", "Ann: a\rBo: b") == [[("Ann", "a"), ("Bo", "b")]]


def test_an_empty_line_ends_a_conversation_unless_it_is_between_all_turns(tmp_path):
    path = tmp_path / "chat.txt"
    assert plain(path, "Ann: A\nBo: b\nAnn: e\nBo: f\n \n\nCy: c\nDi: d\nCy: g\nDi: h\n\n") == [
        [("Ann", "A"), ("Bo", "b"), ("Ann", "e"), ("Bo", "f")],
        [("Cy", "c"), ("Di", "d"), ("Cy", "g"), ("Di", "h")],
    ]
    assert [(place, item["id"]) for place, item in conversations_in(path, Counter())] == [
        (f"{path}:1", "chat"), (f"{path}:7", "chat-2"),
    ]  # fmt: skip
    assert plain(path, "\n\nAnn: a\n\nBo: b\n\nCy: c") == [[("Ann", "a"), ("Bo", "b"), ("Cy", "c")]]
    forgotten = "\n\n".join(f"Ann: So {k}\n\nBo: No {k}" for k in range(9)).replace("\n\n", "\n", 1)
    assert [len(turns) for turns in plain(path, forgotten)] == [18]
    titled = "Interview of May 3\nTranscribed by us\n\nAnn: a\nBo: b\nAnn: c"
    assert plain(path, titled) == [[("Ann", "a"), ("Bo", "b"), ("Ann", "c")]]


def test_prose_is_refused(tmp_path):
    path = tmp_path / "README.txt"
    path.write_text("This is about\nthe kettle.\n\nNote: it exploded.\nLast week\nit was new.\n")
    ((place, error),) = conversations_in(path, Counter())
    assert place == str(path)
    assert str(error).startswith(f"{path}: only 0 of 5 lines begin with 'Name: '")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Ann: hello\n[00:00:05 - 00:00:07] Ben: I feel awful.\n[00:00:08] Ann: oh",
            [("Ann", "hello", None, None), ("Ben", "I feel awful.", 5, 7), ("Ann", "oh", 8, None)],
        ),
        (
            "00:01 - 00:02 Ann: a\nBen (00:05): b\nCy [0:00:07]: c\nDi (0:07)\nd\n(00:09) - Ann: e",
            [("Ann", "a", 1, 2), ("Ben", "b", 5, 7), ("Cy", "c", 7, 9), ("Di", "d", 7, 9),
             ("Ann", "e", 9, None)],
        ),
        (
            "[00:00.000 --> 00:02.000] Ann: Hello\n[00:02.000 --> 01:00:03.500]   Ann: Bye",
            [("Ann", "Hello", 0, 2), ("Ann", "Bye", 2, 3603.5)],
        ),
        (
            "[00:00.000 --> 00:02.000] Hello\n[00:02.000 --> 00:03.000]   At 10:30",
            [("", "Hello", 0, 2), ("", "At 10:30", 2, 3)],
        ),
        (
            "00:00.000 --> 00:02.000  Ann: Hello\n00:02.000 --> 00:03.000 align:start\nBye",
            [("", "Ann: Hello", 0, 2), ("", "Bye", 2, 3)],  # a name in small letters, once
        ),
        ("0:05 Hello\n0:07 Bye", [("", "Hello", 5, 7), ("", "Bye", 7, None)]),
        (
            "Ann: [0:05] a [b]\nBen 0:07: c\nAnn: (laughs)\nBen 00:00:08: d",
            [("Ann", "a [b]", 5, 7), ("Ben", "c", 7, 8), ("Ann", "(laughs)", None, None),
             ("Ben", "d", 8, None)],
        ),
        (  # no time of a recording: a date, half a day, a sentence
            "12/31/20, 9:41 PM - Ann: a\n9:42 pm Ben: b\n2020-05-01T10:00 Cy: c",
            [("Ann", "a", None, None), ("Ben", "b", None, None), ("Cy", "c", None, None)],
        ),
    ],
)  # fmt: skip
def test_times_of_plain_text_are_clips_and_no_turn_is_lost(tmp_path, text, expected):
    assert read(tmp_path / "talk.txt", text) == [expected]
    for _, item in conversations_in(tmp_path / "talk.txt", Counter()):
        assert {u["clip"]["video"] for u in item["utterances"] if "clip" in u} <= {"talk"}


def test_lines_that_continue_a_turn_are_counted(tmp_path):
    text = "Ann: I think that the answer to all of these\nis that it was so all the time, to\nus.\n"
    (tmp_path / "x.txt").write_text(f"{text}Ben: d\n")
    repaired = Counter()
    list(conversations_in(tmp_path / "x.txt", repaired))
    assert repaired["lines without a name (of the turn before)"] == 2
