"""Decoding of an episode with a clock in its frames and a tone that changes every second."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
from media import FPS, draw, speak, write_clip, write_episode, write_media
from media import RATE as SPEECH_RATE
from shared import POINTER, needs_espeak

from rpcl_jax.extraction import clips
from rpcl_jax.extraction.clips import read_audio, read_frames
from rpcl_jax.extraction.finding import ClipError

SECONDS, RATE = 20, 48_000
# File name and how it is written: with B-frames, time stamps from 10 s, audio that starts late, no
# index, or other codecs.
FORMS = {
    "x264.mp4": {},
    "late.mp4": {"begins": 10.0, "late": 0.32},
    "begins.mkv": {"begins": 10.0},
    "opus.mkv": {"audio": "libopus"},
    "vp9.webm": {"video": "libvpx-vp9", "audio": "libopus"},
    "mpeg2.mpg": {"video": "mpeg2video", "audio": "mp2"},
    "x264.ts": {},
    "mpeg4.avi": {"video": "mpeg4", "audio": "libmp3lame"},
}
# Seconds of encoder delay before the first audio sample, which these formats cannot declare.
PRIMING = {"x264.ts": 0.025, "mpeg4.avi": 0.025, "mpeg2.mpg": 0.025}


def clock(number):
    """Returns a frame that encodes `number` in twelve dark or bright blocks."""
    bits = np.where((number >> np.arange(12)) & 1, 230, 25).reshape(2, 6)
    return np.kron(bits, np.ones((16, 16)))[..., None].repeat(3, 2).astype(np.uint8)


def read_clock(frame):
    return int((frame[8::16, 8::16, 1].ravel() > 128) @ (1 << np.arange(12)))


def tone(times):
    """Returns the tone at `times`: in second s, a sine of 300 + 100 s Hz."""
    second = np.floor(times + 1e-9)
    heard = 0.3 * np.sin(2 * np.pi * (300 + 100 * second) * (times - second))
    return np.where((times >= 0) & (times < SECONDS), heard, 0).astype(np.float32)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("episodes")
    frames = [clock(number) for number in range(SECONDS * FPS)]
    samples = tone(np.arange(SECONDS * RATE) / RATE)
    for name, form in FORMS.items():
        write_media(folder / name, frames, samples, RATE, **form)
    return folder


def test_the_episode_is_hard_to_seek(episodes):
    import av

    with av.open(str(episodes / "x264.mp4")) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
    stamps = [p.pts for p in packets]
    assert stamps != sorted(stamps)  # B-frames
    assert sum(p.is_keyframe for p in packets) == SECONDS / 2
    assert read_clock(clock(345)) == 345
    with av.open(str(episodes / "late.mp4")) as container:
        assert container.start_time == 10_000_000


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    ("start", "end"), [(0.0, 4.0), (0.0, math.inf), (1.98, 2.02), (3.21, 5.77), (17.5, 30.0)]
)
def test_frames_have_the_right_times(episodes, name, start, end):
    count = 5
    frames = read_frames(episodes / name, start, end, count)
    assert frames.shape == (count, 32, 96, 3)
    assert frames.dtype == np.uint8
    end = min(end, SECONDS)
    asked = [start + (k + 0.5) * (end - start) / count for k in range(count)]
    shown = [read_clock(frame) / FPS for frame in frames]
    exact = name in ("x264.mp4", "late.mp4", "begins.mkv", "opus.mkv", "vp9.webm")
    before, after = (0.001, 0.001 + 1 / FPS) if exact else (1 / FPS, 2 / FPS)
    for time, begins in zip(asked, shown, strict=True):
        assert begins - before <= time <= begins + after


@pytest.mark.parametrize("name", [*FORMS, "tone.wav", "tone.mp3", "tone.flac"])
@pytest.mark.parametrize("start", [0.0, 0.75, 6.8, 15.9])
def test_audio_has_the_right_times(episodes, tmp_path, name, start):
    path, late = episodes / name, FORMS.get(name, {}).get("late", 0.0)
    if name not in FORMS:
        path = tmp_path / name
        codec = {"wav": "pcm_s16le", "mp3": "libmp3lame", "flac": "flac"}[name[-4:].strip(".")]
        write_media(path, None, tone(np.arange(SECONDS * RATE) / RATE), RATE, audio=codec)
    heard = read_audio(path, start, start + 1.5)
    assert heard.dtype == np.float32
    assert heard.shape == (24_000,)
    # The best-fitting shift, which is unique because the tone changes within the span.
    ideal = tone(start - late + np.arange(-480, 24_000 + 480) / 16_000)
    fits = np.correlate(ideal, heard)
    assert abs(np.argmax(fits) - 480) / 16_000 <= 0.002 + PRIMING.get(name, 0.0)
    loudness = np.linalg.norm(ideal[480:-480])
    assert np.max(fits) > 0.95 * np.linalg.norm(heard) * loudness
    assert np.linalg.norm(heard) == pytest.approx(loudness, rel=0.1)  # MP3 is lossy


def test_audio_is_cut_at_the_end_and_padded_at_the_start(episodes):
    assert len(read_audio(episodes / "x264.mp4", 19.5, 25.0)) == pytest.approx(8_000, abs=400)
    whole = read_audio(episodes / "x264.mp4", 0.0, math.inf)
    assert len(whole) == pytest.approx(SECONDS * 16_000, abs=400)
    begins = read_audio(episodes / "late.mp4", 0.0, 1.0)
    assert not begins[: int(0.29 * 16_000)].any()
    assert np.abs(begins[int(0.33 * 16_000) :]).max() > 0.25


def test_channels_are_mixed(tmp_path):
    import wave

    left = (20_000 * tone(np.arange(16_000) / 16_000)).astype(np.int16)
    with wave.open(str(tmp_path / "stereo.wav"), "wb") as file:
        file.setparams((2, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.stack([left, left // 2], axis=1).tobytes())
    heard = read_audio(tmp_path / "stereo.wav", 0.0, math.inf)
    np.testing.assert_allclose(heard, 0.75 * left / 2**15, atol=1e-3)


def test_only_part_of_an_episode_is_decoded(episodes, monkeypatch):
    decoded = []
    original = clips._time

    def count(frame, path):
        decoded.append(frame)
        return original(frame, path)

    monkeypatch.setattr(clips, "_time", count)
    read_frames(episodes / "x264.mp4", 15.0, 16.0, 4)
    # From the key frame before the run-up (14 s) to the last requested frame.
    assert 0 < len(decoded) <= 2 * FPS + 2
    decoded.clear()
    read_audio(episodes / "x264.mp4", 15.0, 16.0)
    assert 0 < len(decoded) <= 2 * RATE // 1024 + 10


@pytest.mark.parametrize("name", FORMS)
def test_an_empty_time_span_is_refused(episodes, name):
    for read in (read_audio, frames_at):
        with pytest.raises(ClipError, match=r"90\.00.*; correct the times"):
            read(episodes / name, 90, 91)


def test_bad_files_are_refused(episodes, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no film")
    unfetched = tmp_path / "unfetched.mp4"
    unfetched.write_text(POINTER)
    cut = tmp_path / "cut.mp4"  # its index is at the end
    cut.write_bytes((episodes / "x264.mp4").read_bytes()[:50_000])
    silent, blind = tmp_path / "silent.mp4", tmp_path / "blind.wav"
    write_media(silent, [clock(1)] * 30, None, RATE)
    write_media(blind, None, np.zeros(RATE, np.float32), RATE, audio="pcm_s16le")
    for path, read, reason in (
        (bad, read_audio, "Invalid data"),
        (bad, frames_at, "Invalid data"),
        (unfetched, frames_at, "is a Git LFS pointer"),
        (cut, read_audio, "cannot be decoded"),
        (tmp_path / "none.mp4", read_audio, "No such file"),
        (silent, read_audio, "has no audio"),
        (blind, frames_at, "has no video"),
    ):
        with pytest.raises(ClipError) as error:
            read(path, 0.0, 1.0)
        assert str(error.value).startswith(f"{path}: ")
        assert reason in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", FORMS)
def test_damaged_files_are_read_or_refused(episodes, tmp_path, name):
    random, outcomes = np.random.default_rng(0), set()
    for where in (300, 3000, 10**9) * 3:
        damaged = bytearray((episodes / name).read_bytes())
        for at in random.integers(min(where, len(damaged)), size=40):
            damaged[at] = random.integers(256)
        (tmp_path / name).write_bytes(damaged)
        for read in (read_audio, frames_at):
            try:
                read(tmp_path / name, 3.2, 4.0)
                outcomes.add("read")
            except ClipError as error:
                outcomes.add(str(error))
    outcomes.discard("read")
    assert all(said.startswith(f"{tmp_path / name}: ") for said in outcomes)
    assert not any("\n" in said for said in outcomes)


def frames_at(path, start, end):
    return read_frames(path, start, end, 3)


def test_paths_may_be_anything(tmp_path):
    path = Path(tmp_path, "Ünusual: name %d.wav")
    write_media(path, None, tone(np.arange(RATE) / RATE), RATE, audio="pcm_s16le")
    assert read_audio(path, 0.0, 1.0).shape == (16_000,)


def test_titles_may_be_anything(tmp_path):
    def chunk(name, content):
        return name + struct.pack("<I", len(content)) + content

    latin = chunk(b"LIST", b"INFO" + chunk(b"INAM", "été ".encode("latin-1")))
    form = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))
    body = b"WAVE" + form + latin + chunk(b"data", bytes(3200))
    (tmp_path / "a.wav").write_bytes(chunk(b"RIFF", body))
    assert read_audio(tmp_path / "a.wav", 0.0, 1.0).shape == (1600,)


@needs_espeak
def test_the_utterances_of_an_episode_are_cut_out_of_it(tmp_path):
    said = [("Oh no, what happened?", "surprise"), ("I lost it.", "sadness"), ("Well.", "neutral")]
    spans = write_episode(tmp_path / "episode.mp4", said)
    for (text, emotion), (start, end) in zip(said, spans, strict=True):
        speech = speak(text, emotion)
        heard = read_audio(tmp_path / "episode.mp4", start, end, SPEECH_RATE)
        assert abs(len(heard) - len(speech)) <= 1
        size = min(len(heard), len(speech))
        assert np.corrcoef(heard[:size], speech[:size])[0, 1] > 0.95
        seen = read_frames(tmp_path / "episode.mp4", start, end, 4).mean(axis=(0, 1, 2))
        drawn = draw(emotion, round((end - start) * FPS)).mean(axis=(0, 1, 2))
        np.testing.assert_allclose(seen, drawn, atol=12)
        write_clip(tmp_path / "clip.mp4", text, emotion)
        alone = read_audio(tmp_path / "clip.mp4", 0.0, math.inf, SPEECH_RATE)
        assert np.corrcoef(alone[:size], speech[:size])[0, 1] > 0.95


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_film_held_upright_has_the_frames_one_sees(tmp_path, quarters):
    """The matrix of an MP4's track header turns the picture clockwise by `quarters`."""
    path = tmp_path / "phone.mp4"
    write_media(path, [clock(number) for number in range(FPS)], None, RATE)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # ISO 14496-12, version 0
    a, b = {1: (0, 1), 2: (-1, 0), 3: (0, -1)}[quarters]
    one = 1 << 16
    matrix = (a * one, b * one, 0, -b * one, a * one, 0, 0, 0, 1 << 30)
    content[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    frames = read_frames(path, 0.0, 1.0, 5)
    assert frames.shape[1:] == ((32, 96, 3) if quarters == 2 else (96, 32, 3))
    lying = [np.rot90(frame, quarters) for frame in frames]  # counterclockwise
    assert [read_clock(frame) for frame in lying] == [2, 7, 12, 17, 22]
