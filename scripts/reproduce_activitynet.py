"""ActivityNet Captions from raw videos to the table: trivial, training-free, pseudo, few, full.

    python scripts/reproduce_activitynet.py --videos activitynet/ \
        --train train.json --test val_2.json --protocol activitynet-val2 \
        --backbone ViT-B-32/laion2b_s34b_b79k --captioner Salesforce/blip-image-captioning-base \
        --out runs/activitynet

val_1 and val_2 are different tests: name the one you give. Nothing here was run with real weights
by the project; see the README.
"""

from __future__ import annotations

from reproduction import arguments, reproduce


def main() -> None:
    """Reproduce the rows."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--protocol", choices=("activitynet-val1", "activitynet-val2"), default="activitynet-val2"
    )
    args = parser.parse_args()
    reproduce(args, "activitynet", args.protocol)


if __name__ == "__main__":
    main()
