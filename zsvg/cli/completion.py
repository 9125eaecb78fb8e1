"""Shell completion: values that are known and quick to list.

Where nothing fits, the shell offers files. Nothing is checked here: the library names what is valid
in its own errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

Complete = Callable[[str], list[str]]


def offer(*words: str) -> Complete:
    """Return what completes one of these words."""
    return offer_from(lambda: words)


def offer_from(words: Callable[[], Iterable[str]]) -> Complete:
    """Return what completes one of the words that a function lists when it is asked."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words() if word.startswith(incomplete)]

    return complete


@offer_from
def recipes() -> list[str]:
    """Recipes that ship."""
    from zsvg.training.recipes import recipe_names

    return recipe_names()


@offer_from
def protocols() -> list[str]:
    """Protocols."""
    from zsvg.evaluation.protocols.by_name import PROTOCOLS

    return ["list", *(known.name for known in PROTOCOLS)]


@offer_from
def datasets() -> list[str]:
    """Forms of annotation files."""
    from zsvg.datasets import NAMES

    return ["list", *NAMES, "results"]


@offer_from
def domains() -> list[str]:
    """Microworld's domains."""
    from zsvg.microworld.domains import LOOKS

    return list(LOOKS)


backbones = offer("micro", "hf-hub:", "local-dir:")
models = offer("micro", "captions:tfidf", "hf-hub:", "local-dir:")
captioners = offer("micro", "Salesforce/blip-image-captioning-base")
# Named here, because their modules take seconds to import.
proposals = offer(
    *("blocks", "windows", "random", "uniform", "psvl", "spl", "frames", "coherent", "changes"),
    "steps",
)
supervision = offer("training-free", "language-free", "weak", "glance", "full")
heads = offer("regression", "map", "span", "set", "windows", "embedding", "pointing")
