"""Frozen models: CLIP (open_clip), captioners (transformers), and captions as a backbone."""
