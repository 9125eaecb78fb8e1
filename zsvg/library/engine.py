"""LanceDB: how it is found, and its errors in one line."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from zsvg.errors import ZsvgError, reason
from zsvg.places.urls import Url

KEPT = timedelta(minutes=10)
"""How long a version stays that a reader may still be in."""
_STORES = ("s3", "gs", "az")


def engine() -> tuple[Any, Any]:
    """Return the modules of LanceDB and of Arrow.

    Raises:
        ZsvgError: They are not installed.
    """
    try:
        import lancedb
        import pyarrow
    except ImportError:
        raise ZsvgError("a library needs LanceDB: pip install 'zsvg[library]'") from None
    return lancedb, pyarrow


def connected(folder: Path) -> Any:
    """Return LanceDB's view of a folder, or of a URL that it reads by itself (s3://, gs://, az://).

    It finds credentials where the tools of these services do.

    Raises:
        ZsvgError: It is not installed, or knows no such URL.
    """
    lancedb, _ = engine()
    # Other processes write too: what they did is seen at the next question.
    options: dict[str, Any] = {"read_consistency_interval": timedelta(0)}
    if isinstance(folder, Url):
        if folder.scheme not in _STORES:
            raise ZsvgError(
                f"{folder}: LanceDB keeps no library there; give a path, or one of "
                f"{', '.join(_STORES)}://"
            )
        if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):  # a server nearby
            options["storage_options"] = {"allow_http": "true"}
        return lancedb.connect(str(folder), **options)
    return lancedb.connect(folder, **options)


@contextmanager
def engine_of(folder: Path) -> Iterator[None]:
    """Turn what LanceDB raises over damaged files into an error of one line."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise ZsvgError(
            f"{folder}: LanceDB cannot read it ({reason(error)[:300]}); index the videos into a "
            "new folder"
        ) from error


def quoted(text: str) -> str:
    """Return a text as it stands in a condition."""
    return "'" + text.replace("'", "''") + "'"


def condition_of(column: str, values: Sequence[str]) -> str:
    """Return the condition that a column has one of some values; of none it holds nowhere."""
    return f"{column} IN ({', '.join(map(quoted, values))})" if values else "false"


def optimise(tables: Iterable[Any], *, alone: bool) -> None:
    """Merge small files of tables, drop old versions, and bring indices up to date.

    Args:
        tables: LanceDB's.
        alone: Nobody reads: versions of this minute are dropped too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what `alone` says
        for table in tables:
            age = timedelta(0) if alone else KEPT
            table.optimize(cleanup_older_than=age, delete_unverified=alone)
