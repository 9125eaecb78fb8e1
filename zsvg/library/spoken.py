"""Find what is said in the videos of a library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from zsvg.grounding.grounder import Grounder
from zsvg.library.hits import Hit
from zsvg.library.said import Said
from zsvg.library.search import NARROW, TRIED, Answer, answers
from zsvg.library.sentences import Sentences
from zsvg.library.tables import Tables, Video
from zsvg.transcripts.lines import Line

_LOOKED_AT = 200  # lines, at first


def spoken(
    said: Said,
    sentences: Sentences,
    tables: Tables,
    grounder: Grounder,
    query: str,
    videos: Sequence[Video],
    *,
    seen: Mapping[str, Answer],
    most: int,
    per_video: int,
    all_words: bool,
) -> list[Hit]:
    """Return lines in which a sentence, or what it means, is said, best first.

    Args:
        said: What is said.
        sentences: What its lines were encoded by.
        tables: Where the features of the videos are.
        grounder: Asks them.
        query: The sentence.
        videos: Where to look, in the order of their names.
        seen: Content -> what its video answers, of those that were asked; the others are asked,
            so that a hit tells their fit, too.
        most: Most lines.
        per_video: Most of one video.
        all_words: A line has to hold all words of the sentence, instead of any, or its meaning.

    Returns:
        Of copies, those of the first one. What is said at one time in several languages is one hit.
    """
    lines = _lines(said, sentences, query, videos, most, per_video, all_words)
    known = dict(seen)
    lacking = {video.content for video, _ in lines} - known.keys()
    for answer in answers(
        tables, grounder, query, sorted(lacking), videos, top_k=TRIED, group=False
    ):
        known[answer.video.content] = answer
    return [
        Hit(
            answer=_of_copy(known[video.content], video),
            start=line.start,
            end=min(line.end, video.duration),
            by="said",
            words=line.text,
        )
        for video, line in lines
        if video.content in known  # its features may just have gone
    ]


def _lines(
    said: Said,
    sentences: Sentences,
    query: str,
    videos: Iterable[Video],
    most: int,
    per_video: int,
    all_words: bool,
) -> list[tuple[Video, Line]]:
    """Return the video of each line, and the line."""
    sources = {heard.key: heard.source for heard in said.heard()}
    places: dict[str, Video] = {}
    for video in videos:
        if video.key in sources:
            places.setdefault(sources[video.key], video)
    if not places:
        return []
    vector = sentences.encode([query])[0]
    least, narrow = sentences.least(vector), places if len(places) <= NARROW else None
    limit = _LOOKED_AT
    while True:
        found, more = said.find(query, vector, least, limit, narrow, all_words=all_words)
        lines = _capped(found, places, per_video)
        if len(lines) >= most or not more:
            return lines[:most]
        limit *= 4


def _capped(
    found: Iterable[tuple[str, Line]], places: Mapping[str, Video], per_video: int
) -> list[tuple[Video, Line]]:
    """Return the lines of some sources, at most so many of each, one at a time."""
    kept: dict[tuple[str, float, float], Line] = {}
    counts: dict[str, int] = {}
    for source, line in found:
        if source not in places or line.start >= places[source].duration:
            continue
        place = (source, line.start, line.end)
        if place in kept:
            kept[place] = replace(line, text=f"{kept[place].text} / {line.text}")
        elif counts.setdefault(source, 0) < per_video:
            counts[source] += 1
            kept[place] = line
    return [(places[source], line) for (source, *_), line in kept.items()]


def _of_copy(answer: Answer, video: Video) -> Answer:
    """Return what a video answers that has the content of another one."""
    if answer.video.key == video.key:
        return answer
    others = (str(answer.video.file), *answer.alike)
    return replace(
        answer, video=video, alike=tuple(name for name in others if name != str(video.file))
    )
