"""Tuning recipes: small YAML files whose every key is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from zsvg.errors import RecipeError
from zsvg.resources import shipped


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_Model = TypeVar("_Model", bound=_Strict)


class Prompts(_Strict):
    """Which prompts to learn; the text context takes the template's places."""

    text: bool = True
    text_depth: int | Literal["all"] = 1
    random: bool = False
    vision_tokens: int = Field(default=0, ge=0)
    vision_depth: int | Literal["all"] = 1
    coupled: bool = False
    points: Literal["ppt", "ppt-ps", "ppt-p", "ppt-pc"] | None = None  # with head: {kind: pointing}
    domain_tokens: int = Field(default=0, ge=0)  # DAPL: of the template's, from the last
    border: float = Field(default=0.0, ge=0, lt=0.5)  # TVP: share of the picture's side
    conditional: bool = False  # CoCoOp: the context depends on the video


class HeadRecipe(BaseModel):
    """Which trained head, and what of its config differs from the defaults.

    Keys beside `kind` are those of the kind's config (`zsvg.heads.kinds`) without "dim" and
    "words", which follow from the backbone and the labels.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = "regression"

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside `kind`."""
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="after")
    def _fits_its_kind(self) -> HeadRecipe:
        from zsvg.heads.kinds import head_config  # here, as it imports torch

        for key in ("dim", "words"):
            if key in self.options:
                raise ValueError(f"{key}: follows from backbone and labels; leave it out")
        head_config(self.kind, {"dim": 1, **self.options})
        return self


class Training(_Strict):
    """How long and how fast; see `zsvg.training.TrainingOptions`."""

    steps: int = Field(default=200, ge=1)
    batch_size: int = Field(default=32, ge=1)
    prompt_learning_rate: float = Field(default=2e-3, gt=0)
    border_learning_rate: float = Field(default=1e-2, gt=0)
    head_learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    warmup: int = Field(default=30, ge=0)
    average: float = Field(default=0.96, ge=0, lt=1)  # 0: the last weights, no mean of them
    validate_every: int = Field(default=25, ge=1)
    accumulation: int = Field(default=1, ge=1)
    checkpoint_gradients: bool = False  # of the image tower: less memory, more time
    crop_rate: float = Field(default=0.3, ge=0, le=1)
    concatenate_rate: float = Field(default=0.3, ge=0, le=1)
    denoise: Literal["no", "weights", "labels", "both"] = "weights"  # of pseudo labels only
    denoise_from: int | None = Field(default=None, ge=1)
    denoise_every: int = Field(default=25, ge=1)
    visual_share: float = Field(default=1.0, gt=0, le=1)
    visual_batch_size: int | None = Field(default=None, ge=1)
    visual_clips: int | None = Field(default=None, ge=1)

    @field_validator("denoise", mode="before")
    @classmethod
    def _unquoted_no(cls, value: Any) -> Any:
        """Accept `denoise: no`, which YAML reads as false."""
        return "no" if value is False else value


class Recipe(_Strict):
    """Everything `zsvg tune` needs beside the labels and the videos."""

    name: str
    source: str = ""
    template: str = "a video of"
    prompts: Prompts = Prompts()
    head: HeadRecipe = Field(default_factory=HeadRecipe)  # at need, as it imports torch
    training: Training = Training()
    held_out: float = Field(default=0.15, gt=0, lt=1)
    query_noise: float = Field(default=2.0, ge=0)  # of labels without sentences; see `FrameQuery`

    def with_head(self, kind: str) -> Recipe:
        """Return the recipe with this kind of head, at its defaults where it is another kind.

        Raises:
            RecipeError: There is no such kind.
        """
        if kind == self.head.kind:
            return self
        try:
            head = HeadRecipe(kind=kind)
        except ValidationError as error:
            raise RecipeError(_reason(error)) from error
        return self.model_copy(update={"head": head})

    def with_steps(self, steps: int | None) -> Recipe:
        """Return the recipe with another number of steps; itself for None."""
        if steps is None:
            return self
        training = self.training.model_copy(update={"steps": steps})
        return self.model_copy(update={"training": training})


class _Templates(_Strict):
    source: str = ""
    templates: list[str] = Field(min_length=1)


def recipe_names() -> list[str]:
    """Return the names of the recipes that ship with zsvg."""
    return sorted(path.stem for path in (shipped("prompts") / "recipes").glob("*.yaml"))


def load_recipe(name_or_path: str) -> Recipe:
    """Read a shipped recipe by name, or any YAML file by path.

    Raises:
        RecipeError: No such recipe, an unknown key, or a value out of range.
    """
    path, values = _read(name_or_path, "recipe")
    return _checked(path, Recipe, {"name": path.stem, **values})


def check_recipe(name_or_path: str) -> None:
    """Refuse a recipe that is not there, or is no YAML, without a look at its keys.

    Raises:
        RecipeError: There is no such recipe.
    """
    _read(name_or_path, "recipe")


def load_templates(name_or_path: str) -> tuple[str, ...]:
    """Read hand-written templates, by the name of a shipped list or from a YAML file.

    Raises:
        RecipeError: No such file, an unknown key, or a template that does not hold `{query}` once.
    """
    path, values = _read(name_or_path, "template")
    templates = _checked(path, _Templates, values).templates
    for template in templates:
        if template.count("{query}") != 1:
            raise RecipeError(f"{path}: {template!r} must hold {{query}} once")
    return tuple(templates)


def _read(name_or_path: str, kind: Literal["recipe", "template"]) -> tuple[Path, dict[str, Any]]:
    """Return a YAML file of a user, or a shipped one by its name, and the mapping in it."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        folder = shipped("prompts") / f"{kind}s"
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        if name_or_path not in known:
            raise RecipeError(
                f"unknown {kind} {name_or_path!r}; choose one of {', '.join(known)}, or a .yaml"
            )
        path = folder / f"{name_or_path}.yaml"
    if not path.is_file():
        raise RecipeError(f"{path}: no such {kind} file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict | None):
        raise RecipeError(f"{path}: a {kind} file is a mapping of keys to values")
    return path, values or {}


def _checked(path: Path, model: type[_Model], values: dict[str, Any]) -> _Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_reason(error)}") from error


def _reason(error: ValidationError) -> str:
    """Return where the first mistake is, and what it is, on one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    why = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {why}" if where else why
