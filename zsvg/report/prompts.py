"""What learned prompts have become: the words they are near, how far they went, how large."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from zsvg.errors import ZsvgError
from zsvg.grounding.grounder import Grounder


@dataclass(frozen=True, kw_only=True)
class LearnedToken:
    """One context token in front of every query.

    Attributes:
        nearest: (word, cosine) of the vocabulary, nearest first; a part of a word ends in "-".
        norm: Its length; compare with `PromptsReport.vocabulary_norm`.
        start: The template word it started from; None where it started at random.
        start_cosine: Its cosine to that word's embedding, 1 where nothing was learned.
    """

    nearest: tuple[tuple[str, float], ...]
    norm: float
    start: str | None
    start_cosine: float | None


@dataclass(frozen=True, kw_only=True)
class LearnedBorder:
    """What is added to the outermost pixels, in units of the backbone's normalised pixels.

    Attributes:
        pixels: How wide it is.
        mean: Mean size of the values.
        largest: Size of the largest one.
    """

    pixels: int
    mean: float
    largest: float


@dataclass(frozen=True, kw_only=True)
class PromptsReport:
    """What the prompts of a model are.

    Attributes:
        conditional: An image-dependent bias is added to `tokens`, which are told without it.
        coupled: The vision prompts are images of the text prompts.
        tokens: Context tokens at the token embedding; empty without text prompts.
        suffix: (mark, token) of the learned tokens behind every query (PPT); those marked S and E
            point at frames.
        domains: The tokens that follow them, by domain; empty in a model without domains.
        vocabulary_norm: Mean length of the vocabulary's embeddings; None without text prompts.
        text_norms: By text block from the second on, the lengths of its own prompts. They live
            behind a block, not among the words, so no word is near or far.
        vision_norms: By vision block from the first on, the lengths of its own prompts.
        border: The learned border of the pictures; None without one.
    """

    conditional: bool
    coupled: bool
    tokens: tuple[LearnedToken, ...]
    suffix: tuple[tuple[str, LearnedToken], ...]
    domains: dict[str, tuple[LearnedToken, ...]]
    vocabulary_norm: float | None
    text_norms: tuple[tuple[float, ...], ...]
    vision_norms: tuple[tuple[float, ...], ...]
    border: LearnedBorder | None


@torch.no_grad()
def prompts_report(grounder: Grounder, nearest: int = 3) -> PromptsReport:
    """Describe the prompts of a tuned model by words and lengths.

    Near words are a hint, not a reading: CoOp (2109.01134, section 4.4) found few that make sense.

    Args:
        grounder: A tuned model, from `zsvg.load`.
        nearest: Words to name per token, at least 1.

    Raises:
        ZsvgError: The model has no prompts.
        ValueError: `nearest` is below 1.
    """
    from zsvg.tuners import PromptLayer

    if nearest < 1:
        raise ValueError(f"nearest must be at least 1, got {nearest}")
    backbone: Any = grounder.backbone
    name, adapters = grounder.adapter, backbone.adapters
    if name is None or adapters is None:
        raise ZsvgError("this model has no prompts: it is a bare backbone, or a head alone")
    config = adapters.peft_config[name]
    tokens: tuple[LearnedToken, ...] = ()
    suffix: tuple[tuple[str, LearnedToken], ...] = ()
    domains: dict[str, tuple[LearnedToken, ...]] = {}
    vocabulary_norm = border = None
    norms: dict[str, list[tuple[float, ...]]] = {"text": [], "vision": []}
    # Modules come in the order of the blocks.
    for layer in adapters.modules():
        if not isinstance(layer, PromptLayer) or name not in layer.slots:
            continue
        if not layer.slots[name].own:
            continue
        if layer.place == "embedding":
            embedding: Any = layer.base_layer
            words = embedding.weight.float()
            vocabulary_norm = float(words.norm(dim=-1).mean())
            tell = partial(_learned_tokens, words, backbone.tokenizer, nearest)
            ids = config.init_ids
            if config.text_tokens:
                tokens = tell(layer.prompt_tokens[name], ids)
            if config.domains:
                ids = None if ids is None else ids[len(tokens) :]
                own = zip(config.domains, layer.prompt_domains[name], strict=True)
                domains = {domain: tell(values, ids) for domain, values in own}
            if ending := config.ending:
                places = ending.learned
                behind = tell(layer.prompt_suffix[name], [ending.ids[i] for i in places])
                marks = [ending.marks[i] for i in places]
                suffix = tuple(zip(marks, behind, strict=True))
        elif layer.place == "pixels":
            added = layer.prompt_border[name].abs()
            border = LearnedBorder(
                pixels=layer.slots[name].border,
                mean=float(added.mean()),
                largest=float(added.max()),
            )
        else:
            lengths = layer.prompts(name).float().norm(dim=-1)
            norms[layer.place].append(tuple(lengths.tolist()))
    return PromptsReport(
        conditional=config.conditional,
        coupled=config.coupled,
        tokens=tokens,
        suffix=suffix,
        domains=domains,
        vocabulary_norm=vocabulary_norm,
        text_norms=tuple(norms["text"]),
        vision_norms=tuple(norms["vision"]),
        border=border,
    )


def token_word(tokenizer: Any, token_id: int) -> str:
    """Return a vocabulary entry as a person would write it; one that is no whole word ends in "-".

    Args:
        tokenizer: An open_clip tokenizer: its own byte-pair one, or its wrapper of a Hugging Face
            one.
        token_id: A row of the token embedding.
    """
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None:
        raw, decode = tokenizer.decoder.get(token_id), tokenizer.decode
    else:
        raw, decode = inner.convert_ids_to_tokens(token_id), inner.decode
    if raw is None:  # embeddings may be padded beyond the vocabulary
        return f"<{token_id}>"
    word = str(decode([token_id])).replace("</w>", "").strip()
    if not word or "\N{REPLACEMENT CHARACTER}" in word:  # a part of a character
        return str(raw)
    special = str(raw).startswith("<") and str(raw).endswith(">")
    if _marks_ends(tokenizer) and not special and not str(raw).endswith("</w>"):
        return f"{word}-"
    return word


def _marks_ends(tokenizer: Any) -> bool:
    """Whether entries that end a word say so, as CLIP's do ("video</w>")."""
    inner = getattr(tokenizer, "tokenizer", None)
    known = tokenizer.encoder if inner is None else inner.get_vocab()
    return "a</w>" in known


def _learned_tokens(
    words: torch.Tensor,
    tokenizer: Any,
    nearest: int,
    learned: torch.Tensor,
    init_ids: list[int] | None,
) -> tuple[LearnedToken, ...]:
    """Compare context tokens (n, d) with the vocabulary (V, d)."""
    learned = learned.float()
    cosines = F.normalize(learned, dim=-1) @ F.normalize(words, dim=-1).T
    values, ids = cosines.topk(min(nearest, len(words)), dim=-1)
    tokens = []
    for i, token in enumerate(learned):
        near = zip(ids[i].tolist(), values[i].tolist(), strict=True)
        start = None if init_ids is None else init_ids[i]
        tokens.append(
            LearnedToken(
                nearest=tuple((token_word(tokenizer, j), cosine) for j, cosine in near),
                norm=float(token.norm()),
                start=None if start is None else token_word(tokenizer, start),
                start_cosine=None if start is None else float(cosines[i, start]),
            )
        )
    return tuple(tokens)
