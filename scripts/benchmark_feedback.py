"""Yes and no on ten hits of a library: how many of the query's other moments come to the front.

    python scripts/benchmark_feedback.py --out runs/feedback --seeds 0 1 2 --tuned 3

A library is 120 test videos of a microworld domain. Queries name a thing ("a red star"), a shape
("a star"), or what a shape does ("a star spins"); true are all events of the scripts that the words
describe, four or more, and a thing that stands by through a whole video is one more, which any hit
in it meets. The first ten hits are judged by the truth: one with an IoU of .5 with a true moment
gets a yes, else a no. R@10 is then the share of the query's other true moments, those without a
judged hit, among ten hits (at most ten can be): "left out" are the ten after what was judged is
taken off the list, which is harder, since without any feedback those are the next ten; "on the
wall" are the first ten as they are shown, where what was judged takes its places. Queries count
that have a yes and another true moment. Rows:

* no feedback;
* **by verdicts**: `zsvg.library.feedback`, at once; with yes and no exchanged; with the verdicts of
  another query; with yes or no alone;
* tuned: what the page does in its minute ("Tune on them"), by the page's own functions, on the
  first TUNED queries (drawn) of each library, with the same two controls.

Intervals are paired bootstraps over queries, against no feedback.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from zsvg.cli.terminal import progress, table
from zsvg.evaluation.intervals import gain
from zsvg.files import locked, write_json
from zsvg.grounding.answers import EncodedVideo
from zsvg.grounding.ranking import centred
from zsvg.library.candidates import direction
from zsvg.library.feedback import Judged, judged
from zsvg.library.library import Library
from zsvg.library.rows import unpacked
from zsvg.microworld.domains import DEVELOPMENT, look_of
from zsvg.microworld.language import (
    COLOUR_WORDS,
    SHAPE_WORDS,
    WORDINGS,
    action_sentence,
    phrase_sentence,
)
from zsvg.microworld.world import plan_video, write_world
from zsvg.moments import iou
from zsvg.resources import demo_module

VIDEOS, FEWEST, JUDGED, ASKED = 120, 4, 10, 30
Moment = tuple[str, float, float]
"""Name of a video, start and end in seconds."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """A sentence, its true moments, and videos that are one as a whole."""

    kind: str
    text: str
    events: tuple[Moment, ...]
    whole: frozenset[str]

    def met(self, hit: Moment) -> Moment | None:
        """Return the true moment that a hit shows."""
        vid, *span = hit
        for event in self.events:
            if event[0] == vid and iou([span], [event[1:]])[0, 0] >= 0.5:
                return event
        return (vid, 0.0, 0.0) if vid in self.whole else None

    @property
    def truth(self) -> set[Moment]:
        """All true moments; (vid, 0, 0) is a whole video."""
        return {*self.events, *((vid, 0.0, 0.0) for vid in self.whole)}


@dataclass(kw_only=True)
class Case:
    """A query, what was judged of its first hits, and what each row finds."""

    name: str
    query: Query
    hits: list[Moment]
    found: dict[str, list[Moment]] = field(default_factory=dict)

    @property
    def verdicts(self) -> list[bool]:
        """Whether each judged hit is right."""
        return [self.query.met(hit) is not None for hit in self.hits[:JUDGED]]

    @property
    def others(self) -> set[Moment]:
        """True moments without a judged hit."""
        return self.query.truth - {self.query.met(hit) for hit in self.hits[:JUDGED]}

    def said(self, yes: bool) -> list[Moment]:
        """Return the hits with one of the verdicts."""
        return [hit for hit, right in zip(self.hits, self.verdicts, strict=False) if right == yes]

    def recall(self, hits: Sequence[Moment], *, left_out: bool) -> float:
        """Return the R@10, percent, of the other true moments."""
        others = self.others
        if left_out:
            hits = [hit for hit in hits if not any(same(hit, old) for old in self.hits[:JUDGED])]
        met = {self.query.met(hit) for hit in hits[:10]} & others
        return 100 * len(met) / min(10, len(others))


def same(hit: Moment, other: Moment) -> bool:
    """Whether two hits show one moment."""
    return hit[0] == other[0] and iou([hit[1:]], [other[1:]])[0, 0] >= 0.5


def queries(domain: str, seed: int) -> Iterator[Query]:
    """Yield what is asked of a library: all that enough of its events answer."""
    scenes = [plan_video(domain, "test", seed, index)[0] for index in range(VIDEOS)]
    events: dict[tuple[str, str, str], list[Moment]] = defaultdict(list)
    still: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for scene in scenes:
        for event in scene.events:
            shape, colour = event.thing.shape, event.thing.colour
            thing, deed = ("thing", shape, colour), ("deed", shape, event.action)
            for key in (thing, ("shape", shape, ""), deed):
                events[key].append((scene.vid, event.start, event.end))
        for other in scene.distractors:
            shape, colour = other.thing.shape, other.thing.colour
            for key in (("thing", shape, colour), ("shape", shape, "")):
                still[key].add(scene.vid)
    wording, rng = WORDINGS[look_of(domain).wording], np.random.default_rng([seed, 6])
    for (kind, shape, other), moments in sorted(events.items()):
        noun = f"the {SHAPE_WORDS[shape][0]}"
        if kind == "thing":
            noun = f"the {COLOUR_WORDS[other][0]} {SHAPE_WORDS[shape][0]}"
        if kind == "deed":
            text = action_sentence(rng, noun, other, wording)
        else:
            text = phrase_sentence(rng, noun, wording)
        if len(moments) >= FEWEST:
            whole = frozenset(still[kind, shape, other])
            yield Query(kind=kind, text=text, events=tuple(moments), whole=whole)


def moments_of(hits: Sequence[Any]) -> list[Moment]:
    """Return what hits show."""
    return [(hit.video.vid, float(hit.start), float(hit.end)) for hit in hits]


class Shop:
    """A library of a domain and a seed, with the page that would show it."""

    def __init__(self, folder: Path, domain: str, seed: int) -> None:
        self.folder, self.seed = folder / f"{domain}-{seed}", seed
        write_world(self.folder, domain=domain, videos=VIDEOS, split="test", seed=seed)
        self.library = Library.open(self.folder / "library", "micro")
        self.library.add(self.folder / "videos")
        self.contents = {video.vid: video.content for video in self.library.videos()}
        rows, encoder = self.library.tables.features([*self.contents.values()]), self.library.space
        self.videos = {
            vid: EncodedVideo(vid=vid, frames=unpacked(rows[content], vid), encoder=encoder.encoder)
            for vid, content in self.contents.items()
        }
        self.centred = {vid: centred(video.frames.features) for vid, video in self.videos.items()}
        self.cases = []
        for number, query in enumerate(queries(domain, seed)):
            hits = self.search(query.text)
            case = Case(name=f"{domain}-{seed}-{number}", query=query, hits=hits)
            if any(case.verdicts) and case.others:
                self.cases.append(case)

    def search(self, question: str | Judged) -> list[Moment]:
        """Return what the library finds: the best moment of each video, by their fits."""
        grounder = self.library.grounder
        plain = isinstance(question, str)
        towards = direction(grounder, question) if plain else question.direction
        fits = {vid: float((clips @ towards).max()) for vid, clips in self.centred.items()}
        found = []
        for vid in sorted(fits, key=lambda vid: (-round(fits[vid], 6), vid))[:ASKED]:
            video = self.videos[vid]
            best = (
                grounder.ground(video, question, 1) if plain else question.ask(grounder, video, 1)
            )
            found.append((vid, best.moments[0].start, best.moments[0].end))
        return found

    def by_verdicts(self) -> None:
        """Search all queries again by what was judged."""

        def again(case: Case, yes: Sequence[Moment], no: Sequence[Moment]) -> list[Moment]:
            parts = [[(self.contents[vid], *span) for vid, *span in some] for some in (yes, no)]
            asked = judged(self.library.tables, self.library.grounder, case.query.text, *parts)
            return self.search(asked)

        for case, other in zip(self.cases, self.cases[1:] + self.cases[:1], strict=True):
            yes, no = case.said(True), case.said(False)
            case.found |= {
                "by verdicts": again(case, yes, no),
                "by verdicts, yes alone": again(case, yes, ()),
                "by verdicts, no alone": again(case, (), no),
                "by verdicts, yes and no exchanged": again(case, no, yes),
                "by another query's verdicts": again(case, other.said(True), other.said(False)),
            }

    def sample(self, count: int) -> list[Case]:
        """Return the queries that are tuned on."""
        order = np.random.default_rng([self.seed, 7]).permutation(len(self.cases))
        return [self.cases[place] for place in order[:count]]

    def tuned(self, count: int, row: str) -> bool:
        """Tune on queries as the page does; return whether all that is wanted is there."""
        chosen = self.sample(count)
        for case, other in zip(chosen, chosen[1:] + chosen[:1], strict=True):
            file = self.folder / "tuned" / f"{row} {case.name}.json"
            with locked(file.with_suffix(".lock")) as ours:
                if ours and not file.exists():
                    write_json(file, self.page(case, other, exchanged=row == "exchanged"))
            if not file.exists():
                return False
            read = json.loads(file.read_text())
            own, others = ([(vid, *span) for vid, *span in read[name]] for name in ("own", "other"))
            case.found["tuned" if row == "tuned" else "tuned, yes and no exchanged"] = own
            if row == "tuned":
                other.found["tuned on another query"] = others
        return True

    def page(self, case: Case, other: Case, *, exchanged: bool) -> dict[str, list[Moment]]:
        """Judge a wall, tune, and search for this query and another one."""
        learning, searching, visits = map(demo_module, ("learning", "searching", "visit"))
        site = visits.Site(
            {"": self.library.grounder}, captioner=None, videos=None, device="cpu",
            limits=visits.Limits(), shelf=demo_module("shelf").Shelf(self.library),
        )  # fmt: skip
        visit = visits.Visit()

        def wall(query: Query) -> Any:
            return searching.search(site, visit, searching.Wanted(text=query.text, by="seen"))

        shown = wall(case.query)
        if moments_of(shown.hits[:JUDGED]) != case.hits[:JUDGED]:
            raise RuntimeError(f"{case.name}: the page shows other moments")
        for number, right in enumerate(case.verdicts):
            learning.judge(visit, shown, number, "yes" if right != exchanged else "no")
        learning.begin(site, visit)
        while not visit.tuning.look().over:  # a run that nobody looks at stops
            time.sleep(0.5)
        if not learning.take(site, visit):
            raise RuntimeError(visit.tuning.look().error)
        found = {"own": case.query, "other": other.query}
        return {name: moments_of(wall(query).hits) for name, query in found.items()}


def lines(cases: Sequence[Case]) -> list[tuple[str, ...]]:
    """Return a row for each way of searching, over cases that all have been searched so."""
    names, made = [case.name for case in cases], []
    everywhere = [row for row in cases[0].found if all(row in case.found for case in cases)]
    for row in ("no feedback", *everywhere):
        shown: tuple[str, ...] = (row,)
        for left_out in (True, False):
            base, values = (
                np.array([case.recall(hits(case), left_out=left_out) for case in cases])
                for hits in (lambda c: c.hits, lambda c, row=row: c.found.get(row, c.hits))
            )
            more = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*gain(values, base, names))
            shown += (f"{values.mean():.1f}", "" if row == "no feedback" else more)
        made.append(shown)
    return made


def show(title: str, cases: Sequence[Case]) -> None:
    """Print a table."""
    yes = np.mean([sum(case.verdicts) for case in cases])
    others = np.mean([len(case.others) for case in cases])
    header = ("R@10, percent", "left out", "gain", "on the wall", "gain")
    about = f"{len(cases)} queries, {yes:.1f} yes of 10, {others:.1f} other true moments each"
    table(header, lines(cases), title=f"{title}: {about}")


def main() -> None:
    """Search, judge, search again, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--domains", nargs="+", default=[DEVELOPMENT])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tuned", type=int, default=0, help="queries of each library to tune on")
    args = parser.parse_args()
    places = list(product(args.domains, args.seeds))
    with progress("libraries", len(places)) as advance:
        shops = []
        for done, (domain, seed) in enumerate(places, 1):
            shops.append(Shop(args.out, domain, seed))
            advance(done)
    rows = ("tuned", "exchanged") if args.tuned else ()
    ready = [all([shop.tuned(args.tuned, row) for shop in shops]) for row in rows]
    for shop in shops:
        shop.by_verdicts()
    cases = [case for shop in shops for case in shop.cases]
    for kind in ("thing", "shape", "deed"):
        if some := [case for case in cases if case.query.kind == kind]:
            show(kind, some)
    show("all", cases)
    if any(ready):  # what another process is at is not
        show("tuned on", [case for shop in shops for case in shop.sample(args.tuned)])


if __name__ == "__main__":
    main()
