"""The demo's Library tab on very many videos: how long a search takes, and what stays in memory.

    python scripts/benchmark_wall.py --out runs/wall

Videos of microworld are rendered and indexed. The library is then filled with copies of them: the
frames of each are moved by one random offset of length .3 and every frame by another of .1, and the
pictures are those of its original.
What the page itself calls is asked: the search, the pictures, and the HTML of the wall. The first
search is told apart. Rounds ask the same sentences anew, so memory that grows from one to the next
would grow for ever. (Linux, which tells a process's memory.)
"""

from __future__ import annotations

import argparse
import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import zsvg
from zsvg import Library
from zsvg.cli.terminal import progress, say, table
from zsvg.features.encoder import FrameFeatures
from zsvg.features.extract import unit_rows
from zsvg.library.rows import packed, runs, unpacked
from zsvg.library.tables import Tables, Video
from zsvg.microworld.domains import DEVELOPMENT
from zsvg.microworld.world import truth, write_world
from zsvg.resources import demo_module

OFFSET, NOISE = 0.3, 0.1
AT_ONCE = 200  # videos that are written together
ROUNDS = 3


def copies(tables: Tables, count: int) -> Iterator[tuple[Video, FrameFeatures, list[Any]]]:
    """Yield so many noisy copies of what is there, each with its events."""
    videos = tables.videos()
    contents = [video.content for video in videos]
    rows, events = tables.features(contents), tables.events_of(contents)
    draw = np.random.default_rng(0)
    for number in range(count):
        video = videos[number % len(videos)]
        frames = unpacked(rows[video.content], video.vid)
        clips, width = frames.features.shape
        offset = draw.normal(size=(1, width)) * OFFSET / np.sqrt(width)
        noise = draw.normal(size=(clips, width)) * NOISE / np.sqrt(width)
        content = hashlib.sha256(f"copy {number}".encode()).hexdigest()
        noisy = unit_rows(unit_rows(frames.features + offset + noise).astype(np.float16))
        path = f"{number // 1000}/copy-{number}.mp4"
        yield (
            replace(video, vid=path.removesuffix(".mp4"), path=path, content=content),
            replace(frames, features=noisy, content=content),
            [{**event, "content": content} for event in events.get(video.content, ())],
        )


def fill(tables: Tables, count: int) -> None:
    """Add so many copies."""
    made = copies(tables, count)
    with progress("filling", count) as advance:
        for done in range(0, count, AT_ONCE):
            some = [next(made) for _ in range(min(AT_ONCE, count - done))]
            vectors, spans, names = [], [], []
            for _, frames, _ in some:
                own, borders = runs(frames.features)
                vectors.append(own)
                spans.append(np.column_stack((borders[:-1], borders[1:])))
                names += [frames.content] * len(own)
            tables.add(features=[packed(frames) for _, frames, _ in some])
            tables.add_frames(names, np.concatenate(vectors), np.concatenate(spans))
            tables.add(events=[event for _, _, events in some for event in events])
            tables.put([video for video, _, _ in some])
            advance(done + len(some))
    tables.optimise(alone=True)


def in_memory() -> float:
    """Return the bytes of this process that are in memory, in MB (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kilobytes,) = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) / 1024


def searched(site: Any, visit: Any, sentence: str) -> tuple[float, float, int]:
    """Search as the page does; return seconds, those of a processor, and how many pictures."""
    searching, wall = demo_module("searching"), demo_module("wall").wall
    started, worked = time.perf_counter(), time.process_time()
    shown = searching.search(site, visit, searching.Wanted(text=sentence))
    pictures = searching.thumbnails(site, shown.hits)
    wall(shown, pictures, [""] * len(pictures))
    return (
        time.perf_counter() - started,
        time.process_time() - worked,
        sum(map(bool, pictures)),
    )


def main() -> None:
    """Make the library if it is not there, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--searches", type=int, default=48, help="sentences of a round")
    args = parser.parse_args()

    world, folder = args.out / "world", args.out / "library"
    grounder = zsvg.load("micro", "cpu")
    library = Library.open(folder, grounder)
    if not library.videos():
        write_world(world, domain=DEVELOPMENT, videos=40, split="test", annotations=False)
        library.add(world / "videos")
    if (missing := args.videos - len(library.videos())) > 0:
        fill(library.tables, missing)
    sizes = library.tables.sizes()
    say(", ".join(f"{rows:,} rows of {name}" for name, rows in sizes.items()))

    visits = demo_module("visit")
    site = visits.Site(
        {"": grounder},
        captioner=None,
        videos=None,
        device="cpu",
        limits=visits.Limits(),
        shelf=demo_module("shelf").Shelf(library),
    )
    sentences = list(dict.fromkeys(a.query for a in truth(DEVELOPMENT, "test", 0, 40)))
    chosen = sentences[:: max(len(sentences) // args.searches, 1)][: args.searches]
    visit, rows = visits.Visit(), []
    before = in_memory()
    first, *_ = searched(site, visit, "a thing")
    after = in_memory()
    say(f"the first search: {first:.2f} s; in memory {before:.0f} MB before, {after:.0f} MB after")
    for number in range(1, ROUNDS + 1):
        found = np.array([searched(site, visit, sentence) for sentence in chosen])
        middle, late = np.percentile(found[:, 0], (50, 95))
        rows.append((str(number), str(len(chosen)), f"{middle:.2f}", f"{late:.2f}",
                     f"{found[:, 0].max():.2f}", f"{found[:, 1].mean():.2f}",
                     f"{found[:, 2].mean():.0f}", f"{in_memory():.0f}"))  # fmt: skip
    table(("round", "searches", "p50 s", "p95 s", "longest s", "processor s", "pictures",
           "in memory MB"), rows)  # fmt: skip


if __name__ == "__main__":
    main()
