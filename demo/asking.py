"""Querying the models on a visitor's video: the work behind the Ground tab."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zsvg import EncodedVideo, Grounder, ZsvgError
from zsvg.files import file_stem, write_json
from zsvg.grounding.editors import TIMELINES, check_editors
from zsvg.grounding.writers import write_moments
from zsvg.records import Prediction
from zsvg.video.writing import cut

from .previews import Clip, Shown, check, keep, open_clip, show
from .samples import render_sample
from .timeline import Answer
from .visit import Site, Visit, note_state

GROUND = "ground"  # folder of the video, at the visitor's desk
YOURS = "yours, tuned here"
_SIDES = ("a", "b", "c")


def open_video(site: Site, visit: Visit, file: str | Path | None) -> Clip:
    """Make a file the visitor's video.

    Raises:
        ZsvgError: There is none, or the page does not take it.
    """
    if not file:
        raise ZsvgError("upload a video first")
    check(Path(file), site.limits)  # before the video that is there has to make room
    path = keep(file, site.desk(visit) / GROUND)
    clip = open_clip(path, site.limits)
    if visit.open != path.name:
        forget(site, visit)
    visit.clip, visit.answers, visit.open, visit.found = clip, [], path.name, None
    visit.encoded.clear()
    note_state(visit)
    return clip


def reopen(site: Site, visit: Visit) -> Clip | None:
    """Return the visitor's video, after a restart too; None where there is none."""
    if visit.clip is None and visit.open:
        file = site.desk(visit) / GROUND / visit.open
        visit.clip = open_clip(file, site.limits) if file.is_file() else None
    return visit.clip


def open_sample(site: Site, visit: Visit, name: str) -> tuple[Clip, list[str]]:
    """Make a sample the visitor's video; return it with sentences to ask.

    Raises:
        ZsvgError: There is no such sample.
    """
    file, sentences = render_sample(site, name)
    return open_video(site, visit, file), sentences


def forget(site: Site, visit: Visit) -> None:
    """Leave the visitor without a video; the page's own copy of it is deleted."""
    if visit.open:
        (site.desk(visit) / GROUND / visit.open).unlink(missing_ok=True)
    visit.clip, visit.answers, visit.open, visit.found = None, [], "", None
    visit.encoded.clear()
    note_state(visit)


def ask(site: Site, visit: Visit, text: str, top_k: int) -> list[Answer]:
    """Query all models with every line of a text; predictions of one query are adjacent.

    Raises:
        ZsvgError: There is no video or no sentence, or the page takes less.
    """
    clip, limits = reopen(site, visit), site.limits
    if clip is None:
        raise ZsvgError("upload a video first, or take a sample")
    if not 1 <= top_k <= limits.answers:
        raise ZsvgError(f"{top_k} answers; ask for 1 to {limits.answers}")
    lines = questions(text, limits.sentences, limits.characters)
    answers = []
    for line in lines:
        for side, (name, grounder) in zip(_SIDES, models(site, visit).items(), strict=False):
            encoded = _encode(site, visit, clip, grounder)
            found = grounder.ground(encoded, line, top_k)
            answers.append(Answer(model=name, side=side, grounding=found))
    visit.answers = answers
    return answers


def shown(
    site: Site, visit: Visit, clip: Clip, on_progress: Callable[[float, float], object]
) -> Shown:
    """Return what a browser plays of the visitor's video."""
    moments = (m for answer in visit.answers for m in answer.grounding.moments)
    spans = [(moment.start, moment.end) for moment in moments]
    return show(clip, site.home(visit) / "shown", spans, on_progress)


def models(site: Site, visit: Visit) -> dict[str, Grounder]:
    """Return who answers a visitor: the models of the page, or the first beside the tuned one."""
    if visit.tuned is None:
        return dict(site.models)
    return {**dict(list(site.models.items())[:1]), YOURS: site.tuned.of(visit.tuned)}


def questions(text: str, most: int, characters: int) -> list[str]:
    """Return the sentences of a text, one per line.

    Raises:
        ZsvgError: There is none, or too many, or one is too long.
    """
    lines = list(dict.fromkeys(" ".join(line.split()) for line in text.splitlines()))
    lines = [line for line in lines if line]
    if not lines:
        raise ZsvgError("write a sentence that describes the moment")
    if len(lines) > most:
        raise ZsvgError(f"{len(lines)} sentences at once; ask up to {most}")
    longest = max(map(len, lines))
    if longest > characters:
        raise ZsvgError(f"a sentence has {longest} characters; at most {characters}")
    return lines


def to_json(visit: Visit) -> dict[str, Any]:
    """Return the visitor's answers as JSON values."""
    clip = visit.clip
    return {
        "video": clip.vid if clip else None,
        "duration": round(clip.info.duration, 3) if clip else None,
        "answers": [answer.to_json() for answer in visit.answers],
    }


def write_files(site: Site, visit: Visit) -> list[Path]:
    """Write the answers as .srt and .vtt (the last model's) and as .json (everybody's)."""
    name, predictions = _last_answers(site, visit)
    files = [name.with_name(f"{name.name}{suffix}") for suffix in (".srt", ".vtt", ".json")]
    for file in files[:2]:
        write_moments(file, predictions)
    write_json(files[2], json.loads(json.dumps(to_json(visit))))
    return files


def write_timelines(site: Site, visit: Visit) -> list[Path]:
    """Write the last model's answers for editors; nothing where no moment or package is there.

    They name the video alone: where it lies on the server is of no use beside the visitor's own.
    """
    name, predictions = _last_answers(site, visit)
    try:
        check_editors(name.name)
        return [
            file
            for form in TIMELINES
            for file in write_moments(name.with_name(f"{name.name}.{form}"), predictions)
        ]
    except ZsvgError:
        return []


def _last_answers(site: Site, visit: Visit) -> tuple[Path, list[Prediction]]:
    """Return the last model's answers, and where files of them go, without the suffix."""
    last, clip = visit.answers[-1], visit.clip
    vid = last.grounding.vid
    place = {"path": str(clip.path), "url": quote(clip.path.name)} if clip else {}
    predictions = [
        answer.grounding.prediction(f"{vid}-{number}", vid, **place)
        for number, answer in enumerate(visit.answers)
        if answer.model == last.model
    ]
    return site.home(visit) / "answers" / file_stem(vid), predictions


def cut_out(site: Site, visit: Visit, answer: int, rank: int) -> Path:
    """Save one moment of the last answers as a clip.

    Args:
        site: The page.
        visit: Whose answers.
        answer: Index of the answer, from 0.
        rank: Index of the moment, from 0.

    Raises:
        ZsvgError: There is no such moment.
    """
    clip = visit.clip
    moments = visit.answers[answer].grounding.moments if 0 <= answer < len(visit.answers) else ()
    if clip is None or not 0 <= rank < len(moments):
        raise ZsvgError("there is no such moment; ask first")
    moment = moments[rank]
    name = f"{file_stem(clip.vid)}-{moment.start:.1f}-{moment.end:.1f}.mp4"
    out = site.home(visit) / "clips" / name
    cut(clip.path, moment.start, moment.end, out)
    return out


def features_key(grounder: Grounder) -> str:
    """Return by what a visitor's features are kept: models with the same one share them."""
    return f"{grounder.encoder} {grounder.fps} {grounder.framing}"


def _encode(site: Site, visit: Visit, clip: Clip, grounder: Grounder) -> EncodedVideo:
    """Return the features of the visitor's video, cached for further queries."""
    key = features_key(grounder)
    if key not in visit.encoded:
        visit.encoded[key] = grounder.encode(clip.path, cache=site.features, allow_truncated=True)
    return visit.encoded[key]
