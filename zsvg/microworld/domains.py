"""The looks of microworld: how each domain paints the same kind of events.

`studio` is for pre-training the micro backbones. `chalk` is the development domain: every choice
is made there. The remaining domains are only ever reported on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zsvg.errors import ZsvgError

RGB = tuple[int, int, int]

STUDIO_PALETTE: dict[str, RGB] = {
    "red": (222, 42, 40),
    "green": (44, 168, 70),
    "blue": (48, 86, 222),
    "yellow": (238, 214, 48),
    "purple": (146, 58, 186),
    "orange": (242, 138, 32),
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a domain is painted and worded.

    Attributes:
        ground: Background kind: `smooth`, `board`, `paper`, `dark` or `woven`.
        tone: Range of the background's mean grey level, 0 to 255.
        ink: How objects are painted: `solid` or `outline`.
        palette: Colour word to RGB.
        gain: Factor on all pixel values (a dark camera has gain < 1).
        tint: RGB factors applied after everything is drawn.
        noise: Standard deviation of the sensor noise in grey levels.
        vignette: Darkening of the corners, 0 to 1.
        blur: Radius of a Gaussian blur in pixels.
        swing: Amplitude of a slow change of the light's colour (0: steady light).
        clutter: Number of small background marks.
        drift: Amplitude of the slow camera drift in pixels.
        wording: Key of the domain's phrasing in `language`.
    """

    ground: str = "smooth"
    tone: tuple[int, int] = (70, 190)
    ink: str = "solid"
    palette: dict[str, RGB] = field(default_factory=lambda: dict(STUDIO_PALETTE))
    gain: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 4.0
    vignette: float = 0.0
    blur: float = 0.0
    swing: float = 0.0
    clutter: int = 6
    drift: float = 3.0
    wording: str = "studio"


def _mixed(towards: RGB, share: float) -> dict[str, RGB]:
    """Return the studio palette mixed with one colour (share 0 keeps it, 1 replaces it)."""
    return {
        name: tuple(round((1 - share) * c + share * t) for c, t in zip(rgb, towards, strict=True))  # type: ignore[misc]
        for name, rgb in STUDIO_PALETTE.items()
    }


LOOKS: dict[str, Look] = {
    "studio": Look(),
    "chalk": Look(
        ground="board",
        tone=(38, 60),
        ink="outline",
        palette=_mixed((255, 255, 255), 0.35),
        noise=7.0,
        clutter=14,
        blur=0.5,
        swing=0.1,
        wording="chalk",
    ),
    "paper": Look(
        ground="paper",
        tone=(215, 240),
        ink="outline",
        palette=_mixed((60, 60, 80), 0.5),
        gain=0.7,
        noise=6.0,
        blur=0.4,
        swing=0.1,
        clutter=24,
        wording="paper",
    ),
    "night": Look(
        ground="dark",
        tone=(30, 60),
        palette=_mixed((110, 130, 110), 0.4),
        gain=0.75,
        tint=(0.75, 1.1, 0.75),
        noise=8.0,
        vignette=0.5,
        blur=0.3,
        swing=0.15,
        clutter=10,
        drift=5.0,
        wording="night",
    ),
    "fabric": Look(
        ground="woven",
        tone=(90, 160),
        ink="outline",
        palette=_mixed((150, 120, 110), 0.45),
        gain=0.7,
        noise=8.0,
        blur=0.4,
        swing=0.15,
        clutter=14,
        wording="fabric",
    ),
}

PRETRAINING = "studio"
DEVELOPMENT = "chalk"
REPORTED: tuple[str, ...] = ("paper", "night", "fabric")


def look_of(domain: str) -> Look:
    """Return the look of a domain.

    Raises:
        ZsvgError: The domain is unknown; the message lists the valid names.
    """
    if domain not in LOOKS:
        raise ZsvgError(f"unknown microworld domain {domain!r}; choose one of {', '.join(LOOKS)}")
    return LOOKS[domain]
