"""The trainable network: a frozen CLIP, its prompts when there are any, and a head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from zsvg.backbones.base import TextStates, TunableBackbone
from zsvg.files import atomic_path
from zsvg.heads.base import HeadOutput
from zsvg.heads.ensemble import Head
from zsvg.training.frame_queries import FrameQuery

if TYPE_CHECKING:
    from zsvg.tuners import PromptConfig

# Raw frames that one pass through the image tower takes, so that memory does not follow T.
_FRAMES_PER_PASS = 256


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B (video, query) pairs, padded to the longest video; times are fractions of the duration."""

    token_ids: Tensor
    """(B, L) int64, from `ClipBackbone.tokenize`, template included."""
    frame_mask: Tensor
    """(B, T) bool, real frames first."""
    centres: Tensor
    """(B, T) float32 clip centres in [0, 1]."""
    target: Tensor
    """(B, 2) float32 the moment to regress."""
    inside: Tensor
    """(B, T) bool frames inside any true moment."""
    weight: Tensor
    """(B,) float32 sample weights."""
    features: Tensor | None = None
    """(B, T, D) frame features at hand; None where `frames` are encoded instead."""
    wordless: Tensor | None = None
    """(B,) bool rows whose query is made of frames inside the moment; None where there is none."""
    frames: tuple[Tensor, ...] | None = None
    """B tensors (T_b, S, S, 3) uint8, instead of `features` to train the image tower's prompts."""
    domains: tuple[str | None, ...] | None = None
    """B names of the domains that the videos are of, for prompts that have domains (DAPL)."""


class GroundingNetwork(nn.Module):
    """Backbone, prompts and head as one module; only prompts and head can be trained.

    Prompts are attached to the backbone in place by `attach` (training calls it) and taken off by
    `release`, so that several networks can be planned on one backbone.

    Attributes:
        backbone: The frozen CLIP.
        head: The trained head.
        prompts: Config of the prompts; None trains the head alone.
        model: What encodes: the backbone's module, or the PEFT model around it.
        frame_query: Makes queries of frames for labels without sentences; not saved.
    """

    def __init__(
        self,
        backbone: TunableBackbone,
        head: Head,
        *,
        prompts: PromptConfig | None = None,
        frame_query: FrameQuery | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.prompts = prompts
        self.head = head.to(backbone.device)
        self.frame_query = None if frame_query is None else frame_query.to(backbone.device)
        self.model: Any = backbone.model
        self._texts: dict[bytes, tuple[Tensor, Tensor, Tensor]] = {}

    @property
    def attached(self) -> bool:
        """Whether the prompts are on the backbone."""
        return self.model is not self.backbone.model

    @property
    def trains_text(self) -> bool:
        """Whether text states change while training."""
        return self.prompts is not None and self.prompts.sees_text

    @property
    def trains_vision(self) -> bool:
        """Whether frame features change while training, so that raw frames are needed."""
        return self.prompts is not None and self.prompts.sees_frames

    @property
    def coupled(self) -> bool:
        """Whether prompts in the image tower move with those of the text (MaPLe)."""
        return self.prompts is not None and self.prompts.coupled

    @property
    def depends_on_video(self) -> bool:
        """Whether text states depend on the video (CoCoOp)."""
        return self.prompts is not None and self.prompts.conditional

    def attach(self) -> None:
        """Put the prompts on the backbone; does nothing without prompts or when they are on it."""
        if self.prompts is None or self.attached:
            return
        from peft import get_peft_model

        import zsvg.tuners  # noqa: F401  (registers the prompt tuner with PEFT)

        with self.backbone.lock:
            self.model = get_peft_model(self.backbone.model, self.prompts)
            self.model.to(self.backbone.device).eval()
        self._texts.clear()

    def checkpoint_gradients(self, on: bool) -> None:
        """Let the image tower compute its activations again in the backward pass, or keep them.

        That takes less memory and more time. Does nothing where frames are not encoded in training;
        open_clip's ResNets ignore it.
        """
        if self.trains_vision:
            self.backbone.model.visual.set_grad_checkpointing(on)

    def release(self) -> None:
        """Take the prompts off the backbone, which is then as it was before `attach`."""
        self.checkpoint_gradients(False)
        if self.attached:
            with self.backbone.lock:
                self.model.unload()
                self.model = self.backbone.model
        self._texts.clear()

    def train(self, mode: bool = True) -> GroundingNetwork:
        """Switch the head's dropout; the backbone stays in `eval()`, as it is frozen."""
        super().train(mode)
        self.model.eval()
        return self

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return what is trained, by name ("head...", "model..."), in a fixed order."""
        named = ((n, p) for n, p in self.named_parameters() if p.requires_grad)
        return dict(sorted(named))

    def parameter_counts(self) -> tuple[int, int]:
        """Return the numbers of trained parameters that are kept: (prompts, head)."""
        was_attached = self.attached
        self.attach()
        sizes = {name: p.numel() for name, p in self.trainable().items()}
        if not was_attached:
            self.release()
        prompts, head = (
            sum(n for name, n in sizes.items() if name.startswith(f"{part}."))
            for part in ("model", "head")
        )
        return prompts, head

    def forward(self, batch: Batch, *, teacher: bool = False) -> HeadOutput:
        """Answer a batch.

        Args:
            batch: The pairs, on the backbone's device.
            teacher: Show the head the targets (training); otherwise it predicts.
        """
        frames = self._frame_features(batch)
        text = self._query_states(batch, frames)
        output: HeadOutput = self.head(
            frames=frames,
            frame_mask=batch.frame_mask,
            centres=batch.centres,
            tokens=text.tokens,
            token_mask=text.mask,
            pooled=text.pooled,
            points=text.points,
            target=batch.target if teacher else None,
        )
        return output

    def tokenize(self, texts: list[str]) -> Tensor:
        """Return token ids (B, L) of sentences behind the template, with what prompts add."""
        ids = self.backbone.tokenize(texts)
        return ids if self.prompts is None else self.prompts.complete(ids)

    def remember_texts(self, token_ids: Tensor) -> None:
        """Encode texts (B, L) as a forward pass would; does nothing where prompts change them."""
        if not (self.trains_text or self.depends_on_video):
            self._frozen_text(token_ids)

    def save(self, folder: str | Path) -> None:
        """Write `head.safetensors`, and the prompts as a PEFT adapter where there are any.

        Raises:
            ValueError: The prompts have been released, so what they learned is gone.
        """
        if self.prompts is not None and not self.attached:
            raise ValueError("the prompts are not on the backbone; save before release()")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: t.detach().cpu().contiguous() for name, t in self.head.state_dict().items()}
        with atomic_path(folder / "head.safetensors") as temporary:
            temporary.write_bytes(save(state))
        if self.prompts is not None:
            # "auto" would look the backbone's name up on the Hub.
            try:
                self.model.save_pretrained(folder, save_embedding_layers=False)
            except SafetensorError as error:  # a full disk, for one
                raise OSError(f"{folder}: the prompts cannot be written ({error})") from error

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encode raw frames (T, S, S, 3) uint8 into (T, D) with the prompts at work."""
        passes = frames.split(_FRAMES_PER_PASS)
        return torch.cat([self.backbone.encode_frames(part, model=self.model) for part in passes])

    def _frame_features(self, batch: Batch) -> Tensor:
        if batch.frames is None:
            if batch.features is None:
                raise ValueError("the batch has neither frame features nor raw frames")
            return batch.features
        rows = self.encode_frames(torch.cat(batch.frames)).split([len(f) for f in batch.frames])
        return nn.utils.rnn.pad_sequence(list(rows), batch_first=True)

    def _query_states(self, batch: Batch, frames: Tensor) -> TextStates:
        """Encode the sentences; where there is none, the query is made of frames."""
        text = self._text_states(batch, frames)
        if batch.wordless is None:
            return text
        if self.frame_query is None:
            raise ValueError("labels without sentences need a network with a `frame_query`")
        row = batch.wordless[:, None]
        shown = self.frame_query(frames, batch.inside).to(text.pooled.dtype)
        only = torch.zeros_like(text.mask)
        only[:, 0] = True  # a query of frames is one token
        return TextStates(
            pooled=torch.where(row, shown, text.pooled),
            tokens=torch.where(row[..., None], shown[:, None], text.tokens),
            mask=torch.where(row, only, text.mask),
            points=None
            if text.points is None
            else torch.where(row[..., None], shown[:, None], text.points),
        )

    def _text_states(self, batch: Batch, frames: Tensor) -> TextStates:
        if not (self.trains_text or self.depends_on_video):
            return self._frozen_text(batch.token_ids)
        from zsvg.tuners import condition_on, in_domain

        if self.depends_on_video:
            mask = batch.frame_mask[..., None]
            mean = (frames * mask).sum(1) / mask.sum(1)
            with condition_on(nn.functional.normalize(mean, dim=-1)), in_domain(batch.domains):
                return _cut(self._prompted_text(batch.token_ids))
        # Pseudo-queries repeat; the text tower is the expensive part of a step.
        ids, domains, where = _distinct(batch)
        with in_domain(domains):
            states = self._prompted_text(ids)
        return _cut(_rows(states, where))

    def _prompted_text(self, ids: Tensor) -> TextStates:
        points = None if self.prompts is None else self.prompts.points(ids)
        return self.backbone.encode_tokens(ids, model=self.model, points=points)

    @torch.no_grad()
    def _frozen_text(self, ids: Tensor) -> TextStates:
        """Encode each text once and keep it: 37 thousand of ActivityNet in 0.6 GB instead of 5.9.

        Of the tokens only real ones are kept, and rounded to float16, as frame features are: no
        number moves by more than 2^-11 of itself (2^-25 where it is smaller than 2^-14). The pooled
        vector is kept as it is.
        """
        keys = [row.tobytes() for row in ids.cpu().numpy()]
        new = list({key: i for i, key in enumerate(keys) if key not in self._texts}.values())
        if new:
            states = self.backbone.encode_tokens(ids[new])
            for index, pooled, tokens, mask in zip(
                new, states.pooled, states.tokens, states.mask, strict=True
            ):
                length = int(mask.nonzero().max()) + 1
                kept = tokens[:length].half()
                self._texts[keys[index]] = pooled.clone(), kept, mask[:length].clone()
        known = [self._texts[key] for key in keys]
        pad = nn.utils.rnn.pad_sequence
        return TextStates(
            pooled=torch.stack([pooled for pooled, _, _ in known]),
            tokens=pad([tokens for _, tokens, _ in known], batch_first=True).float(),
            mask=pad([mask for _, _, mask in known], batch_first=True),
        )


def _distinct(batch: Batch) -> tuple[Tensor, list[str | None], Tensor]:
    """Return the different (text, domain) pairs of a batch, and the pair of each row."""
    domains = batch.domains or (None,) * len(batch.token_ids)
    names = sorted(set(domains), key=lambda name: (name is not None, name))
    number = torch.tensor([[names.index(name)] for name in domains], device=batch.token_ids.device)
    pairs, where = torch.cat((number, batch.token_ids), 1).unique(dim=0, return_inverse=True)
    return pairs[:, 1:], [names[i] for i in pairs[:, 0].tolist()], where


def _rows(states: TextStates, index: Tensor) -> TextStates:
    # Not `states.tokens[index]`: where several threads add up gradients of one row that was taken
    # three times or more, their order, and with it the last bit, would vary from run to run.
    return TextStates(
        pooled=states.pooled.index_select(0, index),
        tokens=states.tokens.index_select(0, index),
        mask=states.mask.index_select(0, index),
        points=None if states.points is None else states.points.index_select(0, index),
    )


def _cut(states: TextStates) -> TextStates:
    """Drop token positions that are padding in every row."""
    length = int(states.mask.any(0).nonzero().max()) + 1
    return replace(states, tokens=states.tokens[:, :length], mask=states.mask[:, :length])
