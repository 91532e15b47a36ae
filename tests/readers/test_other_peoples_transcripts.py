"""What other tools write: each file is read rightly, or refused with the way to get it in."""

# ruff: noqa: E501 -- a file in a line is read more easily
import json
import time
from collections import Counter

import pytest
from shared import import_or_skip

from rpcl_jax.errors import InputError
from rpcl_jax.readers import chats
from rpcl_jax.readers.tables import parse_columns
from rpcl_jax.readers.transcripts import conversations_in, parse


def read(path, content=None, columns=""):
    """Conversations as turns (speaker, text, start, end), the errors, and what was counted."""
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = content if isinstance(content, str) else json.dumps(content)
        path.write_text(content, encoding="utf-8", newline="")
    counted = Counter()
    conversations, errors = [], []
    given = parse_columns(columns.split(",")) if columns else {}
    for place, item in conversations_in(path, counted, columns=given):
        if isinstance(item, InputError):
            errors.append(str(item))
            continue
        dialogue = parse(item, place, Counter())
        conversations.append([
            (u.speaker, u.text, *((u.clip.start, u.clip.end) if u.clip else ()))
            for u in dialogue.utterances
        ])  # fmt: skip
    return conversations, errors, +counted


ASKED, NO = "Did you get the job?", "No."
WHOLE = f" {ASKED} {NO}"
JSON = {
    "Transformers": (
        {"text": WHOLE, "chunks": [{"timestamp": [0.0, 2.5], "text": f" {ASKED}"},
                                   {"timestamp": [2.5, None], "text": f" {NO}"}]},
        [("unknown", ASKED, 0, 2.5), ("unknown", NO, 2.5, None)],
    ),
    "insanely-fast-whisper": (
        {"text": WHOLE, "chunks": [{"timestamp": [0.0, 4.0], "text": WHOLE}],
         "speakers": [{"speaker": "SPEAKER_00", "text": ASKED, "timestamp": [0.0, 2.5]},
                      {"speaker": "SPEAKER_01", "text": NO, "timestamp": [2.5, 4.0]}]},
        [("SPEAKER_00", ASKED, 0, 2.5), ("SPEAKER_01", NO, 2.5, 4)],
    ),
    "faster-whisper": (
        [{"id": 1, "start": 0.0, "end": 2.5, "text": f" {ASKED}", "words": None}],
        [("unknown", ASKED, 0, 2.5)],
    ),
    "WhisperX": (
        {"segments": [{"start": 0.1, "end": 2.5, "text": f" {ASKED}", "speaker": "SPEAKER_00",
                       "words": [{"word": "Did", "start": 0.1, "end": 0.2, "score": 0.9}]}],
         "word_segments": [{"word": "Did", "start": 0.1, "end": 0.2, "score": 0.9}]},
        [("SPEAKER_00", ASKED, 0.1, 2.5)],
    ),
    "whisper.cpp": (
        {"systeminfo": "AVX = 1", "model": {"type": "base", "text": {"ctx": 448}},
         "result": {"language": "en"},
         "transcription": [
            {"timestamps": {"from": "00:00:00,000", "to": "00:00:02,500"},
             "offsets": {"from": 0, "to": 2500}, "text": f" {ASKED}",
             "tokens": [{"text": " Did", "offsets": {"from": 0, "to": 90}, "id": 1, "p": 0.9}]},
            {"timestamps": {"from": "00:00:02,500", "to": "00:00:04,000"},
             "offsets": {"from": 2500, "to": 4000}, "text": f" {NO}"}]},
        [("unknown", ASKED, 0, 2.5), ("unknown", NO, 2.5, 4)],
    ),
    "whisper.cpp, the least": (
        {"transcription": [{"offsets": {"from": 0, "to": 2500}, "text": " Hi"}]},
        [("unknown", "Hi", 0, 2.5)],
    ),
    "Deepgram": (
        {"metadata": {"channels": 1}, "results": {
            "channels": [{"alternatives": [{
                "transcript": WHOLE, "confidence": 0.99,
                "words": [{"word": "did", "start": 0.0, "end": 0.2, "speaker": 0}]}]}],
            "utterances": [
                {"start": 0.0, "end": 2.5, "transcript": ASKED, "speaker": 0, "id": "a",
                 "words": [{"word": "did", "start": 0.0, "end": 0.2}]},
                {"start": 2.5, "end": 4.0, "transcript": NO, "speaker": 1, "id": "b"}]}},
        [("0", ASKED, 0, 2.5), ("1", NO, 2.5, 4)],
    ),
    "Deepgram, paragraphs": (
        {"results": {"channels": [{"alternatives": [{
            "transcript": WHOLE, "paragraphs": {"transcript": f"\nSpeaker 0: {WHOLE}", "paragraphs": [
                {"speaker": 0, "start": 0.0, "end": 2.5,
                 "sentences": [{"text": ASKED, "start": 0.0, "end": 2.5}]},
                {"speaker": 1, "start": 2.5, "end": 5.0,
                 "sentences": [{"text": NO, "start": 2.5, "end": 4.0},
                               {"text": "Oh.", "start": 4.0, "end": 5.0}]}]}}]}]}},
        [("0", ASKED, 0, 2.5), ("1", NO, 2.5, 4), ("1", "Oh.", 4, 5)],
    ),
    "Deepgram, everything in one": (
        {"results": {"channels": [{"alternatives": [{"transcript": WHOLE, "confidence": 0.99,
         "words": [{"word": "did", "start": 0.0, "end": 0.2}]}]}]}},
        "say which field has the texts, such as --columns=text=results.channels.alternatives",
    ),
    "Deepgram, a channel for each speaker": (
        {"results": {"channels": [{"alternatives": [{"transcript": f"{ASKED} I hope so."}]},
                                  {"alternatives": [{"transcript": NO}]}]}},
        "has neither 'utterances'",
    ),
    "AssemblyAI": (
        {"text": WHOLE, "words": [{"text": "Did", "start": 0, "end": 200, "speaker": "A"}],
         "utterances": [{"speaker": "A", "text": ASKED, "start": 0, "end": 2500},
                        {"speaker": "B", "text": NO, "start": 2500, "end": 4000}]},
        [("A", ASKED), ("B", NO)],
    ),
    "AssemblyAI without speakers": (
        {"id": "x", "text": WHOLE, "audio_duration": 4, "utterances": None,
         "words": [{"text": w, "start": 0, "end": 1, "speaker": None} for w in WHOLE.split()]},
        "has neither 'utterances'",
    ),
    "AWS Transcribe": (
        {"jobName": "x", "results": {
            "transcripts": [{"transcript": WHOLE}],
            "speaker_labels": {"segments": [{"start_time": "0.0", "end_time": "2.5",
                                             "speaker_label": "spk_0", "items": []}]},
            "items": [{"type": "pronunciation", "start_time": "0.0", "end_time": "0.2",
                       "alternatives": [{"confidence": "1", "content": "Did"}]}],
            "audio_segments": [
                {"id": 0, "transcript": ASKED, "start_time": "0.0", "end_time": "2.5",
                 "speaker_label": "spk_0", "items": [0]},
                {"id": 1, "transcript": NO, "start_time": "2.5", "end_time": "4.0",
                 "speaker_label": "spk_1", "items": [1]}]}},
        [("spk_0", ASKED, 0, 2.5), ("spk_1", NO, 2.5, 4)],
    ),
    "AWS Transcribe, earlier": (
        {"results": {"transcripts": [{"transcript": WHOLE}],
                     "items": [{"alternatives": [{"content": "Did"}], "type": "pronunciation"}]}},
        "has neither 'utterances'",
    ),
    "Google": (
        {"results": [
            {"alternatives": [{"transcript": ASKED, "confidence": 0.9}, {"transcript": "Did he?"}],
             "resultEndTime": "2.500s", "languageCode": "en-us"},
            {"alternatives": [{"transcript": f" {NO}"}], "resultEndTime": "4s"}]},
        [("unknown", ASKED), ("unknown", NO)],
    ),
    "Azure": (
        {"combinedRecognizedPhrases": [{"channel": 0, "display": WHOLE}],
         "recognizedPhrases": [
            {"speaker": 1, "offset": "PT0.05S", "duration": "PT2.5S",
             "nBest": [{"display": ASKED, "lexical": "did you"}, {"display": "Did he"}]},
            {"speaker": 2, "offset": "PT2.6S", "duration": "PT1S", "nBest": [{"display": NO}]}]},
        [("1", ASKED), ("2", NO)],
    ),
    "Azure, fast": (
        {"combinedPhrases": [{"text": WHOLE}],
         "phrases": [{"speaker": 1, "offsetMilliseconds": 40, "durationMilliseconds": 2000,
                      "text": ASKED, "words": [{"text": "Did"}]},
                     {"speaker": 2, "offsetMilliseconds": 2040, "durationMilliseconds": 1000,
                      "text": NO}]},
        [("1", ASKED, 0.04, 2.04), ("2", NO, 2.04, 3.04)],
    ),
    "Rev": (
        {"monologues": [
            {"speaker": 0, "elements": [{"type": "text", "value": "Oh", "ts": 0.5, "end_ts": 1.5},
                                        {"type": "punct", "value": " "},
                                        {"type": "text", "value": "no", "ts": 1.6, "end_ts": 1.9}]},
            {"speaker": 1, "elements": [{"type": "text", "value": "Yes", "ts": 2, "end_ts": 3}]}]},
        [("0", "Oh no"), ("1", "Yes")],
    ),
    "Speechmatics": (
        {"results": [{"type": "word", "start_time": 0.1, "end_time": 0.2,
                      "alternatives": [{"content": w, "speaker": "S1"}]} for w in WHOLE.split()]},
        "has neither",
    ),
    "Gladia": (
        {"result": {"transcription": {"full_transcript": WHOLE, "utterances": [
            {"text": ASKED, "start": 0.1, "end": 2.5, "speaker": 0, "words": []}]}}},
        [("0", ASKED, 0.1, 2.5)],
    ),
    "YouTube": (
        [{"text": ASKED, "start": 0.0, "duration": 2.5}, {"text": NO, "start": 2.5, "duration": 1}],
        [("unknown", ASKED, 0, 2.5), ("unknown", NO, 2.5, 3.5)],
    ),
    "Telegram": (
        {"name": "Ben", "type": "personal_chat", "id": 1, "messages": [
            {"id": 1, "type": "service", "date": "2020-01-01T10:00:00", "actor": "Ann",
             "action": "phone_call", "text": "", "text_entities": []},
            {"id": 2, "type": "message", "date": "2020-01-01T10:00:01", "from": "Ann",
             "from_id": "user1", "text": ["See ", {"type": "link", "text": "x.org"}, "?"],
             "text_entities": [{"type": "plain", "text": "See "}]},
            {"id": 3, "type": "message", "date": "2020-01-01T10:00:02", "from": "Ann",
             "photo": "p.jpg", "text": "", "text_entities": []},
            {"id": 4, "type": "message", "date": "2020-01-01T10:00:03", "from": "Ben",
             "text": NO, "text_entities": []}]},
        [("Ann", "See x.org?"), ("Ben", NO)],
    ),
    "Discord": (
        {"guild": {"id": "1", "name": "g"}, "channel": {"id": "2", "name": "c"}, "messages": [
            {"id": "1", "type": "GuildMemberJoin", "timestamp": "2023-01-01T10:00:00+00:00",
             "content": "Joined the server.", "author": {"name": "cy", "nickname": "Cy"}},
            {"id": "2", "type": "Default", "timestamp": "2023-01-01T10:00:01+00:00",
             "content": ASKED, "author": {"id": "7", "name": "ann", "nickname": "Ann"},
             "embeds": [], "reactions": []},
            {"id": "3", "type": "Reply", "timestamp": "2023-01-01T10:00:02+00:00", "content": NO,
             "author": {"name": "ben", "nickname": "Ben"}}], "messageCount": 3},
        [("Ann", ASKED), ("Ben", NO)],
    ),
    "Slack": (
        [{"type": "message", "subtype": "channel_join", "user": "U1", "ts": "1.1",
          "text": "<@U1> has joined the channel"},
         {"type": "message", "user": "U2", "ts": "3.0", "text": NO, "blocks": [{"type": "x"}]},
         {"type": "message", "user": "U1", "ts": "2.0", "text": ASKED}],
        [("U1", ASKED), ("U2", NO)],
    ),
    "Messenger, the newest first": (
        {"participants": [{"name": "Ann"}, {"name": "Ben"}], "messages": [
            {"sender_name": "Ben", "timestamp_ms": 1600000002000, "content": NO},
            {"sender_name": "Ann", "timestamp_ms": 1600000001000, "content": ASKED}]},
        [("Ann", ASKED), ("Ben", NO)],
    ),
    "chat of a language model": (
        {"messages": [{"role": "system", "content": "You are kind."},
                      {"role": "user", "content": [{"type": "text", "text": ASKED}]},
                      {"role": "assistant", "content": NO}]},
        [("user", ASKED), ("assistant", NO)],
    ),
    "ShareGPT": (
        {"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": NO}]},
        [("human", ASKED), ("gpt", NO)],
    ),
    "DailyDialog": ({"dialog": [ASKED, NO], "emotion": [0, 0]}, [("unknown", ASKED), ("unknown", NO)]),
    "Google, speakers of words": (
        {"results": [{"alternatives": [{"transcript": WHOLE}]}, {"alternatives": [{"words": [
            {"word": word, "speakerTag": 1 + (word == NO)} for word in WHOLE.split()]}]}]},
        "but its words or other lists have; write each turn",
    ),
    "Deepgram, channels": (
        {"results": {"utterances": [{"start": 0.0, "end": 2.5, "channel": 0, "transcript": ASKED},
                                    {"start": 2.5, "end": 4.0, "channel": 1, "transcript": NO}]}},
        [("0", ASKED, 0, 2.5), ("1", NO, 2.5, 4)],
    ),
    "Google Chat": (
        {"messages": [{"creator": {"name": name}, "created_date": f"Friday, January 5, 2024 at 10:0{k}:00 AM UTC",
                       "text": text} for k, name, text in ((2, "Ben", NO), (1, "Ann", ASKED))]},
        [("Ann", ASKED), ("Ben", NO)],
    ),
    "Trint": (
        {"paragraphs": [{"speaker": name, "words": [{"time": 0, "value": word} for word in text.split()]}
                        for name, text in (("Ann", ASKED), ("Ben", NO))]},
        [("Ann", ASKED), ("Ben", NO)],
    ),
    "names and words in lists": ({"dialog": [["Ann", ASKED], ["Ben", NO]]}, "has neither"),
    "our form with other names": (
        {"utterances": [{"utterance_text": ASKED, "who": "Ann"}]}, [("unknown", ASKED)],
    ),
    "sounds of YouTube": ([{"text": ASKED, "start": 0.0, "duration": 2.5}, {"text": "[Music]", "start": 3.0, "duration": 1}],
                          [("unknown", ASKED, 0, 2.5)]),
    "texts alone": ({"utterances": ["A text?", NO]}, [("unknown", "A text?"), ("unknown", NO)]),
    "an unknown name": (
        {"segments": [{"start": 0.0, "end": 2.5, "said": ASKED}]}, "--columns=text=segments.said",
    ),
    "our form with an unknown name": ({"utterances": [{"said": ASKED}]}, "--columns=text=utterances.said"),
    "no words": ({"utterances": [{"text": ""}, {"text": "…"}]}, "none of its 2 utterances has words"),
    "silence": ({"text": "", "segments": []}, "no speech was found"),
    "two lists": (
        {"draft": [{"speaker": "A", "text": ASKED}], "final": [{"speaker": "A", "text": NO}]},
        "several lists of texts (draft, final); if each is a conversation",
    ),
    "parts of one text": (
        {"text": WHOLE, "speaker": "A", "parts": [{"said": ASKED}, {"said": "Oh no."}]}, "is everything",
    ),
    "paragraphs beside a text": (
        {"content": WHOLE, "name": "call.mp3", "paragraphs": [{"content": ASKED}, {"content": NO}]},
        "is everything",
    ),
    "lines in a field": ({"transcript": "Ann: Hi\nBen: Oh\n"}, "have several turns each"),
    "words and highlights": (
        {"text": WHOLE, "utterances": None, "words": [{"text": "Did", "start": 0, "end": 90}],
         "auto_highlights_result": {"results": [{"text": "the job", "timestamps": [], "start": 2}]}},
        "most words are in 'text', not in 'auto_highlights_result.results.text'",
    ),
    "topics beside a transcript": (
        {"results": {"channels": [{"alternatives": [{"transcript": WHOLE}]}],
                     "topics": {"segments": [{"text": "Did you", "start_word": 0}]}}},
        "most words are in 'results.channels.alternatives.transcript'",
    ),
    "chapters beside a transcript": (
        {"transcript": [{"text": ASKED}, {"text": "I did not get it."}],
         "chapters": [{"title": "x", "start": 0, "text": "They met"}]},
        "--columns=text=transcript.text or",
    ),
    "an assistant and its tools": (
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": ASKED},
                      {"role": "assistant", "content": "", "tool_calls": [{"id": 1}]},
                      {"role": "tool", "content": "{}", "tool_call_id": "1"},
                      {"role": "assistant", "content": NO}]},
        [("user", ASKED), ("assistant", ""), ("assistant", NO)],
    ),
    "two sentences": ({"text": "Hi there. Oh no."}, "one text of 4 words is everything"),
    "only a text": ({"text": " ".join([ASKED] * 20)}, "one text of 100 words is everything"),
}  # fmt: skip


@pytest.mark.parametrize("name", JSON)
def test_json(tmp_path, name):
    content, expected = JSON[name]
    conversations, errors, _ = read(tmp_path / "talk.json", content)
    if isinstance(expected, str):
        assert not conversations
        assert expected in errors[0]
        assert len(errors) == 1
        assert "\n" not in errors[0]
    else:
        assert not errors
        assert conversations == [expected]


def test_lists_of_texts_in_several_conversations(tmp_path):
    several = {
        "conversations": [{"id": "a", "turns": ["A b", "C d"]}, {"id": "b", "turns": ["E f", "G"]}]
    }
    two = [[("unknown", "A b"), ("unknown", "C d")], [("unknown", "E f"), ("unknown", "G")]]
    assert read(tmp_path / "x.json", several)[:2] == (two, [])
    mapped = read(
        tmp_path / "x.json", several, "text=conversations.turns,conversation=conversations.id"
    )
    assert mapped[:2] == (two, [])


def test_paths_that_are_not_there_are_refused(tmp_path):
    given = {
        "results": {
            "utterances": [{"transcript": ASKED, "who": "Ann"}, {"transcript": NO, "who": "Ben"}]
        }
    }
    for columns, message in (
        (
            "text=results.utterances.transcript,speaker=who",
            "no 'who' of --columns in it; paths begin",
        ),
        ("text=results.utterances.said", "no 'results.utterances.said' in it"),
        (
            "text=results.words.text",
            "has single words; give the transcript with a text for each turn",
        ),
    ):
        found, (error,), _ = read(tmp_path / "x.json", given, columns)
        assert not found
        assert message in error
    found, _, _ = read(
        tmp_path / "x.json",
        given,
        "text=results.utterances.transcript,speaker=results.utterances.who",
    )
    assert found == [[("Ann", ASKED), ("Ben", NO)]]


def test_json_of_several_conversations(tmp_path):
    lines = [{"speaker": "A", "utterance": w, "emotion": "neutral"} for w in (ASKED, NO)]
    for content in (
        [lines, lines[:1]],  # EmotionLines
        {"chats": {"list": [{"name": "Ben", "messages": lines}, {"name": "Cy", "messages": lines[:1]}]}},
        {"season_id": "s1", "episodes": [{"episode_id": "e1", "scenes": [
            {"scene_id": "a", "utterances": lines}, {"scene_id": "b", "utterances": lines[:1]}]}]},
    ):  # fmt: skip
        conversations, errors, _ = read(tmp_path / "x.json", content)
        assert not errors
        assert conversations == [[("A", ASKED), ("A", NO)], [("A", ASKED)]]
    _, (error,), _ = read(tmp_path / "x.json", {"parts": [{"lines": lines}, {"lines": lines}]})
    assert "'parts.lines.utterance' is in 2 lists" in error
    assert "conversation=NAME" in error
    both = [{"messages": lines}, {"messages": lines[:1]}]
    path = tmp_path / "x.jsonl"
    conversations, errors, _ = read(path, "\n".join(map(json.dumps, both)))
    assert [len(turns) for turns in conversations] == [2, 1]
    assert not errors


MELD_LIKE = [("s1", 0, "Ann", "I lost it"), ("s1", 1, "Ben", "Oh no"),
             ("s2", 0, "Cy", "Great"), ("s2", 1, "Dee", "Yes")]  # fmt: skip
BOTH = [[("Ann", "I lost it"), ("Ben", "Oh no")], [("Cy", "Great"), ("Dee", "Yes")]]


def rows(head, *more):
    return "\n".join([head, *(",".join(map(str, row)) for row in more)]) + "\n"


@pytest.mark.parametrize(
    "column", ["session_id", "conv_id", "dia_id", "Chat-ID", "thread_id", "Dialogue_ID", "Scene_ID"]
)
def test_columns_that_tell_conversations_apart(tmp_path, column):
    table = rows(f"{column},turn_id,speaker,text", *MELD_LIKE)
    assert read(tmp_path / "x.csv", table)[0] == BOTH


def test_conversations_are_never_interleaved(tmp_path):
    path = tmp_path / "x.csv"
    found, (error,), _ = read(path, rows("recording,turn_id,speaker,text", *MELD_LIKE))
    assert not found
    assert "does 'recording' tell" in error or "--columns=conversation=recording" in error
    named = "conversation=recording"
    assert read(path, columns=named)[0] == BOTH
    # Without numbers, a column whose values come in blocks.
    table = rows("case_no,speaker,text", *((a, c, d) for a, _, c, d in MELD_LIKE))
    assert "does 'case_no' tell the conversations apart" in read(path, table)[1][0]
    assert read(path, columns="conversation=case_no")[0] == BOTH
    assert read(path, columns="conversation=")[0] == [BOTH[0] + BOTH[1]]
    # Numbers that are there twice although there is a column of conversations.
    table = rows(
        "part,dialogue_id,turn,speaker,text", *((a, 1, b, c, d) for a, b, c, d in MELD_LIKE)
    )
    assert "turn number 0 is there 2 times" in (error := read(path, table)[1][0])
    assert "--columns=conversation=part" in error
    assert read(path, columns="conversation=part+dialogue_id")[0] == BOTH
    # Friends' scenes begin anew in every episode.
    table = rows("Season,Episode,Scene_ID,Utterance_ID,Speaker,Utterance",
                 *((1, a[1], 1, b, c, d) for a, b, c, d in MELD_LIKE))  # fmt: skip
    assert read(path, table)[0] == BOTH
    # Times that begin anew, and those of a program that writes one speaker after the other.
    times = [(0, 2), (100, 103), (0.5, 3), (101, 104)]
    table = rows(
        "speaker,text,start,end",
        *((c, d, *t) for (_, _, c, d), t in zip(MELD_LIKE, times, strict=True)),
    )
    assert "its times begin anew" in read(path, table)[1][0]
    table = rows("speaker,text,start,end", ("A", "one", 0.5, 2), ("A", "three", 200, 202),
                 ("B", "two", 100.5, 102))  # fmt: skip
    assert [turn[1] for turn in read(path, table)[0][0]] == ["one", "two", "three"]


@pytest.mark.parametrize(
    "table",
    ["id,text,label\n1,good,1\n2,bad,0\n", "wav,utterance,emotion\nF000,Hi,neu\nF001,Oh,neu\n",
     "path\tsentence\nx.mp3\tHi\ny.mp3\tOh\n", "timestamp,level,message\n1,info,up\n2,error,down\n"],
)  # fmt: skip
def test_texts_of_nobody_are_refused(tmp_path, table):
    found, (error,), _ = read(tmp_path / "x.csv", table)
    assert not found
    assert "nothing tells who speaks" in error
    assert len(read(tmp_path / "x.csv", columns="conversation=")[0][0]) == 2


def test_tables_in_markdown_and_in_broken_letters(tmp_path):
    table = "| Speaker | Text |\n|---|:--|\n| Ann | Hi |\n| Ben | Oh |\n"
    assert read(tmp_path / "x.md", table)[0] == [HI]
    messages = [{"sender_name": "Zo\u00c3\u00ab", "timestamp_ms": 1, "content": "\u00c3\u00a7a va"}]
    assert read(tmp_path / "x.json", {"messages": messages})[0] == [[("Zoë", "ça va")]]
    _, (error,), _ = read(
        tmp_path / "x.csv", "dialog,emotion\n\"['Hi', 'Oh']\",0\n", "text=dialog,conversation="
    )
    assert "its texts are lists of turns" in error
    _, (error,), _ = read(tmp_path / "x.csv", "speaker,text\n" + "A,word\n" * 20)
    assert "its texts are single words" in error


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("sentiment", "aabb"),
        ("id", "1234"),
        ("speaker_id", "1212"),
        ("file", "aaaa"),
        ("note", "xyxy"),
    ],
)
def test_columns_that_tell_no_conversations(tmp_path, column, values):
    table = rows(
        f"speaker,text,{column}",
        *((c, d, v) for (_, _, c, d), v in zip(MELD_LIKE, values, strict=True)),
    )
    table = table.replace("Cy", "Ann").replace("Dee", "Ben")
    (turns,), errors, counted = read(tmp_path / "x.csv", table)
    assert not errors
    assert [turn[1] for turn in turns] == ["I lost it", "Oh no", "Great", "Yes"]
    listed = [kind for kind in counted if "not read" in kind]
    assert listed == ([] if column == "id" else [f"files with columns that are not read, {column}"])


def test_columns_and_fields_are_mapped(tmp_path):
    table = (
        "utterance_body\twho\tsession_no\tt0\tt1\nHi there\tAnn\ta\t0.5\t2\nYo\tBen\tb\t1\t1.5\n"
    )
    for name in ("x.tsv", "x.txt"):
        mapping = "text=utterance_body,speaker=who,conversation=session_no,start=t0,end=t1"
        assert read(tmp_path / name, table, mapping)[0] == [
            [("Ann", "Hi there", 0.5, 2.0)], [("Ben", "Yo", 1.0, 1.5)],
        ]  # fmt: skip
    assert (
        "names no column 'b' of --columns, but utterance_body"
        in read(tmp_path / "x.tsv", table, "text=b")[1][0]
    )
    assert "--columns=text=NAME" in read(tmp_path / "x.tsv", table)[1][0]
    nested = {"results": {"parts": [{"said": {"words": "Hi"}, "by": {"name": "Ann"}, "at": [1, 2]},
                                    {"said": {"words": "Yo"}, "by": {"name": "Ben"}}]}}  # fmt: skip
    mapping = "text=results.parts.said.words,speaker=results.parts.by.name"
    assert read(tmp_path / "x.json", nested, mapping)[0] == [[("Ann", "Hi"), ("Ben", "Yo")]]
    lines = [{"c": c, "m": {"t": t}} for c, t in (("a", "1 x"), ("b", "2 x"), ("a", "3 x"))]
    path = tmp_path / "x.jsonl"
    found = read(path, "\n".join(map(json.dumps, lines)), "text=m.t,conversation=c")[0]
    assert found == [[("unknown", "1 x"), ("unknown", "3 x")], [("unknown", "2 x")]]
    whole = {
        "dialogs": [
            {"key": "a", "lines": [{"b": "1 x"}, {"b": "2 x"}]},
            {"key": "b", "lines": [{"b": "3 x"}]},
        ]
    }
    found = read(tmp_path / "x.json", whole, "text=dialogs.lines.b,conversation=dialogs.key")[0]
    assert [len(turns) for turns in found] == [2, 1]
    assert "no 'dialogs.said' in it" in read(tmp_path / "x.json", whole, "text=dialogs.said")[1][0]
    for wrong in ("text", "txt=a", "source=a"):
        with pytest.raises(InputError, match=f"--columns: '{wrong}' must be FIELD=COLUMN"):
            parse_columns([wrong])


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("start\tend\ttext\n0\t2500\tDid you get it?\n2500\t4000\tNo.\n", [(0, 2.5), (2.5, 4)]),
        ("start\tend\tspeaker\ttext\n0\t2500\tA\tDid you get it?\n2500\t2900\tB\tNo.\n",
         [(0, 2.5), (2.5, 2.9)]),
        ("start\tend\ttext\n0\t3\tDid you get it?\n3\t4\tNo.\n", [(0, 3), (3, 4)]),
        ("start\tend\ttext\n2500\t2503\tDid you get it?\n4000\t4001\tNo.\n",
         [(2500, 2503), (4000, 4001)]),  # seconds of a film
        ("start\tend\ttext\n0.0\t2500.0\tDid you get it?\n", [(0, 2.5)]),
        ("start\tend\ttext\n0.5\t2500.5\tDid you get it?\n", [(0.5, 2500.5)]),
        ("start\tend\ttext\n0\t40000\tDid you get it?\n40000\t64000\tNo.\n", "seconds or milliseconds"),
        ("start\tend\ttext\n0\t62\tDid you get it?\n62\t100\tNo.\n", "seconds or milliseconds"),  # frames
        ("start\tend\ttext\n0\t60\tYes.\n60\t300\tNo.\n", "seconds or milliseconds"),
        ("start_ms\tend_ms\ttext\n0\t60\tYes.\n60\t300\tNo.\n", [(0, 0.06), (0.06, 0.3)]),
        ("start\tduration\ttext\n1.5\t2\tDid you get it?\n", [(1.5, 3.5)]),
        ("start\tduration\ttext\n0\t2500\tDid you get it?\n2500\t1500\tNo.\n", [(0, 2.5), (2.5, 4)]),
        ("start\ttext\n0\tDid you get it?\n2500\tNo, I did not.\n4500\tOh.\n", "seconds or milliseconds"),
        ("start\tend\ttext\n0\t2500\tDid you get it?\n2500\t4000.5\tNo.\n", [(0, 2.5), (2.5, 4.0005)]),
        ("begin\tstop\ttext\n00:01.5\t00:02\tDid you get it?\n", [(1.5, 2)]),
        ("start\ttext\n0\tDid you get it?\n2.5\tNo.\n", [(0, 2.5), (2.5, None)]),
    ],
)  # fmt: skip
def test_units_of_times(tmp_path, table, expected):
    found, errors, counted = read(tmp_path / "talk.tsv", table)
    if isinstance(expected, str):
        assert expected in errors[0]
        assert "start_ms=NAME" in errors[0]
    else:
        assert [turn[2:] for turns in found for turn in turns] == expected
        milliseconds = counted["files with times in milliseconds"]
        assert milliseconds == ("2500" in table and expected[0] == (0, 2.5))
    long = counted["clips that are longer than their words can be"]
    assert long == ("2500.5" in table)


def cues(*texts, vtt=False):
    mark = "." if vtt else ","
    times = [
        f"00:00:{start:06.3f} --> 00:00:{end:06.3f}".replace(".", mark) for start, end, _ in texts
    ]
    body = "\n\n".join(
        f"{k}\n{time}\n{text}"
        for k, (time, (_, _, text)) in enumerate(zip(times, texts, strict=True), 1)
    )
    return f"WEBVTT\n\n{body}\n" if vtt else f"{body}\n"


ROLLING = [(0, 3, "A"), (3, 3.01, "A"), (3.01, 6, "A\nB"), (6, 6.01, "B"), (6.01, 9, "B\nC")]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Subtitles by KL\nwww.x.org", "Hi", "- No.\n- No.", "Oh", "So", "Synced by KL"], ["Hi", "No.", "No.", "Oh", "So"]),
        (["Hi.\nHola.", "How?\n¿Cómo?", "Fine.\nBien."], "in two languages"),
        (["Hi", "[Ben] Oh", "[Ann] Yes", "So", "[Ben] No"], "does 'Ben' speak at 1 seconds"),
        (["ANN: Hi", "[Ben] Oh", "So"], "does 'Ben' speak at 1 seconds"),
        ([">> Ann: Hi", ">> Oh", ">> Ann: Yes"], "some lines with '>>' have a name"),
        (["Remember this:\nno.", "I said: go.", "There are two: a, b.", "It is: so."], "is there once"),
        (["<font color=red>Hi</font>\n<font color=blue>Oh</font>", "So"], "its colours"),
        (["<Ann> Hi", "<Ben> Oh"], "its colours"),
        (["ANN: Hi. BEN: Oh.", "BEN: So"], "has two speakers"),
    ],
)  # fmt: skip
def test_cues_in_doubt_are_refused(tmp_path, texts, expected):
    times = (f"00:00:0{k},000 --> 00:00:0{k},900" for k in range(len(texts)))
    content = "\n\n".join(
        f"{k}\n{time}\n{text}" for k, (time, text) in enumerate(zip(times, texts, strict=True), 1)
    )
    found, errors, _ = read(tmp_path / "x.srt", content)
    assert expected in errors[0] if errors else [turn[1] for turn in found[0]] == expected
    assert isinstance(expected, str) == bool(errors)


@pytest.mark.parametrize(
    ("column", "values"), [("split", "train,train,test,test"), ("rater", "a1,a2,a1,a2")]
)
def test_parts_of_a_corpus_are_not_one_conversation(tmp_path, column, values):
    turns = zip(["Ann", "Ben", "Cy", "Dee"], values.split(","), strict=True)
    rows = "".join(f"1,{name},hi {name},{value}\n" for name, value in turns)
    path = tmp_path / "x.csv"
    _, errors, _ = read(path, f"conversation_id,speaker,text,{column}\n{rows}")
    assert f"--columns=conversation=NAME+{column}" in errors[0]
    found, errors, _ = read(path, columns=f"conversation=conversation_id+{column}")
    assert [len(turns) for turns in found] == [2, 2]
    assert not errors


def test_people_who_speak_in_turn(tmp_path):
    lines = [f"{name}: That is {k}." for k in range(2) for name in ("Ann", "Ben", "Cy")]
    assert len(read(tmp_path / "x.txt", "\n".join(lines))[0][0]) == 6


def test_several_lists_of_turns_are_not_mapped_to_one(tmp_path):
    turns = {
        k: [{"speaker": "Ann", "text": f"Hi {k}."}, {"speaker": "Ben", "text": "Oh."}] for k in "ab"
    }
    (error,) = read(tmp_path / "x.json", turns)[1]
    assert "(a, b); if each is a conversation, write each" in error
    assert "--columns" not in error


@pytest.mark.parametrize(
    ("line", "place", "read_as_a_turn"),
    [("Cy: Good!", 2, True), ("Cy: Good!", 0, False), ("Topic 1: Good!", 2, False),
     ("Break: phone rings", 2, False)],
)  # fmt: skip
def test_who_speaks_once(tmp_path, line, place, read_as_a_turn):
    lines = ["Ann: Hi", "Ben: Oh", "Ann: Yes", "Ben: So"]
    lines.insert(place, line)
    found, errors, repaired = read(tmp_path / "x.txt", "\n".join(lines))
    assert bool(found) == read_as_a_turn != bool(errors)
    assert any(note.startswith("speaks only once") for note in repaired)
    assert (found and found[0][2][:2] == ("Cy", "Good!")) or "is there once" in errors[0]


def test_identifiers_of_cues_that_are_names_are_refused(tmp_path):
    cues = "".join(
        f"{name}\n00:0{k}.000 --> 00:0{k}.900\nHi {k}\n\n"
        for k, name in enumerate(("Ann", "Ben", "Ann"))
    )
    assert "identifiers" in read(tmp_path / "x.vtt", f"WEBVTT\n\n{cues}")[1][0]


@pytest.mark.parametrize("suffix", ["srt", "vtt"])
def test_captions_that_roll_up(tmp_path, suffix):
    path, vtt = tmp_path / f"talk.{suffix}", suffix == "vtt"
    (turns,), _, _ = read(path, cues(*ROLLING, vtt=vtt))
    assert turns == [("unknown", "A", 0, 3), ("unknown", "B", 3.01, 6), ("unknown", "C", 6.01, 9)]
    live = [(0, 1, "A"), (1, 2, "A\nB"), (2, 3, "A\nB\nC"), (3, 4, "B\nC\nD"), (4, 5, "C\nD\nD")]
    assert [turn[1] for turn in read(path, cues(*live, vtt=vtt))[0][0]] == ["A", "B", "C", "D", "D"]
    # Speakers who say the same do not roll.
    same = [(0, 1, "- No."), (1, 2, "- No.\n- Yes."), (2, 3, "- Yes."), (3, 4, "- Why?")]
    texts = [turn[1] for turn in read(path, cues(*same, vtt=vtt))[0][0]]
    assert texts == ["No.", "No.", "Yes.", "Yes.", "Why?"]
    assert len(read(path, cues((0, 1, "No."), (1, 2, "No."), (2, 3, "No."), vtt=vtt))[0][0]) == 3


def test_other_subtitles(tmp_path):
    ass = (
        "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname\nStyle: Default,Arial\n\n"
        "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Dialogue: 0,0:00:03.00,0:00:04.00,Default,Ben,0,0,0,,{\\i1}No.{\\i0}\n"
        "Dialogue: 1,0:00:03.00,0:00:04.00,Default,Ben,0,0,0,,No.\n"
        "Comment: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,by us\n"
        "Dialogue: 0,0:00:01.00,0:00:02.50,Default,Ann,0,0,0,,Did you,\\Nget it?\n"
    )
    ttml = (
        '<?xml version="1.0"?><tt xmlns="http://www.w3.org/ns/ttml"><body><div>'
        '<p begin="00:00:01.000" end="00:00:02.500">Did you,<br/>get it?</p>'
        '<p begin="3s" end="4s">No.</p></div></body></tt>'
    )
    sbv = "0:00:01.000,0:00:02.500\nDid you,\nget it?\n\n0:00:03.000,0:00:04.000\nNo.\n"
    times = [("Did you, get it?", 1, 2.5), ("No.", 3, 4)]
    for name, text, speakers in (
        ("x.ass", ass, "Ann Ben"), ("x", ass, "Ann Ben"), ("x.ttml", ttml, "unknown unknown"),
        ("x.xml", ttml, "unknown unknown"), ("x.sbv", sbv, "unknown unknown"),
    ):  # fmt: skip
        (turns,), errors, _ = read(tmp_path / name, text)
        assert not errors
        assert turns == [(who, *turn) for who, turn in zip(speakers.split(), times, strict=True)]
    webex = 'WEBVTT\n\n1 "Ann" (123)\n00:01.000 --> 00:02.000\nHi\n\n2 "Ben" (9)\n00:03.000 --> 00:04.000\nOh\n'
    assert read(tmp_path / "x.vtt", webex)[0] == [[("Ann", "Hi", 1, 2), ("Ben", "Oh", 3, 4)]]
    odd = cues((5, 6, "later"), (1, 2, "I ran from 00:01:02.5 to 00:03:04.5 today."))
    texts = [turn[1] for turn in read(tmp_path / "x.srt", odd)[0][0]]
    assert texts == ["I ran from 00:01:02.5 to 00:03:04.5 today.", "later"]
    zoom = cues((1, 2, "Ann Lee: Hi"), (2, 3, "Ben: Listen: oh"), vtt=True)
    assert [turn[:2] for turn in read(tmp_path / "x.vtt", zoom)[0][0]] == [
        ("Ann Lee", "Hi"),
        ("Ben", "Listen: oh"),
    ]
    sounds = cues((0, 1, "[music]"), (1, 2, "Hi\n♪ la la ♪"), (2, 3, "- [door slams]\n- Oh"))
    (turns,), _, counted = read(tmp_path / "x.srt", sounds)
    assert [turn[1] for turn in turns] == ["Hi", "Oh"]
    assert [count for kind, count in counted.items() if "nobody said them" in kind] == [3]
    _, (error,), _ = read(tmp_path / "x.ttml", "<tt")
    assert "its subtitles cannot be read" in error
    (turns,), _, _ = read(tmp_path / "x.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nThey are\n42\n")
    assert turns == [("unknown", "They are 42", 1, 2)]
    (turns,), _, _ = read(tmp_path / "x.srt", "1\n00:00:01,000 --> 00:00:02,000\nThey are\n42\n")
    assert turns == [("unknown", "They are 42", 1, 2)]


HI = [("Ann", "Hi"), ("Ben", "Oh")]
TIMED = [("Ann", "Hi", 1, 4), ("Ben", "Oh", 4, 6), ("Ann", "Yes", 6, None)]
TEXTS = {
    "WhatsApp, 12 hours": ("8/8/23, 1:25\u202fPM - Ann: Hi\n8/8/23, 1:26\u202fPM - Ben: Oh\n", HI),
    "WhatsApp, Spanish": (
        "8/8/19, 1:25 p.\u00a0m. - Ana: Hola\n8/8/19, 1:26 p.\u00a0m. - Ben: <Multimedia omitido>\n",
        [("Ana", "Hola")],
    ),
    "WhatsApp, German": (
        "08.08.19, 13:24 - Nachrichten sind Ende-zu-Ende-verschlüsselt.\n08.08.19, 13:25 - Ann: Hi\n"
        "08.08.19, 13:26 - Ben: Oh\n08.08.19, 13:27 - Ben: <Medien ausgeschlossen>\n", HI,
    ),
    "WhatsApp, Swedish": ("2019-08-08 13:25 - Ann: Hi\n2019-08-08 13:26 - Ben: Oh\n", HI),
    "WhatsApp, Chinese": ("2019/8/8 下午1:25 - Ann: Hi\n2019/8/8 下午1:26 - Ben: Oh\n", HI),
    "WhatsApp, Arabic": ("٨/٨/٢٠١٩, ١:٢٥ م - Ann: Hi\n٨/٨/٢٠١٩, ١:٢٦ م - Ben: Oh\n", HI),
    "WhatsApp on iOS": (
        "[14/10/2021, 15:36:01] Group: \u200eMessages and calls are end-to-end encrypted.\n"
        "[14/10/2021, 15:36:05] Ann: Hi\n\u200e[14/10/2021, 15:36:10] Ben: \u200eimage omitted\n"
        "[14/10/2021, 15:36:11] Ben: Oh \u200e<This message was edited>\n", HI,
    ),
    "WhatsApp, notices": (
        "8/8/19, 13:20 - Messages and calls are end-to-end encrypted. Tap to learn more.\n"
        '8/8/19, 13:21 - Cy created group "Trip: 2020"\n8/8/19, 13:25 - Ann: Hi\n'
        "8/8/19, 13:25 - Ben: <Media omitted>\n8/8/19, 13:25 - Ben: IMG-1.jpg (file attached)\n"
        "8/8/19, 13:25 - Ben: This message was deleted\n8/8/19, 13:25 - Cy left\n8/8/19, 13:26 - Ben: Oh\n", HI,
    ),
    "WhatsApp, numbers and emoji": (
        "8/8/19 1:25 PM - +12 345 67 89 00: Oh dear\n8/8/19 1:26 PM - 🌸Ann🌸: Hi\n",
        [("+12 345 67 89 00", "Oh dear"), ("🌸Ann🌸", "Hi")],
    ),
    "WhatsApp, media alone": (
        "8/8/19, 13:25 - Ann: <Media omitted>\n8/8/19, 13:26 - Ann: <Media omitted>\n", "nobody says anything",
    ),
    "WhatsApp, brackets": (
        "8/8/19, 13:25 - Ann: I left at 5.30 (late)\n8/8/19, 13:26 - Ben: my cv.pdf (Datei angehängt)\n"
        "8/8/19, 13:27 - Ben: Oh \u200e<Diese Nachricht wurde bearbeitet.>\n",
        [("Ann", "I left at 5.30 (late)"), ("Ben", "Oh")],
    ),
    "WhatsApp, names and files within words": (
        "8/8/19, 13:25 - Ann: I send contract.pdf (tomorrow)\n8/8/19, 13:26 - Ben: <sigh>\n"
        "8/8/19, 13:26 - Ben added Cy: Dee\n8/8/19, 13:26 - Ann changed the group name to Foo: Bar\n"
        "8/8/19, 13:27 - Info: Oh <Media omitted>\n",
        [("Ann", "I send contract.pdf (tomorrow)"), ("Ben", "<sigh>"), ("Info", "Oh")],
    ),
    "WhatsApp, German, with Uhr": ("08.08.2019, 13:25 Uhr - Ann: Hi\n08.08.2019, 13:26 Uhr - Ben: Oh\n", HI),
    "WhatsApp, French": (
        "08/08/2023 à 13:25 - Ann : Hi\n08/08/2023 à 13:26 - Ben : <Médias omis>\n08/08/2023 à 13:27 - Ben : Oh\n", HI,
    ),
    "WhatsApp, Finnish": ("8.8.2023 klo 13.25 - Ann: Hi\n8.8.2023 klo 13.26 - Ben: Oh\n", HI),
    "WhatsApp, Korean": ("2023. 8. 8. 오후 1:25, Ann: Hi\n2023. 8. 8. 오후 1:26, Ben: Oh\n", HI),
    "WhatsApp on iOS, several lines": (
        "[8/8/23, 1:25:01 PM] Ann: Milk: 2\nBen: 1\n[8/8/23, 1:26:01 PM] Cy left\n[8/8/23, 1:27:01 PM] Ben: Oh\n",
        [("Ann", "Milk: 2 Ben: 1"), ("Ben", "Oh")],
    ),
    "KakaoTalk": ("--- 2023년 8월 8일 ---\n[Ann] [오후 1:25] Hi\n[Ben] [오후 1:26] Oh\n", HI),
    "iMessage": (
        "Aug 08, 2023  1:25:01 PM (Read by you after 3 seconds)\nAnn\nHi\n\nAug 08, 2023  1:26:01 PM\nBen\nOh\n", HI,
    ),
    "faster-whisper": (
        "[0.00s -> 2.50s] Hi: you\n[2.50s -> 4.00s] Oh\n", [("unknown", "Hi: you", 0, 2.5), ("unknown", "Oh", 2.5, 4)],
    ),
    "Teams, newer": ("Ann Smith\n0 minutes 3 seconds\nHi\nBen\n1 minute 9 seconds\nOh\n", [("Ann Smith", "Hi"), ("Ben", "Oh")]),
    "Fathom": (
        "Call - August 08\n\n0:00 - Ann Smith (Acme)\n  Hi\n\n0:05 - Ben\n  ASK: Oh\n",
        [("Ann Smith (Acme)", "Hi", 0, 5), ("Ben", "ASK: Oh", 5, None)],
    ),
    "Discord, a whole export": (
        "=====\nGuild: g\n=====\n\n[08-Aug-23 10:00 AM] ann#1\nHi\n\n{Reactions}\n👍 (2)\n\n[08-Aug-23 10:01 AM] ben (pinned)\n"
        "Oh\n\n[08-Aug-23 10:02 AM] ben\nNo\n\n=====\nExported 3 message(s)\n=====\n", [("ann#1", "Hi"), ("ben", "Oh"), ("ben", "No")],
    ),
    "WeChat": ("安娜 2023-08-08 13:25:01\nHi\n\nBen 2023-08-08 13:26:01\nOh\n", [("安娜", "Hi"), ("Ben", "Oh")]),
    "Whisper": (
        "Detected language: English\n[00:00.000 --> 00:02.000]  Hi\n[00:02.000 --> 00:03.500]  We: oh\n[00:03.500 --> 00:04.000]  Yes\n",
        [("unknown", "Hi", 0, 2), ("unknown", "We: oh", 2, 3.5), ("unknown", "Yes", 3.5, 4)],
    ),
    "Whisper, laughs": (
        "[0:01] Hi\n[0:02] <laughs> oh\n[0:03] no\n[0:04] why\n[0:05] so\n",
        [("unknown", text, k, k + 1 if k < 5 else None) for k, text in enumerate(("Hi", "<laughs> oh", "no", "why", "so"), 1)],
    ),
    "WhatsApp, more notices": (
        '8/8/19, 13:21 - Cy created group "Trip: 2020"\n8/8/19, 13:25 - Ann: Hi\n8/8/19, 13:25 - Cy left\n'
        "8/8/19, 13:25 - Dee left\n8/8/19, 13:26 - Ben: Oh\n", HI,
    ),
    "times beside words": ("0:05 Hi\n0:07 Oh\n", [("unknown", "Hi", 5, 7), ("unknown", "Oh", 7, None)]),
    "sounds between times": (
        "0:00\n[Music]\n0:05\nhi\n0:09\n(APPLAUSE)\n", [("unknown", "hi", 5, 9)],
    ),
    "what may be two forms": ("0:00\nAnn: Hi\nBen: Oh\n0:05\nand we left\n", "may be 'time /' or 'Name: words'"),
    "Zoom, names above": (
        "10:03:25\t Ann to Everyone:\n\tHi\n10:03:29\t Ben to Everyone:\n\tOh\n", HI,
    ),
    "names, a bar and times above": ("Ann | 00:03\nHi\nBen | 00:05\nOh\n", [("Ann", "Hi", 3, 5), ("Ben", "Oh", 5, None)]),
    "a screenplay of two who speak once": (
        "MARIA\nHi there.\n\nJOHN\nOh!\n", [("MARIA", "Hi there."), ("JOHN", "Oh!")],
    ),
    "headings of a curriculum": (
        "EDUCATION\nLeeds University\n\nEXPERIENCE\nTen years\n", "only 0 of 4 lines"
    ),
    "a short recipe": ("Ingredients: flour, eggs\nMethod: bake\n", "only 0 of 2 lines"),
    "WhatsApp, several lines": (
        "8/8/19, 13:25 - Ann: Shopping:\nNote: call Ben\nBen: milk\n8/8/19, 13:26 - Ben: Oh\n",
        [("Ann", "Shopping: Note: call Ben Ben: milk"), ("Ben", "Oh")],
    ),
    "Signal": ("[2023-01-05 12:34] Ann: Hi\n[2023-01-05 12:35] Ben: Oh\n", HI),
    "Otter": (
        f"Ann Smith  0:00  \n{ASKED}\n\nBen  0:05  \nOh,\nno.\n\nAnn Smith  0:06  \nHi\n\nBen  0:07  \nYes\n\n"
        "Transcribed by https://otter.ai\n",
        [("Ann Smith", ASKED, 0, 5), ("Ben", "Oh, no.", 5, 6), ("Ann Smith", "Hi", 6, 7), ("Ben", "Yes", 7, None)],
    ),
    "Teams": (
        f"Weekly sync\nAnn Smith   0:03\n{ASKED}\n\nBen Lee   0:05\nNo.\nBen Lee left the meeting\n",
        [("Ann Smith", ASKED, 3, 5), ("Ben Lee", NO, 5, None)],
    ),
    "Teams, chat": (
        "[1/2/2024 10:00 AM] Ann Smith\nHi\n[1/2/2024 10:01 AM] Ben\nOh\n", [("Ann Smith", "Hi"), ("Ben", "Oh")],
    ),
    "Zoom, captions": (
        "[Ann Smith] 10:03:25\nHi\n\n[Ben] 10:03:29\nOh\n",
        [("Ann Smith", "Hi", 36205, 36209), ("Ben", "Oh", 36209, None)],
    ),
    "Zoom, chat": ("10:03:25 From Ann to Everyone : Hi\n10:03:29 From Ben to Ann(Direct Message): Oh\n", HI),
    "Zoom, newer chat": ("10:03:25 From Ann to Everyone:\n\tHi\n10:03:29\t From  Ben to  Everyone:\n\tOh\n", HI),
    "Trint": (
        "00:02 - Ann Smith\nHi there.\n\n00:04 - Ben\nOh\n",
        [("Ann Smith", "Hi there.", 2, 4), ("Ben", "Oh", 4, None)],
    ),
    "Rev": (
        "Ann (00:02):\nHi\n\nBen (00:04):\nOh\n", [("Ann", "Hi", 2, 4), ("Ben", "Oh", 4, None)],
    ),
    "YouTube": ("0:00\nhi there\n0:05\noh no\n", [("unknown", "hi there", 0, 5), ("unknown", "oh no", 5, None)]),
    "Otter, colons": (
        "Ann  0:00\nHere it is: two.\nBen said: no\n\nBen  0:05\nOh\n",
        [("Ann", "Here it is: two. Ben said: no", 0, 5), ("Ben", "Oh", 5, None)],
    ),
    "Teams, guests": (
        "Smith, Ann   0:03\nHi\n\nBen Lee (Guest)   0:05\nOh\n",
        [("Smith, Ann", "Hi", 3, 5), ("Ben Lee (Guest)", "Oh", 5, None)],
    ),
    "Zoom, oldest chat": (
        "10:03:25\t From Ann : Hi\n10:03:29\t From Ben : Oh\n", HI,
    ),
    "WeeChat": (
        "2020-01-01 10:00:00\tann\tHi\n2020-01-01 10:01:00\t-->\tcy has joined\n2020-01-01 10:02:00\tben\tOh\n",
        [("ann", "Hi"), ("ben", "Oh")],
    ),
    "Discord, as text": (
        "=====\nGuild: g\nChannel: c\n=====\n\n[01/01/2023 10:00] ann\nHi\n\n[01/01/2023 10:01] ben\nOh\n",
        [("ann", "Hi"), ("ben", "Oh")],
    ),
    "an interview with a time every minute": (
        "[00:00:00]\nAnn: Hi\nBen: Oh\n[00:01:00]\nAnn: Yes\n", [*HI, ("Ann", "Yes")],
    ),
    "YouTube, colons": (
        "0:00\nhi there\n0:05\nshe said: no\n",
        [("unknown", "hi there", 0, 5), ("unknown", "she said: no", 5, None)],
    ),
    "DailyDialog": ("Hi . __eou__ Oh . __eou__\n", [("unknown", "Hi ."), ("unknown", "Oh .")]),
    "Happy Scribe": (
        "00:01\nAnn\nHi there.\n\n00:04\nBen\nOh\n\n00:06\nAnn\nYes\n",
        [("Ann", "Hi there.", 1, 4), ("Ben", "Oh", 4, 6), ("Ann", "Yes", 6, None)],
    ),
    "Otter, a number": (
        "Ann  0:01\nHi\n\n+49 151 234  0:04\nOh\n\n?  0:05\nYes\n", [("Ann", "Hi", 1, 4), ("+49 151 234", "Oh", 4, 5), ("?", "Yes", 5, None)],
    ),
    "a bullet before times": ("Ann • 0:01\nHi\nBen • 0:04\nOh\nAnn • 0:06\nYes\n", TIMED),
    "Meet, a time above": (
        "Standup - Transcript\n\n00:00:00\n\nAnn: Hi\n\nBen: Oh\n\nAnn: Yes\n\nTranscription ended after 00:07:01\n",
        [*HI, ("Ann", "Yes")],
    ),
    "a list": ("* Ann: Hi\n* Ben: Oh\n", HI),
    "a log": ("2024-01-01 10:00:01 INFO server: up\n2024-01-01 10:00:02 ERROR db: down\n", "only 0 of"),
    "YAML": ("name: Ann\nage: 4\n", "only 0 of 2 lines"),
    "headlines": ("BREAKING NEWS\nIt exploded.\n\nWEATHER\nRain.\n", "only 0 of 4 lines"),
    "names, times, words": (
        "Ann Smith\n0:00\nHi\nBen\n0:05\nOh\n", [("Ann Smith", "Hi", 0, 5), ("Ben", "Oh", 5, None)],
    ),
    "Meet": (
        "Weekly sync (2024-05-03 10:00 GMT+2) - Transcript\nAttendees\nAnn, Ben\nTranscript\nAnn: Hi\n"
        "00:05:00\nBen: Oh\nMeeting ended after 00:20:13 👋\nThis editable transcript was computer "
        "generated and might contain errors.\n", HI,
    ),
    "a screenplay": (
        "INT. KITCHEN - DAY\n\nThe kettle whistles.\n\nMARIA\n(sighs)\nI lost it.\n\nShe sits down.\n\n"
        "BEN (V.O.)\nOh no.\n\nCUT TO:\n\nMARIA\nYes.\n",
        [("MARIA", "I lost it."), ("BEN", "Oh no."), ("MARIA", "Yes.")],
    ),
    "names in capitals": (
        "MARIA\nI lost it.\nBEN\nOh no.\nMARIA\nYes.\n", [("MARIA", "I lost it."), ("BEN", "Oh no."), ("MARIA", "Yes.")],
    ),
    "Speaker 1": ("Speaker 1\nHi\n\nSpeaker 2\nOh\n\nSpeaker 1\nYes\n", [("Speaker 1", "Hi"), ("Speaker 2", "Oh"), ("Speaker 1", "Yes")]),
    "Telegram": ("Ann, [05.01.2024 10:01]\nHi\n\nBen, [05.01.2024 10:02]\n[Photo]\nOh\n", HI),
    "Discord, copied": ("ann — Today at 10:01 AM\nHi\nben — 01/05/2024 10:02 AM\nOh\n", [("ann", "Hi"), ("ben", "Oh")]),
    "a numbered list": ("1. Ann: Hi\n2. Ben: Oh\n", HI),
    "a film": (
        "Ann: (entering) Hi.\n(They stare, bemused.)\n\nBen: Oh\n[Scene: a bar.]\n\nAnn: Yes (0:05)\n",
        [("Ann", "(entering) Hi."), ("Ben", "Oh"), ("Ann", "Yes")],
    ),
    "WhatsApp, captions": (
        "8/8/19, 13:25 - Ann: IMG-1.jpg (file attached)\nHi\n8/8/19, 13:26 - Ben: Oh\n(no)\n10:30\n8/8/19, 13:27 - Ben: live location shared\n",
        [("Ann", "Hi"), ("Ben", "Oh (no) 10:30")],
    ),
    "Markdown": ("**Ann:** Hi\n**Ben**: Oh\n", HI),
    "IRC": ("[10:00] <@ann> hi\n[10:00] * cy has joined\n[10:01] <ben> note: oh\n--- Log closed Mon May 01 2023\n", [("ann", "hi"), ("ben", "note: oh")]),
    "LINE": ("2020/01/01(Wed)\n10:00\tAnn\tHi\n10:01\tBen\tOh\n10:02\tBen\t[スタンプ]\n", HI),
    "time marks": ("Ann: Hi\n00:05:00\nBen: Oh\n", HI),
    "four who speak once, with times": (
        "[0:01] A: a\n[0:02] B: b\n[0:03] C: c\n[0:04] D: d\n",
        [("A", "a", 1, 2), ("B", "b", 2, 3), ("C", "c", 3, 4), ("D", "d", 4, None)],
    ),
    "a recipe": ("Ingredients: flour\nMethod: bake\nServes: 4\nRating: good\n", "only 1 of 4 lines"),
    "a title": ("Interview of May 3\nDate: May 3\n\nAnn: Hi\nBen: Oh\n", HI),
    "an e-mail": ("From: Ann\nTo: Ben\nSubject: it\nDate: May 3\n\nI lost it.\n", "only 0 of 5 lines"),
    "HTML": ("<!DOCTYPE html>\n<style>\na: b;\nc: d;\n</style>", "is HTML or XML; export it as JSON"),
    "prose": ("It was late.\nShe said: no\nThen they left.\nAll was well.\nAll.\n", "only 1 of 5"),
    "IEMOCAP": ("Ses01F_F000 [006.2901-008.2357]: Excuse me.\n", "only 0 of 1 lines"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("media", "deleted", "edited"),
    [("<Media weggelaten>", "Dit bericht is verwijderd", "<Dit bericht is bewerkt>"),
     ("<Без медиафайлов>", "Данное сообщение удалено", "<Сообщение изменено>"),
     ("<Medya dahil edilmedi>", "Bu mesaj silindi", "<Bu mesaj düzenlendi>"),
     ("<Mídia oculta>", "Essa mensagem foi apagada", "<Mensagem editada>"),
     ("<pominięto multimedia>", "Wiadomość usunięta", "<Wiadomość edytowana>"),
     ("<Media tidak disertakan>", "Pesan ini dihapus", "<Pesan ini diedit>"),
     ("<Medien ausgeschlossen>", "Verpasster Sprachanruf", "<Diese Nachricht wurde bearbeitet.>"),
     ("<Médias omis>", "Ce message a été supprimé", "<Ce message a été modifié>"),
     ("<Media omessi>", "Questo messaggio è stato eliminato.", "<Questo messaggio è stato modificato>")],
)  # fmt: skip
def test_notices_of_whatsapp(tmp_path, media, deleted, edited):
    texts = ["Ann: Hi", f"Ben: {media}", f"Ann: {deleted}", f"Ben: Oh {edited}"]
    lines = "".join(f"05.01.2024, 10:0{k} - {text}\n" for k, text in enumerate(texts))
    assert read(tmp_path / "x.txt", lines)[0] == [HI]


TALK = "Kim: I lost it.\nBob: Oh no.\n" * 3


@pytest.mark.parametrize(
    "line",
    ["Lee, Ann: Hi", "+49 151 2345678: Hi", "12: Hi", "Kim:Hi", "kim: hi", "Bob?: Hi", "Kim (laughs, then sighs): Hi",
     "@bo: hi", "MEMO: she looks away", "Topic 2: Childhood", "2. Childhood", "Note: Bob was late.", "Then: we left",
     "Transcribed by: KL", "Interruption: phone rings", "Berlin 10:30", "END OF INTERVIEW", "I have always said that.",
     "fine today.", "\nWe left the room at once."],
)  # fmt: skip
def test_a_doubtful_line_is_refused_by_its_number(tmp_path, line):
    for text in (f"{TALK}{line}\n{TALK}", f"{TALK}{line}\n", f"{line}\n{TALK}"):
        before = text.index(line)
        number = text.count("\n", 0, before) + 1 + line.startswith("\n")
        found, errors, _ = read(tmp_path / "x.txt", text)
        label = line.lower().startswith(("berlin", "end", "i ", "fine", "2.", "\nwe"))
        if before or not label:  # else it is a title
            assert not found
            assert f"x.txt:{number}: " in errors[0] or f"(line {number})" in errors[0]
        else:
            assert [turn[0] for turn in found[0]] == ["Kim", "Bob"] * 3
    bracketed = f"{TALK}[{line.partition(':')[0].strip()}]: Hi\n{TALK}"
    assert len(read(tmp_path / "x.txt", bracketed)[0][0]) == 13


def test_lines_that_are_wrapped_go_on(tmp_path):
    text = "BEN: I think that the answer to all of these\nthis is\nclear: it is no.\nANN: Oh\nBEN: Yes\n"
    (error,) = read(tmp_path / "x.txt", text)[1]
    assert "x.txt:3: 'clear: it is no.'" in error
    text = text.replace("this is\n", "this, after a long while, is entirely\n")
    assert read(tmp_path / "x.txt", text)[0][0][0][1] == (
        "I think that the answer to all of these this, after a long while, is entirely clear: it is no."
    )


@pytest.mark.parametrize(
    "text",
    ["Ann: Hi\nWe left\nBen: Oh\n", "Ann: Hi\nBen: Oh\nAnn: I lost it. Ben: Why?\n", "Ann: Hi\nI left.\nAnn: Oh\n",
     "Mon: call Ann\nTue: buy milk\nWed: rest\nMon: call Ben\nTue: sleep\n", "Apples: 3 EUR\nPears: 4 EUR\nApples: 2 EUR\n",
     "feat: add it\nfix: order\nfix: crash\ndocs: say how\nfeat: add\n", "name: build\non: push\njobs:\n  test:\n    steps: a\n",
     "Age: 30\nGender: f\nAnswer: yes\nAge: 40\nGender: m\nAnswer: no\n",
     "09:00 Registration\n09:30 Opening: Prof. Smith\n10:00 Coffee break\n10:30 Talk: It\n12:00 Lunch\n",
     "[09:00] Start: work on it\n[10:00] Break: coffee\n[10:15] Start: work\n[12:00] Break: lunch\n",
     "Name: Ann\nAge: 41\nCity: Ulm\nJob: cook\nPet: cat\nCar: none\n", "Added: reader\nFixed: crash\nAdded: tests\nFixed: docs\n",
     "Patient: Ann, 34\nIllness: a flu\nPlan: some rest\nPatient: Ben, 40\nIllness: a cold\nPlan: some tea\n",
     "[10:00:01] INFO: it starts\n[10:00:02] INFO: it listens\n[10:00:05] WARN: it is slow\n",
     "INTRODUCTION\nThis is it.\nMETHODS\nWe did it.\nRESULTS\nIt works.\nMETHODS\nAgain.\n",
     "10:05 Berlin\n10:35 Hannover\n11:20 Ulm\n11:50 Augsburg\n", "It was late.\nHe looked up: nothing.\n",
     "Interviewer: Ben Jones\nDate: 8 August\n\nBJ: How?\nAS: Cold.\nBJ: And?\nAS: Oh.\n",
     "0:01 | Ann | Hi\n0:04 | Ben | Oh\n0:06 | Ann | Yes\n", "[0:01] [Ann] Hi\n[0:04] [Ben] Oh\n[0:06] [Ann] Yes\n",
     "0:01 Ann - Hi\n0:04 Ben - Oh\n0:06 Ann - Yes\n", "Ann:\t0:01\tHi\nBen:\t0:04\tOh\nAnn:\t0:06\tYes\n",
     "Ann @ 0:01: Hi\nBen @ 0:04: Oh\nAnn @ 0:06: Yes\n", "[0:01] Ann Hi\n[0:04] Ben Oh\n[0:06] Ann Yes\n",
     "[0:01] Kim: Hi\n[0:02] Lee, Ann: Oh\n[0:03] Kim: Yes\n[0:04] Lee, Ann: So\n",
     "[0:01] Ann: Hi\n[0:02] Oh\n[0:03] Ann: Yes\n[0:04] So\n", "[0:01] Ann: Hi\n10:30\nso\n[0:03] Ben: Oh\n[0:04] Ann: Yes\n",
     "Ann  0:00\nHi\n10:30\n\nBen  0:05\n", "Ann  0:01\nHi\n\nBen  0:04\nOh\n\nAnn\nYes\n\nAnn  0:06\nSo\n",
     "Ann  0:01\nHi\n\nBen  0:04\nOh\n\nAnn  0:05\nYes\n\nBen  0:06\nSo\n\nNotes\n\nBen calls.\n",
     "0:05 So Ann said\nthat she lost it.\n0:09 And Ben\nwas sad.\n",
     "[1/5/2024 10:00 AM] Ann: Hi\n[1/5/2024 10:01 AM | Edited 10:02 AM] Ben: Oh\n[1/5/2024 10:03 AM] Ann: Yes\n"],
)  # fmt: skip
def test_texts_in_doubt_are_refused(tmp_path, text):
    found, (error,), _ = read(tmp_path / "x.txt", text)
    assert not found
    assert "\n" not in error


@pytest.mark.parametrize("name", TEXTS)
def test_plain_text(tmp_path, name):
    text, expected = TEXTS[name]
    conversations, errors, _ = read(tmp_path / "chat.txt", text)
    if isinstance(expected, str):
        assert not conversations
        assert expected in errors[0]
    else:
        assert not errors
        assert conversations == [expected]


def test_every_form_is_that_of_an_example(tmp_path, monkeypatch):
    def readings():
        return [read(tmp_path / "chat.txt", text)[:2] for text, _ in TEXTS.values()]

    everything = readings()
    forms = chats._FORMS
    for name in forms:
        monkeypatch.setattr(chats, "_FORMS", {key: forms[key] for key in forms if key != name})
        assert readings() != everything, name


def test_what_nobody_said_is_counted(tmp_path):
    text = TEXTS["WhatsApp, notices"][0]
    _, _, counted = read(tmp_path / "x.txt", text)
    assert [count for kind, count in counted.items() if "nobody said them" in kind] == [6]


def test_a_folder_of_whisper_is_one_transcript(tmp_path):
    (tmp_path / "out").mkdir()
    segment = {"start": 0.0, "end": 2.5, "text": f" {ASKED}"}
    for suffix, content in {
        "json": json.dumps({"text": ASKED, "segments": [segment]}), "srt": cues((0, 2.5, ASKED)),
        "tsv": f"start\tend\ttext\n0\t2500\t{ASKED}\n", "txt": f"{ASKED}\n",
        "vtt": cues((0, 2.5, ASKED), vtt=True), "docx": "PK", "wav": "RIFF",
    }.items():  # fmt: skip
        (tmp_path / f"out/talk.{suffix}").write_text(content)
    (tmp_path / "out/talk.de.srt").write_text(cues((0, 2.5, "Hast du ihn?")))
    conversations, errors, counted = read(tmp_path / "out")
    assert not errors
    assert [turns[0][1] for turns in conversations] == ["Hast du ihn?", ASKED]
    assert counted["other forms of transcripts that are read (left out)"] == 4
    assert counted["files of other types, .docx (not read)"] == 1
    for pattern, count in (
        ("out/*.vtt", 1),
        ("o*/talk.*srt", 2),
        ("**/*.tsv", 1),
        ("out/talk.[jstv]*", 1),
    ):
        found, errors, _ = read(tmp_path / pattern)
        assert (len(found), errors) == (count, [])
    with pytest.raises(InputError, match=r"out/\*\.ass: no such file"):
        read(tmp_path / "out/*.ass")


def test_an_export_of_slack(tmp_path):
    (tmp_path / "general").mkdir()
    for name in ("users", "channels", "integration_logs"):
        (tmp_path / f"{name}.json").write_text('[{"id": "U1", "name": "ann"}]')
    (tmp_path / "general/2020-01-01.json").write_text(json.dumps(JSON["Slack"][0]))
    conversations, errors, _ = read(tmp_path)
    assert not errors
    assert conversations == [JSON["Slack"][1]]


def test_files_of_benchmarks(tmp_path):
    ecf = "1 2\n(2,1)\n1 | Ann | surprise | The kettle exploded! | a: 0:00:01.0 - 0:00:02.0\n2 | Ben | joy | Ha | a: 0:00:02.5 - 0:00:03.0\n"
    turn = {"turn": 1, "speaker": "A", "utterance": "Hi", "emotion": "happiness"}
    mec4 = [{"dia_id": "7", "dia_len": 2, "text": "1.甲：你好 2.乙：很好", "pairs": "(2,1)"}]
    for name, content, expected in (
        ("train.txt", ecf, [("Ann", "The kettle exploded!", 1, 2), ("Ben", "Ha", 2.5, 3)]),
        ("reccon.json", {"tr_1": [[turn]]}, [("A", "Hi")]),
        ("mec4.json", mec4, [("甲", "你好"), ("乙", "很好")]),
    ):
        conversations, errors, _ = read(tmp_path / name, content)
        assert not errors
        assert conversations == [expected]
    (item,) = [item for _, item in conversations_in(tmp_path / "train.txt", Counter())]
    assert item["pairs"] == [[2, 1]]
    _, (error,), _ = read(tmp_path / "bad.json", {"tr_1": [[turn | {"turn": 5}]]})
    assert "its turn is 5" in error


CHAT = (
    "@UTF8\n@Begin\n@Languages:\teng\n@Participants:\tCHI Eve Target_Child, MOT Mother\n"
    "@ID:\teng|x|CHI|1;06.||||Target_Child|||\n@ID:\teng|x|MOT|||||Mother|||\n"
    "*CHI:\tmore cookie . \x150_2500\x15\n%com:\tlaughs\n*MOT:\tyou [/] you &-um want <a> [//] more ? \x152500_4000\x15\n"
    "*MOT:\t0 .\n@End\n"
)
EAF = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" DATE="2020-01-01T00:00:00+00:00" '
    'FORMAT="3.0" VERSION="3.0"><HEADER TIME_UNITS="milliseconds"/><TIME_ORDER>'
    '<TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="t2" TIME_VALUE="2500"/>'
    '<TIME_SLOT TIME_SLOT_ID="t3" TIME_VALUE="4000"/></TIME_ORDER>'
    '<TIER LINGUISTIC_TYPE_REF="d" TIER_ID="B"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="t2" '
    'TIME_SLOT_REF2="t3"><ANNOTATION_VALUE>No.</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>'
    '<TIER LINGUISTIC_TYPE_REF="d" PARTICIPANT="Ann" TIER_ID="A"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" '
    'TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2"><ANNOTATION_VALUE>Oh my?</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>'
    '<TIER LINGUISTIC_TYPE_REF="s" PARENT_REF="B" TIER_ID="C"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" '
    'ANNOTATION_REF="a2"><ANNOTATION_VALUE>Nein.</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER>'
    '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="d" TIME_ALIGNABLE="true"/><LINGUISTIC_TYPE CONSTRAINTS="Symbolic_Association" '
    'LINGUISTIC_TYPE_ID="s" TIME_ALIGNABLE="false"/></ANNOTATION_DOCUMENT>\n'
)


def textgrid(**tiers):
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 9", "tiers? <exists>",
             f"size = {len(tiers)}", "item []:"]  # fmt: skip
    for k, (name, intervals) in enumerate(tiers.items(), 1):
        lines += [f"    item [{k}]:", '        class = "IntervalTier"', f'        name = "{name}"',
                  "        xmin = 0", "        xmax = 9", f"        intervals: size = {len(intervals)}"]  # fmt: skip
        for j, (start, end, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{j}]:", f"            xmin = {start}", f"            xmax = {end}",
                      f'            text = "{text}"']  # fmt: skip
    return "\n".join(lines) + "\n"


def test_annotations_of_linguists(tmp_path):
    pytest.importorskip("rustling")
    words = [(k, k + 1, "word") for k in range(9)]
    for name, text, expected in (
        ("x.cha", CHAT, [("Eve", "more cookie .", 0, 2.5), ("MOT", "you want more ?", 2.5, 4)]),
        ("x.txt", CHAT, [("Eve", "more cookie .", 0, 2.5), ("MOT", "you want more ?", 2.5, 4)]),
        ("x.eaf", EAF, [("Ann", "Oh my?", 0, 2.5), ("B", "No.", 2.5, 4)]),
        ("x.TextGrid", textgrid(B=[(0, 2.5, ""), (2.5, 4, "No.")], A=[(0, 2.5, 'Oh ""my""?')], words=words),
         [("A", 'Oh "my"?', 0, 2.5), ("B", "No.", 2.5, 4)]),
    ):  # fmt: skip
        conversations, errors, _ = read(tmp_path / name, text)
        assert not errors
        assert conversations == [expected]
    short = textgrid(Ann=[(k, k + 1, "Yes.") for k in range(9)], Ben=[(0.5, 2, "Do you agree?")])
    assert len(read(tmp_path / "s.TextGrid", short)[0][0]) == 10
    for name, text, message in (
        ("w.TextGrid", textgrid(words=words), "its tiers have single words"),
        (
            "p.TextGrid",
            textgrid(words=words, phones=[(0, 2, "D IH D")]),
            "its tier 'phones' has sounds",
        ),
        ("v.TextGrid", textgrid(words=words[:3]), "its tiers have single words"),
        ("n.cha", "@Begin\n@End\n", "nobody says anything"),
        ("b.eaf", "<a", "cannot be read"),
    ):
        _, (error,), _ = read(tmp_path / name, text)
        assert message in error


def test_annotations_without_their_library(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rustling.chat", None)
    _, (error,), _ = read(tmp_path / "x.cha", CHAT)
    assert "needs rustling; pip install" in error


# By file, what its conversations are, or what the refusal says.
OF_USERS = {
    "cells of turns.csv": (
        'participant,transcript\nP1,"I: How did it start?\nP: It was cold."\nP2,"I: And you?\nP: No idea."\n',
        "several turns each",
    ),
    "of summaries.csv": ('id,dialogue\n1,"Amanda: I baked\nJerry: Sure"\n2,"Olivia: Who\nBo: Me"\n', "names no column"),
    "times from and to.csv": (
        "speaker,from,to,text\nAnn,0.0,2.5,Did you get it?\nBen,2.5,4.0,No I did not\n",
        [[("Ann", "Did you get it?"), ("Ben", "No I did not")]],
    ),
    "names of agents.csv": (
        "conversation_id,speaker,text,agent\n1,agent,Hello,Ann\n1,customer,Hi,Ann\n2,agent,Yo,Ben\n2,customer,Ok,Ben\n",
        [[("agent", "Hello"), ("customer", "Hi")], [("agent", "Yo"), ("customer", "Ok")]],
    ),
    "annotated.csv": (
        "turn,speaker,text,topic,dialogue_act,phase\n0,Ann,I lost it,a,inform,1\n1,Ben,Oh,a,inform,1\n"
        "2,Ann,Yes?,b,question,2\n3,Ben,Hm,b,inform,2\n",
        [[("Ann", "I lost it"), ("Ben", "Oh"), ("Ann", "Yes?"), ("Ben", "Hm")]],
    ),
    "lists in a turn.csv": (
        'speaker,text\nAnn,"Well,\nI went home, and then\nI slept, finally."\nBen,"My list:\nMilk: two\nBread: one"\nAnn,Yes\n',
        [[("Ann", "Well,\nI went home, and then\nI slept, finally."), ("Ben", "My list:\nMilk: two\nBread: one"), ("Ann", "Yes")]],
    ),
    "an answer in lines.json": (
        {"messages": [{"role": "user", "content": "Give me a plan."},
                      {"role": "assistant", "content": "Sure!\nBreakfast: eggs\nLunch: soup"}]},
        [[("user", "Give me a plan."), ("assistant", "Sure!\nBreakfast: eggs\nLunch: soup")]],
    ),
    "a long prompt beside.json": (
        {"system_prompt": "You are kind and answer all of the questions.",
         "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        [[("user", "Hi"), ("assistant", "Hello")]],
    ),
    "guesses.json": (
        {"results": [{"alternatives": [{"transcript": f"{text} {k}"} for k in range(4)]} for text in (ASKED, NO)]},
        [[("unknown", f"{ASKED} 0"), ("unknown", f"{NO} 0")]],
    ),
    "speakers in brackets.txt": (
        "Speaker (A): I lost it\nSpeaker (B): Oh no\nSpeaker (A): yes\n",
        [[("Speaker (A)", "I lost it"), ("Speaker (B)", "Oh no"), ("Speaker (A)", "yes")]],
    ),
    "capitals.srt": (
        cues((0, 2, "I WENT HOME AND I SAW: NOTHING."), (2, 4, "THE MAN I KNEW SAID: STOP.")),
        [[("unknown", "I WENT HOME AND I SAW: NOTHING.", 0, 2), ("unknown", "THE MAN I KNEW SAID: STOP.", 2, 4)]],
    ),
    "Chinese.srt": (
        cues(*((k, k + 1, "今天我丢了工作") for k in range(12))),
        [[("unknown", "今天我丢了工作", k, k + 1) for k in range(12)]],
    ),
    "overlapping.srt": (
        cues((1, 3, "a b"), (3, 5, "c d"), (9, 10, "e f"), (8, 11, "g h"), (12, 13, "i j")),
        [[("unknown", text, *times) for text, *times in (("a b", 1, 3), ("c d", 3, 5), ("g h", 8, 11), ("e f", 9, 10),
                                                         ("i j", 12, 13))]],
    ),
    "Shakespeare.txt": (
        "First Citizen:\nHear me speak.\nAll:\nSpeak, speak.\nFirst Citizen:\nYou are resolved?\nAll:\nResolved.\n",
        [[("First Citizen", "Hear me speak."), ("All", "Speak, speak."), ("First Citizen", "You are resolved?"),
          ("All", "Resolved.")]],
    ),
    "newest first.csv": (
        "user,date,text\nBen,2/1/2023 10:05,No\nAnn,1/1/2023 10:00,Did you?\n", [[("Ann", "Did you?"), ("Ben", "No")]],
    ),
    "newest first.json": (
        [{"user": "Ben", "text": "No", "created_at": "Tue Aug 08 10:05:00 +0000 2023"},
         {"user": "Ann", "text": "Did you?", "created_at": "Tue Aug 08 10:00:00 +0000 2023"}],
        [[("Ann", "Did you?"), ("Ben", "No")]],
    ),
    "reviews of people.csv": (
        "name,text,date\nann,Good phone,2023-01-01\nben,Bad phone,2023-01-02\ncy,ok,2023-01-03\ndee,no,2023-01-04\n",
        "nobody speaks twice",
    ),
    "chapters.txt": ("00:00 intro\n01:25 the first job\n05:10 getting fired\n12:45 outro\n", "chapters or an agenda"),
    "pictures.vtt": ("WEBVTT\n\n00:00.000 --> 00:05.000\nsprite.jpg#xywh=0,0,160,90\n", "has no cue"),
    "two languages.ttml": (
        '<?xml version="1.0"?><tt xmlns="http://www.w3.org/ns/ttml"><body><div xml:lang="en"><p begin="1s" end="2s">No.</p>'
        '</div><div xml:lang="de"><p begin="1s" end="2s">Nein.</p></div></body></tt>', "several languages",
    ),
    "calls in cells.csv": (
        'call_id,agent,transcript\n1,Ann,"Agent: Hi Customer: my phone broke"\n2,Ben,"Agent: Yo Customer: thanks"\n',
        "several turns each",
    ),
    "911.txt": (
        "Ann: He does not breathe.\nCall 911!\nBen: I do.\nAnn: Hurry.\n",
        [[("Ann", "He does not breathe. Call 911!"), ("Ben", "I do."), ("Ann", "Hurry.")]],
    ),
    "CNN.txt": (
        "ANDERSON COOPER, CNN HOST: Good evening.\nANN LEE, CNN CORRESPONDENT: It is bad.\nCOOPER: How bad?\nLEE: Very.\nCOOPER: Oh.\n",
        [[("ANDERSON COOPER", "Good evening."), ("ANN LEE", "It is bad."), ("COOPER", "How bad?"), ("LEE", "Very."),
          ("COOPER", "Oh.")]],
    ),
    "long names.txt": (
        "Dr. Maria Elena Garcia Lopez: How?\nMr. Smith: fine\nDr. Maria Elena Garcia Lopez: Good\n",
        [[("Dr. Maria Elena Garcia Lopez", "How?"), ("Mr. Smith", "fine"), ("Dr. Maria Elena Garcia Lopez", "Good")]],
    ),
    "asides.txt": (
        "Ann [sadly]: I lost it\nBen [laughing]: Oh no\nAnn: yes\n",
        [[("Ann", "I lost it"), ("Ben", "Oh no"), ("Ann", "yes")]],
    ),
    "types of calls.csv": (
        "id,type,speaker,text\n1,service,Ann,My flight was cancelled\n2,service,Ben,I am sorry\n",
        [[("Ann", "My flight was cancelled"), ("Ben", "I am sorry")]],
    ),
    "two recordings.vtt": (
        "WEBVTT\n\n00:01.000 --> 00:02.000\nAnn: Hi\n\n00:03.000 --> 00:04.000\nBen: Hey\n\n"
        "00:01.000 --> 00:02.000\nCy: Great\n\n00:03.000 --> 00:04.000\nDee: Yes\n",
        "its times begin anew at cue 3",
    ),
    "after noon.csv": (
        "user,timestamp,text\nAnn,9:59,Did you get it?\nBen,10:00,No\nAnn,1:05,Why?\n",
        [[("Ann", "Did you get it?"), ("Ben", "No"), ("Ann", "Why?")]],
    ),
    "an assistant.csv": (
        "conversation_id,user,role,content\n1,u77,user,I feel bad\n1,u77,assistant,Why?\n",
        [[("user", "I feel bad"), ("assistant", "Why?")]],
    ),
    "roles and names.csv": (
        "role,name,text\nAnalyst,Ann,Is it bad?\nCEO,Ben,No.\nAnalyst,Cy,Are you sure?\nCEO,Ben,Yes.\n",
        [[("Ann", "Is it bad?"), ("Ben", "No."), ("Cy", "Are you sure?"), ("Ben", "Yes.")]],
    ),
    "roles of users.csv": (
        "user,role,text\nu1,user,Hi\nu1,assistant,Hello\nu2,user,Bye\nu2,assistant,Ok\n", "does 'user' tell",
    ),
    "IEMOCAP.csv": (
        "utterance_id,speaker,text\nSes01F_impro01_F000,F,Excuse me.\nSes01F_impro01_M000,M,Yes?\n"
        "Ses01F_impro02_F000,F,Hello.\nSes01F_impro02_M000,M,Hi.\n", "seem to tell several conversations",
    ),
    "recordings.csv": ("wav,speaker,text\na,F,Hi.\na,M,Yes?\nb,F,Hello.\nb,M,Oh.\n", "does 'wav' tell"),
    "videos.csv": (
        "video,speaker,text\na.mp4,F,Hi.\na.mp4,M,Yes?\nb.mp4,F,Hello.\nb.mp4,M,Oh.\n",
        "does 'video' tell the conversations apart? then add --columns=conversation=video",
    ),
    "talks.csv": ("title,speaker,text\na,F,Hi.\na,M,Yes?\nb,F,Hello.\nb,M,Oh.\n", "does 'title' tell"),
    "clips of turns.csv": ("video,speaker,text\na,F,Hi.\nb,M,Yes?\n", [[("F", "Hi.", None, None), ("M", "Yes?", None, None)]]),
    "times that begin anew.csv": (
        "start,speaker,text\n0.5,F,Hi.\n4,M,Yes?\n9,F,Hello.\n0.9,F,Oh.\n3,M,No.\n", "its times begin anew",
    ),
    "one after the other.csv": (
        "start,end,speaker,text\n1,2,F,Hi.\n6,7,F,Oh.\n4,5,M,Yes?\n", [[("F", "Hi.", 1, 2), ("M", "Yes?", 4, 5), ("F", "Oh.", 6, 7)]],
    ),
    "times that go back.csv": (
        "start,end,speaker,text\n6,7,F,Oh.\n4,5,M,Yes?\n1,2,F,Hi.\n", [[("F", "Hi.", 1, 2), ("M", "Yes?", 4, 5), ("F", "Oh.", 6, 7)]],
    ),
    "times of day that go back.csv": (
        "timestamp,speaker,text\n1:05 PM,F,Oh.\n12:59 PM,M,Yes?\n11:58 AM,F,Hi.\n", [[("F", "Hi."), ("M", "Yes?"), ("F", "Oh.")]],
    ),
    "times that go back, in a column Time.csv": ("Time,speaker,text\n1:05 PM,F,Oh.\n12:59 PM,M,Yes?\n11:58 AM,F,Hi.\n", [[("F", "Hi."), ("M", "Yes?"), ("F", "Oh.")]]),
    "two of a name.csv": ("speaker,text,text\nAnn,Hi,x\nBen,Oh,y\n", "two columns are called 'text'"),
    "seven words.csv": ("speaker,text\n" + "Ann,word\n" * 7, "its texts are single words"),
    "EmpatheticDialogues.csv": ("speaker,text\nAnn,Hi_comma_ you\nBen,Oh no\nAnn,Yes\n", [[("Ann", "Hi, you"), ("Ben", "Oh no"), ("Ann", "Yes")]]),
    "sent.csv": ("sent,speaker,text\n2024-01-05 10:02:00,M,Oh.\n2024-01-05 10:01:00,F,Hi.\n", [[("F", "Hi."), ("M", "Oh.")]]),
    "patients.csv": ("patient,speaker,text\na,T,Hi.\na,P,Yes?\nb,T,Hello.\nb,P,Oh.\n", "does 'patient' tell"),
    "SODA.json": (
        {"dialogue": ["Hi Ben", "Hello Ann", "Bye"], "speakers": ["Ann", "Ben", "Ann"]},
        [[("Ann", "Hi Ben"), ("Ben", "Hello Ann"), ("Ann", "Bye")]],
    ),
    "names in texts.json": (
        [{"dialog": ["Ann: Hi there", "Ben: Hello you"]}], [[("Ann", "Hi there"), ("Ben", "Hello you")]],
    ),
    "a court.txt": (
        "THE COURT: Good morning.\nQ. State your name.\nA. Ann Lee.\n",
        [[("THE COURT", "Good morning."), ("Q", "State your name."), ("A", "Ann Lee.")]],
    ),
    "empty lines.txt": ("Q: How?\nA: It was cold.\n\nQ: And then?\nA: I left.\n\nQ: Why?\nA: So.\n", "--columns=conversation="),
    "headings.txt": (
        "Session 1\nAnn: I lost it\nBen: Oh no\n=== Session 2 ===\nAnn: Great day\nBen: Yes\n",
        [[("Ann", "I lost it"), ("Ben", "Oh no")], [("Ann", "Great day"), ("Ben", "Yes")]],
    ),
    "Descript.txt": (
        "Ann: [00:00:00] Did you?\n\nBen: Yes.\n\nAnn: [00:00:10] Great.\n",
        [[("Ann", "Did you?", 0, 10), ("Ben", "Yes."), ("Ann", "Great.", 10, None)]],
    ),
    "marks.txt": (
        "I: How did it start? #00:00:12-3#\nP: It was cold. [00:00:20]\n(APPLAUSE)\nI: Oh\n",
        [[("I", "How did it start?"), ("P", "It was cold."), ("I", "Oh")]],
    ),
    "an open quotation mark.tsv": (
        'speaker\ttext\nAnn\t"Hello\nBen\tOh no\nAnn\tWhy\nBen\tBecause of"\n', "a cell has several rows in it",
    ),
    "a comma.csv": ("speaker,text,emotion\nAnn,Well, I lost it\nBen,Oh no,joy\n", "a comma in a text"),
    "two languages.srt": (
        cues((1, 2, "Did you get it?\n你得到它了吗？"), (2, 4, "No.\n没有。")), "its cues are in two languages",
    ),
    "two scripts.srt": (
        cues((1, 2, "你看 BBC 吗？"), (2, 4, "- BBC?\n- 对。"), (4, 5, "我不看。")),
        [[("unknown", "你看 BBC 吗？", 1, 2), ("unknown", "BBC?", 2, 4), ("unknown", "对。", 2, 4), ("unknown", "我不看。", 4, 5)]],
    ),
    "exclamations.srt": (
        cues(*((k, k + 1, "Stop!") for k in range(12))), [[("unknown", "Stop!", k, k + 1) for k in range(12)]],
    ),
    "single words.srt": (cues(*((k, k + 1, "wordsofatext"[k]) for k in range(12))), "single words"),
    "a form.txt": ("Name: Ann\nAge: 30\nComment: I felt sad.\nName: Ben\nAge: 40\nComment: ok\n", "only 0 of 6 lines"),
    "the whole talk.csv": (
        "speaker,transcript,sentence\nA,All of the talk,All of\nB,All of the talk,the talk\nA,All of the talk,x\n",
        "every turn has the same text",
    ),
    "Messenger.json": (
        {"messages": [{"sender_name": "Ben", "content": "No", "timestamp_ms": 2},
                      {"sender_name": "Ann", "photos": [{"uri": "x"}], "timestamp_ms": 3},
                      {"sender_name": "Ann", "content": "Did you?", "timestamp_ms": 1}]},
        [[("Ann", "Did you?"), ("Ben", "No")]],
    ),
    "a name in brackets.txt": (
        "Kim: I lost it\n[Lee, Ann]: Oh no\nKim: Yes\n", [[("Kim", "I lost it"), ("Lee, Ann", "Oh no"), ("Kim", "Yes")]],
    ),
    "names in brackets.srt": (
        cues((1, 4, "-[Speaker 1] Hi"), (4, 6, "(Ben)\nOh"), (6, 7, "[Speaker 1] Yes"), (7, 8, "(sighs)")), [[("Speaker 1", "Hi", 1, 4), ("Ben", "Oh", 4, 6), ("Speaker 1", "Yes", 6, 7)]],
    ),
    "names in lines.vtt": (
        cues((1, 4, "Ann\nHi"), (4, 6, "Ben\nOh"), (6, 7, "Ann\nYes"), vtt=True), [[*TIMED[:2], ("Ann", "Yes", 6, 7)]],
    ),
    "odd names.vtt": (
        cues((1, 4, "Ann, MD: Hi"), (4, 6, "+1***12: Oh"), (6, 7, "Ann, MD: Yes"), vtt=True),
        [[("Ann, MD", "Hi", 1, 4), ("+1***12", "Oh", 4, 6), ("Ann, MD", "Yes", 6, 7)]],
    ),
    "asides.srt": (
        cues((1, 4, "[laughs] Hi"), (4, 6, "[Laughs] Oh"), (6, 7, "[Sighs] Yes"), (7, 8, "[Laughs] So")),
        [[("unknown", "[laughs] Hi", 1, 4), ("unknown", "[Laughs] Oh", 4, 6), ("unknown", "[Sighs] Yes", 6, 7),
          ("unknown", "[Laughs] So", 7, 8)]],
    ),
    "names with asides.srt": (
        cues((1, 4, "Ann (sadly): Hi"), (4, 6, "Ben: Oh"), (6, 7, "Ann: Yes")), [[*TIMED[:2], ("Ann", "Yes", 6, 7)]],
    ),
    "times that go back.txt": (
        "[0:01] Ann: I lost it\n[0:09] Ann: Oh no\n[0:20] Ann: Yes\n[0:03] Ben: Why?\n[0:15] Ben: So.\n", "begin anew after 20 seconds",
    ),
    "threads.json": (
        [{"type": "message", "user": "U1", "text": "I lost it", "ts": "1.0", "thread_ts": "1.0"},
         {"type": "message", "user": "U2", "text": "Oh no", "ts": "2.0", "thread_ts": "1.0"},
         {"type": "message", "user": "U3", "text": "Lunch?", "ts": "3.0"}],
        [[("U1", "I lost it"), ("U2", "Oh no")], [("U3", "Lunch?")]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_USERS)
def test_files_of_users(tmp_path, name):
    content, expected = OF_USERS[name]
    found, errors, _ = read(tmp_path / name, content)
    if isinstance(expected, str):
        assert not found
        assert expected in errors[0]
        assert "\n" not in errors[0]
    else:
        assert (found, errors) == (expected, [])


def test_long_lines_without_names_are_read_at_once(tmp_path):
    text = "speaker,text\nAnn,N" + "O" * 60 + "\nBen," + "我" * 60 + "\nAnn," + "Aa " * 60 + "\n"
    started = time.perf_counter()
    assert len(read(tmp_path / "x.csv", text)[0][0]) == 3
    assert time.perf_counter() - started < 1


def test_the_ways_in_that_refusals_name(tmp_path):
    stretches = OF_USERS["empty lines.txt"][0]
    ((*turns,),), errors, _ = read(tmp_path / "x.txt", stretches, "conversation=")
    assert (len(turns), errors) == (6, [])
    whole = {
        "segments": [
            {"start": 0, "end": 30, "text": "Thank you."},
            {"start": 30, "end": 60, "text": "Bye."},
        ]
    }
    _, (error,), _ = read(tmp_path / "x.json", whole)
    assert "--columns=start=NAME,end=NAME or" in error
    named = "text=segments.text,start=segments.start,end=segments.end"
    assert read(tmp_path / "x.json", whole, named)[0] == [
        [("unknown", "Thank you.", 0, 30), ("unknown", "Bye.", 30, 60)]
    ]
    # What is beside the texts is known by its name.
    shared = {
        "conversations": [
            {"from": "human", "value": "I lost it"},
            {"from": "gpt", "value": "Oh no"},
        ]
    }
    found = read(tmp_path / "x.json", shared, "text=conversations.value")[0]
    assert found == [[("human", "I lost it"), ("gpt", "Oh no")]]


def test_in_chat_nothing_is_lost_and_tiers_of_no_speech_are_counted(tmp_path):
    import_or_skip("rustling")
    chat = (
        "@UTF8\n@Begin\n@Languages:\teng\n@Participants:\tCHI Target_Child, MOT Mother\n"
        "@ID:\teng|x|CHI|2;0.||||Target_Child|||\n@ID:\teng|x|MOT|||||Mother|||\n*MOT:\twhat is it ?\n"
        "%mor:\tpro|what cop|be pro|it ?\n*CHI:\ta dog .\n%mor:\tdet|a n|dog\n*MOT:\tyes .\n@End\n"
    )
    ((*turns,),), errors, _ = read(tmp_path / "x.cha", chat)
    assert not errors
    assert len(turns) == 3
    tiers = textgrid(
        Ann=[(0, 1, "I lost it"), (1, 2, "<sil>")], **{"Ann gesture": [(0, 1, "points at it")]}
    )
    (turns,), _, counted = read(tmp_path / "x.TextGrid", tiers)
    assert [turn[1] for turn in turns] == ["I lost it"]
    assert [count for kind, count in counted.items() if "nobody said them" in kind] == [2]
