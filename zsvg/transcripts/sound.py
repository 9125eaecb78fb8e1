"""The sound of a video in stretches of mono samples, in constant memory, on the film's time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from av import AudioResampler
from av.error import FFmpegError
from numpy.typing import NDArray

from zsvg.errors import SilentError, TranscriptError
from zsvg.transcripts.streams import in_time
from zsvg.video.clock import timeline
from zsvg.video.containers import open_container, reason

_log = logging.getLogger(__name__)

Samples = NDArray[np.float32]

_GAP = 0.1  # seconds by which the clock of the sound may wander before it is believed
_HUSH = 0.2  # seconds of quiet at which a stretch is best cut: between words


@dataclass(frozen=True, eq=False)
class Stretch:
    """Sound without a gap.

    Attributes:
        start: When it begins, seconds of what the video shows; 0 or later.
        samples: (n,) float32 in [-1, 1], mono.
        rate: Samples per second.
    """

    start: float
    samples: Samples
    rate: int

    @property
    def length(self) -> float:
        """Seconds."""
        return len(self.samples) / self.rate


def stretches(video: str | Path, rate: int = 16_000, longest: float = 30.0) -> Iterator[Stretch]:
    """Yield the sound of a video's default audio stream, one stretch after the other.

    A stretch that would become too long is cut where it is quietest in its last sixth, so that few
    words are cut. Where the file has a gap, a new one begins. No more than one is held in memory.

    Args:
        video: The video.
        rate: Samples per second.
        longest: Seconds that a stretch has at most.

    Raises:
        TranscriptError: It has no audio stream, or none that can be decoded.
        VideoError: It cannot be opened as a video.
    """
    room = int(longest * rate)
    pieces: list[Samples] = []
    start, held = 0.0, 0
    for begins, samples in _heard(video, rate):
        if begins is not None:
            yield from _whole(start, pieces, rate)
            start, pieces, held = begins, [], 0
        pieces.append(samples)
        held += len(samples)
        while held > room:
            waiting = np.concatenate(pieces)
            place = _quietest(waiting[:room], rate)
            yield from _whole(start, [waiting[:place]], rate)
            start, pieces, held = start + place / rate, [waiting[place:]], held - place
    yield from _whole(start, pieces, rate)


def _whole(start: float, pieces: list[Samples], rate: int) -> Iterator[Stretch]:
    """Yield a stretch of what is heard from 0 on, if anything is: codecs have a lead-in."""
    samples = np.concatenate([np.zeros(0, np.float32), *pieces])
    samples = samples[max(round(-start * rate), 0) :]
    if len(samples):
        yield Stretch(max(start, 0.0), samples, rate)


def _quietest(samples: Samples, rate: int) -> int:
    """Return the sample in the last sixth around which the sound is quietest."""
    hush = min(int(_HUSH * rate), len(samples) // 12)
    tail = len(samples) - len(samples) // 6
    power = np.cumsum(np.square(samples[tail:], dtype=np.float64))
    within = power[hush:] - power[:-hush]
    # The last of equals: where all is silent, the stretch stays long.
    return tail + len(within) - 1 - int(within[::-1].argmin()) + hush // 2


def _heard(video: str | Path, rate: int) -> Iterator[tuple[float | None, Samples]]:
    """Yield (when they begin, None where the last ones ended; samples)."""
    with open_container(video) as container:
        stream = container.streams.best("audio")
        if stream is None:
            raise SilentError(
                f"{video}: no audio stream, so nothing can be heard; give a video with sound, or "
                "subtitles beside it"
            )
        if stream.codec_context is None:
            raise TranscriptError(f"{video}: no decoder for its sound; re-encode it as AAC")
        # Where the clock of the file jumps, its sound goes on: only the beginning is believed.
        steady = timeline(video).steady
        flow = _Flow(rate)
        reached: float | None = None
        for frame, shift in _decoded(video, container, stream):
            time = None if frame.pts is None else float(frame.pts * frame.time_base) - shift
            wanders = steady and time is not None and abs(time - (reached or 0.0)) > _GAP
            begins = None
            if reached is None or wanders:
                if reached is not None:
                    yield None, flow.end()
                begins = reached = time or 0.0
            reached += frame.samples / frame.sample_rate
            yield begins, flow.add(frame)
        if reached is not None:
            yield None, flow.end()


def _decoded(video: str | Path, container: Any, stream: Any) -> Iterator[tuple[Any, float]]:
    """Yield (frame, seconds that its clock is ahead); what is damaged is left out.

    Raises:
        TranscriptError: Not one frame can be decoded.
    """
    shift, refused, count = 0.0, "", 0
    for packet, shift in in_time(video, container, [stream]):
        try:
            for frame in packet.decode():
                count += 1
                yield frame, shift
        except FFmpegError as error:
            refused = refused or f" ({reason(error)})"
    try:
        for frame in stream.decode(None):
            count += 1
            yield frame, shift
    except FFmpegError as error:
        refused = refused or f" ({reason(error)})"
    if not count:
        raise TranscriptError(f"{video}: its sound cannot be decoded{refused}; re-encode it as AAC")
    if refused:
        _log.warning("%s: parts of its sound cannot be decoded%s", video, refused)


class _Flow:
    """Makes frames of any form into mono samples of one rate, across the borders of frames."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._form: tuple[str, str, int] | None = None
        self._resampler: Any = None

    def add(self, frame: Any) -> Samples:
        """Return the samples that are ready."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        before = self.end() if form != self._form else np.zeros(0, np.float32)
        if self._resampler is None:
            self._form = form
            self._resampler = AudioResampler(format="flt", layout="mono", rate=self.rate)
        frame.pts = None  # times are ours
        return np.concatenate([before, self._resampled(frame)])

    def end(self) -> Samples:
        """Return the samples that are still held back, and begin anew."""
        rest = np.zeros(0, np.float32) if self._resampler is None else self._resampled(None)
        self._resampler = None
        return rest

    def _resampled(self, frame: Any) -> Samples:
        made = [piece.to_ndarray()[0] for piece in self._resampler.resample(frame)]
        return np.concatenate([np.zeros(0, np.float32), *made])
