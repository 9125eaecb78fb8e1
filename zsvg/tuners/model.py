"""The PEFT tuner: which modules get prompts, how prompts start, what PEFT needs to know."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from zsvg.errors import BackboneError, ModelFolderError, RecipeError
from zsvg.tuners.config import PromptConfig
from zsvg.tuners.layer import Place, PromptLayer, Slot, border_mask
from zsvg.tuners.towers import TextTower, picture_input, text_tower, vision_tower


class PromptModel(BaseTuner):
    """Injects `PromptLayer`s as a `PromptConfig` says; use it through `get_peft_model`.

    A second adapter with `PeftModel.add_adapter` may differ in every option.
    """

    prefix = "prompt_"
    tuner_layer_cls = PromptLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 (PEFT's attribute)

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        *args: Any,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """Wrap the modules, then tie the vision prompts of a coupled adapter to its text prompts.

        The config decides which modules, also where PEFT would look for them in a `state_dict`: the
        wrapper that drops prompts has no tensors. The tie comes last because `named_modules` lists
        the vision tower before the text tower.

        Raises:
            ModelFolderError: The names in `state_dict` are not those of the config's prompts.
        """
        config: PromptConfig = self.peft_config[adapter_name]
        if state_dict is not None:
            _check_names(self._prepare_adapter_config(config, {}), model, state_dict)
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        if config.coupled:
            text = text_tower(model)
            sources = (text.embedding, *text.blocks[1 : int(config.text_depth)])
            for source, block in zip(sources, vision_tower(model).blocks, strict=False):
                layer: Any = model.get_submodule(block)
                layer.sources[adapter_name] = model.get_submodule(source)

    def add_weighted_adapter(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a mean of prompts is no mean of what they do, and their numbers may differ."""
        raise NotImplementedError(
            "prompts of several adapters cannot be merged into one: activate one after the other "
            "with set_adapter, and average the features"
        )

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter; if it was active, the first of the others by name becomes active.

        PEFT lets every layer choose for itself, which goes wrong when adapters prompt different
        layers, so the choice is made here before anything is deleted.
        """
        if adapter_name in self.active_adapters and adapter_name in self.peft_config:
            others = [name for name in self.active_adapters if name != adapter_name]
            others = others or sorted(set(self.peft_config) - {adapter_name})[:1]
            frozen = any(self.peft_config[name].inference_mode for name in others)
            self.set_adapter(others, inference_mode=frozen)
        super().delete_adapter(adapter_name)

    def forward_intermediates(self, *args: Any, **kwargs: Any) -> Any:
        """Call the backbone's method, unless riding prompts would spoil the feature maps.

        Raises:
            ValueError: An enabled adapter prompts some but not all vision blocks.
        """
        for module in self.model.modules():
            if isinstance(module, PromptLayer) and module.place == "vision":
                adapter = module._adapter_here()
                if adapter is not None and not module.slots[adapter].drop:
                    raise ValueError(
                        f"forward_intermediates is wrong with vision_depth="
                        f"{self.peft_config[adapter].vision_depth}: prompts stay between the "
                        'patches of later blocks; use vision_depth="all"'
                    )
        return self.model.forward_intermediates(*args, **kwargs)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Refuse what `PeftModel.forward` would drop without a word."""
        for name in ("adapter_names", "alora_offsets"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"{name}: one adapter prompts a whole batch; leave it out, and run a batch for "
                    "each adapter, after set_adapter"
                )
        yield

    def _prepare_adapter_config(
        self, peft_config: PromptConfig, model_config: dict[str, Any]
    ) -> PromptConfig:
        """Check the config against the towers and fill in what depends on them.

        All checks are here, before the first module is touched, so a refusal leaves the model as
        it was.
        """
        towers: dict[str, int] = {}
        targets: list[str] = []
        if peft_config.sees_text:
            text = text_tower(self.model)
            towers |= {"text_width": text.width, "text_layers": len(text.blocks)}
            if peft_config.conditional:
                towers["joint_width"] = text.joint_width
        if peft_config.vision_tokens:
            vision = vision_tower(self.model)
            towers |= {"vision_width": vision.width, "vision_layers": len(vision.blocks)}
        if peft_config.border:
            picture = picture_input(self.model)
            height, width = picture.size
            towers |= {"picture_height": height, "picture_width": width}
            towers |= {"vision_width": picture.width, "vision_layers": picture.layers}
        if peft_config.towers is not None and peft_config.towers != towers:
            raise ModelFolderError(
                f"these prompts were made for towers of {_sizes(peft_config.towers)}; this "
                f"backbone has {_sizes(towers)}: load the backbone they name, or make new prompts"
            )
        if peft_config.sees_text:
            _check_text(peft_config, text)
            depth = _depth("text_depth", peft_config.text_depth, len(text.blocks))
            peft_config.text_depth = depth
            targets += [text.embedding, *text.blocks[1:depth]]
        if peft_config.vision_tokens:
            layers = len(vision.blocks)
            depth = _depth("vision_depth", peft_config.vision_depth, layers)
            peft_config.vision_depth = depth
            # The last block is always wrapped: it drops prompts that ride along.
            targets += [*vision.blocks[:depth], *vision.blocks[max(depth, layers - 1) :]]
        if peft_config.border:
            if 2 * peft_config.border >= min(height, width):
                raise RecipeError(
                    f"border={peft_config.border} leaves nothing of a picture of {height} x "
                    f"{width} pixels; use at most {(min(height, width) - 1) // 2}"
                )
            targets.append(picture.entry)
        # A string, because PEFT turns long lists into sets, and sets are saved in hash order.
        pattern = "|".join(re.escape(name) for name in targets)
        made_for = peft_config.target_modules
        if peft_config.towers is not None and made_for is not None and made_for != pattern:
            raise ModelFolderError(
                f"these prompts were made for a backbone with {_first_name(made_for)}; this one "
                f"has {targets[0]} in its place: load the backbone they name, or make new prompts"
            )
        peft_config.towers = towers
        peft_config.target_modules = pattern
        return peft_config

    def _create_and_replace(
        self,
        peft_config: PromptConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        """Wrap one module, or reuse its wrapper, and give the adapter its initial prompts."""
        place, index = self._site(peft_config, current_key)
        if isinstance(target, PromptLayer):
            layer = target
        else:
            first = place == "vision" and index == 0
            layer = PromptLayer(target, place, vision_tower(self.model).pre_norm if first else None)
            self._replace_module(parent, target_name, layer, target)
        random = _generator(peft_config.seed, place, index)
        if place == "pixels":
            size = picture_input(self.model).size
            layer.slots[adapter_name] = Slot(border=peft_config.border, size=size)
            pixels = int(border_mask(size, peft_config.border).sum())
            device = next(layer.base_layer.parameters()).device
            layer.prompt_border[adapter_name] = nn.Parameter(torch.zeros(3, pixels, device=device))
        elif place == "vision":
            self._fill_vision(peft_config, adapter_name, layer, index, random)
        else:
            self._fill_text(peft_config, adapter_name, layer, random)

    def _site(self, config: PromptConfig, key: str) -> tuple[Place, int]:
        if config.sees_text:
            text = text_tower(self.model)
            if key == text.embedding:
                return "embedding", 0
            if key in text.blocks:
                return "text", text.blocks.index(key)
        if config.border and key == picture_input(self.model).entry:
            return "pixels", 0
        return "vision", vision_tower(self.model).blocks.index(key)

    def _fill_text(
        self, config: PromptConfig, adapter: str, layer: PromptLayer, random: torch.Generator
    ) -> None:
        text = text_tower(self.model)
        device = next(layer.base_layer.parameters()).device

        def embedded(ids: list[int]) -> torch.Tensor:
            # By the layer, as some scale what is in their table (M2M-100, which is NLLB's).
            with torch.no_grad():
                rows: torch.Tensor = layer.base_layer(torch.tensor(ids, device=device))
            return rows

        at_embedding = layer.place == "embedding"
        names = tuple(config.domains or ()) if at_embedding else ()
        own = config.domain_tokens if names else 0
        shared = config.text_tokens - own
        ids = config.init_ids if at_embedding else None
        layer.slots[adapter] = Slot(
            tokens=config.text_tokens,
            start=config.text_start,
            ids=None if ids is None else tuple(ids),
            template=config.init,
            domains=names,
            suffix=config.ending if at_embedding else None,
        )
        if ids is not None:
            words = embedded(ids)
            tokens, each = words[:shared].clone(), words[shared:].expand(len(names), -1, -1).clone()
        else:
            tokens, each = torch.empty(shared, text.width), torch.empty(len(names), own, text.width)
            for values in (tokens, each):
                values.normal_(std=0.02, generator=random)
        # float32 on any backbone: bfloat16 is too coarse for the optimiser's small steps.
        if config.text_tokens:
            layer.prompt_tokens[adapter] = nn.Parameter(tokens.to(device, torch.float32))
        if suffix := layer.slots[adapter].suffix:
            fillers = [suffix.ids[place] for place in suffix.learned]
            value = embedded(fillers).clone()
            layer.prompt_suffix[adapter] = nn.Parameter(value.to(device, torch.float32))
        if names:
            layer.prompt_domains[adapter] = nn.Parameter(each.to(device, torch.float32))
        if at_embedding and config.conditional:
            hidden = max(text.joint_width // 16, 1)
            down = _linear(text.joint_width, hidden, random, device)
            # Zeros, unlike CoCoOp: an untrained adapter of any kind equals zero-shot.
            up = _linear(hidden, text.width, random, device, zero=True)
            layer.prompt_meta_down[adapter] = down
            layer.prompt_meta_up[adapter] = up

    def _fill_vision(
        self,
        config: PromptConfig,
        adapter: str,
        layer: PromptLayer,
        index: int,
        random: torch.Generator,
    ) -> None:
        vision = vision_tower(self.model)
        device = next(layer.base_layer.parameters()).device
        depth, last = int(config.vision_depth), len(vision.blocks) - 1
        own = index < depth
        layer.slots[adapter] = Slot(
            tokens=config.vision_tokens, own=own, drop=index < depth - 1 or index == last
        )
        if own and config.coupled:
            width = text_tower(self.model).width
            layer.prompt_coupling[adapter] = _linear(width, vision.width, random, device)
        elif own:
            # VPT's range: Xavier's for a convolution from RGB patches to the width.
            limit = (6 / (3 * vision.patch_area + vision.width)) ** 0.5
            tokens = torch.empty(config.vision_tokens, vision.width)
            tokens.uniform_(-limit, limit, generator=random)
            layer.prompt_tokens[adapter] = nn.Parameter(tokens.to(device))

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        """Replace a submodule; PEFT's version copies `weight`, which a block does not have."""
        setattr(parent, child_name, new_module)


def _check_names(
    config: PromptConfig, model: nn.Module, state_dict: Mapping[str, torch.Tensor]
) -> None:
    mark = f".{PromptModel.prefix}"
    found = {name.rpartition(mark)[0] for name in state_dict if mark in name}
    pattern = str(config.target_modules)
    needed = {name for name, _ in model.named_modules() if re.fullmatch(pattern, name)}
    if config.vision_tokens:
        blocks = vision_tower(model).blocks
        needed -= set(blocks[int(config.vision_depth) :])  # these only drop prompts
    for name in sorted(found ^ needed):
        raise ModelFolderError(
            f"the state dict has {'no ' if name in needed else ''}prompts of {name}, unlike the "
            "config: give both of one adapter, with names as in this model"
        )


def _check_text(config: PromptConfig, text: TextTower) -> None:
    room = text.context_length - config.text_start - 1
    behind = len(config.suffix_ids or ())
    if config.text_tokens + behind > room:
        more = f" with {behind} behind the query" if behind else ""
        raise RecipeError(
            f"text_tokens={config.text_tokens}{more} does not fit: the text tower has room for "
            f"{room} tokens from position {config.text_start} to the end token"
        )
    for name in ("init", "suffix"):
        ids = getattr(config, f"{name}_ids") or []
        if not all(0 <= i < text.vocabulary for i in ids):
            raise BackboneError(
                f"the ids {ids} of {name}={getattr(config, name)!r} are not in the backbone's "
                f"vocabulary of {text.vocabulary}; use the backbone's own tokenizer"
            )


def _depth(name: str, depth: int | str, layers: int) -> int:
    if isinstance(depth, str):  # "all"
        return layers
    if depth > layers:
        raise RecipeError(
            f'{name}={depth} is more than the tower\'s {layers} blocks; use at most that, or "all"'
        )
    return depth


def _generator(seed: int, *key: object) -> torch.Generator:
    """Return a generator of its own for every place, so that options do not shift each other."""
    digest = hashlib.sha256(repr((seed, *key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _linear(
    inputs: int,
    outputs: int,
    random: torch.Generator,
    device: torch.device,
    zero: bool = False,
) -> nn.Linear:
    """Return PyTorch's usual linear layer, drawn from `random` instead of the global state."""
    layer = nn.Linear(inputs, outputs, device="meta")
    limit = 0.0 if zero else inputs**-0.5
    for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
        value = torch.empty(shape).uniform_(-limit, limit, generator=random)
        setattr(layer, name, nn.Parameter(value.to(device)))
    return layer


def _first_name(pattern: str) -> str:
    """Return the first module of a saved `target_modules` pattern, readable."""
    return pattern.partition("|")[0].replace("\\", "")


def _sizes(towers: dict[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sorted(towers.items())) or "no such tower"
