"""What keeps an installation in order: the doctor, and the cache of frame features."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from zsvg.cli.options import Cache, finish
from zsvg.cli.results import AsNumbers, Table, show_result
from zsvg.cli.terminal import say

caches = typer.Typer(
    no_args_is_help=True,
    help="Look into the cache of frame features, and make it smaller.\n\n"
    "Example: zsvg cache prune --older-than 30d",
)
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def doctor(form: AsNumbers = "table", cache: Cache = None) -> None:
    """Tell whether this machine has what zsvg needs, and what can be loaded without a network.

    Example: zsvg doctor

    It renders a video and asks it with the embedded models. Exit status 1 where something that is
    needed is broken; stderr then says what to do.
    """
    from zsvg.cli.doctor import diagnose

    checks = diagnose(cache)
    rows = [(c.group, c.name, c.found, "ok" if c.ok else "broken") for c in checks]
    value = {
        "ok": all(c.ok for c in checks),
        "checks": [{**asdict(check), "ok": check.ok} for check in checks],
    }
    show_result(form, value, Table(header=("", "what", "found", ""), rows=rows))
    finish([f"{c.name}: {c.found}; {c.remedy}" for c in checks if not c.ok])


@caches.command("size")
def cache_size(form: AsNumbers = "table", cache: Cache = None) -> None:
    """Tell how large the cache is.

    Example: zsvg cache size
    """
    from rich.filesize import decimal

    from zsvg.features.cache import cache_content
    from zsvg.features.extract import default_cache

    content = cache_content(cache or default_cache())
    counts: dict[str, list[int]] = {}
    for file in content.files:
        counts.setdefault(file.state, []).append(file.size)
    value = {
        "folder": str(content.folder),
        "files": len(content.files),
        "bytes": content.size,
        "states": {state: {"files": len(s), "bytes": sum(s)} for state, s in counts.items()},
        "foreign": content.foreign,
    }
    rows = [(state, str(len(sizes)), decimal(sum(sizes))) for state, sizes in counts.items()]
    rows.append(("together", str(len(content.files)), decimal(content.size)))
    show_result(form, value, Table(header=(str(content.folder), "files", "size"), rows=rows))
    if content.foreign:
        say(f"{content.foreign} files there are not zsvg's; they are left alone")


@caches.command("list")
def cache_list(form: AsNumbers = "table", cache: Cache = None) -> None:
    """List what is in the cache, the one that was used last at the end.

    Example: zsvg cache list --format csv
    """
    from zsvg.features.cache import cache_content
    from zsvg.features.extract import default_cache

    _list(form, cache_content(cache or default_cache()).files)


@caches.command("prune")
def cache_prune(
    older_than: Annotated[
        str | None,
        typer.Option(help="Remove what was not used for so long: 90m, 12h, 30d, 8w."),
    ] = None,
    unused: Annotated[
        bool,
        typer.Option(
            "--unused",
            help="Remove what nothing reads any more: damaged, of an older version, or left by a "
            "killed process.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, list it.")] = False,
    form: AsNumbers = "table",
    cache: Cache = None,
) -> None:
    """Remove cached features; they are made again when they are needed.

    Example: zsvg cache prune --older-than 30d --unused --dry-run

    With both options, what fits either is removed. Files that zsvg did not write stay.
    """
    from rich.filesize import decimal

    from zsvg.features.cache import prune
    from zsvg.features.extract import default_cache

    if older_than is None and not unused:
        raise typer.BadParameter("say what to remove: --older-than 30d, --unused, or both")
    removed = prune(
        cache or default_cache(),
        older_than=None if older_than is None else _seconds(older_than),
        unused=unused,
        dry_run=dry_run,
    )
    _list(form, removed)
    would = "would remove" if dry_run else "removed"
    say(f"{would} {len(removed)} files, {decimal(sum(file.size for file in removed))}")


def _list(form: str, files: Any) -> None:
    from rich.filesize import decimal

    def day(moment: float) -> str:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))

    rows = []
    for file in files:
        of = file.details
        seconds = f"{of['seconds']:.1f}" if "seconds" in of else "-"
        frames = f"{of['frames']} x {of['width']}" if "frames" in of else "-"
        backbone = str(of.get("fingerprint", "-"))[:12]
        rows.append((file.path.name[:12], seconds, frames, backbone, decimal(file.size),
                     day(file.used), file.state))  # fmt: skip
    value = [
        {**file.details, "file": str(file.path), "state": file.state, "bytes": file.size,
         "used": file.used}
        for file in files
    ]  # fmt: skip
    header = ("file", "seconds", "frames", "backbone", "size", "used", "state")
    show_result(form, value, Table(header=header, rows=rows))


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", age.strip())
    if match is None:
        raise typer.BadParameter(f"--older-than {age}: say 90m, 12h, 30d or 8w")
    return float(match[1]) * _UNITS[match[2]]
