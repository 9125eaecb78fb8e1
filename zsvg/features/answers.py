"""Answers of models behind endpoints, kept beside the frame features: one small JSON file each.

A file is named by the hash of all that decides its answer, which it also holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from zsvg.files import sha256_json, write_json

SUFFIX = ".json"


def answer_file(folder: str | Path, asked: Mapping[str, Any]) -> Path:
    """Return where the answer to a question is kept.

    Args:
        folder: The cache.
        asked: All that decides the answer, as JSON.
    """
    return Path(folder).expanduser() / f"{sha256_json(asked)}{SUFFIX}"


def read_answer(path: Path) -> str | None:
    """Return the answer in a file, None where there is none or it is damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        whole = isinstance(kept["answer"], str) and sha256_json(kept["asked"]) == path.stem
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept["answer"] if whole else None


def kept_answer(folder: str | Path, asked: Mapping[str, Any]) -> str | None:
    """Return the answer to a question, which counts as a use of its file; None where none is kept.

    Args:
        folder: The cache.
        asked: As of `answer_file`.
    """
    file = answer_file(folder, asked)
    if (answer := read_answer(file)) is not None:
        with suppress(OSError):  # a cache of somebody else, only to read
            os.utime(file)
    return answer


def keep_answer(folder: str | Path, asked: Mapping[str, Any], answer: str) -> None:
    """Keep an answer.

    Args:
        folder: The cache.
        asked: As of `answer_file`.
        answer: The text.

    Raises:
        OSError: It cannot be written.
        ZsvgError: There is a folder of this name.
    """
    write_json(answer_file(folder, asked), {"asked": dict(asked), "answer": answer})
