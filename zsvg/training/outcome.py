"""What a tuning run came to, and how it is told at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zsvg.training.options import History


@dataclass(frozen=True, kw_only=True)
class TuneOutcome:
    """What a tuning run did.

    Attributes:
        folder: The model folder.
        history: Losses and validation scores by step.
        share: How much of the answers is the head's, see `zsvg.grounding.share`.
        alignment: How far sentences are turned, see `zsvg.grounding.alignment`.
        held_out: mIoU of the first answer on the held-out labels, tuned; None where those have no
            sentences to ask.
        training_free: The same, without any training.
        aligned: The same, with aligned sentences alone; None where there are none.
        gain: Of tuned over training-free, and its 95 % interval, videos drawn anew.
        failures: vid -> why its labels could not be used.
        level: What the labels told, see `zsvg.training.supervision.level_of`.
    """

    folder: Path
    history: History
    share: float
    alignment: float
    level: str
    held_out: float | None
    training_free: float | None
    aligned: float | None
    gain: tuple[float, float, float] | None
    failures: Mapping[str, str]

    @property
    def helped(self) -> bool:
        """Whether tuning beat training-free grounding on the held-out labels."""
        if self.held_out is None or self.training_free is None:
            return False
        return self.held_out > self.training_free

    def summary(self) -> list[str]:
        """Return what a user wants to know at the end."""
        lines = [f"trained {self.level}"]
        if self.held_out is None or self.training_free is None:
            return [
                *lines,
                "no label tells both a sentence and its times, so nothing here tells whether "
                "tuning helped; give annotations as --validation",
            ]
        lines += [
            f"held-out labels, mIoU: tuned {100 * self.held_out:.1f}, "
            f"training-free {100 * self.training_free:.1f}"
        ]
        if self.gain is not None:
            more = "gain {:+.1f} [{:+.1f}, {:+.1f}], 95 % over videos".format(
                *(100 * value for value in self.gain)
            )
            if self.aligned is not None:
                more += (
                    f"; {100 * (self.aligned - self.training_free):+.1f} of it by aligned "
                    f"sentences, {100 * (self.held_out - self.aligned):+.1f} by what was trained"
                )
            lines.append(more)
        lines.append(
            f"{self.share:.0%} of the answers is the head's, the rest similarity"
            + (f" of aligned sentences ({self.alignment:g})" if self.alignment else "")
        )
        if self.share == 0 and self.gain is None:
            lines.append(
                "too few held-out videos tell that the head helps (one alone is not asked): label "
                "more videos, or give annotations of others as --validation"
            )
        if not self.helped:
            lines.append(
                "warning: tuning made it worse than training-free grounding; use the backbone alone"
                if self.held_out < self.training_free
                else "warning: tuning brought nothing on the held-out labels"
            )
        return lines
