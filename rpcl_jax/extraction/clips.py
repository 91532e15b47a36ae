"""Films and sounds: which file and stretch an utterance is, and what is heard and seen there.

Times are in seconds after the file's beginning as a player shows it, which is where its first
stream begins, whatever its time stamps say.
"""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from rpcl_jax.data.dialogue import CLIP_ENDINGS, Utterance, clip_name
from rpcl_jax.errors import InputError

try:
    import av
except ImportError as error:
    raise InputError(
        f"clips are decoded by PyAV ({error}); pip install -r requirements-features.txt"
    ) from error

# Formats with an index, where a jump lands on a key frame and the time stamps after it are right.
# The others are read from their beginning: slower, and as exact.
_SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "wav")
# Decoding begins this long before what is asked for: an index may count by decoding time, some
# frames ahead of what is shown, and codecs of sound need a few packets to settle.
_RUN_UP = 1.0
_MEAN = {"rematrix_maxval": "1"}  # of the channels; else the sum of two is as loud as 1.4 of them
_JUMP = 0.05  # seconds; time stamps are rounded, so that smaller gaps in the sound are none


class ClipError(InputError):
    """A clip is not there or cannot be used: its utterance has no sound or no picture."""


class Stretch(NamedTuple):
    """A part of a file, from `start` to `end` in seconds; the whole file is (0, infinity)."""

    path: Path
    start: float
    end: float


def index_clips(folder: Path) -> dict[str, list[Path]]:
    """The media files under `folder`, links followed, by their names without ending.

    Raises:
      InputError: no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the one that holds the clips")
    index: dict[str, list[Path]] = {}
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for path in (Path(place, name) for name in sorted(names)):
            # A leading dot is what macOS leaves beside files in archives: no films.
            if path.suffix.lower() in CLIP_ENDINGS and path.name[0] != ".":
                index.setdefault(path.stem, []).append(path)
    if not index:
        raise InputError(
            f"{folder}: holds no clip, nothing that ends in {', '.join(CLIP_ENDINGS)}; "
            "give the folder that does"
        )
    return index


def find_clip(index: Mapping[str, list[Path]], utterance: Utterance) -> Stretch:
    """The stretch of a file where `utterance` is heard and seen.

    It is that of `utterance.clip`; where there is none, or its file is not there, it is a whole
    file named like the utterance's id.

    Args:
      index: from `index_clips`.
      utterance: of any reader.

    Raises:
      ClipError: there is neither file.
      InputError: two files have the name.
    """
    stretches = [(utterance.id, 0.0, math.inf)]
    if utterance.clip is not None:
        start, end = utterance.clip.start, utterance.clip.end
        name = clip_name(utterance.clip.video)
        stretches.insert(0, (name, start or 0.0, math.inf if end is None else end))
    for name, start, end in stretches:
        paths = index.get(name, [])
        if len(paths) > 1:
            raise InputError(
                f"{paths[1]}: {paths[0]} has the same name, and utterance {utterance.id} is one "
                "of them; remove the other, or give a folder that holds one"
            )
        if paths:
            return Stretch(paths[0], start, end)
    names = " or ".join(dict.fromkeys(name for name, _, _ in stretches))
    raise ClipError(f"no file named {names} with the ending of a film or sound; put it there")


def read_audio(path: Path, start: float, end: float, rate: int = 16_000) -> np.ndarray:
    """What is heard from `start` to `end`, all channels mixed into one.

    Where the sound begins later than `start` or pauses, there are zeros; where it ends before
    `end`, the result is so much shorter.

    Args:
      path: a film or sound.
      start: in seconds.
      end: in seconds; may be infinite.
      rate: of the result, in Hz; the resampler is FFmpeg's.

    Returns:
      float32 [samples], usually between -1 and 1.

    Raises:
      ClipError: no such file, it cannot be decoded, has no sound, or none in that stretch.
    """
    pieces = _heard(path, start, end, rate, seek=True)
    if not pieces or pieces[0][0] > start:  # perhaps the jump went too far
        pieces = _heard(path, start, end, rate, seek=False)
    placed = [(round((time - start) * rate), samples) for time, samples in pieces]
    last = max((at + len(samples) for at, samples in placed), default=0)
    length = last if math.isinf(end) else min(last, round((end - start) * rate))
    if length < 1:
        raise ClipError(
            f"{path}: has no sound between {start:.2f} and {end:.2f} s; correct the times or the "
            "file"
        )
    result = np.zeros(length, np.float32)
    for at, samples in placed:
        samples = samples[max(0, -at) : max(0, length - at)]
        result[max(0, at) : max(0, at) + len(samples)] = samples
    return result


def _heard(
    path: Path, start: float, end: float, rate: int, seek: bool
) -> list[tuple[float, np.ndarray]]:
    """The sound around a stretch, as continuous pieces with the times when they begin."""
    pieces: list[tuple[float, list[np.ndarray]]] = []
    with _opened(path, "audio", start if seek else 0.0) as (container, stream, origin):
        resampler, kind, expected = None, None, 0.0
        for frame in container.decode(stream):
            time = _time(frame, path) - origin
            if time >= end:
                break
            changed = kind != (frame.format.name, frame.layout.name, frame.sample_rate)
            if resampler is None or changed or abs(time - expected) > _JUMP:
                if resampler is not None:
                    pieces[-1][1].extend(_samples(resampler, None))
                kind = (frame.format.name, frame.layout.name, frame.sample_rate)
                resampler = av.AudioResampler("fltp", "mono", rate, options=_MEAN)
                pieces.append((time, []))
                expected = time
            expected += frame.samples / frame.sample_rate
            pieces[-1][1].extend(_samples(resampler, frame))
        if resampler is not None:
            pieces[-1][1].extend(_samples(resampler, None))
    return [(time, np.concatenate(parts)) for time, parts in pieces if parts]


def _samples(resampler: av.AudioResampler, frame: av.AudioFrame | None) -> list[np.ndarray]:
    if frame is not None:
        frame.pts = None  # the resampler would fill what the time stamps' rounding leaves open
    return [resampled.to_ndarray()[0] for resampled in resampler.resample(frame)]


def read_frames(path: Path, start: float, end: float, count: int) -> np.ndarray:
    """What is seen in the middles of `count` equal parts of the stretch from `start` to `end`.

    A frame is seen until the next one. A stretch that goes beyond the last one is cut there.

    Args:
      path: a film.
      start: in seconds.
      end: in seconds; may be infinite.
      count: frames; where the film has fewer, some come several times.

    Returns:
      uint8 [count, h, w, 3], red green blue.

    Raises:
      ClipError: no such file, it cannot be decoded, has no picture, or none in that stretch.
    """
    end = min(end, _end_of_film(path, start, end))
    if start >= end:
        raise ClipError(
            f"{path}: ends at {end:.2f} s, before the stretch from {start:.2f} s; correct the "
            "times or the file"
        )
    times = [start + (k + 0.5) / count * (end - start) for k in range(count)]
    frames = _seen(path, times, start)
    if frames is None:  # the jump went too far
        frames = _seen(path, times, 0.0)
    if not frames:
        raise ClipError(f"{path}: none of its pictures can be decoded; replace it")
    return np.stack(frames)


def _end_of_film(path: Path, start: float, end: float) -> float:
    """When the last frame ends, or `end` if that is earlier; nothing is decoded."""
    last = -math.inf
    with _opened(path, "video", start) as (container, stream, origin):
        shown = float(1 / stream.average_rate) if stream.average_rate else 0.0
        for packet in container.demux(stream):
            stamp = packet.dts if packet.pts is None else packet.pts
            if stamp is None:  # the packet that ends the stream
                continue
            lasts = float((packet.duration or 0) * packet.time_base) or shown
            last = max(last, float(stamp * packet.time_base) - origin + lasts)
            if packet.dts is not None and float(packet.dts * packet.time_base) - origin > end:
                return end
    return last


def _seen(path: Path, times: list[float], start: float) -> list[np.ndarray] | None:
    """The frames that are seen at `times`, ascending; None if decoding began after the first."""
    frames: list[np.ndarray] = []
    with _opened(path, "video", start) as (container, stream, origin):
        shown = None
        for frame in container.decode(stream):
            time = _time(frame, path) - origin
            if shown is None:
                if start > 0 and time > times[0]:
                    return None
                shown, height, width = frame, frame.height, frame.width
            # Time stamps are rounded, by up to half a millisecond in Matroska.
            while len(frames) < len(times) and times[len(frames)] < time - 1e-3:
                frames.append(shown.to_ndarray(format="rgb24", height=height, width=width))
            if len(frames) == len(times):
                return frames
            shown = frame
        while shown is not None and len(frames) < len(times):
            frames.append(shown.to_ndarray(format="rgb24", height=height, width=width))
    return frames if shown is not None or start <= 0 else None


@contextlib.contextmanager
def _opened(
    path: Path, kind: Literal["audio", "video"], start: float
) -> Iterator[tuple[Any, Any, float]]:
    """The container, its best stream of a kind, and the time stamp of the file's beginning.

    Reading begins `_RUN_UP` before `start` or earlier, in seconds after the beginning; at the
    beginning where that cannot be done exactly. Whatever FFmpeg says against the file meanwhile
    becomes a ClipError.
    """
    try:
        # A title in Latin-1 is no reason to refuse a film.
        with av.open(str(path), metadata_errors="ignore") as container:
            stream: Any = container.streams.best(kind)
            # A picture of the cover is a stream too.
            if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
                what = "sound" if kind == "audio" else "moving picture"
                raise ClipError(f"{path}: has no {what}; replace it")
            if stream.codec_context is None:
                raise ClipError(f"{path}: FFmpeg has no decoder for its {kind}; convert it")
            # Negative where samples come first that nobody is to hear.
            origin = max(0, container.start_time or 0) / av.time_base
            if start > _RUN_UP and container.format.name in _SEEKABLE:
                container.seek(int((origin + start - _RUN_UP) * av.time_base))
            yield container, stream, origin
    except ClipError:
        raise
    # Beside FFmpeg's own complaints, what PyAV trips over in broken files.
    except (av.FFmpegError, OSError, ValueError, LookupError, RuntimeError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ClipError(f"{path}: cannot be decoded ({reason}); replace it") from error


def _time(frame: Any, path: Path) -> float:
    if frame.time is None:
        raise ClipError(f"{path}: has no time stamps; convert it, for example to MP4")
    return frame.time
