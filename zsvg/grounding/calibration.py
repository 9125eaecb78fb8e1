"""From logits to probabilities that mean what they say, and how far they are from that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BINS = 10
_LEAST = 1e-6
_MOST_WRONG = 0.8  # share of labels that may be wrong at most
# A little: what is told apart without an error has a finite slope.
_PENALTY = 1e-4


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Probability = sigmoid(`slope` * logit + `offset`): a temperature and a base rate.

    Attributes:
        slope: Above 0.
        offset: Of the logits.
        wrong: Share of the true ones that the scale was fitted on that are none, in [0, 1).
    """

    slope: float
    offset: float
    wrong: float = 0.0

    def probability(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities in [0, 1] of logits of any shape."""
        from scipy.special import expit

        scaled = self.slope * np.asarray(logits, dtype=np.float64) + self.offset
        return np.asarray(expit(scaled), dtype=np.float64)

    def right(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Return how likely what was taken for true is so, by its logits; 1 if none is wrong."""
        if not self.wrong:
            return np.ones_like(np.asarray(logits, dtype=np.float64))
        odds = np.exp(self.slope * np.asarray(logits, dtype=np.float64) + self.offset)
        true: NDArray[np.float64] = (1 - self.wrong) * odds / ((1 - self.wrong) * odds + self.wrong)
        return true


def logits_of(probability: ArrayLike) -> NDArray[np.float64]:
    """Return the logits (n,) of probabilities, of certainty those of one in a million."""
    from scipy.special import logit

    sure = np.clip(np.asarray(probability, dtype=np.float64), _LEAST, 1 - _LEAST)
    return np.asarray(logit(sure), dtype=np.float64)


def scale_of(
    logits: ArrayLike, there: ArrayLike, weight: ArrayLike, *, doubtful: bool = False
) -> Scale | None:
    """Fit a scale by maximum likelihood (Platt, 1999); None where larger logits are no surer.

    Of doubtful labels some are wrong, and look like what is not there. What is taken for true is
    then seldom rarer than they are, however low the logit: the logistic curve has a floor, as
    guessing gives one to that of the three-parameter logistic model of tests (Birnbaum, 1968). It
    is fitted too, and taken away.

    Args:
        logits: (n,) of "it is there".
        there: (n,) bool, what is taken for true; it weighs as much as all else.
        weight: (n,) what each counts.
        doubtful: Whether some of the true ones may be wrong.
    """
    from scipy.optimize import minimize

    x, given = np.asarray(logits, dtype=np.float64), np.asarray(there, dtype=bool)
    share = np.asarray(weight, dtype=np.float64)
    if given.all() or not given.any():
        return None
    share = share / share.sum()

    def surprise(values: NDArray[np.float64]) -> float:
        slope, offset, wrong = values
        odds = np.logaddexp(np.log1p(-wrong) + slope * x + offset, np.log(wrong + 1e-12))
        return float(share @ (np.logaddexp(0, odds) - given * odds) + _PENALTY * slope**2)

    most = _MOST_WRONG if doubtful else 0.0
    found = minimize(
        surprise,
        x0=[1.0, -float(np.median(x)), most / 4],
        bounds=[(None, None), (None, None), (0.0, most)],
        method="L-BFGS-B",
    )
    slope, offset, wrong = (float(value) for value in found.x)
    return Scale(slope=slope, offset=offset, wrong=wrong) if slope > 1e-3 else None


def brier_score(probability: ArrayLike, there: ArrayLike, weight: ArrayLike) -> float:
    """Return the mean squared difference of probabilities (n,) and what is true (n,), weighted.

    0 is best; whoever always says the base rate r gets r * (1 - r).
    """
    off = np.asarray(probability, dtype=np.float64) - np.asarray(there, dtype=np.float64)
    return float(np.average(off**2, weights=np.asarray(weight, dtype=np.float64)))


def calibration_error(probability: ArrayLike, there: ArrayLike, weight: ArrayLike) -> float:
    """Return the expected calibration error (Guo et al., ICML 2017), of ten bins of equal width.

    It is how far in each bin the mean probability is from the share that is there, averaged over
    bins by what they hold.

    Args:
        probability: (n,) in [0, 1].
        there: (n,) what is true, in [0, 1] where it is not known for sure.
        weight: (n,) what each counts.
    """
    said, true, share = (np.asarray(x, dtype=np.float64) for x in (probability, there, weight))
    place = np.minimum((said * _BINS).astype(np.intp), _BINS - 1)
    off = np.bincount(place, weights=share * (said - true), minlength=_BINS)
    return float(np.abs(off).sum() / share.sum())
