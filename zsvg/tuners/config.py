"""The config of the prompt tuner: all methods are points of it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from peft import PeftConfig
from torch import Tensor

from zsvg.errors import BackboneError, RecipeError
from zsvg.tuners.suffix import Suffix, make_suffix

# Far above what helps, and far below what fills a machine: configs are read from files of others.
_MOST_TOKENS = 1024
_MOST_BLOCKS = 256
_MOST_DOMAINS = 1024


class PromptType(str, enum.Enum):
    """The PEFT type of `PromptConfig`; name and value are equal, so it hashes like its string."""

    ZSVG_PROMPT = "ZSVG_PROMPT"


@dataclass
class PromptConfig(PeftConfig):
    """Which prompts to learn in which tower of a CLIP model.

    | method | text_tokens | text_depth | vision_tokens | vision_depth | coupled | conditional |
    |---|---|---|---|---|---|---|
    | CoOp (2109.01134) | 4 or 16 | 1 | 0 | 1 | | |
    | CoCoOp (2203.05557) | 4 | 1 | 0 | 1 | | yes |
    | VPT shallow, deep (2203.12119) | 0 | 1 | 8 | 1, "all" | | |
    | independent V-L prompts | 2 | 9 | 2 | 9 | | |
    | MaPLe (2210.03117) | 2 | 9 | 2 | 9 | yes | |
    | class of TVP (2303.04995), with `border` | 10 | 1 | 0 | 1 | | |
    | class of PPT (SIGIR 2022), with `suffix` | 0 | 1 | 0 | 1 | | |
    | class of DAPL (2202.06687), with `domains` | 32 | 1 | 0 | 1 | | |

    Outputs and gradients of the first five are those of the authors' code, prompts being equal.
    The last three have a paper's idea in a form of our own (`prompts/recipes/` says how it
    differs).

    It is mutable, unlike the other options of this package, because PEFT writes to its configs.
    Prompts are float32 on a backbone of any precision, also with PEFT's
    `autocast_adapter_dtype=False`: the optimiser's small steps would be lost in bfloat16.

    Attributes:
        text_tokens: Context tokens, which overwrite the first n tokens after the start token. The
            caller tokenises `f"{template} {query}"`, where the template has n tokens. 0: none.
        text_start: How many tokens the tokenizer puts in front of a text: 1, the start token, or 0
            (SigLIP's); `prompt_config_for` finds it.
        text_depth: Text blocks with prompts of their own, from the first: 1 is the token
            embedding alone. "all": every block; the number is filled in.
        vision_tokens: Prompts appended to the patches. 0: none.
        vision_depth: Vision blocks with prompts of their own, from the first, or "all". The
            prompts of the last such block ride along to the end of the tower.
        coupled: The vision prompts are linear images of the text prompts of the same depth.
        conditional: A small network adds an image-dependent bias to the context tokens and those
            of the suffix; encode text inside `condition_on(image_features)`. Its last layer starts
            at zero.
        domains: Names of domains with context tokens of their own (DAPL); encode text inside
            `in_domain(name)`. Outside, and for other names, the mean of all domains speaks.
        domain_tokens: How many of the `text_tokens`, from the last, each domain has for itself;
            those before are shared.
        border: Pixels at each side of the picture that get a learned value added (TVP), in the
            backbone's normalised units; they start at zero. 0: none.
        suffix: What follows every query, with marks for learned tokens (PPT): ", start [S] end
            [E]"; put token ids through `complete`. None: nothing.
        suffix_ids: Its token ids, with fillers at the marks, whose embeddings the learned tokens
            start from.
        suffix_marks: By token of the suffix, the letter of its mark, "" for an ordinary word.
        suffix_end: Ids of the end token and of padding. `prompt_config_for` fills in all three.
        init: The template text whose embeddings the context starts from. None: N(0, 0.02).
        init_ids: The token ids of `init`; `prompt_config_for` fills both in.
        seed: Seed of every random initial value; the global random state is not touched.
        target_modules: Filled in by the tuner: a regular expression of the wrapped modules.
        towers: Filled in by the tuner: widths and depths of the towers it was made for. Loading
            onto other towers raises `ModelFolderError`.

    Raises:
        RecipeError: An option is out of range or contradicts another one.
    """

    text_tokens: int = 0
    text_start: int = 1
    text_depth: int | Literal["all"] = 1
    vision_tokens: int = 0
    vision_depth: int | Literal["all"] = 1
    coupled: bool = False
    conditional: bool = False
    domains: list[str] | None = None
    domain_tokens: int = 0
    border: int = 0
    suffix: str | None = None
    suffix_ids: list[int] | None = None
    suffix_marks: list[str] | None = None
    suffix_end: list[int] | None = None
    init: str | None = None
    init_ids: list[int] | None = None
    seed: int = 0
    target_modules: str | None = None
    towers: dict[str, int] | None = None

    def __post_init__(self) -> None:
        """Check the options against each other (what needs the backbone is checked on wrapping)."""
        super().__post_init__()
        self.peft_type = PromptType.ZSVG_PROMPT
        for side in ("text", "vision"):
            self._check_side(side)
        if not isinstance(self.text_start, int) or self.text_start < 0:
            raise RecipeError(f"text_start={self.text_start!r} must be an integer, 0 or more")
        if not isinstance(self.border, int) or self.border < 0:
            raise RecipeError(f"border={self.border!r} must be a number of pixels, 0 or more")
        self._check_suffix()
        if not self.sees_text and not self.sees_frames:
            raise RecipeError(
                "no prompt to learn: set text_tokens, vision_tokens or border above 0, or a suffix"
            )
        if self.coupled and (self.text_tokens, self.text_depth) != (
            self.vision_tokens,
            self.vision_depth,
        ):
            raise RecipeError(
                "coupled prompts need text_tokens == vision_tokens and text_depth == vision_depth, "
                f"got {self.text_tokens} and {self.vision_tokens}, "
                f"{self.text_depth!r} and {self.vision_depth!r}"
            )
        if self.conditional and (self.coupled or not self.sees_text):
            raise RecipeError(
                "conditional=True needs text_tokens above 0 or a suffix, and coupled=False"
            )
        if self.domains or self.domain_tokens:
            self._check_domains()
        if (self.init is None) != (self.init_ids is None):
            raise RecipeError(
                f"init={self.init!r} and init_ids={self.init_ids!r} belong together: "
                "use prompt_config_for(tokenizer, template), which sets both"
            )
        if self.init_ids is not None and len(self.init_ids) != self.text_tokens:
            raise RecipeError(
                f"init={self.init!r} has {len(self.init_ids)} tokens but text_tokens is "
                f"{self.text_tokens}; they must be equal"
            )

    @property
    def sees_text(self) -> bool:
        """Whether it changes how texts are encoded."""
        return self.text_tokens > 0 or self.suffix is not None

    @property
    def sees_frames(self) -> bool:
        """Whether it changes how pictures are encoded, so that cached features do not serve."""
        return self.vision_tokens > 0 or self.border > 0

    @property
    def ending(self) -> Suffix | None:
        """What follows every query; None without a suffix."""
        if self.suffix is None or not (self.suffix_ids and self.suffix_marks and self.suffix_end):
            return None
        end, pad = self.suffix_end
        marks = tuple(self.suffix_marks)
        return Suffix(text=self.suffix, ids=tuple(self.suffix_ids), marks=marks, end=end, pad=pad)

    def complete(self, ids: Tensor) -> Tensor:
        """Put the suffix, if there is one, behind queries: token ids (B, L) to (B, L)."""
        return ids if self.ending is None else self.ending.complete(ids)

    def points(self, ids: Tensor) -> Tensor | None:
        """Return the places (B, 2) of [S] and [E] in completed token ids; None without a suffix."""
        return None if self.ending is None else self.ending.points(ids)

    def _check_suffix(self) -> None:
        fields = (self.suffix, self.suffix_ids, self.suffix_marks, self.suffix_end)
        if fields == (None, None, None, None):
            return
        ids, marks, end = self.suffix_ids or [], self.suffix_marks or [], self.suffix_end or []
        if (
            not self.suffix
            or len(end) != 2
            or len(ids) != len(marks)
            or not {"S", "E"} <= set(marks)
        ):
            raise RecipeError(
                f"suffix={self.suffix!r}, suffix_ids, suffix_marks and suffix_end belong together: "
                "use prompt_config_for(tokenizer, template, suffix=...), which sets them"
            )

    def _check_domains(self) -> None:
        names = self.domains or []
        if len(names) > _MOST_DOMAINS:
            raise RecipeError(f"domains: {len(names)} names, at most {_MOST_DOMAINS} are taken")
        if len({name for name in names if name and isinstance(name, str)}) != len(names):
            raise RecipeError(f"domains={names!r} must be different names")
        if not names or not 0 < self.domain_tokens < self.text_tokens:
            raise RecipeError(
                f"domains={names!r} with domain_tokens={self.domain_tokens!r}: name at least one "
                f"domain, and leave some of the {self.text_tokens} text_tokens to all of them"
            )
        if self.coupled:
            raise RecipeError("coupled prompts cannot have domains: vision prompts have none")

    def _check_side(self, side: str) -> None:
        tokens, depth = getattr(self, f"{side}_tokens"), getattr(self, f"{side}_depth")
        if not isinstance(tokens, int) or not 0 <= tokens <= _MOST_TOKENS:
            raise RecipeError(f"{side}_tokens={tokens!r} must be an integer in [0, {_MOST_TOKENS}]")
        if depth != "all" and (not isinstance(depth, int) or not 1 <= depth <= _MOST_BLOCKS):
            raise RecipeError(
                f'{side}_depth={depth!r} must be an integer in [1, {_MOST_BLOCKS}], or "all"'
            )
        if not tokens and depth != 1:
            raise RecipeError(f"{side}_depth={depth!r} without {side}_tokens has no effect")


def prompt_config_for(
    tokenizer: Callable[[list[str]], Tensor],
    template: str,
    *,
    random: bool = False,
    suffix: str | None = None,
    **options: Any,
) -> PromptConfig:
    """Return a config with one context token for every token of a hand-written template.

    Args:
        tokenizer: Texts to (B, L) int64 ids: an open_clip tokenizer, `ClipBackbone.tokenize`, or
            for a Hugging Face tokenizer t
            `lambda texts: t(texts, padding="max_length", return_tensors="pt").input_ids`.
        template: The words that will precede every query, such as "a video of". "" with a suffix:
            no context tokens, whatever precedes the queries.
        random: Start from N(0, 0.02) instead of the template's embeddings; the template then only
            reserves the places ("X X X X" is CoOp's choice).
        suffix: What will follow every query, such as ", starts at frame [S] and ends at frame
            [E]" (PPT): learned tokens at the marks, of which [S] and [E] point at frames.
        **options: The other fields of `PromptConfig`.

    Raises:
        RecipeError: The template is empty, does not fit, or contradicts `options`.
        BackboneError: The tokenizer splits the template differently when a query follows.
    """
    for name in ("text_tokens", "text_start", "init", "init_ids"):
        if name in options:
            raise RecipeError(f"{name} follows from the template; leave it out")
    if suffix is not None:
        ending, first = make_suffix(tokenizer, suffix)
        options |= {"suffix": suffix, "suffix_ids": list(ending.ids)}
        options |= {"suffix_marks": list(ending.marks), "suffix_end": [ending.end, ending.pad]}
        if not template:
            return PromptConfig(text_start=first, **options)
    empty, alone, followed = tokenizer(["", template, f"{template} person"]).tolist()
    differing = (i for i, pair in enumerate(zip(empty, alone, strict=True)) if len(set(pair)) == 2)
    start = next(differing, None)
    if start is None:
        raise RecipeError(f"the template {template!r} has no tokens")
    end_token = empty[start]
    end = alone.index(end_token) if end_token in alone else len(alone)
    ids = alone[start:end]
    if end + 1 >= len(alone):
        raise RecipeError(
            f"the template {template!r} fills all {len(alone)} tokens and leaves none for a query"
        )
    if followed[start:end] != ids:
        raise BackboneError(
            f"the tokenizer splits {template!r} differently when a query follows; "
            "end the template with a whole word"
        )
    if not random:
        options |= {"init": template, "init_ids": ids}
    return PromptConfig(text_tokens=len(ids), text_start=start, **options)
