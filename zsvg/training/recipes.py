"""Tuning recipes: small YAML files whose every key is checked."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zsvg.errors import RecipeError, told
from zsvg.resources import checked_values, read_yaml, shipped
from zsvg.training.options import Training, TrainingOptions


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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

    Keys beside `kind` are those of the kind's config (`zsvg.heads.by_name`) without "dim" and
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
        from zsvg.heads.by_name import head_config  # here, as it imports torch

        for key in ("dim", "words"):
            if key in self.options:
                raise ValueError(f"{key}: follows from backbone and labels; leave it out")
        head_config(self.kind, {"dim": 1, **self.options})
        return self


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

    def with_head(self, kind: str, **options: Any) -> Recipe:
        """Return the recipe with this kind of head, at its defaults where it is another kind.

        Args:
            kind: One of `zsvg.heads.by_name.HEADS`.
            options: Of its config, what is to be other than that.

        Raises:
            RecipeError: There is no such kind or option, or its value is out of range.
        """
        if kind == self.head.kind:
            if not options:
                return self
            options = self.head.options | options
        try:
            head = HeadRecipe(kind=kind, **options)
        except ValidationError as error:
            raise RecipeError(told(error)) from error
        return self.model_copy(update={"head": head})

    def with_training(self, **changes: Any) -> Recipe:
        """Return the recipe with other values under `training`.

        Raises:
            RecipeError: A value is out of range, or denoising would begin after the end.
        """
        try:
            training = replace(self.training, **changes)
        except ValidationError as error:
            raise RecipeError(f"recipe {self.name}: training: {told(error)}") from error
        return self.model_copy(update={"training": training})

    def training_options(self, **more: Any) -> TrainingOptions:
        """Return how it trains, with what is not a recipe's to say (seed, precision).

        Raises:
            RecipeError: One of those is out of range.
        """
        try:
            return TrainingOptions(**asdict(self.training), **more)
        except ValidationError as error:
            raise RecipeError(told(error)) from error


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
    path, values = read_yaml(name_or_path, "recipe")
    return checked_values(path, Recipe.model_validate, {"name": path.stem, **values})


def check_recipe(name_or_path: str) -> None:
    """Refuse a recipe that is not there, or is no YAML, without a look at its keys.

    Raises:
        RecipeError: There is no such recipe.
    """
    read_yaml(name_or_path, "recipe")


def load_templates(name_or_path: str) -> tuple[str, ...]:
    """Read hand-written templates, by the name of a shipped list or from a YAML file.

    Raises:
        RecipeError: No such file, an unknown key, or a template that does not hold `{query}` once.
    """
    path, values = read_yaml(name_or_path, "template")
    templates = checked_values(path, _Templates.model_validate, values).templates
    for template in templates:
        if template.count("{query}") != 1:
            raise RecipeError(f"{path}: {template!r} must hold {{query}} once")
    return tuple(templates)
