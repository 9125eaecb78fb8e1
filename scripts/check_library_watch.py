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
from pathlib import Path

from zsvg import Library
from zsvg.cli.terminal import progress, say
from zsvg.library.upkeep import check, info
from zsvg.microworld.domains import DEVELOPMENT
from zsvg.microworld.world import write_world

LONGEST = 120  # seconds that a change may take


def follows(library: Path, videos: Path) -> None:
    """Wait until the library has what the folder has.

    Raises:
        SystemExit: It does not come.
    """
    wanted = {file.stem: os.stat(file).st_size for file in videos.glob("*.mp4")}
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        found = {video.vid: video.size for video in Library.open(library).videos()}
        if found == wanted:
            return
        time.sleep(0.2)
    raise SystemExit(f"after {LONGEST} s the library has {found}, the folder {wanted}")


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
    process = subprocess.Popen(
        [*line, "-o", str(library), "-m", "micro", "--watch", "--prune"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for said in process.stderr:
        if "watching" in said:
            break
    sizes = []
    with progress("rounds", args.rounds) as advance:
        for number in range(args.rounds):
            file = videos / f"changes {number // 3 % 2}.mp4"
            if number % 3 == 2:
                file.unlink()
            else:
                shutil.copy(shown[1 + number % 5], file)
            follows(library, videos)
            sizes.append(int(info(library)["bytes"]))
            advance(number + 1)
    process.send_signal(signal.SIGINT)
    process.wait()
    subprocess.run([*line, "-o", str(args.out / "once"), "-m", "micro"], check=True)
    once = int(info(args.out / "once")["bytes"])
    wrong = check(library)
    say(f"largest after {args.rounds // 10} rounds {max(sizes[: args.rounds // 10]) / 1e6:.1f} MB, "
        f"after all {max(sizes) / 1e6:.1f}, at the end {sizes[-1] / 1e6:.1f}; indexed once "
        f"{once / 1e6:.1f}")  # fmt: skip
    for said in wrong:
        say(f"error: {said}")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
