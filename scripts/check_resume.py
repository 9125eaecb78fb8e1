"""Kill `pseudo-label` and `tune` at random times; the same command must end in the same bytes.

    python scripts/check_resume.py --out runs/resume

For each command: one undisturbed run, then ten `kill -9` at random times and a last run to the
end, compared byte for byte; then a fresh run killed after 80 % of the full time, whose rerun must
take less than 40 % of it. Both as a quickstart runs them: its number of videos, the commands' own
settings. Start-up (about 10 s here, most of it importing torch and open_clip) is paid again by
every rerun, so far smaller work misses the last condition.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from zsvg.microworld.domains import DEVELOPMENT
from zsvg.microworld.world import write_world

KILLS = 10


def command(what: str, world: Path, folder: Path) -> list[str]:
    """Return the command line of one stage, writing into `folder`."""
    videos, cache = str(world / "videos"), str(folder / "features")
    if what == "pseudo-label":
        rest = [videos, "--captioner", "micro", "-o", str(folder / "pseudo.jsonl")]
    else:
        labels = str(world / "annotations.jsonl")
        rest = [labels, "--videos", videos, "-o", str(folder / "model")]
    return [sys.executable, "-m", "zsvg", what, *rest, "--backbone", "micro", "--cache", cache]


def finish(line: list[str]) -> float:
    """Run to the end; return seconds."""
    started = time.monotonic()
    subprocess.run(line, check=True, capture_output=True)
    return time.monotonic() - started


def kill_after(line: list[str], seconds: float) -> bool:
    """Start, kill -9 after some seconds; return whether it was still running."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


def content(folder: Path) -> dict[str, bytes]:
    """Return the finished files of a folder; what a kill left half-written is hidden."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.parts)
    }


def check(what: str, world: Path, out: Path, rng: random.Random) -> bool:
    """Run the three parts for one command and print what happened."""
    for name in ("calm", "killed", "late"):
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir(parents=True)
    finish(command(what, world, out / "calm"))  # warms the disk cache
    shutil.rmtree(out / "calm")
    (out / "calm").mkdir()
    full = finish(command(what, world, out / "calm"))
    line = command(what, world, out / "killed")
    alive = 0
    for _ in range(KILLS):
        # Work goes on where it was, so each run may only do a part or the last ones find it done.
        alive += kill_after(line, rng.uniform(0.05, 0.2) * full)
    finish(line)
    calm, killed = content(out / "calm"), content(out / "killed")
    differing = [n for n in sorted(calm.keys() | killed.keys()) if calm.get(n) != killed.get(n)]
    line = command(what, world, out / "late")
    kill_after(line, 0.8 * full)
    rerun = finish(line)
    equal = not differing and content(out / "late") == calm
    print(
        f"{what}: {full:.1f} s undisturbed, {len(calm)} files; {alive} of {KILLS} kills hit; "
        f"{'equal bytes' if equal else f'DIFFERENT: {differing}'}; "
        f"rerun after a kill at 80 %: {rerun:.1f} s = {100 * rerun / full:.0f} %",
        flush=True,
    )
    return equal and rerun < 0.4 * full


def main() -> None:
    """Check both commands; exit non-zero when one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=180)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("pseudo-label", "tune"))
    args = parser.parse_args()
    world = write_world(args.out / "world", domain=DEVELOPMENT, videos=args.videos, seed=900)
    rng = random.Random(args.seed)
    names = [args.only] if args.only else ["pseudo-label", "tune"]
    results = [check(name, world, args.out / name, rng) for name in names]
    raise SystemExit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
