"""The wrapper around a token embedding or a transformer block that inserts learned prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from zsvg.tuners.checks import checked
from zsvg.tuners.context import condition, domains
from zsvg.tuners.suffix import Suffix

Place = Literal["embedding", "text", "vision", "pixels"]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What one adapter does at one wrapped module.

    Attributes:
        tokens: How many prompts; 0 at the pixels.
        own: The adapter has prompts of its own here (otherwise it only drops earlier ones).
        drop: Vision only: the prompts leave the sequence after this block.
        start: Text only: how many tokens stand in front of the prompts.
        ids: Embedding only: the token ids that the prompts may overwrite; None: any.
        template: The text of `ids`, for the error message.
        domains: Embedding only: names of the domains whose own tokens end the context.
        suffix: Embedding only: what follows every query, with learned tokens.
        border: Pixels only: how wide the learned border is.
        size: Pixels only: height and width of the pictures.
    """

    tokens: int = 0
    own: bool = True
    drop: bool = False
    start: int = 1
    ids: tuple[int, ...] | None = None
    template: str | None = None
    domains: tuple[str, ...] = ()
    suffix: Suffix | None = None
    border: int = 0
    size: tuple[int, int] = (0, 0)


class PromptLayer(nn.Module, BaseTunerLayer):
    """Wraps one module of a CLIP tower; without an active adapter it is that module.

    - embedding: token ids (B, L) -> (B, L, d); n positions are overwritten (CoOp): those after
      the start token, or the first n where the tokenizer has no start token (SigLIP); and learned
      ones among the last before the end token (PPT).
    - text: the same positions of a block's input are overwritten (deep text prompts).
    - vision: n tokens are appended to a block's input (B, T, d), and removed afterwards unless
      they ride along. Nothing outside the tower's blocks changes, so every pooling works; what
      hooks inside a block see (Hugging Face's `output_hidden_states`) has n tokens more.
    - pixels: values are added to the outermost pixels of normalised pictures (B, 3, H, W).

    Depth rule of the papers, for J prompted blocks of L: blocks 0..J-2 append, run and drop; block
    J-1 appends, runs and keeps; block L-1 drops.
    """

    adapter_layer_names = (
        "prompt_tokens",
        "prompt_coupling",
        "prompt_meta_down",
        "prompt_meta_up",
        "prompt_domains",
        "prompt_suffix",
        "prompt_border",
    )
    other_param_names = ("slots", "sources")

    def __init__(self, base_layer: nn.Module, place: Place, pre_norm: nn.Module | None = None):
        super().__init__()
        self.base_layer = base_layer
        self.training = base_layer.training
        self.place = place
        # In a list, or else the tower's own norm would be registered a second time.
        self._pre_norm = [] if pre_norm is None else [pre_norm]
        self.prompt_tokens = nn.ParameterDict()  # (n, d)
        self.prompt_coupling = nn.ModuleDict()  # Linear: text width -> vision width
        # Two dictionaries, because PEFT finds an adapter's name only right before the last part of
        # a parameter's name.
        self.prompt_meta_down = nn.ModuleDict()  # Linear: D -> D / 16
        self.prompt_meta_up = nn.ModuleDict()  # Linear: D / 16 -> text width
        self.prompt_domains = nn.ParameterDict()  # (M, k, d): the last k of n tokens, by domain
        self.prompt_suffix = nn.ParameterDict()  # (m, d): the learned tokens behind the query
        self.prompt_border = nn.ParameterDict()  # (3, pixels of the border), row by row
        self.slots: dict[str, Slot] = {}
        self.sources: dict[str, PromptLayer] = {}  # coupled adapters: the layer to project from
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter: str | list[str] = []

    def __getattr__(self, name: str) -> Any:
        """Forward what is unknown to the wrapped module: open_clip asks blocks for their dtype."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_layer"), name)

    def forward(
        self,
        x: Tensor | None = None,
        *args: Any,
        hidden_states: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Run the wrapped module with the active adapter's prompts.

        Args:
            x: Token ids or states, the wrapped module's first argument.
            *args: Passed on.
            hidden_states: The same as `x`, by the name that Hugging Face's blocks give it.
            **kwargs: Passed on.

        Raises:
            ValueError: The ids have no room for the context or not the template in its place, a
                conditional adapter has no condition, pictures are not of the border's size, or two
                active adapters meet here.
        """
        x = hidden_states if x is None else x
        if x is None:
            raise TypeError("a prompted module needs its input first, or as hidden_states")
        inner: Callable[..., Tensor] = self.base_layer
        adapter = self._adapter_here()
        if adapter is None:
            return inner(x, *args, **kwargs)
        slot = self.slots[adapter]
        if self.place == "pixels":
            x = _framed(x, self.prompt_border[adapter], slot)
            return inner(x, *args, **kwargs)
        if self.place == "embedding":
            x = self._check_ids(x, slot)
            behind = None if slot.suffix is None else slot.suffix.places(x)[:, slot.suffix.learned]
            x = inner(x, *args, **kwargs)
            if slot.tokens:
                x = _overwrite(x, self.prompts(adapter), slot.start)
            if behind is None:
                return x
            tokens = self._biased(self.prompt_suffix[adapter], adapter)
            _check_count(tokens, x)
            return x.scatter(
                1,
                behind[..., None].expand(-1, -1, x.shape[-1]),
                tokens.to(x.dtype).expand(len(x), -1, -1),
            )
        if self.place == "text":
            x = _overwrite(x, self.prompts(adapter), slot.start)
            return inner(x, *args, **kwargs)
        if slot.own:
            prompts = self.prompts(adapter).to(x.dtype)
            for norm in self._pre_norm:  # the papers add the first prompts in front of `ln_pre`
                prompts = norm(prompts)
            x = torch.cat([x, prompts.expand(x.shape[0], -1, -1)], dim=1)
        x = inner(x, *args, **kwargs)
        return x[:, : -slot.tokens] if slot.drop else x

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse: there is no weight that prompts could be merged into."""
        raise NotImplementedError("prompts are inputs and cannot be merged; use unload()")

    def unmerge(self) -> None:
        """Do nothing: prompts are never merged."""

    def _adapter_here(self) -> str | None:
        if self.disable_adapters:
            return None
        here = [name for name in self.active_adapters if name in self.slots]
        if len(here) > 1:
            raise ValueError(
                f"the adapters {here} prompt the same {self.place} layer; activate one"
            )
        return here[0] if here else None

    def prompts(self, adapter: str) -> Tensor:
        """Return (n, d) prompts, or (B, n, d) when they depend on B images or domains."""
        if adapter in self.sources:
            project: Callable[[Tensor], Tensor] = self.prompt_coupling[adapter]
            return project(self.sources[adapter].prompt_tokens[adapter])
        prompts: Tensor = self.prompt_tokens[adapter]
        if adapter in self.prompt_domains:
            own = _of_domains(self.prompt_domains[adapter], self.slots[adapter].domains)
            prompts = torch.cat([prompts.expand(*own.shape[:-2], -1, -1), own], dim=-2)
        return self._biased(prompts, adapter)

    def _biased(self, prompts: Tensor, adapter: str) -> Tensor:
        """Add what depends on the image, for a conditional adapter."""
        if adapter not in self.prompt_meta_down:
            return prompts
        features = condition()
        if features is None:
            raise ValueError(
                f"the adapter {adapter!r} depends on an image: "
                "encode text inside `with zsvg.tuners.condition_on(image_features):`"
            )
        down, up = self.prompt_meta_down[adapter], self.prompt_meta_up[adapter]
        bias: Tensor = up(torch.relu(down(features.to(prompts.dtype))))
        return prompts + bias.unsqueeze(-2)

    @staticmethod
    def _check_ids(ids: Tensor, slot: Slot) -> Tensor:
        stop = slot.start + slot.tokens
        if ids.shape[1] < stop + 1:
            raise ValueError(
                f"texts of {ids.shape[1]} tokens have no room for {slot.tokens} context tokens "
                f"from position {slot.start} and an end token"
            )
        if slot.ids is None:
            return ids
        expected = torch.tensor(slot.ids, device=ids.device)
        # Without the template the context would silently overwrite the query's own words.
        return checked(
            ids,
            ids[:, slot.start : stop] == expected,
            "every text must begin with the adapter's template: "
            f'tokenise f"{slot.template} {{query}}"',
        )


def _of_domains(tokens: Tensor, known: tuple[str, ...]) -> Tensor:
    """Take (k, d) of tokens (M, k, d) for the domain that is set, or (B, k, d) for B of them."""
    # Written so that the mean of equal tokens is those tokens to the last bit.
    mean = tokens[:1] + (tokens - tokens[:1]).mean(0, keepdim=True)
    names = domains()
    listed = [names] if names is None or isinstance(names, str) else names
    rows = [known.index(name) if name in known else len(known) for name in listed]
    # Not by indexing: the order of sums in its backward pass varies with several threads.
    chosen = torch.cat([tokens, mean]).index_select(0, torch.tensor(rows, device=tokens.device))
    return chosen[0] if listed is not names else chosen


def _overwrite(x: Tensor, prompts: Tensor, start: int) -> Tensor:
    """Replace n positions of x (B, L, d) from `start` by prompts (n, d) or (B, n, d)."""
    _check_count(prompts, x)
    prompts = prompts.to(x.dtype).expand(x.shape[0], -1, -1)
    return torch.cat([x[:, :start], prompts, x[:, start + prompts.shape[1] :]], dim=1)


def _check_count(prompts: Tensor, x: Tensor) -> None:
    if prompts.ndim == 3 and len(prompts) not in (1, len(x)):
        raise ValueError(f"images or domains for {len(prompts)} texts are set, but {len(x)} came")


def border_mask(size: tuple[int, int], border: int) -> Tensor:
    """Return (H, W) bool, True for the pixels within `border` of an edge."""
    mask = torch.ones(size, dtype=torch.bool)
    mask[border : size[0] - border, border : size[1] - border] = False
    return mask


def _framed(x: Tensor, values: Tensor, slot: Slot) -> Tensor:
    """Add values (3, n) to the n pixels of the border of x (B, 3, H, W)."""
    if tuple(x.shape[-2:]) != slot.size:
        raise ValueError(
            f"pictures of {tuple(x.shape[-2:])} pixels do not fit a border that was made for "
            f"{slot.size}"
        )
    mask = border_mask(slot.size, slot.border).to(x.device).expand(x.shape[1:])
    frame = values.new_zeros(x.shape[1:]).masked_scatter(mask, values)
    return x + frame.to(x.dtype)
