"""What a visitor says of moments of the library, and a model that learns from it."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from zsvg import ZsvgError
from zsvg.files import sha256_json
from zsvg.moments import iou
from zsvg.records import FROM_FRAMES, Annotation

from .bench import Bench, Entry, Verdict
from .jobs import Job, check_over
from .labelling import LIBRARY
from .searching import SAID, Shown, hit_of, search, shelf_of, shown_of, use_learned
from .tuning import run
from .visit import Site, Visit
from .work import save

if TYPE_CHECKING:
    from zsvg.library.hits import Hit
    from zsvg.library.known import Part

RECIPE = "coop"
STEPS = 100
WEIGHT = 5.0
"""What one judged moment counts, where one of the others counts 1."""
SAME = 0.5
OTHERS, HELD_OUT = 24, 6
"""Videos of the library whose events are learned from beside what was judged, and by which the best
step is chosen. They have no sentences: their frames stand in for them. Without them a handful of
moments would be all that the model knows."""


def judge(visit: Visit, shown: Shown, number: int, verdict: str) -> None:
    """Take what a visitor says of a moment on a wall, or take it back.

    "Yes" is a label: the sentence describes the moment. "No" is a rejected one, which `begin` takes
    as a hard negative.

    Args:
        visit: Whose verdict.
        shown: The wall; its sentence is what the moment is judged by.
        number: Of the moment, from 0.
        verdict: "yes", "no", or "" for neither.

    Raises:
        ZsvgError: There is no such moment, or no sentence that it could be judged by.
    """
    hit, query = hit_of(shown, number), shown.wanted.text
    if verdict not in ("yes", "no", ""):
        raise ZsvgError(f"{verdict!r}: say yes or no")
    if not query or hit.by == SAID:
        raise ZsvgError("yes and no are about what is seen and a sentence; search by one")
    label = _label(hit, query)
    before = visit.benches.get(LIBRARY)
    entries = [e for e in (before.entries if before else ()) if not _same(e.label, label)]
    if verdict:
        said: Verdict = "accepted" if verdict == "yes" else "rejected"
        entries.append(Entry(label=label, written=label, verdict=said))
    if before is None and not entries:
        return
    if before is None:
        before = visit.benches[LIBRARY] = Bench({hit.video.vid: hit.video.file}, ())
    before.videos[hit.video.vid] = hit.video.file
    before.change(sorted(entries, key=lambda entry: (entry.label.vid, entry.window[0])))
    if visit.desk is not None:
        save(visit.desk / LIBRARY, before, visit.hidden)


def verdicts(visit: Visit, shown: Shown) -> list[str]:
    """Return what was said of each moment on a wall: "yes", "no" or "".

    Another model gives a moment other ends; it is the same while they share `SAME` of both.
    """
    bench = visit.benches.get(LIBRARY)
    said = bench.entries if bench else []
    labels = [_label(hit, shown.wanted.text) for hit in shown.hits]
    found = [next((e for e in said if _same(e.label, label)), None) for label in labels]
    return ["" if e is None else "no" if e.verdict == "rejected" else "yes" for e in found]


def counts(visit: Visit) -> tuple[int, int]:
    """Return how many moments a visitor has said yes to, and no."""
    bench = visit.benches.get(LIBRARY)
    if bench is None:
        return 0, 0
    found = bench.counts()
    return found["accepted"] + found["fixed"], found["rejected"]


def said_of(site: Site, visit: Visit, sentence: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Return the moments of the library that a visitor has said yes to, and no, by a sentence."""
    bench, videos = visit.benches.get(LIBRARY), shelf_of(site).videos()
    yes: list[Part] = []
    no: list[Part] = []
    for entry in bench.entries if bench else ():
        if entry.label.query != sentence or entry.verdict == "open":
            continue
        if (content := _found(site, entry.label)) in videos:
            (no if entry.verdict == "rejected" else yes).append((content, *entry.window))
    return tuple(yes), tuple(no)


def can_rank_anew(site: Site, visit: Visit) -> bool:
    """Whether anything was said of moments by the sentence of a visitor's wall."""
    wanted = visit.shown.wanted if visit.shown else None
    return wanted is not None and wanted.judgeable and any(said_of(site, visit, wanted.text))


def rank_anew(site: Site, visit: Visit) -> Shown:
    """Search by the sentence of a visitor's wall again, moved by what was said of moments by it.

    Nothing is trained; a yes alone will do, and so will a no. Where a tuned model ranks, its head
    is not asked (`zsvg.library.feedback.Judged.ask`): it takes words, which these are not any more.

    Raises:
        ZsvgError: Nothing was said by that sentence, or there is none that is about what is seen.
    """
    wanted = shown_of(visit).wanted
    if not wanted.judgeable:
        raise ZsvgError("yes and no are about what is seen and a sentence; search by one")
    yes, no = said_of(site, visit, wanted.text)
    if not (yes or no):
        raise ZsvgError("say yes or no to a moment of this search first")
    return search(site, visit, replace(wanted, yes=yes, no=no))


def begin(site: Site, visit: Visit) -> None:
    """Start to tune on what was judged; the library is asked by the result.

    Training has no labels for "not here". But it sets a moment apart from all else in its video,
    so the moments with a "no" are put behind the video of each "yes" to the same sentence.

    Raises:
        ZsvgError: Nothing was said yes to, or a run is under way.
    """
    check_over(visit.tuning)
    shelf, bench = shelf_of(site), visit.benches.get(LIBRARY)
    contents = {v.vid: v.content for v in shelf.library.videos() if v.usable and shelf.shows(v)}
    content = partial(_found, site)
    entries = bench.entries if bench else ()
    judged = [entry for entry in entries if content(entry.label) in shelf.videos()]
    yes = [e.label for e in judged if e.verdict in ("accepted", "fixed")]
    no = [e.label for e in judged if e.verdict == "rejected"]
    if not yes:
        raise ZsvgError("say yes to a moment first: no alone does not tell what is meant")
    others, held = _events(site, {content(entry.label) for entry in judged})
    videos: dict[str, Any] = {a.vid: {"content": contents[a.vid]} for a in (*others, *held)}
    labels = []
    for label in yes:
        wrong = [other for other in no if other.query == label.query]
        behind = [(content(other), *other.relevant_windows[0]) for other in wrong]
        labels.append(replace(label, vid=f"{label.vid}+{label.qid}"))
        videos[labels[-1].vid] = {"content": content(label), "behind": behind}
    visit.tuning = run(
        site,
        visit,
        labels=[*labels, *others],
        validation=held,
        videos=videos,
        settings={"recipe": RECIPE, "head": "", "steps": STEPS, "true_weight": WEIGHT},
        library=shelf.library.folder.resolve(),
    )


def is_ours(job: Job | None) -> bool:
    """Whether a tuning run learns from what was judged here."""
    return job is not None and bool(job.work.get("library"))


def take(site: Site, visit: Visit) -> bool:
    """Let what has just been tuned rank the wall, once; return whether it does.

    Raises:
        ZsvgError: The library's frames were encoded with prompts that the result lacks.
    """
    job = visit.tuning
    if job is None or not is_ours(job) or job is visit.lesson or job.look().state != "done":
        return False
    visit.lesson = job
    use_learned(site, visit)
    return True


def _label(hit: Hit, query: str) -> Annotation:
    start, end = round(hit.start, 3), round(min(hit.end, hit.video.duration), 3)
    key = sha256_json([hit.video.content, start, end, query])
    return Annotation(
        qid=f"{hit.video.vid}-{key[:12]}",
        query=query,
        vid=hit.video.vid,
        duration=hit.video.duration,
        relevant_windows=((start, end),),
        extra={"content": hit.video.content},  # which copies share
    )


def _content(label: Annotation) -> str:
    """Return the content of a label's video; "" of one that was added in the Label tab."""
    return str(label.extra.get("content", ""))


def _found(site: Site, label: Annotation) -> str:
    """Return the content of a label's video, by its name where the label does not tell."""
    if content := _content(label):
        return content
    shelf = shelf_of(site)
    named = (v for v in shelf.library.videos() if v.vid == label.vid)
    return next((v.content for v in named if v.usable and shelf.shows(v)), "")


def _same(label: Annotation, other: Annotation) -> bool:
    contents = _content(label), _content(other)
    video = contents[0] == contents[1] if all(contents) else label.vid == other.vid
    if not video or label.query != other.query:
        return False
    return float(iou(label.relevant_windows, other.relevant_windows).max()) >= SAME


def _events(site: Site, judged: set[str]) -> tuple[list[Annotation], list[Annotation]]:
    """Return events to learn from and to choose a step by, of videos that nobody judged if any."""
    shelf = shelf_of(site)
    videos = list(shelf.videos().values())
    random.Random(0).shuffle(videos)
    videos.sort(key=lambda video: video.content in judged)  # these last
    chosen = videos[: OTHERS + HELD_OUT]
    events = shelf.library.tables.events_of([video.content for video in chosen])
    labels = [
        [
            Annotation(
                qid=f"{video.vid}-event-{number}",
                query=FROM_FRAMES,
                vid=video.vid,
                duration=video.duration,
                relevant_windows=((event["start"], min(event["end"], video.duration)),),
                extra={"source": {"form": "event"}},
            )
            for number, event in enumerate(events.get(video.content, ()))
        ]
        for video in chosen
    ]
    return list(chain(*labels[HELD_OUT:])), list(chain(*labels[:HELD_OUT]))
