"""What is said in the videos of a library: lines with their times, found by word and by meaning.

Lines belong to what they were read from: the content of a video, and the states of the subtitles
beside it. So a moved video brings its lines along, and a copy shares them. Lines are written before
what says that a video was heard, so what a killed process left belongs to no video, and `sweep`
finds it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.library.engine import condition_of, connected, engine, engine_of, optimise
from zsvg.library.hits import DAMPED
from zsvg.library.tables import Video
from zsvg.library.vectors import Vectors
from zsvg.transcripts.lines import Line

_EMPTY = re.compile(
    r"\b(?:a|an|the|and|or|of|to|in|on|at|by|for|from|with|as|into|is|are|was|were|be|been|being|it|"
    r"its|this|that|these|those|he|she|they|his|her|hers|their|them|him|i|you|we|my|your|our)\b",
    re.IGNORECASE,
)
_LINE = ("start", "end", "text", "language", "file")


@dataclass(frozen=True, kw_only=True)
class Heard:
    """That it was looked after what is said in a video.

    Attributes:
        key: Of the video, its place.
        source: What its lines belong to.
        recogniser: Fingerprint of what listened to it; "" where nothing did.
        count: How many lines there are.
        failures: What could not be read, a line each.
    """

    key: str
    source: str
    recogniser: str = ""
    count: int = 0
    failures: tuple[str, ...] = ()


class Said:
    """The tables of what is said, beside those of the frames.

    Args:
        folder: Of the space that they are in.
        width: Of the vectors of lines.
        create: Make them where they are missing; the caller holds the lock of the library.

    Raises:
        ZsvgError: LanceDB is not installed, or cannot read what is there.
    """

    def __init__(self, folder: Path, width: int, *, create: bool = True) -> None:
        lancedb, pa = engine()
        self.folder = folder
        self._known: tuple[int, list[Heard]] | None = None
        text, number = pa.string(), pa.float64()
        vector = pa.list_(pa.float16(), width)
        self._schemas = {
            "heard": pa.schema(
                [
                    ("key", text),
                    ("source", text),
                    ("recogniser", text),
                    ("count", pa.int64()),
                    ("failures", pa.list_(text)),
                ]
            ),
            "lines": pa.schema(
                [
                    ("source", text),
                    ("start", number),
                    ("end", number),
                    ("text", text),
                    ("language", text),
                    ("file", text),
                    ("vector", vector),
                ]
            ),
        }
        with engine_of(folder):
            base = connected(folder)
            self._tables = {
                name: base.create_table(name, schema=schema, exist_ok=True)
                if create
                else base.open_table(name)
                for name, schema in self._schemas.items()
            }
            if create and not self.worded:
                # Words of languages without spaces are told apart by a dictionary. Left to LanceDB
                # 0.40, frequent words would take lines along that begin with one.
                words = lancedb.index.FTS(base_tokenizer="icu", remove_stop_words=False)
                self._tables["lines"].create_index("text", config=words)

    @classmethod
    def there(cls, folder: Path, width: int) -> Said | None:
        """Return them to be read; None where it was never looked after what is said."""
        if all((folder / f"{name}.lance").is_dir() for name in ("heard", "lines")):
            return cls(folder, width, create=False)
        return None

    @property
    def worded(self) -> bool:
        """Whether lines can be searched by word."""
        return any(index.columns == ["text"] for index in self._tables["lines"].list_indices())

    @property
    def version(self) -> int:
        """Changes with what was heard."""
        return int(self._tables["heard"].version)

    def heard(self) -> list[Heard]:
        """Return of which videos it was looked after what is said in them."""
        version = self.version
        if self._known is None or self._known[0] != version:
            with engine_of(self.folder):
                rows = self._tables["heard"].to_arrow().to_pylist()
            heard = [Heard(**{**row, "failures": tuple(row["failures"])}) for row in rows]
            self._known = version, heard
        return self._known[1]

    def sources(self) -> set[str]:
        """Return of what there are lines."""
        return set(self._counts())

    def lines(self, source: str) -> list[Line]:
        """Return what is said, in order of time."""
        where = condition_of("source", [source])
        with engine_of(self.folder):
            rows = self._tables["lines"].search().where(where).limit(None).to_list()
        return sorted(map(_line, rows), key=lambda line: (line.start, line.end))

    def whole(self, heard: Iterable[Heard]) -> list[Heard]:
        """Return those of which all lines are there."""
        heard = list(heard)
        if self._fit(heard):
            return heard
        counts = self._counts()
        return [one for one in heard if counts[one.source] == one.count]

    def put(
        self,
        heard: Sequence[Heard],
        lines: Mapping[str, Sequence[Line]],
        rows: NDArray[np.float32],
    ) -> None:
        """Keep what was heard in videos.

        Args:
            heard: The videos, and what their lines belong to.
            lines: Source -> its lines, of those that are new.
            rows: (N, width) vectors of all of these lines, of unit length.
        """
        import pyarrow as pa

        flat = [(source, line) for source, own in lines.items() for line in own]
        made = [
            {"source": source, **dict(zip(_LINE, astuple(line), strict=True)), "vector": row}
            for (source, line), row in zip(flat, rows.astype(np.float16), strict=True)
        ]
        told = [{**asdict(one), "failures": list(one.failures)} for one in heard]
        with engine_of(self.folder):
            if lines:
                self._tables["lines"].delete(condition_of("source", list(lines)))
            if made:
                table = pa.Table.from_pylist(made, schema=self._schemas["lines"])
                self._tables["lines"].add(table)
            if told:
                merge = self._tables["heard"].merge_insert("key")
                merge.when_matched_update_all().when_not_matched_insert_all().execute(
                    pa.Table.from_pylist(told, schema=self._schemas["heard"])
                )

    def sweep(self, videos: Iterable[Video]) -> None:
        """Forget what was heard in videos that are none of these, and lines of no video."""
        known, keys = self.heard(), {video.key for video in videos}
        gone = [heard.key for heard in known if heard.key not in keys]
        kept = [heard for heard in known if heard.key in keys]
        left = {heard.source for heard in kept}
        orphans = set() if self._fit(kept) else self.sources() - left
        with engine_of(self.folder):
            for table, column, values in (("heard", "key", gone), ("lines", "source", orphans)):
                if values:
                    self._tables[table].delete(condition_of(column, sorted(values)))

    def problems(self) -> list[str]:
        """Return what does not fit together, a line each."""
        heard, counts = self.heard(), self._counts()
        found = []
        if lacking := sum(counts[one.source] != one.count for one in heard):
            found.append(f"lines of {lacking} videos are missing")
        if orphans := set(counts) - {one.source for one in heard}:
            found.append(f"lines of {len(orphans)} sources that no video has")
        return found

    def _fit(self, heard: Iterable[Heard]) -> bool:
        """Return whether there are as many lines as some videos have.

        Then those are what there is, and no column has to be read: what is interrupted loses lines
        or leaves some behind, not as many of both.
        """
        counts = {one.source: one.count for one in heard}
        with engine_of(self.folder):
            return int(self._tables["lines"].count_rows()) == sum(counts.values())

    def _counts(self) -> Counter[str]:
        query = self._tables["lines"].search().select(["source"]).limit(None)
        with engine_of(self.folder):
            return Counter(query.to_arrow()["source"].to_pylist())

    def optimise(self, *, alone: bool = False) -> None:
        """Merge small files, drop old versions, and bring the index of words up to date.

        Args:
            alone: As of `zsvg.library.tables.Tables.optimise`.
        """
        Vectors(self._tables["lines"]).grow()
        optimise(self._tables.values(), alone=alone)

    def find(
        self,
        sentence: str,
        vector: NDArray[np.float32],
        least: float,
        limit: int,
        among: Collection[str] | None = None,
        *,
        all_words: bool = False,
    ) -> tuple[list[tuple[str, Line]], bool]:
        """Return the lines that have words of a sentence or its meaning, best first.

        Both lists become one by the sum of their reciprocal ranks.

        Args:
            sentence: What is looked for; English words that say nothing, such as "the", are not.
            vector: (width,) of it, of unit length.
            least: Cosine with it from which on a line means the same.
            limit: Most lines to look at by each way of searching.
            among: What lines may belong to; None: anything.
            all_words: By word, take lines that hold all of its words.

        Returns:
            What each line belongs to, and the line; and whether there may be more of them.
        """
        from lancedb.query import FullTextOperator, MatchQuery

        lines = self._tables["lines"]
        queries = []  # words first: of two lines with equal ranks the one that has them
        if self.worded:
            operator = FullTextOperator.AND if all_words else FullTextOperator.OR
            words = MatchQuery(_telling(sentence), "text", operator=operator)
            queries.append((lines.search(words, query_type="fts"), "_score"))
        queries.append((Vectors(lines).near(vector), "_distance"))
        points: dict[tuple[str, Line], float] = {}
        more = False
        with engine_of(self.folder):
            for query, ranked_by in queries:
                if among is not None:
                    query = query.where(condition_of("source", sorted(among)), prefilter=True)
                rows = query.select([*_LINE, "source", ranked_by]).limit(limit).to_list()
                near = [row for row in rows if row.get("_distance", 0.0) <= 1 - least]
                more |= len(near) == limit
                for rank, row in enumerate(near, 1):
                    place = (row["source"], _line(row))
                    points[place] = points.get(place, 0.0) + 1 / (DAMPED + rank)
        return sorted(points, key=lambda place: -points[place]), more


def _telling(sentence: str) -> str:
    """Return a sentence without words that say nothing, unless it has no others."""
    return _EMPTY.sub(" ", sentence).strip() or sentence


def _line(row: Mapping[str, Any]) -> Line:
    return Line(*(row[name] for name in _LINE))
