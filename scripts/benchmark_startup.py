"""How long `zsvg` takes to begin: processor time of commands, and when they first say something.

    OMP_NUM_THREADS=1 python scripts/benchmark_startup.py --out runs/startup

`ground` asks one cached video of microworld, with `micro` and with a ViT-B-32 of random weights.
Processor time (user and system) is what a busy machine changes least. The first line is the first
output on a terminal, stderr and stdout together. What is measured is the zsvg that this interpreter
imports (`PYTHONPATH`). Times are medians of `--runs`, with their range; each command is run once
before, so that files are in memory. OUT/startup.json keeps what was measured, and what is there
is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from make_random_backbones import write_clip

from zsvg.cli.terminal import say, table
from zsvg.files import write_json
from zsvg.microworld.world import write_world

SENTENCE = "a red circle spins"
Run = dict[str, float]


def timed(command: Sequence[str], **options: Any) -> Run:
    """Run a command to its end; return seconds of processor and wall."""
    start = time.perf_counter()
    process = subprocess.Popen(command, **options)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return {"cpu": used.ru_utime + used.ru_stime, "wall": time.perf_counter() - start}


def quiet(command: Sequence[str]) -> Run:
    """Run a command whose output goes nowhere."""
    return timed(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def first_words(command: Sequence[str]) -> Run:
    """Run a command on a terminal; return when it said something, and what that had cost."""
    above, below = pty.openpty()
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=below, stderr=below) as process:
        os.close(below)
        os.read(above, 1)
        wall = time.perf_counter() - start
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        try:
            while os.read(above, 4096):
                pass
        except OSError:  # so a terminal ends on Linux
            pass
    os.close(above)
    return {"cpu": cpu, "wall": wall}


def zsvg(*arguments: str | Path) -> list[str]:
    """Return the command of this interpreter's zsvg."""
    return [sys.executable, "-m", "zsvg.cli", *map(str, arguments)]


def models(out: Path) -> dict[str, str]:
    """Return what to ask: micro, and a ViT-B-32 of random weights, which is made once."""
    folder = out / "clip-vit-b-32"
    if not (folder / "open_clip_config.json").is_file():  # it is written last
        write_clip(folder, seed=0)
    return {"micro": "micro", "ViT-B-32": f"local-dir:{folder}"}


def shown(runs: Sequence[Run], key: str) -> str:
    """Return the median of some runs with their range, seconds."""
    values = [run[key] for run in runs]
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    """Measure what is not measured yet, and show all of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("runs/startup"))
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    write_world(options.out / "world", domain="chalk", videos=1, split="test", annotations=False)
    video = min((options.out / "world" / "videos").glob("*.mp4"))
    cache = ("--cache", options.out / "features")
    commands = {"--help": zsvg("--help")}
    for name, model in models(options.out).items():
        commands[f"ground, {name}"] = zsvg("ground", video, SENTENCE, "--model", model, *cache)
    kept = options.out / "startup.json"
    measured: dict[str, dict[str, list[Run]]] = {}
    if kept.exists():
        measured = json.loads(kept.read_text())
    for name, command in commands.items():
        if name in measured:
            continue
        say(f"measuring {name}")
        quiet(command)
        measured[name] = {
            "whole": [quiet(command) for _ in range(options.runs)],
            "first line": [first_words(command) for _ in range(options.runs)],
        }
        write_json(kept, measured)
    header = ("command", "processor, s", "wall, s", "first line: processor, s", "wall, s")
    rows = [
        (name, *(shown(runs[part], key) for part in runs for key in ("cpu", "wall")))
        for name, runs in measured.items()
    ]
    table(header, rows)


if __name__ == "__main__":
    main()
