"""Charades-STA from raw videos to the table: trivial answers, training-free, pseudo, few, full.

    python scripts/reproduce_charades.py --videos Charades_v1_480/ \
        --train charades_sta_train.txt --test charades_sta_test.txt --durations durations.json \
        --backbone ViT-B-32/laion2b_s34b_b79k --captioner Salesforce/blip-image-captioning-base \
        --out runs/charades

`--durations` is a table with columns id and length, or JSON from vid to seconds, for all videos.
Nothing here was run with real weights by the project; see the README.
"""

from __future__ import annotations

from pathlib import Path

from reproduction import arguments, reproduce


def main() -> None:
    """Reproduce the rows."""
    parser = arguments(__doc__)
    parser.add_argument("--durations", type=Path, required=True, help="lengths of the videos")
    args = parser.parse_args()
    reproduce(args, "charades-sta", "charades-sta", durations=args.durations)


if __name__ == "__main__":
    main()
