"""Measure feature extraction: decoding alone, the forward pass alone, and both overlapped.

    python scripts/benchmark_features.py VIDEO --backbone local-dir:OUT/clip-vit-b-32
    python scripts/benchmark_features.py --memory --backbone local-dir:OUT/clip-vit-b-32

The ratio compares the pipeline with 1 / (1/decode + 1/forward), the rate of doing one after the
other; it is the median over rounds that measure all three in turn. `--memory` compares the peak
memory of synthetic videos of 1, 10 and 30 minutes, each in a fresh process. All rates are sampled
frames per second, medians of `--repeat` rounds.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from zsvg.video.sampling import Sampling, sample_frames
from zsvg.video.writing import write_video


def synthetic(path: Path, seconds: float, width: int, height: int, fps: int = 25) -> Path:
    """Write a video of moving gradients and noise, so that decoding costs something."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 48, (height, width * 2, 3), np.uint8)
    ramp = np.linspace(0, 200, height).astype(np.uint8)[:, None, None]

    def frames() -> Iterator[np.ndarray]:
        for index in range(round(seconds * fps)):
            left = (index * 2) % width
            yield noise[:, left : left + width] + np.roll(ramp, index, axis=0)

    write_video(path, frames(), fps)
    return path


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def throughput(path: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Measure the three rates of one video."""
    import torch

    from zsvg.backbones.clip import load_backbone
    from zsvg.features.extract import extract

    backbone = load_backbone(arguments.backbone, arguments.device)

    def decode() -> int:
        return sum(1 for _ in sample_frames(path, fps=arguments.fps, size=backbone.image_size))

    count = decode()
    size, batch = backbone.image_size, min(arguments.batch_size, count)
    frames = np.random.default_rng(0).integers(0, 255, (batch, size, size, 3), np.uint8)

    def forward() -> None:
        with torch.no_grad():
            for start in range(0, count, batch):
                rows = backbone.encode_frames(frames[: min(batch, count - start)])
            rows.cpu()

    def both() -> None:
        extract(path, backbone, Sampling(arguments.fps), batch_size=arguments.batch_size)

    forward()  # warm-up
    both()
    # The three take turns, so that other work on the machine meets all of them alike.
    works = (decode, forward, both)
    rounds = np.array([[seconds(work) for work in works] for _ in range(arguments.repeat)])
    ratios = (rounds[:, 0] + rounds[:, 1]) / rounds[:, 2]
    decode_rate, forward_rate, pipeline_rate = (count / np.median(rounds, axis=0)).tolist()
    return {
        "frames": count,
        "decode": decode_rate,
        "forward": forward_rate,
        "pipeline": pipeline_rate,
        "ratio": float(np.median(ratios)),
        "ratios": ratios.round(3).tolist(),
        "device": str(backbone.device),
        "threads": torch.get_num_threads(),
    }


def memory(arguments: argparse.Namespace) -> dict[str, object]:
    """Measure peak resident memory (MB) of extracting short and long videos."""
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for minutes in (1, 10, 30):
            path = synthetic(Path(folder) / f"{minutes}.mp4", minutes * 60, 320, 240, fps=10)
            command = [sys.executable, __file__, str(path), "--peak", "--fps", str(arguments.fps)]
            command += ["--backbone", arguments.backbone, "--batch-size", str(arguments.batch_size)]
            if arguments.device:
                command += ["--device", arguments.device]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks[f"{minutes}_minutes"] = json.loads(done.stdout)
    return peaks


def peak(path: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Extract one video in this process and report its peak resident memory."""
    from zsvg.backbones.clip import load_backbone
    from zsvg.features.extract import extract

    backbone = load_backbone(arguments.backbone, arguments.device)
    found = extract(path, backbone, Sampling(arguments.fps), batch_size=arguments.batch_size)
    return {"frames": len(found.features), "peak_mb": round(peak_megabytes(), 1)}


def peak_megabytes() -> float:
    """Return this process's peak resident memory."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would also count the parent's memory from before the exec
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("video", type=Path, nargs="?", help="default: 60 s of synthetic 640x360")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--device")
    parser.add_argument("--fps", type=float, default=2.0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="peaks of 1, 10 and 30 minutes")
    parser.add_argument("--peak", action="store_true", help="only peak memory of this video")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            result: dict[str, object] = memory(arguments)
        else:
            path = arguments.video or synthetic(Path(folder) / "video.mp4", 60, 640, 360)
            result = (peak if arguments.peak else throughput)(path, arguments)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
