"""Pre-training of the micro backbones; `scripts/pretrain_micro.py` runs it."""
