"""Other people's annotation files, converted to records: one function, `convert`.

    from zsvg.datasets import convert
    result = convert("charades-sta", "charades_sta_test.txt", durations="Charades_v1_test.csv")
    result.records, result.changes

Each reader is a function from the text of a file to rows, in the module of its form; `rules` says
what becomes of rows. Nothing is dropped or changed that `changes` does not name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from zsvg.datasets.detr_lines import detr, tvsum
from zsvg.datasets.durations import read_durations
from zsvg.datasets.lists import didemo, psvl
from zsvg.datasets.reading import read_text
from zsvg.datasets.rules import Converted, Row, settle
from zsvg.datasets.tacos import tacos
from zsvg.datasets.tempo import tempo
from zsvg.datasets.text_forms import charades_sta, spl, viga
from zsvg.datasets.video_maps import nextgqa, video_map
from zsvg.datasets.video_reloc import video_reloc
from zsvg.errors import ZsvgError

__all__ = ["NAMES", "Converted", "convert", "read_durations"]

_FORMS: dict[str, tuple[Callable[..., Iterator[Row]], str]] = {
    "charades-sta": (charades_sta, "lines `VID start end##sentence`; needs durations"),
    "viga": (viga, "lines `VID start end##glance##sentence`; needs durations"),
    "spl": (spl, "SPL's pseudo labels in the form of charades-sta; needs durations"),
    "charades-cd": (video_map, "JSON, VID -> video_duration, timestamps, sentences"),
    "charades-cg": (video_map, "JSON, VID -> duration, timestamps, sentences"),
    "activitynet": (video_map, "JSON, v_ID -> duration, timestamps, sentences"),
    "activitynet-cd": (video_map, "JSON, v_ID -> duration, timestamps, sentences"),
    "activitynet-cg": (video_map, "JSON, v_ID -> duration, timestamps, sentences"),
    "tfvtg": (video_map, "JSON, VID -> duration, timestamps, sentences"),
    "tacos": (tacos, "2D-TAN's JSON in frames, or TALL's text (which needs durations)"),
    "didemo": (didemo, "JSON list with `times` in 5-second segments"),
    "tempo": (tempo, "CSV with two events, their windows, and a caption that joins them"),
    "qvhighlights": (detr, "JSON lines of Moment-DETR, and lighthouse's files in that form"),
    "tvr": (detr, "JSON lines with desc_id, desc, vid_name, ts"),
    "tvsum": (tvsum, "lighthouse's JSON lines; durations in 2-second clips"),
    "youtube-highlights": (detr, "lighthouse's JSON lines"),
    "psvl": (psvl, "JSON list with `timestamp` fractions and `tokens` or `sentence`"),
    "nextgqa": (nextgqa, "JSON, VID -> location of question numbers; needs questions"),
    "video-reloc": (
        video_reloc,
        "JSON list with location, groundtruth in features; needs durations and lengths",
    ),
}

NAMES: Mapping[str, str] = MappingProxyType({name: text for name, (_, text) in _FORMS.items()})
"""Name of each form -> what its files look like, in one line."""


def convert(
    name: str,
    path: str | Path,
    *,
    durations: str | Path | None = None,
    as_is: bool = False,
    questions: str | Path | None = None,
    lengths: str | Path | None = None,
) -> Converted:
    """Read an annotation file of a known form, gzipped or not.

    Args:
        name: One of `NAMES`.
        path: The annotation file.
        durations: File with the lengths of the videos, see `read_durations`. Forms without
            durations need it; for others it replaces the durations of the videos that it has.
        as_is: Keep windows (in seconds) and sentences as written, drop nothing, and report what
            is odd as "noticed: ...".
        questions: The table with NExT-GQA's questions; for that form only.
        lengths: The file with the frames of the videos of video re-localization; for that form
            only.

    Returns:
        Records in the order of the file, and what was changed, dropped or noticed.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: a file or row is malformed, or a duration is missing.
        ZsvgError: unknown name, or `questions` or `lengths` missing or given to another form.
    """
    if name not in _FORMS:
        raise ZsvgError(f"unknown annotation form {name!r}; the forms are {', '.join(_FORMS)}")
    if questions is not None and name != "nextgqa":
        raise ZsvgError(f"{name} files hold their sentences; `questions` is for nextgqa only")
    if lengths is not None and name != "video-reloc":
        raise ZsvgError(f"{name} files do not count in features; `lengths` is for video-reloc only")
    text, reader = read_text(path), _FORMS[name][0]
    seconds = None if durations is None else read_durations(durations)
    if name == "nextgqa":
        reader = partial(nextgqa, questions=questions)
    elif name == "video-reloc":
        reader = partial(video_reloc, lengths=lengths, durations=seconds)
    return settle(reader(text, path), path=path, durations=seconds, as_is=as_is)
