"""Change a folder that `zsvg index --watch` follows; the library must follow and stay small.

    python scripts/check_library_watch.py --out runs/watch

Rounds add, change and delete one of two videos beside one that stays. After each, the library is
waited for; at the end its size is compared with that of a library that indexed the last state once,
and it is checked: nothing in it, pictures included, is of a video that is gone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from zsvg import Library
from zsvg.cli.terminal import progress, say
from zsvg.library.upkeep import check, info
from zsvg.microworld.domains import DEVELOPMENT
from zsvg.microworld.world import write_world

LONGEST = 120  # seconds that a change may take
STOPPED = 130


def follows(library: Library, videos: Path) -> None:
    """Wait until the library has what the folder has.

    Raises:
        SystemExit: It does not come.
    """
    wanted = {file.stem: os.stat(file).st_size for file in videos.glob("*.mp4")}
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        found = {video.vid: video.size for video in library.videos()}
        if found == wanted:
            return
        time.sleep(0.2)
    raise SystemExit(f"after {LONGEST} s the library has {found}, the folder {wanted}")


def played(
    process: subprocess.Popen[bytes],
    told: Path,
    rounds: int,
    shown: Sequence[Path],
    videos: Path,
    library: Path,
) -> list[int]:
    """Change the folder round by round; return the library's bytes after each."""
    while "watching" not in told.read_text():
        if process.poll() is not None:
            raise SystemExit(f"the watcher did not start; see {told}")
        time.sleep(0.2)
    sizes, opened = [], Library.open(library)
    with progress("rounds", rounds) as advance:
        for number in range(rounds):
            file = videos / f"changes {number // 3 % 2}.mp4"
            if number % 3 == 2:
                file.unlink()
            else:
                shutil.copy(shown[1 + number % 5], file)
            follows(opened, videos)
            sizes.append(int(info(library)["bytes"]))
            advance(number + 1)
    return sizes


def main() -> None:
    """Play the rounds, and say what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    write_world(args.out / "world", domain=DEVELOPMENT, videos=6, split="test")
    shown = sorted((args.out / "world" / "videos").glob("*.mp4"))
    videos, library = args.out / "videos", args.out / "library"
    videos.mkdir()
    shutil.copy(shown[0], videos / "stays.mp4")
    line = [sys.executable, "-m", "zsvg", "index", str(videos)]
    told = args.out / "watch.log"
    with told.open("w") as log:
        process = subprocess.Popen(
            [*line, "-o", str(library), "-m", "micro", "--watch", "--prune"],
            stderr=log,
            # What runs in the background ignores Ctrl-C, and would hand that down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        sizes = played(process, told, args.rounds, shown, videos, library)
        time.sleep(10)  # not amid an update
        process.send_signal(signal.SIGINT)
        if (code := process.wait()) != STOPPED:
            raise SystemExit(f"the watcher ended with {code}; see {told}")
    finally:
        process.kill()
    subprocess.run([*line, "-o", str(args.out / "once"), "-m", "micro"], check=True)
    once = int(info(args.out / "once")["bytes"])
    wrong = check(library)
    half = max(sizes[: len(sizes) // 2 + 1])
    say(f"largest in the first half of the rounds {half / 1e6:.1f} MB, "
        f"in all {max(sizes) / 1e6:.1f}, at the end {sizes[-1] / 1e6:.1f}; indexed once "
        f"{once / 1e6:.1f}")  # fmt: skip
    for said in wrong:
        say(f"error: {said}")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
