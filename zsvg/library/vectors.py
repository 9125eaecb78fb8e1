"""Vectors of a table: compared one by one while they are few, and by an index from then on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

INDEXED_FROM = 100_000
"""Rows from which on they are searched by an index."""
BITS = 4
PROBED = 0.9
REFINED = 5
"""How rows are searched by an index (IVF with RaBitQ): bits of a number in it, share of its parts
that is looked at, and how many times the rows that are wanted are compared in full. Sentences lie
far from all frames, so their nearest rows are in many parts; but a part is looked through quickly.
(`scripts/benchmark_vectors.py`)"""
INDEX = "vector_idx"


class Vectors:
    """The column "vector" of a table of LanceDB, of unit length."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @property
    def indexed(self) -> bool:
        """Whether they are searched by an index."""
        return any(index.name == INDEX for index in self._table.list_indices())

    def near(self, vector: NDArray[np.float32], *, exact: bool = False) -> Any:
        """Return a query for the rows with the largest product with a vector (D,).

        Their "_distance" is 1 less the product.

        Args:
            vector: Of any length.
            exact: Compare all of them, also where there is an index.
        """
        # By cosine, an index would look at the parts that sentences are nearest to, and those are
        # the loosest ones: no sentence is near to any frame.
        query = self._table.search(vector, vector_column_name="vector").distance_type("dot")
        if exact:
            return query.bypass_vector_index()
        if self.indexed:
            probes = max(1, round(PROBED * self._parts()))
            return query.nprobes(probes).refine_factor(REFINED)
        return query

    def grow(self) -> None:
        """Make the index if there are many rows, and anew where they are too many for its parts."""
        count, known = self._table.count_rows(), self._parts() if self.indexed else 0
        if count >= INDEXED_FROM and parts_of(count) >= 2 * max(known, 1):
            self.make_index()

    def make_index(self) -> None:
        """Make the index."""
        from lancedb.index import IvfRq

        made = IvfRq(
            distance_type="dot",
            num_partitions=parts_of(self._table.count_rows()),
            num_bits=BITS,
            max_iterations=20,
        )
        self._table.create_index("vector", config=made, name=INDEX)

    def _parts(self) -> int:
        return parts_of(int(self._table.index_stats(INDEX).num_indexed_rows))


def parts_of(rows: int) -> int:
    """Return into how many parts an index divides so many rows."""
    return max(1, round(math.sqrt(rows) / 4))
