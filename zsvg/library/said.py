"""What is said in the videos of a library: lines with their times, found by word and by meaning.

Lines belong to what they were read from: the content of a video, and the states of the subtitles
beside it. So a moved video brings its lines along, and a copy shares them. A line is written before
what says that a video was heard, so what a killed process left belongs to no video, and `sweep`
finds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.library.engine import condition_of, engine, engine_of, optimise
from zsvg.library.hits import DAMPED
from zsvg.library.tables import Video
from zsvg.library.vectors import Vectors
from zsvg.transcripts.lines import Line

_LINE = ("start", "end", "text", "language", "file")
_LOOKED_AT = 200  # lines, by each way of searching


@dataclass(frozen=True, kw_only=True)
class Heard:
    """That it was looked after what is said in a video.

    Attributes:
        key: Of the video, its place.
        source: What its lines belong to.
        recogniser: What listened to it; "" where nothing did.
        count: How many lines there are.
        failures: What could not be read, a line each.
    """

    key: str
    source: str
    recogniser: str = ""
    count: int = 0
    failures: tuple[str, ...] = ()


class Said:
    """The tables of what is said, beside those of the frames; they are made where they are missing.

    Args:
        folder: Of the space that they are in.
        width: Of the vectors of lines.

    Raises:
        ZsvgError: LanceDB is not installed, or cannot read what is there.
    """

    def __init__(self, folder: Path, width: int) -> None:
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
            base = lancedb.connect(folder, read_consistency_interval=timedelta(0))
            self._tables = {
                name: base.create_table(name, schema=schema, exist_ok=True)
                for name, schema in self._schemas.items()
            }
            if not any(index.columns == ["text"] for index in self._tables["lines"].list_indices()):
                # Words of languages without spaces are told apart by a dictionary. Rare words are
                # what is searched for, and a word that is frequent in one language is none in
                # another.
                words = lancedb.index.FTS(base_tokenizer="icu", remove_stop_words=False)
                self._tables["lines"].create_index("text", config=words)

    @classmethod
    def there(cls, folder: Path, width: int) -> Said | None:
        """Return them, unless it was never looked after what is said."""
        return cls(folder, width) if (folder / "heard.lance").is_dir() else None

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
        query = self._tables["lines"].search().select(["source"]).limit(None)
        with engine_of(self.folder):
            return set(query.to_arrow()["source"].to_pylist())

    def lines(self, source: str) -> list[Line]:
        """Return what is said, in order of time."""
        where = condition_of("source", [source])
        with engine_of(self.folder):
            rows = self._tables["lines"].search().where(where).limit(None).to_list()
        return sorted(map(_line, rows), key=lambda line: (line.start, line.end))

    def put(
        self,
        heard: Heard,
        lines: Sequence[Line] | None = None,
        rows: NDArray[np.float32] | None = None,
    ) -> None:
        """Keep what was heard in a video.

        Args:
            heard: The video, and what its lines belong to.
            lines: None: they are there.
            rows: (N, width) vectors of the lines, of unit length.
        """
        import pyarrow as pa

        made = []
        if lines and rows is not None:
            made = [
                {
                    "source": heard.source,
                    **dict(zip(_LINE, astuple(line), strict=True)),
                    "vector": row,
                }
                for line, row in zip(lines, rows.astype(np.float16), strict=True)
            ]
        with engine_of(self.folder):
            if made:
                table = self._tables["lines"]
                table.delete(condition_of("source", [heard.source]))
                table.add(pa.Table.from_pylist(made, schema=self._schemas["lines"]))
            row = {**asdict(heard), "failures": list(heard.failures)}
            merge = self._tables["heard"].merge_insert("key")
            merge.when_matched_update_all().when_not_matched_insert_all().execute(
                pa.Table.from_pylist([row], schema=self._schemas["heard"])
            )

    def sweep(self, videos: Iterable[Video]) -> None:
        """Forget what was heard in videos that are none of these, and lines of no video."""
        known, keys = self.heard(), {video.key for video in videos}
        gone = [heard.key for heard in known if heard.key not in keys]
        left = {heard.source for heard in known if heard.key in keys}
        with engine_of(self.folder):
            for table, column, values in (
                ("heard", "key", gone),
                ("lines", "source", sorted(self.sources() - left)),
            ):
                if values:
                    self._tables[table].delete(condition_of(column, values))

    def problems(self) -> list[str]:
        """Return what does not fit together, a line each."""
        counts = {heard.source: heard.count for heard in self.heard()}
        query = self._tables["lines"].search().select(["source"]).limit(None)
        with engine_of(self.folder):
            there = Counter(query.to_arrow()["source"].to_pylist())
        lacking = sum(there[source] != count for source, count in counts.items())
        return [f"lines of {lacking} videos are missing"] if lacking else []

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
        among: Collection[str] | None = None,
    ) -> list[tuple[str, Line]]:
        """Return the lines that have words of a sentence or its meaning, best first.

        Both lists become one by the sum of their reciprocal ranks.

        Args:
            sentence: What is looked for.
            vector: (width,) of it, of unit length.
            least: Cosine with it from which on a line means the same.
            among: What lines may belong to; None: anything.

        Returns:
            What each line belongs to, and the line.
        """
        lines = self._tables["lines"]
        by_word = lines.search(sentence, query_type="fts", fts_columns="text")
        by_meaning = Vectors(lines).near(vector)
        points: dict[tuple[str, Line], float] = {}
        with engine_of(self.folder):
            for query, rank_of in (
                (by_word, "_score"),
                (by_meaning.distance_range(upper_bound=1 - least), "_distance"),
            ):
                if among is not None:
                    query = query.where(condition_of("source", sorted(among)), prefilter=True)
                rows = query.select([*_LINE, "source", rank_of]).limit(_LOOKED_AT).to_list()
                for rank, row in enumerate(rows, 1):
                    place = (row["source"], _line(row))
                    points[place] = points.get(place, 0.0) + 1 / (DAMPED + rank)
        return sorted(points, key=lambda place: -points[place])


def _line(row: Mapping[str, Any]) -> Line:
    return Line(*(row[name] for name in _LINE))
