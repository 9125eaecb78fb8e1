"""What one look at an event tells: sentences, who, what, from when to when, and a near miss.

A model is asked for one JSON object, by a schema where its server takes one (`response_format`).
What comes is read forgivingly: an object among other words, in a fence or broken off, or no object
at all, which is then one sentence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zsvg.label.instructions import Parts

MOST = 3
"""Sentences of one look that are taken."""

_COMPLETE = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was said of an event.

    Attributes:
        sentences: What happens, from the least to the most detailed; none where nothing does.
        who: Who or what acts; may be empty.
        object: What it is done to; may be empty.
        frames: Numbers of the first and last shown frame in which it happens, from 0.
        nearly: A sentence of the same thing that is not true; may be empty.
    """

    sentences: tuple[str, ...] = ()
    who: str = ""
    object: str = ""
    frames: tuple[int, int] | None = None
    nearly: str = ""


def fields_of(parts: Parts) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the fields of an answer: name -> (what it is, its JSON schema)."""
    kinds: dict[str, dict[str, Any]] = {
        "sentences": {"type": "array", "items": {"type": "string"}},
        "borders": {"type": "array", "items": {"type": "integer"}},
    }
    text = {"type": "string"}
    return {name: (getattr(parts, name), kinds.get(name, text)) for name in parts.asked}


def asked_for(fields: Mapping[str, tuple[str, dict[str, Any]]]) -> str:
    """Return the end of a question that asks for one JSON object with these fields."""
    names = "; ".join(f'"{name}": {what}' for name, (what, _) in fields.items())
    return f"Answer with one JSON object alone, with the fields {names}."


def response_format(fields: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the field of a request that binds the answer to these fields."""
    schema = {
        "type": "object",
        "properties": {name: kind for name, (_, kind) in fields.items()},
        "required": list(fields),
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": schema},
    }


def read_object(text: str) -> dict[str, Any] | None:
    """Return the first JSON object that stands in a text, None where there is no whole one."""
    decoder = json.JSONDecoder()
    for place in re.finditer(r"\{", text):
        try:
            value, _ = decoder.raw_decode(text, place.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def read_sentences(text: str) -> tuple[str, ...]:
    """Return the sentences of an answer, see `read_look`.

    Raises:
        ValueError: There is none to be found.
    """
    return read_look(text, 1).sentences


def read_look(text: str, shown: int) -> Look:
    """Read what a model said of an event.

    Args:
        text: Its answer.
        shown: How many frames it was shown.

    Raises:
        ValueError: No sentence can be found in it.
    """
    values = read_object(text)
    if values is None:
        return Look(sentences=_loose(text))
    given = values.get("sentences", values.get("sentence"))
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise ValueError("an answer without sentences")
    who, thing, nearly = (_text(values.get(name)) for name in ("who", "object", "nearly"))
    return Look(
        sentences=tuple(dict.fromkeys(one for one in map(_text, given) if one))[:MOST],
        who=who,
        object=thing,
        frames=_frames(values.get("borders"), shown),
        nearly=nearly,
    )


def _loose(text: str) -> tuple[str, ...]:
    """Return the sentences of an answer that is no JSON: those that are complete, or all of it."""
    if "{" in text or "[" in text:
        _, _, rest = text.partition('"sentences"')
        found = map(json.loads, _COMPLETE.findall(rest.partition("]")[0]))
        kept = tuple(dict.fromkeys(one for one in map(_text, found) if one))[:MOST]
        if not kept:
            raise ValueError("an answer that is broken JSON")
        return kept
    if not any(map(str.isalpha, text)):
        raise ValueError("an answer without words")
    return (_text(text),)


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _frames(value: Any, shown: int) -> tuple[int, int] | None:
    """Return numbers of frames from 0, None for what is none."""
    found = [int(number) for number in re.findall(r"\d{1,4}", json.dumps(value))]
    if len(found) != 2 or not 1 <= found[0] <= found[1] <= shown:
        return None
    return found[0] - 1, found[1] - 1
