"""Which trained heads there are, and how one is made of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from pydantic import ValidationError

from zsvg.errors import told
from zsvg.heads.embedding import EmbeddingConfig, EmbeddingHead
from zsvg.heads.encoder import Encoder, HeadConfig
from zsvg.heads.ensemble import Ensemble, Head
from zsvg.heads.map import MapConfig, MapHead
from zsvg.heads.pointing import PointingConfig, PointingHead
from zsvg.heads.regression import AttentionRegressionConfig, AttentionRegressionHead
from zsvg.heads.set import SetConfig, SetHead
from zsvg.heads.span import SpanConfig, SpanHead
from zsvg.heads.windows import WindowsConfig, WindowsHead

HEADS: dict[str, tuple[type[HeadConfig], type[Encoder]]] = {
    "regression": (AttentionRegressionConfig, AttentionRegressionHead),
    "map": (MapConfig, MapHead),
    "span": (SpanConfig, SpanHead),
    "set": (SetConfig, SetHead),
    "windows": (WindowsConfig, WindowsHead),
    "embedding": (EmbeddingConfig, EmbeddingHead),
    "pointing": (PointingConfig, PointingHead),
}


def head_config(kind: str, values: Mapping[str, Any]) -> HeadConfig:
    """Check the values of a config.

    Args:
        kind: One of `HEADS`.
        values: What is not left at its default; "dim" has none.

    Raises:
        ValueError: An unknown kind or key, or a value of the wrong type or out of range.
    """
    if kind not in HEADS:
        raise ValueError(f"unknown head {kind!r}; choose one of {', '.join(HEADS)}")
    config_type, _ = HEADS[kind]
    known = [field.name for field in fields(config_type)]
    for key in values:
        if key not in known:
            raise ValueError(f"{key}: not a key of head {kind}, which has {', '.join(known)}")
    try:
        return config_type(**values)
    except ValidationError as error:
        raise ValueError(told(error)) from error


def make_head(kind: str, values: Mapping[str, Any]) -> Head:
    """Return a head with random weights; arguments and errors are those of `head_config`."""
    config = head_config(kind, values)
    members = [HEADS[kind][1](config) for _ in range(config.members)]
    return Ensemble(members) if len(members) > 1 else members[0]


def describe_head(head: Head) -> dict[str, Any]:
    """Return a head's kind and config, which `make_head` takes."""
    one = head.members[0] if isinstance(head, Ensemble) else head
    (kind,) = (kind for kind, (_, module) in HEADS.items() if type(one) is module)
    return {"kind": kind, "config": asdict(head.config)}
