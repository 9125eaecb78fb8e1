"""What models are asked about events: files of `prompts/labellers`, whose every key is checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from zsvg.errors import RecipeError
from zsvg.resources import checked_values, read_yaml

_Text = Annotated[str, Field(min_length=1)]


class Parts(BaseModel):
    """The parts of an answer and what each is; a part that is None is not asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sentences: _Text
    who: _Text | None = None
    object: _Text | None = None
    borders: _Text | None = None
    nearly: _Text | None = None

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of those that are asked for."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)


class Instructions(BaseModel):
    """A file of `prompts/labellers`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = ""
    look: _Text
    parts: Parts
    rephrase: _Text
    verify: _Text

    @field_validator("rephrase", "verify")
    @classmethod
    def _has_a_place(cls, text: str) -> str:
        if "{sentence}" not in text:
            raise ValueError(f"{text!r} must hold {{sentence}}")
        return text

    def only(self, names: Sequence[str]) -> Instructions:
        """Return what asks for these parts alone, and for sentences.

        Raises:
            RecipeError: There is no such part in this file.
        """
        if other := sorted(set(names) - set(self.parts.asked)):
            known = ", ".join(self.parts.asked)
            raise RecipeError(f"unknown part {other[0]!r} of an answer; choose among {known}")
        off = {name: None for name in self.parts.asked if name not in {*names, "sentences"}}
        return self.model_copy(update={"parts": self.parts.model_copy(update=off)})


def load_instructions(name_or_path: str) -> Instructions:
    """Read shipped instructions by name ("rich", "sentence"), or any YAML file by path.

    What a file does not say of rephrasing and verification is as "rich" has it.

    Raises:
        RecipeError: No such file, an unknown key, or a text without a place for the sentence.
    """
    path, values = read_yaml(name_or_path, "labeller")
    _, usual = read_yaml("rich", "labeller")
    values = {**{name: usual[name] for name in ("rephrase", "verify")}, **values}
    return checked_values(path, Instructions.model_validate, values)
