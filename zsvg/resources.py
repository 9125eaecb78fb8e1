"""Where the files that ship beside the code are: prompts and the demo."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """Return the folder `prompts` or `demo`: inside a wheel as `_NAME`, in a checkout beside it.

    Raises:
        FileNotFoundError: The installation lacks it.
    """
    for folder in (_PACKAGE / f"_{name}", _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the {name!r} folder is missing from this installation of zsvg")
