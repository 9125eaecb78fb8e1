"""What may be done to a relevance curve before moments are cut out of it.

Curves are (T,) float64, higher where the video fits the query.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]

FLAT = 1e-12
"""A curve that varies by no more than this says nothing."""

_ROWS_AT_ONCE = 1024  # of a video's self-similarity matrix
# Powers that Box and Cox's transform tries, on at most so many clips, and the least positive value.
_POWERS = np.round(np.arange(-2.0, 4.05, 0.1), 1)
_SAMPLED, _FLOOR = 1000, 0.01
# As in TFVTG: smoothing in clips before differences are taken. There a difference above 0.0005 of
# its similarities is a rise; in standard deviations of such a curve that is about this.
_RISE_SMOOTH, _RISE = 1.0, 0.02


def spread_relevance(curve: Curve, features: NDArray[np.float32], temperature: float) -> Curve:
    """Average relevance over the clips that look alike, wherever in the video they are.

    Each clip's relevance becomes the mean of all, weighted by softmax(similarity / temperature):
    non-local means (Buades et al., CVPR 2005) on the video's self-similarity. What one clip's
    caption or picture misses, the others of the same scene tell; borders between scenes stay.

    Args:
        curve: (T,) relevance.
        features: (T, D) clips as rows of unit length.
        temperature: above 0.
    """
    # Of deviations from the mean, so that a constant stays one in spite of rounding.
    mean = float(curve.mean())
    found = np.empty(len(curve))
    for first in range(0, len(curve), _ROWS_AT_ONCE):
        alike = features[first : first + _ROWS_AT_ONCE] @ features.T
        weight = np.exp((alike - alike.max(axis=1, keepdims=True)) / temperature)
        found[first : first + _ROWS_AT_ONCE] = weight @ (curve - mean) / weight.sum(axis=1)
    return found + mean


def smooth(curve: Curve, sigma: float) -> Curve:
    """Convolve a curve (T,) with a Gaussian of `sigma` clips, mirrored at both ends."""
    radius = min(int(np.ceil(3 * sigma)), len(curve) - 1)
    if radius < 1:
        return curve
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(curve, radius, mode="symmetric")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def box_cox(curve: Curve) -> Curve:
    """Bring the distribution of relevance as near to a normal one as a power can.

    (x ** p - 1) / p with the most likely p of a grid (Box and Cox, 1964). Powers need positive
    numbers, so x is the curve laid onto [0.01, 1]. A flat curve comes back as it is.

    TAG names the same transform, but its code does not maximise this likelihood: it ends at the
    largest power that it allows, 2, whatever the curve.
    """
    low, span = curve.min(), np.ptp(curve)
    if span <= FLAT:
        return curve
    logs = np.log(_FLOOR + (1 - _FLOOR) * (curve - low) / span)
    few = logs[:: -(-len(logs) // _SAMPLED)]
    tried = np.stack([_power(few, p) for p in _POWERS])
    variance = np.maximum(tried.var(axis=1), np.finfo(np.float64).tiny)
    likelihood = (_POWERS - 1) * few.mean() - 0.5 * np.log(variance)
    return _power(logs, float(_POWERS[likelihood.argmax()]))


def _power(logs: Curve, power: float) -> Curve:
    return logs if power == 0 else np.expm1(power * logs) / power


def rise_starts(curve: Curve) -> NDArray[np.int64]:
    """Return (T,) the clip at which the rise that leads up to each clip began.

    A rise is a run of neighbouring clips, each more relevant than the one before; a clip that is
    not at the end of one is its own beginning. Much as in TFVTG, for curves of any scale.
    """
    level = smooth(curve, _RISE_SMOOTH)
    rising = np.diff(level) > _RISE * max(float(level.std()), FLAT)
    begun = np.where(rising, 0, np.arange(1, len(level)))
    return np.maximum.accumulate(np.concatenate(([0], begun))).astype(np.int64)


def standardised(curve: NDArray[np.floating]) -> Curve:
    """Return deviations from the curve's mean in units of its standard deviation; 0 if constant."""
    centred = curve - curve.mean(dtype=np.float64)
    return np.asarray(centred / max(float(centred.std()), 1e-9), dtype=np.float64)
