"""The forms that pseudo-queries take beside plain captions, and which captions are fit for one.

"simplified" keeps nouns and verbs only, as PSVL does (Nam et al., "Zero-shot Natural Language Video
Localization", ICCV 2021); captions without an action may be dropped, much as by SPL (Zheng et al.,
ACL 2023). "composed" adds sentences about the order of two events. "features" (Kim et al.,
"Language-free Training for Zero-shot Video Grounding", WACV 2023) has no sentence, hence nothing
here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsvg.errors import ZsvgError
from zsvg.label.queries import Form, PseudoQuery, QueryOptions, choose
from zsvg.label.tagging import Tagger

_SHORTENED = {"'m", "'s", "'re", "’m", "’s", "’re"}
_BE = {"be", "am", "is", "are", "was", "were", "been", "being"} | _SHORTENED
_STILL = _BE | {"stay", "stays", "staying"}
_SHORT = 4  # words, up to which the share of different ones says little


def check_tagger(options: QueryOptions, tagger: Tagger | None) -> None:
    """Refuse options that ask for nouns or verbs where nothing tells which words are.

    Raises:
        ZsvgError: There is no tagger, but it is needed.
    """
    if options.needs_tagger and tagger is None:
        what = "static=False" if options.form != "simplified" else "form 'simplified'"
        raise ZsvgError(f"{what} needs a tagger: give micro, or a JSON file {{word: tag}}")


def well_said(caption: str, options: QueryOptions) -> bool:
    """Return whether a caption has enough words and, where `quality` asks, no broken record.

    Captioners that are lost repeat themselves: a word three times in a row, or more than four words
    of which less than half are different.
    """
    words = caption.casefold().split()
    if len(words) < options.least_words or not options.quality:
        return len(words) >= options.least_words
    stutter = any(a == b == c for a, b, c in zip(words, words[1:], words[2:], strict=False))
    return not stutter and (len(words) <= _SHORT or 2 * len(set(words)) >= len(words))


def phrase(
    captions: Sequence[Sequence[str]],
    encode: Callable[[list[str]], NDArray[np.floating]],
    features: NDArray[np.floating],
    *,
    events: ArrayLike,
    centres: NDArray[np.floating],
    options: QueryOptions,
    tagger: Tagger | None = None,
) -> list[PseudoQuery]:
    """Make the pseudo-queries of one video from what was said about its events.

    Args:
        captions: Of each event, different ones, cleaned.
        encode: Returns (C, D) L2-normalised features of C sentences.
        features: (T, D) L2-normalised frame features.
        events: (n, 2) spans, seconds.
        centres: (T,) middle of each frame's clip, seconds.
        options: The form, and what to keep.
        tagger: Where `options.needs_tagger`.
    """
    sentences = [put(event, options, tagger) for event in captions]
    texts = sorted({text for event in sentences for text in event})
    if not texts:
        return []
    chosen = choose(sentences, texts, encode(texts), features, events=events, centres=centres,
                    options=options)  # fmt: skip
    return compose(chosen) if options.form == "composed" else chosen


def put(captions: Sequence[str], options: QueryOptions, tagger: Tagger | None) -> list[str]:
    """Return what one event's captions become before they are scored.

    Args:
        captions: Different ones, cleaned.
        options: What to drop, and which form to give.
        tagger: Where `options.needs_tagger`.

    Returns:
        Different sentences, sorted; none where nothing is left.

    Raises:
        ZsvgError: There is no tagger, but it is needed.
    """
    check_tagger(options, tagger)
    kept = list(captions)
    if tagger is None:
        return sorted(set(kept))
    if not options.static:
        kept = [caption for caption in kept if moves(caption, tagger)]
    if options.form == "simplified":
        kept = [simplify(caption, tagger) for caption in kept]
    return sorted(set(kept) - {""})


def moves(caption: str, tagger: Tagger) -> bool:
    """Return whether a caption has a verb that is more than being or staying."""
    return any(
        tag.startswith("V") and word.casefold() not in _STILL for word, tag in tagger.tag(caption)
    )


def simplify(caption: str, tagger: Tagger) -> str:
    """Return the nouns and verbs of a caption in their order, which may be none.

    Forms of "be" go, too: Penn's tags count them among the verbs, the Universal ones do not.
    """
    return " ".join(
        word
        for word, tag in tagger.tag(caption)
        if tag.startswith(("N", "V")) and word.casefold() not in _BE
    )


def compose(queries: Sequence[PseudoQuery]) -> list[PseudoQuery]:
    """Add what can be said of events that follow each other: "A before B", "B after A".

    Args:
        queries: Of one video, in the order of their spans.

    Returns:
        Each query, followed by up to two more with its span. They relate it to the one before and
        the one after, unless the two overlap, and have the smaller score of both.
    """
    said: list[PseudoQuery] = []
    for index, query in enumerate(queries):
        said.append(query)
        if index > 0 and queries[index - 1].span[1] <= query.span[0]:
            said.append(_related(query, "after", queries[index - 1]))
        if index + 1 < len(queries) and query.span[1] <= queries[index + 1].span[0]:
            said.append(_related(query, "before", queries[index + 1]))
    return said


def _related(query: PseudoQuery, form: Form, other: PseudoQuery) -> PseudoQuery:
    text, score = f"{query.text} {form} {other.text}", min(query.score, other.score)
    return replace(query, text=text, score=score, form=form)
