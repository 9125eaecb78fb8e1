"""`library.json`: what a library was made with, and which of its spaces is in use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from zsvg.errors import ZsvgError, told
from zsvg.files import sha256_json, write_json
from zsvg.places.patience import MissingError

FILE = "library.json"
FORMAT = 1
"""Raise it when the tables change."""


class _Space(BaseModel):
    model: str = Field(min_length=1)
    encoder: str = Field(min_length=1)
    fps: float = Field(gt=0)
    framing: str
    width: int = Field(gt=0)


class _Sentences(BaseModel):
    model: str = Field(min_length=1)
    fingerprint: str = Field(pattern="^[0-9a-f]{64}$")  # names a folder
    width: int = Field(gt=0)


class _Content(BaseModel):
    current: str
    spaces: dict[str, _Space]
    roots: list[str]
    sentences: _Sentences | None = None


@dataclass(frozen=True, kw_only=True)
class Space:
    """What features were made with: those of two spaces cannot be compared.

    Attributes:
        model: What `zsvg.load` takes: the model that was given first.
        encoder: Identity of the frame encoder, `Grounder.encoder`.
        fps: Clips per second.
        framing: How pictures became square.
        width: Length of a row.
    """

    model: str
    encoder: str
    fps: float
    framing: str
    width: int

    @property
    def name(self) -> str:
        """Name of the folder that its tables are in."""
        return sha256_json([self.encoder, self.fps, self.framing, self.width])[:16]


@dataclass(frozen=True, kw_only=True)
class SentenceModel:
    """What lines are compared by, where it is not the text tower of the frames' model.

    Attributes:
        model: What `zsvg.backbones.captions.load_sentence_model` takes.
        fingerprint: Of its weights.
        width: Length of a row.
    """

    model: str
    fingerprint: str
    width: int

    @property
    def name(self) -> str:
        """Name of the folder of a space that lines are in."""
        return f"sentences-{self.fingerprint[:16]}"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `library.json`.

    Attributes:
        current: Name of the space that is searched.
        spaces: By name; more than one while another model's features are being made.
        roots: Folders that were indexed, absolute.
        sentences: What lines are compared by; None: the text tower of each space's model.
    """

    current: str
    spaces: Mapping[str, Space]
    roots: tuple[str, ...] = field(default=())
    sentences: SentenceModel | None = None

    @property
    def space(self) -> Space:
        """The space that is searched."""
        return self.spaces[self.current]

    def beside(self, space: Space) -> Manifest:
        """Return it with one more space, which is not searched yet."""
        return replace(self, spaces={space.name: space, **self.spaces})

    def write(self, folder: Path) -> None:
        """Write it, in one step."""
        spaces = {name: asdict(space) for name, space in self.spaces.items()}
        sentences = {"sentences": asdict(self.sentences)} if self.sentences else {}
        write_json(
            folder / FILE,
            {
                "format": FORMAT,
                "current": self.current,
                "spaces": spaces,
                "roots": list(self.roots),
                **sentences,
            },
        )


def read_manifest(folder: Path) -> Manifest:
    """Read `library.json`.

    Raises:
        ZsvgError: There is none, it is damaged, or of a newer format.
    """
    file = folder / FILE
    try:
        value: Any = json.loads(file.read_text(encoding="utf-8"))
        made = value["format"]
    except (FileNotFoundError, NotADirectoryError, MissingError):
        raise ZsvgError(
            f"{folder}: no library is there (no {FILE}); `zsvg index VIDEOS -o {folder}` makes one"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ZsvgError(f"{file}: cannot be read ({error}); index the videos again") from None
    if made != FORMAT:
        raise ZsvgError(
            f"{folder}: a library of format {made!r}, and this zsvg reads {FORMAT}; update zsvg, "
            "or index the videos into another folder"
        )
    try:
        content = _Content.model_validate(value)
    except ValidationError as error:
        raise ZsvgError(f"{file}: {told(error)}; index the videos again") from None
    spaces = {name: Space(**space.model_dump()) for name, space in content.spaces.items()}
    if content.current not in spaces:
        raise ZsvgError(f"{file}: current: no space {content.current!r}; index the videos again")
    for name, space in spaces.items():  # a name is a folder, and may lead nowhere else
        if name != space.name:
            raise ZsvgError(f"{file}: space {name!r} is not called so; index the videos again")
    return Manifest(
        current=content.current,
        spaces=spaces,
        roots=tuple(content.roots),
        sentences=SentenceModel(**own.model_dump()) if (own := content.sentences) else None,
    )
