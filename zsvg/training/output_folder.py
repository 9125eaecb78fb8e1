"""How a model folder is replaced: whole, and without a loss to whoever keeps more in it.

The new folder is made beside the old one, under `.NAME.tmp`; the old one becomes `.NAME.old`, the
new one takes its name, and what is not ours moves over. A process that is killed at any time leaves
a state that `prepare` makes good. Only files that a tuning run writes are ever deleted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from zsvg.backbones.names import MANIFEST
from zsvg.errors import ZsvgError
from zsvg.features.processes import Processes, everywhere
from zsvg.files import locked, remove_own, sha256_file
from zsvg.grounding.alignment import ALIGNMENT_FILE
from zsvg.grounding.model_card import CARD
from zsvg.grounding.model_folder import ADAPTER_CONFIG, ADAPTER_FILE, HEAD_FILE, HISTORY
from zsvg.heads.presence import PRESENCE_FILE

OWN = frozenset(
    {
        MANIFEST,
        HISTORY,
        HEAD_FILE,
        PRESENCE_FILE,
        ALIGNMENT_FILE,
        ADAPTER_CONFIG,
        ADAPTER_FILE,
        CARD,
    }
)


def folder_of(output: str | Path) -> Path:
    """Return the folder that is written: a link to one stays, and is followed.

    Raises:
        ZsvgError: It is a file, a folder with other things than a model, or cannot be replaced, as
            the working folder.
    """
    folder = Path(os.path.realpath(output))
    if folder.exists() and not (folder / MANIFEST).is_file() and not _is_empty(folder):
        raise ZsvgError(f"{output}: exists and is not a model folder; choose another -o")
    if folder.is_dir() and os.path.samefile(folder, os.curdir):
        raise ZsvgError(
            f"{output}: is the folder you are in; it is replaced as a whole, and you would be left "
            "in a deleted one; run this from elsewhere, or choose a folder in it as -o"
        )
    if os.path.ismount(folder):
        raise ZsvgError(f"{output}: is where a disk begins; choose a folder in it as -o")
    return folder


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


@contextmanager
def only_run(folder: Path, processes: Processes) -> Iterator[None]:
    """Keep other runs off a folder and what lies beside it, and make good what a killed one left.

    Raises:
        ZsvgError: Another run is writing it, or files of somebody else are in the way.
    """
    lock = folder.with_name(f".{folder.name}.lock")
    with locked(lock) if processes.main else nullcontext(True) as held:
        if not everywhere(processes, held):
            raise ZsvgError(
                f"another run is writing {folder}; wait until it has ended, or choose another -o"
            )
        if processes.main:
            _recover(folder)
        processes.wait()
        yield


def staged(folder: Path) -> Path:
    """Return where the new folder is made."""
    return folder.with_name(f".{folder.name}.tmp")


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _recover(folder: Path) -> None:
    old = _old(folder)
    if os.path.lexists(old):
        if not (old / MANIFEST).is_file() and not _is_empty(old):
            raise ZsvgError(f"{old}: is in the way, and not of zsvg; move it away")
        if folder.exists():
            _move_over(old, folder)
        else:
            old.rename(folder)
    if not remove_own(staged(folder), OWN.__contains__):
        raise ZsvgError(f"{staged(folder)}: is in the way, and not of zsvg; move it away")


def replace_folder(folder: Path) -> None:
    """Put the staged folder in place of the old one; a reader sees the one or the other."""
    old = _old(folder)
    if not folder.exists():
        staged(folder).rename(folder)
        return
    with suppress(OSError):
        staged(folder).chmod(folder.stat().st_mode & 0o777)
    folder.rename(old)  # no folder can be renamed over one that is not empty
    try:
        staged(folder).rename(folder)
    except OSError:
        old.rename(folder)
        raise
    _move_over(old, folder)


def _move_over(old: Path, new: Path) -> None:
    """Move what is not ours from one folder to the other; then remove the one."""
    for path in sorted(old.iterdir()):
        if path.name not in OWN or path.is_symlink() or not path.is_file():
            path.rename(_free(new / path.name))
    if (old / CARD).is_file() and sha256_file(old / CARD) != _card_hash(old):
        (old / CARD).rename(_free(new / f"{CARD}.old"))
    # The manifest goes last: it tells that the folder is ours, and which card we wrote.
    remove_own(old, (OWN - {MANIFEST}).__contains__)
    remove_own(old, OWN.__contains__)


def _card_hash(folder: Path) -> str | None:
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("card")
        return str(found)
    return None


def _free(path: Path) -> Path:
    """Return a path at which nothing is: this one, or one with `.old` and a number behind it."""
    if not os.path.lexists(path):
        return path
    base = path if path.name.endswith(".old") else path.with_name(f"{path.name}.old")
    names = [base, *(base.with_name(f"{base.name}{number}") for number in range(2, 1000))]
    return next(name for name in names if not os.path.lexists(name))
