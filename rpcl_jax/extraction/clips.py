"""Decodes the audio and the frames of a time span of a media file.

Times are in seconds from the start of the file as a player shows it: the start of its first stream,
whatever the time stamps in the file are.
"""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rpcl_jax.errors import InputError
from rpcl_jax.extraction.finding import ClipError
from rpcl_jax.files import check_not_pointer

try:
    import av
except ImportError as error:
    raise InputError(
        f'decoding clips requires PyAV ({error}); pip install "rpcl_jax[features]"'
    ) from error

# Formats with an index, in which seeking is exact. The others are decoded from the start, which is
# slower but equally exact.
_SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "wav")
# Decoding starts this many seconds early: an index may refer to decoding time, which is some frames
# ahead of presentation time, and audio codecs need a few packets to settle.
_RUN_UP = 1.0
# A title that is not UTF-8 does not make a file unusable; PyAV 19 needs not be told.
_METADATA: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
_MEAN = {"rematrix_maxval": "1"}  # averages channels; by default two are 1.4 times as loud
_JUMP = 0.05  # seconds; smaller gaps in the audio are rounding errors of time stamps


def read_audio(path: Path, start: float, end: float, rate: int = 16_000) -> np.ndarray:
    """Returns the audio from `start` to `end`, with all channels averaged.

    Gaps, and the time before the audio starts, are filled with zeros. If the audio ends before
    `end`, the result is shorter.

    Args:
      end: in seconds; may be infinite.
      rate: sample rate of the result, in Hz; FFmpeg resamples.

    Returns:
      float32 [samples], usually between -1 and 1.

    Raises:
      ClipError: the file is missing, cannot be decoded, or has no audio in the time span.
    """
    pieces = _heard(path, start, end, rate, seek=True)
    if not pieces or pieces[0][0] > start:  # seeking may have gone too far
        pieces = _heard(path, start, end, rate, seek=False)
    placed = [(round((time - start) * rate), samples) for time, samples in pieces]
    last = max((at + len(samples) for at, samples in placed), default=0)
    length = last if math.isinf(end) else min(last, round((end - start) * rate))
    if length < 1:
        raise ClipError(
            f"{path}: has no audio between {start:.2f} and {end:.2f} s; correct the times or the "
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
    """Decodes the audio around a time span into continuous pieces with their start times."""
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
        frame.pts = None  # otherwise the resampler would fill gaps due to rounded time stamps
    return [resampled.to_ndarray()[0] for resampled in resampler.resample(frame)]


def read_frames(path: Path, start: float, end: float, count: int) -> np.ndarray:
    """Returns the frames shown in the middle of `count` equal parts of the time span.

    A frame is shown until the next one. A span that exceeds the video is cut at its end.

    Args:
      start, end: in seconds; `end` may be infinite.
      count: number of frames; if the video has fewer, some are repeated.

    Returns:
      uint8 [count, h, w, 3], RGB.

    Raises:
      ClipError: the file is missing, cannot be decoded, or has no video in the time span.
    """
    end = min(end, _end_of_film(path, start, end))
    if start >= end:
        raise ClipError(
            f"{path}: ends at {end:.2f} s, before the time span from {start:.2f} s; correct the "
            "times or the file"
        )
    times = [start + (k + 0.5) / count * (end - start) for k in range(count)]
    frames = _seen(path, times, start)
    if frames is None:  # seeking went too far
        frames = _seen(path, times, 0.0)
    if not frames:
        raise ClipError(f"{path}: none of its frames can be decoded; replace it")
    return np.stack(frames)


def _end_of_film(path: Path, start: float, end: float) -> float:
    """Returns when the last frame ends, or `end` if that is earlier, without decoding."""
    last = -math.inf
    with _opened(path, "video", start) as (container, stream, origin):
        shown = float(1 / stream.average_rate) if stream.average_rate else 0.0
        for packet in container.demux(stream):
            stamp = packet.dts if packet.pts is None else packet.pts
            if stamp is None:  # the empty packet at the end of the stream
                continue
            lasts = float((packet.duration or 0) * packet.time_base) or shown
            last = max(last, float(stamp * packet.time_base) - origin + lasts)
            if packet.dts is not None and float(packet.dts * packet.time_base) - origin > end:
                return end
    return last


def _seen(path: Path, times: list[float], start: float) -> list[np.ndarray] | None:
    """Returns the frames shown at `times`, ascending; None if decoding started after the first."""
    frames: list[np.ndarray] = []
    with _opened(path, "video", start) as (container, stream, origin):
        shown = None
        for frame in container.decode(stream):
            time = _time(frame, path) - origin
            if shown is None:
                if start > 0 and time > times[0]:
                    return None
                shown, height, width = frame, frame.height, frame.width
            # Time stamps are rounded, in Matroska by up to half a millisecond.
            while len(frames) < len(times) and times[len(frames)] < time - 1e-3:
                frames.append(_upright(shown, height, width))
            if len(frames) == len(times):
                return frames
            shown = frame
        while shown is not None and len(frames) < len(times):
            frames.append(_upright(shown, height, width))
    return frames if shown is not None or start <= 0 else None


def _upright(frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
    """Returns a frame as a player shows it: telephones write in the file how they were held."""
    pixels = frame.to_ndarray(format="rgb24", height=height, width=width)
    return np.rot90(pixels, round(frame.rotation / 90))


@contextlib.contextmanager
def _opened(
    path: Path, kind: Literal["audio", "video"], start: float
) -> Iterator[tuple[Any, Any, float]]:
    """Yields the container, its best stream of a kind, and the time stamp of the file's start."""
    try:
        check_not_pointer(path)
        with av.open(str(path), **_METADATA) as container:
            stream: Any = container.streams.best(kind)
            # Cover art is a video stream too.
            if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
                what = "audio" if kind == "audio" else "video"
                raise ClipError(f"{path}: has no {what}; replace it")
            if stream.codec_context is None:
                raise ClipError(f"{path}: FFmpeg has no decoder for its {kind}; convert it")
            # The start is negative if the file starts with samples that are not to be played.
            origin = max(0, container.start_time or 0) / av.time_base
            if start > _RUN_UP and container.format.name in _SEEKABLE:
                container.seek(int((origin + start - _RUN_UP) * av.time_base))
            yield container, stream, origin
    except InputError as error:
        raise ClipError(*error.args) from error
    # Besides FFmpeg's own errors, these are what PyAV raises for broken files.
    except (av.FFmpegError, OSError, ValueError, LookupError, RuntimeError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ClipError(f"{path}: cannot be decoded ({reason}); replace it") from error


def _time(frame: Any, path: Path) -> float:
    if frame.time is None:
        raise ClipError(f"{path}: has no time stamps; convert it, for example to MP4")
    return frame.time
