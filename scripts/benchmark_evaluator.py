"""CPU seconds and numbers of the QVHighlights protocol, beside the published evaluator if given.

    python scripts/benchmark_evaluator.py predictions.jsonl highlight_val_release.jsonl \
        --published moment_detr/

`--published` is a checkout that holds `standalone_eval/eval.py`; it runs in its own process. CPU
seconds of both include parsing and computing, and the published one's worker processes; ours are
also given with the start of the whole `zsvg evaluate` command.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from zsvg.evaluation.protocols.qvhighlights import score
from zsvg.records import read_annotations, read_predictions


def children(command: list[str], **options: object) -> float:
    """Run a command and return the CPU seconds of its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def differences(a: dict, b: dict, path: str = "") -> list[str]:
    """Return where two nested results are not equal."""
    found = []
    for key in a.keys() | b.keys():
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            found += differences(left, right, f"{path}{key}/")
        elif left != right:
            found.append(f"{path}{key}: {left} here, {right} published")
    return found


def main() -> None:
    """Print both times, their ratio, and every number that differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("predictions", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--published", type=Path, help="folder that holds standalone_eval/")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    seconds = []
    for _ in range(args.runs):
        start = time.process_time()
        result = score(read_predictions(args.predictions), read_annotations(args.annotations))
        seconds.append(time.process_time() - start)
    ours = sorted(seconds)[len(seconds) // 2]
    files = [str(args.predictions.resolve()), str(args.annotations.resolve())]
    command = [sys.executable, "-m", "zsvg.cli", "evaluate", *files, "--no-trivial"]
    whole = children([*command, "--protocol", "qvhighlights"])
    print(f"here: {ours:.3f} CPU seconds (median of {args.runs}), whole command {whole:.3f}")
    if args.published is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "metrics.json"
        published = children(
            [sys.executable, "-m", "standalone_eval.eval", "--submission_path", files[0],
             "--gt_path", files[1], "--save_path", str(saved), "--not_verbose"],
            cwd=args.published, env={**os.environ, "PYTHONPATH": str(args.published.resolve())},
        )  # fmt: skip
        numbers = json.loads(saved.read_text())
    print(f"published: {published:.3f} CPU seconds; {published / ours:.0f} times ours, "
          f"{published / whole:.0f} times the whole command")  # fmt: skip
    for line in differences(result, numbers) or ["all numbers equal"]:
        print(line)


if __name__ == "__main__":
    main()
