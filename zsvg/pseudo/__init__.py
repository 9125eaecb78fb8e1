"""Pseudo labels without annotations: where (proposals), what (queries), and both (label)."""
