"""Yes and no put the wall of a demo's library in another order at once, by the formula."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
pytest.importorskip("lancedb")

import zsvg
from tests.demo_pages import microworld_video
from zsvg.errors import ZsvgError
from zsvg.library.rows import unpacked
from zsvg.records import Annotation
from zsvg.resources import demo_module

SENTENCE, OTHER = "a red star spins", "a blue cross"
VIDEOS = 8
bench, learning, searching, shelves, visits, wall = map(
    demo_module, ("bench", "learning", "searching", "shelf", "visit", "wall")
)
Moment = tuple[str, float, float]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("anew")
    for number in range(VIDEOS):
        file = folder / "videos" / f"day{number % 2 + 1}" / f"film-{number}.mp4"
        microworld_video(file, number, 4)
    line = "1\n00:00:01,000 --> 00:00:02,000\nA red star spins.\n"
    (folder / "videos" / "day1" / "film-0.srt").write_text(line, encoding="utf-8")
    library = zsvg.Library.open(folder / "library", zsvg.load("micro", "cpu"))
    library.add(folder / "videos")
    return library


@pytest.fixture
def site(library: Any) -> Any:
    return visits.Site(
        {"": library.grounder},
        captioner=None,
        videos=None,
        device="cpu",
        limits=visits.Limits(),
        shelf=shelves.Shelf(library),
    )


def searched(site: Any, visit: Any, sentence: str = SENTENCE, **more: Any) -> Any:
    """Search by words as they are."""
    return searching.search(site, visit, searching.Wanted(text=sentence, **{"by": "seen", **more}))


def order(shown: Any) -> list[str]:
    """Return the videos of a wall, the best first: the best moment of each comes before others."""
    return list(dict.fromkeys(hit.video.vid for hit in shown.hits))


def place(hit: Any) -> Moment:
    return hit.video.content, hit.start, hit.end


def say(visit: Any, shown: Any, verdicts: dict[int, str]) -> None:
    for number, verdict in verdicts.items():
        learning.judge(visit, shown, number, verdict)


def follows(shown: Any) -> tuple[int, int]:
    """Return how many yes and no a wall follows."""
    return len(shown.wanted.yes), len(shown.wanted.no)


def by_hand(library: Any, yes: Sequence[Moment], no: Sequence[Moment]) -> dict[str, float]:
    """Return how each video fits the sentence by Rocchio's formula: q + .75 yes - .15 no."""
    grounder, clips, centres = library.grounder, {}, {}
    rows = library.tables.features([video.content for video in library.videos()])
    for content, row in rows.items():
        frames = unpacked(row, content)
        away = frames.features - frames.features.mean(axis=0) / 2
        clips[content] = away / np.linalg.norm(away, axis=1, keepdims=True)
        centres[content] = frames.centres
    told = grounder.encode_query(SENTENCE).pooled[0].numpy() - grounder.usual / 2
    told = told / np.linalg.norm(told)
    for weight, moments in ((0.75, yes), (-0.15, no)):
        means = [
            clips[content][(centres[content] >= start) & (centres[content] < end)].mean(axis=0)
            for content, start, end in moments
        ]
        told = told + weight * np.mean(means, axis=0) if means else told
    return {v.vid: float((clips[v.content] @ told).max()) for v in library.videos()}


@pytest.mark.numeric
@pytest.mark.parametrize("verdicts", [{7: "yes", 0: "no"}, {7: "yes", 6: "yes"}, {0: "no"}])
def test_the_wall_follows_what_was_said_by_the_formula(
    library: Any, site: Any, verdicts: dict[int, str]
):
    visit = visits.Visit()
    before = searched(site, visit)
    plain = order(before)
    assert len(plain) == VIDEOS  # so the first hits are the best moments of each
    say(visit, before, verdicts)
    shown = learning.rank_anew(site, visit)
    assert visit.shown is shown
    yes, no = (
        [place(before.hits[number]) for number, said in verdicts.items() if said == verdict]
        for verdict in ("yes", "no")
    )
    fits = by_hand(library, yes, no)
    found = {hit.video.vid: hit.answer.grounding.fit for hit in shown.hits}
    assert found == pytest.approx(fits, abs=1e-4)
    ranked = [fits[vid] for vid in order(shown)]
    assert ranked == pytest.approx(sorted(ranked, reverse=True), abs=1e-4)
    assert order(shown) != plain
    for number, said in verdicts.items():
        vid = before.hits[number].video.vid
        moved = plain.index(vid) - order(shown).index(vid)
        assert moved >= 0 if said == "yes" else moved <= 0
    # What stood elsewhere says where, and exchanged verdicts are no other words for the same.
    assert shown.before is not None
    assert [shown.before[0], shown.learned] == [plain.index(order(shown)[0]) + 1, False]
    other = visits.Visit()
    exchanged = {number: "no" if said == "yes" else "yes" for number, said in verdicts.items()}
    say(other, searched(site, other), exchanged)
    assert order(learning.rank_anew(site, other)) != order(shown)


def test_what_was_said_by_other_words_does_not_count(site: Any):
    visit = visits.Visit()
    say(visit, searched(site, visit, OTHER), {0: "yes", 1: "no"})
    assert learning.can_rank_anew(site, visit)
    wanted = searched(site, visit).wanted
    assert not learning.can_rank_anew(site, visit)
    with pytest.raises(ZsvgError, match="say yes or no to a moment of this search first"):
        learning.rank_anew(site, visit)
    assert visit.shown.wanted == wanted
    say(visit, visit.shown, {7: "yes"})
    last = place(visit.shown.hits[7])
    assert learning.counts(visit) == (2, 1)
    alone = visits.Visit()
    say(alone, searched(site, alone), {7: "yes"})
    walls = [learning.rank_anew(site, one) for one in (visit, alone)]
    assert walls[0].wanted.yes == (last,)
    assert [follows(shown) for shown in walls] == [(1, 0)] * 2
    assert list(map(place, walls[0].hits)) == list(map(place, walls[1].hits))
    # Other words, or the same ones once more, are looked for as they are.
    assert follows(searched(site, visit)) == (0, 0)
    say(visit, visit.shown, {7: ""})
    assert not learning.can_rank_anew(site, visit)


def test_what_was_corrected_in_label_counts_as_it_is_there(site: Any):
    """There a moment gets other ends or words, and some are added, which name no content."""
    visit = visits.Visit()
    say(visit, searched(site, visit), {0: "yes", 1: "yes", 2: "no"})
    desk = visit.benches["library"]
    video, shown = site.shelf.videos()[visit.shown.hits[3].video.content], visit.shown
    entries = {entry.label.vid: entry for entry in desk.entries}
    fixed, left, no = (entries[hit.video.vid] for hit in shown.hits[:3])
    added = Annotation(
        qid="added", query=SENTENCE, vid=video.vid, duration=4.0, relevant_windows=((1.0, 2.0),)
    )
    elsewhere = replace(added, vid="gone")
    desk.entries = [
        replace(fixed, label=replace(fixed.label, relevant_windows=((0.0, 1.0),)), verdict="fixed"),
        replace(left, label=replace(left.label, query=OTHER), verdict="fixed"),
        replace(no, verdict="open"),
        *(bench.Entry(label=one, written=None, verdict="fixed") for one in (added, elsewhere)),
    ]
    yes, no = learning.said_of(site, visit, SENTENCE)
    assert yes == ((shown.hits[0].video.content, 0.0, 1.0), (video.content, 1.0, 2.0))
    assert no == ()


def test_a_wall_that_was_ranked_anew_is_a_wall(site: Any):
    visit = visits.Visit()
    before = searched(site, visit)
    say(visit, before, {7: "yes", 0: "no"})
    said = {before.hits[7].video.vid: "yes", before.hits[0].video.vid: "no"}
    shown = learning.rank_anew(site, visit)
    marks = dict(zip(order(shown), learning.verdicts(visit, shown), strict=False))
    assert {vid: mark for vid, mark in marks.items() if mark} == said
    drawn = wall.wall(shown, [""] * len(shown.hits), learning.verdicts(visit, shown))
    assert drawn.count('aria-pressed="true" aria-label="Yes,') == 1
    assert drawn.count('class="zw-moved') > 0
    # The filters of the tab narrow it, and other words end it.
    asked = searching.Wanted(text=f" {SENTENCE} ", by="seen", folder="videos/day2", length=1.0)
    day = searching.search(site, visit, searching.narrowed(shown.wanted, asked))
    assert {hit.video.vid.split("/")[0] for hit in day.hits} == {"day2"}
    assert order(day) == [vid for vid in order(shown) if vid.startswith("day2")]
    assert follows(day) == (1, 1)
    assert follows(learning.rank_anew(site, visit)) == (1, 1)
    assert visit.shown.wanted == day.wanted
    for other in (replace(asked, text=OTHER), replace(asked, by="said")):
        assert searching.narrowed(day.wanted, other) == other
    # More like this searches by the moment; it is opened as any other.
    searching.open_hit(site, visit, shown, 1)
    assert visit.clip.path == shown.hits[1].video.file
    alike = searching.like(site, visit, shown, 2)
    assert alike.hits[0].video == shown.hits[2].video
    assert follows(alike) == (0, 0)
    assert alike.before is None


def test_it_is_offered_where_a_sentence_is_looked_for_in_what_is_seen(site: Any):
    visit = visits.Visit()
    assert not learning.can_rank_anew(site, visit)
    with pytest.raises(ZsvgError, match="search for something first"):
        learning.rank_anew(site, visit)
    say(visit, searched(site, visit), {1: "no"})
    assert learning.can_rank_anew(site, visit)
    both = searched(site, visit, by="both")
    assert {hit.by for hit in both.hits} != {"seen"}
    assert learning.can_rank_anew(site, visit)
    anew = learning.rank_anew(site, visit)
    assert [hit.words for hit in anew.hits if hit.words] == ["A red star spins."]
    example = searching.like(site, visit, anew, 0)
    heard = searched(site, visit, by="said")
    assert heard.hits
    for shown in (example, heard):
        visit.shown = shown
        assert not learning.can_rank_anew(site, visit)
        with pytest.raises(ZsvgError, match="about what is seen and a sentence"):
            learning.rank_anew(site, visit)


def test_a_tuned_model_ranks_anew_by_its_words_without_its_head(
    library: Any, site: Any, monkeypatch: pytest.MonkeyPatch
):
    """What it has tuned is the sentence; a head that were asked would fail here."""
    visit = visits.Visit()
    own = copy(library.grounder)
    own.encode_query = lambda query: library.grounder.encode_query(OTHER)
    monkeypatch.setattr(site, "tuned", SimpleNamespace(of=lambda folder: own))
    monkeypatch.setattr(own, "ground", lambda *_, **__: pytest.fail("a head was asked"))
    say(visit, searched(site, visit), {7: "yes"})
    visit.learned, visit.by_learned = Path("model"), True
    shown = learning.rank_anew(site, visit)
    assert shown.learned
    by_words = visits.Visit()
    searched(site, by_words, OTHER)
    by_words.shown = searching.search(
        site, by_words, replace(by_words.shown.wanted, yes=shown.wanted.yes)
    )
    assert list(map(place, shown.hits)) == list(map(place, by_words.shown.hits))


def test_what_has_just_been_tuned_ranks_by_the_words_as_they_are(
    library: Any, site: Any, monkeypatch: pytest.MonkeyPatch
):
    """It has learned what was said: that does not count twice."""
    from gradio import skip

    page = demo_module("app").build_demo(library.grounder, device="cpu", library=library)
    for tick in page.fns.values():
        place = {getattr(block, "elem_id", ""): at for at, block in enumerate(tick.outputs)}
        if tick.name == "tick" and "library-wall" in place:
            break
    said, drawn, button = (place[f"library-{name}"] for name in ("said", "wall", "anew"))
    visit = visits.Visit()
    say(visit, searched(site, visit), {7: "yes"})
    shown = learning.rank_anew(site, visit)
    for tuned, yes in ((False, 1), (True, 0)):
        monkeypatch.setattr(demo_module("library"), "take", lambda *_, tuned=tuned: tuned)
        sent = tick.fn(visit)
        assert (sent[drawn] == skip()) is not tuned
        assert follows(visit.shown) == (yes, 0)
        assert sent[button].visible
    assert f"“{SENTENCE}”." in sent[said]
    assert visit.shown.wanted == shown.wanted.plain
