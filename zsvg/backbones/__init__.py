"""Frozen models that zsvg looks through: CLIP (open_clip) and a captioner (transformers)."""
