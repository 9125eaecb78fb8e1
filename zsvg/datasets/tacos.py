"""TACoS, whose times are frames: 2D-TAN's JSON and the text files of TALL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from os.path import splitext
from pathlib import Path

from zsvg.datasets.reading import numbered_lines, written_number
from zsvg.datasets.rules import Row
from zsvg.datasets.video_maps import frame_map
from zsvg.errors import RecordError
from zsvg.strict_json import quoted

FPS = 29.4
"""Frames per second of all 127 videos, which the text files leave out."""

_SEGMENT = re.compile(r"(.+?)_([0-9]+)_([0-9]+):(.*)", re.DOTALL)


def tacos(text: str, path: str | Path) -> Iterator[Row]:
    """Read 2D-TAN's JSON (`video_maps.frame_map`) or TALL's text, decided by content.

    TALL's lines are `VIDEO.avi_startframe_endframe:sentence#sentence#...#`: all sentences of a
    line share its window. Seconds are frames / 29.4; the name loses its extension; there are no
    durations (a 2D-TAN file has them).

    TACoS (Regneri et al., TACL 2013) in the split of TALL (Gao et al., ICCV 2017; jiyanggao/TALL).
    """
    return frame_map(text, path) if text.lstrip().startswith("{") else _segments(text, path)


def _segments(text: str, path: str | Path) -> Iterator[Row]:
    for where, line in numbered_lines(text, path):
        match = _SEGMENT.fullmatch(line)
        if match is None:
            raise RecordError(
                f'{where}: {quoted(line)} is not "VIDEO_start_end:sentence#sentence#"'
            )
        name, start, end, rest = match.groups()
        window = (
            written_number(start, "start", where) / FPS,
            written_number(end, "end", where) / FPS,
        )
        sentences = rest.split("#")
        if len(sentences) > 1 and not sentences[-1].strip():
            sentences.pop()  # "#" ends a sentence; there is none after the last one
        for index, sentence in enumerate(sentences, start=1):
            yield Row(
                where=f"{where}, sentence {index}",
                vid=splitext(name)[0],
                query=sentence,
                windows=(window,),
            )
