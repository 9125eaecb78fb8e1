"""The tables of one space in LanceDB: videos, their features, what they are chosen by, events.

Rows of a video are added before the video itself, and removed after it. So what a killed process
left belongs to no video, and `sweep` finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.library.engine import condition_of, connected, engine, engine_of, optimise, quoted
from zsvg.library.vectors import Vectors
from zsvg.places.urls import place_of

_AT_ONCE = 500  # contents in one condition


@dataclass(frozen=True, kw_only=True)
class Video:
    """A file that was indexed.

    Attributes:
        vid: What it is called in answers.
        root: The folder that was indexed, absolute, or its URL.
        path: Of the file below it, with "/" between folders.
        content: SHA-256 of the content; "" where it could not be used.
        state: By which a changed file is told; "" if only its content can tell.
        size: Bytes.
        modified: When it was, seconds since 1970.
        duration: Seconds.
        title: As its container has it.
        added: When it was indexed, seconds since 1970.
        vanished: It was not there any more.
        failure: Why it could not be used.
    """

    vid: str
    root: str
    path: str
    content: str
    state: str
    size: int
    modified: float
    duration: float = 0.0
    title: str = ""
    added: float = 0.0
    vanished: bool = False
    failure: str = ""

    @property
    def key(self) -> str:
        """What no other video has: its place."""
        return str(self.file)

    @property
    def file(self) -> Path:
        """Where it lies."""
        return place_of(self.root) / self.path

    @property
    def usable(self) -> bool:
        """Whether it can be searched."""
        return bool(self.content) and not self.vanished


class Tables:
    """The tables in one folder; they are made where they are missing.

    Raises:
        ZsvgError: LanceDB is not installed, or cannot read what is there.
    """

    def __init__(self, folder: Path, width: int) -> None:
        _, pa = engine()
        self.folder = folder
        self.width = width
        text, number = pa.string(), pa.float64()
        columns: dict[str, list[tuple[str, Any]]] = {
            "videos": [
                ("vid", text),
                ("root", text),
                ("path", text),
                ("content", text),
                ("state", text),
                ("size", pa.int64()),
                ("modified", number),
                ("duration", number),
                ("title", text),
                ("added", number),
                ("vanished", pa.bool_()),
                ("failure", text),
            ],
            "features": [
                ("content", text),
                ("rows", pa.large_binary()),
                ("kind", text),
                ("width", pa.int32()),
                ("times", pa.large_binary()),
                ("duration", number),
                ("fps", number),
                ("framing", text),
                ("fingerprint", text),
                ("first", number),
            ],
            "frames": [
                ("content", text),
                ("start", pa.int32()),
                ("stop", pa.int32()),
                ("vector", pa.list_(pa.float16(), width)),
            ],
            "events": [
                ("content", text),
                ("start", number),
                ("end", number),
                ("picture", pa.large_binary()),
            ],
        }
        self._schemas = {name: pa.schema(fields) for name, fields in columns.items()}
        with engine_of(folder):
            base = connected(folder)
            self._tables = {
                name: base.create_table(name, schema=schema, exist_ok=True)
                for name, schema in self._schemas.items()
            }

    @property
    def version(self) -> int:
        """Changes with every change of the videos."""
        return int(self._tables["videos"].version)

    def videos(self) -> list[Video]:
        """Return all videos, in the order of their names."""
        with engine_of(self.folder):
            rows = self._tables["videos"].to_arrow().to_pylist()
        return sorted((Video(**row) for row in rows), key=lambda video: (video.vid, video.key))

    def contents(self) -> set[str]:
        """Return of which contents there are features."""
        return set(self._column("features", "content"))

    def features(self, contents: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return content -> row of features, of those that are there."""
        with engine_of(self.folder):
            rows = [
                row
                for some in _conditions(contents)
                for row in self._tables["features"].search().where(some).limit(None).to_list()
            ]
        return {row["content"]: row for row in rows}

    def events(self, content: str) -> list[dict[str, Any]]:
        """Return the events of a content in order of time."""
        return self.events_of([content]).get(content, [])

    def events_of(self, contents: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Return content -> its events in order of time, of those that have any."""
        with engine_of(self.folder):
            rows = [
                row
                for some in _conditions(contents)
                for row in self._tables["events"].search().where(some).limit(None).to_list()
            ]
        found: dict[str, list[dict[str, Any]]] = {}
        for row in sorted(rows, key=lambda row: float(row["start"])):
            found.setdefault(row["content"], []).append(row)
        return found

    def nearest(self, *arguments: Any, **options: Any) -> list[str]:
        """Return the contents of the rows of frames that `near` returns."""
        return list(map(str, self.near(*arguments, **options)["content"].to_pylist()))

    def near(
        self,
        vector: NDArray[np.float32],
        limit: int,
        *,
        exact: bool = False,
        among: Sequence[str] | None = None,
    ) -> Any:
        """Return "content" and "_distance" of the rows of frames that are nearest, best first.

        Args:
            vector: (D,) as `zsvg.grounding.ranking.asked` has it.
            limit: How many rows.
            exact: Compare all of them, also where there is an index.
            among: Contents to look at; None: all.
        """
        query = self.vectors.near(vector, exact=exact)
        query = query.select(["content", "_distance"]).limit(limit)
        if among is not None:
            query = query.where(" OR ".join(_conditions(among)))
        with engine_of(self.folder):
            return query.to_arrow()

    @property
    def indexed(self) -> bool:
        """Whether frames are searched by an index."""
        return self.vectors.indexed

    @property
    def vectors(self) -> Vectors:
        """The rows of frames."""
        return Vectors(self._tables["frames"])

    def sizes(self) -> dict[str, int]:
        """Return how many rows each table has."""
        return {name: int(table.count_rows()) for name, table in self._tables.items()}

    def add(self, **rows: Any) -> None:
        """Add to tables by name: dictionaries of columns, or lists of rows."""
        import pyarrow as pa

        for name, new in rows.items():
            if new:
                schema = self._schemas[name]
                made = pa.Table.from_pylist(new, schema=schema)
                self._tables[name].add(made)

    def add_frames(
        self, content: Sequence[str], vectors: NDArray[np.float16], spans: NDArray[np.int32]
    ) -> None:
        """Add rows of frames.

        Args:
            content: (N,) of which content each is.
            vectors: (N, D) as of `zsvg.library.rows.runs`.
            spans: (N, 2) its first clip, and the one after its last.
        """
        import pyarrow as pa

        schema = self._schemas["frames"]
        flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
        columns = {
            "content": pa.array(content, pa.string()),
            "start": pa.array(spans[:, 0], pa.int32()),
            "stop": pa.array(spans[:, 1], pa.int32()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }
        self._tables["frames"].add(pa.table(columns, schema=schema))

    def put(self, videos: Sequence[Video]) -> None:
        """Add videos, or replace those of the same file."""
        import pyarrow as pa

        if videos:
            made = pa.Table.from_pylist([asdict(v) for v in videos], schema=self._schemas["videos"])
            merge = self._tables["videos"].merge_insert(["root", "path"])
            merge.when_matched_update_all().when_not_matched_insert_all().execute(made)

    def forget(self, videos: Iterable[Video]) -> None:
        """Remove videos; `sweep` removes what only they had."""
        keys = [f"(root = {quoted(v.root)} AND path = {quoted(v.path)})" for v in videos]
        for start in range(0, len(keys), _AT_ONCE):
            self._tables["videos"].delete(" OR ".join(keys[start : start + _AT_ONCE]))

    def sweep(self) -> int:
        """Remove the rows of contents that no video has; return how many contents."""
        orphans = self.contents() - set(self._column("videos", "content"))
        for condition in _conditions(sorted(orphans)):
            for name in ("frames", "events", "features"):  # by the last of them they are found
                self._tables[name].delete(condition)
        return len(orphans)

    def optimise(self, *, alone: bool = False) -> None:
        """Merge small files, drop old versions, and bring the index up to date, or make it.

        Args:
            alone: Nobody reads: versions of this minute are dropped too.
        """
        self.vectors.grow()
        optimise(self._tables.values(), alone=alone)

    def problems(self) -> list[str]:
        """Return what does not fit together, a line each."""
        videos, contents = self.videos(), self.contents()
        lacking = [v for v in videos if v.content and v.content not in contents]
        found = [f"{video.vid}: its features are missing" for video in lacking]
        framed = set(self._column("frames", "content"))
        bare = {v.content: v.vid for v in videos if v.content in contents - framed}
        found += [f"{vid}: its rows of frames are missing" for vid in sorted(bare.values())]
        known = {video.content for video in videos}
        if orphans := (contents | framed | set(self._column("events", "content"))) - known:
            found.append(f"rows of {len(orphans)} contents that no video has")
        return found

    def _column(self, table: str, name: str) -> list[Any]:
        query = self._tables[table].search().select([name]).limit(None)
        with engine_of(self.folder):
            values: list[Any] = query.to_arrow()[name].to_pylist()
        return values


def _conditions(contents: Sequence[str]) -> list[str]:
    """Return conditions that together hold for some contents."""
    return [
        condition_of("content", contents[start : start + _AT_ONCE])
        for start in range(0, len(contents), _AT_ONCE)
    ]
