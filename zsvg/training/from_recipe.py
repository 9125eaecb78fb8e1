"""From a recipe to what it describes: the trainable network, and how it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from zsvg.backbones.base import TunableBackbone
from zsvg.backbones.names import STORED
from zsvg.errors import RecipeError, RecordError, ZsvgError
from zsvg.heads.by_name import make_head
from zsvg.records import FROM_FRAMES, Annotation
from zsvg.training.frame_queries import FrameQuery
from zsvg.training.network import GroundingNetwork
from zsvg.training.recipes import Recipe


def build_network(
    backbone: TunableBackbone, recipe: Recipe, seed: int, labels: Sequence[Annotation]
) -> GroundingNetwork:
    """Return the trainable network of a recipe; nothing of the backbone changes yet.

    Raises:
        ZsvgError: No label has a sentence, or none a domain, of which the recipe would learn.
    """
    prompts = recipe.prompts
    if backbone.name == STORED and (prompts.text or prompts.points or prompts.vision_tokens):
        raise RecipeError(
            f"recipe {recipe.name}: there are features and no tower to prompt; take --recipe "
            "head-only, or name the backbone that made them"
        )
    wordless = [label.query == FROM_FRAMES for label in labels]
    if all(wordless) and (prompts.text or prompts.points):
        raise ZsvgError(
            f"the labels have no sentences, of which recipe {recipe.name!r} would learn its "
            "prompts; take --recipe head-only"
        )
    torch.manual_seed(seed)
    given = {"dim": backbone.embed_dim, "words": not all(wordless)}
    head = make_head(recipe.head.kind, recipe.head.options | given)
    return GroundingNetwork(
        backbone,
        head,
        prompts=_prompt_config(backbone, recipe, seed, _domains(labels, recipe)),
        frame_query=FrameQuery(backbone.embed_dim, recipe.query_noise) if any(wordless) else None,
    )


def _domains(labels: Sequence[Annotation], recipe: Recipe) -> list[str] | None:
    """Return the names of the domains that the labels are of, where the recipe asks for them."""
    if not recipe.prompts.domain_tokens:
        return None
    names = [name for label in labels if (name := label.extra.get("domain")) is not None]
    for name in names:
        if not isinstance(name, str) or not name:
            raise RecordError(f"domain {name!r} of a label must be a name, or left out")
    if not names:
        raise ZsvgError(
            f"recipe {recipe.name!r} learns tokens of each domain, but no label names one: add "
            '"domain": "NAME" to the lines of the labels, or take --recipe coop'
        )
    return sorted(set(names))


def _prompt_config(
    backbone: TunableBackbone, recipe: Recipe, seed: int, domains: list[str] | None
) -> Any:
    from zsvg.tuners import POINTS, PromptConfig, prompt_config_for

    prompts = recipe.prompts
    # A share of the side, so that a recipe fits pictures of every size.
    vision: dict[str, Any] = {}
    if border := round(prompts.border * backbone.image_size):
        vision["border"] = border
    if prompts.vision_tokens:
        vision |= {"vision_tokens": prompts.vision_tokens, "vision_depth": prompts.vision_depth}
    if (prompts.points is None) != (recipe.head.kind != "pointing"):
        raise RecipeError(
            f"recipe {recipe.name}: prompts: {{points: ...}} and head: {{kind: pointing}} belong "
            "together"
        )
    if prompts.conditional and not (prompts.text or prompts.points):
        raise RecipeError(f"recipe {recipe.name}: conditional prompts are text prompts: text: true")
    if domains and not prompts.text:
        raise RecipeError(f"recipe {recipe.name}: tokens of domains are text prompts: text: true")
    if prompts.text or prompts.points:
        return prompt_config_for(
            backbone.tokenize,
            recipe.template if prompts.text else "",  # which precedes queries, learned or not
            suffix=POINTS[prompts.points] if prompts.points else None,
            random=prompts.random,
            text_depth=prompts.text_depth,
            coupled=prompts.coupled,
            conditional=prompts.conditional,
            domains=domains,
            domain_tokens=prompts.domain_tokens,
            seed=seed,
            **vision,
        )
    return PromptConfig(seed=seed, **vision) if vision else None
