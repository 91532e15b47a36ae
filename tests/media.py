"""Films for the tests: speech by espeak-ng, pictures by NumPy, put together by PyAV."""

import io
import subprocess
import wave
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from shared import import_or_skip

av = import_or_skip("av")

FPS = 25
RATE = 16_000  # what models of speech take
SILENCE = 0.4  # seconds between the utterances of an episode
# How an emotion sounds (espeak-ng's voice, pitch 0-99, words per minute) and looks (colour, and
# how many stripes move over it).
STYLES = {
    "neutral": ("en-us", 45, 160, (128, 128, 128), 0),
    "anger": ("en-us+m3", 25, 240, (220, 30, 30), 6),
    "disgust": ("en-us+m7", 15, 130, (110, 140, 20), 3),
    "fear": ("en-us+f3", 85, 260, (70, 20, 110), 9),
    "joy": ("en-us+f2", 75, 200, (250, 210, 40), 4),
    "sadness": ("en-us+m1", 30, 100, (30, 60, 150), 1),
    "surprise": ("en-us+f4", 95, 180, (40, 220, 220), 12),
}


def speak(text: str, emotion: str) -> np.ndarray:
    """Speech, float32 [samples] at `RATE`."""
    voice, pitch, speed, _, _ = STYLES[emotion]
    command = ["espeak-ng", "--stdout", "-v", voice, "-p", str(pitch), "-s", str(speed), text]
    spoken = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(spoken)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        # The header's length is a guess: espeak-ng writes it before it has spoken.
        samples = np.frombuffer(file.readframes(1 << 30), np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = file.getframerate()
    resampler = av.AudioResampler("flt", "mono", RATE)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])


def draw(emotion: str, count: int) -> np.ndarray:
    """`count` frames, uint8 [count, 96, 128, 3]."""
    _, _, _, colour, stripes = STYLES[emotion]
    place = (np.arange(128)[None] / 128 * max(stripes, 1) + np.arange(count)[:, None] / FPS) % 1
    light = np.where((place < 0.5) & (stripes > 0), 1.0, 0.6)[:, None, :, None]
    return (light * np.array(colour) * np.ones((1, 96, 1, 1))).astype(np.uint8)


def write_clip(path: Path, text: str, emotion: str, audio: str = "aac") -> None:
    """One utterance, heard and seen as `emotion`, as a file of its own; `audio` is the codec."""
    speech = speak(text, emotion)
    write_media(path, draw(emotion, round(len(speech) / RATE * FPS)), speech, RATE, audio=audio)


def write_episode(
    path: Path, utterances: Iterable[tuple[str, str]], audio: str = "aac"
) -> list[tuple[float, float]]:
    """Utterances (text, emotion) one after another; the span of each, in seconds."""
    sounds, pictures, spans, frames = [], [], [], 0
    for text, emotion in utterances:
        speech = speak(text, emotion)
        spoken = -(-len(speech) * FPS // RATE)  # frames
        count = spoken + round(SILENCE * FPS)
        sound = np.zeros(count * RATE // FPS, np.float32)
        sound[: len(speech)] = speech
        sounds.append(sound)
        pictures.append(draw(emotion, count))
        spans.append((frames / FPS, frames / FPS + len(speech) / RATE))
        frames += count
    write_media(path, np.concatenate(pictures), np.concatenate(sounds), RATE, audio=audio)
    return spans


def write_media(
    path: Path,
    frames: Sequence[np.ndarray] | np.ndarray | None,
    samples: np.ndarray | None,
    rate: int,
    *,
    video: str = "libx264",
    audio: str = "aac",
    begins: float = 0.0,
    late: float = 0.0,
) -> None:
    """Writes a film, a silent one or a sound; what the ending of `path` says.

    Args:
      path: the file.
      frames: uint8 [count, h, w, 3] at `FPS`, or None.
      samples: float32 [samples] at `rate`, or None.
      rate: in Hz.
      video: codec; x264 gets B-frames and a key frame every two seconds.
      audio: codec.
      begins: the time stamp of the first frame, in seconds.
      late: seconds by which the sound begins after the picture.
    """
    with av.open(str(path), "w") as container:
        picture = sound = None
        if frames is not None:
            picture = container.add_stream(video, rate=FPS)
            picture.height, picture.width = frames[0].shape[:2]
            picture.pix_fmt = "yuv420p"
            picture.gop_size = 2 * FPS
            if video == "libx264":
                picture.options = {
                    "preset": "veryfast",
                    "bf": "3",
                    "crf": "12",
                    "sc_threshold": "0",
                }
        if samples is not None:
            sound = container.add_stream(audio, rate=rate, layout="mono")
        chunk = rate // FPS
        count = max(len(frames) if picture else 0, -(-len(samples) // chunk) if sound else 0)
        resampler = sound and av.AudioResampler(sound.format, sound.layout, rate)
        for number in range(count):  # side by side, as films are
            if picture and number < len(frames):
                pixels = np.ascontiguousarray(frames[number])
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.time_base = Fraction(1, FPS)
                frame.pts = number + round(begins * FPS)
                container.mux(picture.encode(frame))
            if sound and number * chunk < len(samples):
                values = np.asarray(samples[None, number * chunk :][:, :chunk], np.float32)
                frame = av.AudioFrame.from_ndarray(values, format="fltp", layout="mono")
                frame.sample_rate = rate
                frame.time_base = Fraction(1, rate)
                frame.pts = number * chunk + round((begins + late) * rate)
                for converted in resampler.resample(frame):
                    container.mux(sound.encode(converted))
        if picture:
            container.mux(picture.encode(None))
        if sound:
            for converted in resampler.resample(None):
                container.mux(sound.encode(converted))
            container.mux(sound.encode(None))
