"""Pre-train the two micro backbones on microworld's `studio` domain.

    python scripts/pretrain_micro.py --out runs/micro

writes `runs/micro/clip` and `runs/micro/blip`, to be copied to `zsvg/backbones/micro`. Both start
from one image tower (`pretraining/trunk.py`). Batches are rendered as they are needed from
(seed, step), so a run repeats exactly and the same command continues after an interruption. Only
`studio` pictures are seen; the sentences use every word of every domain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from pretraining.blip import pretrain_blip
from pretraining.clip import pretrain_clip
from pretraining.trunk import pretrain_trunk


def main() -> None:
    """Train what is not finished yet: trunk, CLIP, BLIP."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the backbones")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # the other core renders
    work: Path = args.out / "work"
    trunk = work / "trunk"
    if not (trunk / "trunk.safetensors").exists():
        pretrain_trunk(trunk, args.seed)
    if not (args.out / "clip" / "open_clip_model.safetensors").exists():
        pretrain_clip(args.out / "clip", trunk, work / "clip", args.seed)
    if not (args.out / "blip" / "model.safetensors").exists():
        pretrain_blip(args.out / "blip", trunk, work / "blip", args.seed)


if __name__ == "__main__":
    main()
