"""What a microworld sentence says, and in which videos a script makes it true.

A sentence is written about one event, but things and what they do recur: whoever searches many
videos is right with every one of which the sentence holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from zsvg.microworld.language import (
    ACTION_WORDS,
    COLOUR_WORDS,
    SHAPE_WORDS,
    SIZE_WORDS,
    place_words,
    relation,
)
from zsvg.microworld.script import IN_PLACE, Distractor, Event, Scene, Thing

SIDES = ("left of", "right of", "above", "below")
ORDER = ("before", "after")
PLACES = tuple(sorted({place_words(x, y) for x in (0.1, 0.5, 0.9) for y in (0.1, 0.5, 0.9)}))


@dataclass(frozen=True, kw_only=True)
class Noun:
    """A thing as a sentence names it; None where it says nothing about the size."""

    shape: str
    colour: str
    size: str | None = None

    def names(self, one: Event | Distractor) -> bool:
        """Whether that thing may be called so."""
        size = one.size if isinstance(one, Event) else "small"  # as it is drawn
        return _looks(one.thing) == (self.shape, self.colour) and self.size in (None, size)


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a sentence claims: a thing, and at most one of the others about it.

    Attributes:
        noun: Who.
        action: What it does, a name of `script.ACTIONS`.
        place: Where it keeps, in the words of `place_words`.
        link: One of `SIDES` or `ORDER`, between `noun` and `other`.
        other: The second thing.
    """

    noun: Noun
    action: str | None = None
    place: str | None = None
    link: str | None = None
    other: Noun | None = None


def read(sentence: str) -> Meaning:
    """Return what a sentence of `language.scene_queries` says.

    Raises:
        ValueError: It names no thing, or a second one without saying how they are related.
    """
    nouns = list(_NOUN.finditer(sentence))
    if not 1 <= len(nouns) <= 2:
        raise ValueError(f"{sentence!r} names {len(nouns)} things; one or two can be understood")
    who = _noun(nouns[0])
    if len(nouns) == 2:
        between = sentence[nouns[0].end() : nouns[1].start()].strip()
        link = next((words for words in _LINKS if between.endswith(words)), None)
        if link is None:
            raise ValueError(f"{sentence!r}: {between!r} has none of {', '.join(_LINKS)}")
        return Meaning(noun=who, link=link, other=_noun(nouns[1]))
    rest = sentence[nouns[0].end() :]
    return Meaning(noun=who, action=_spoken(rest, _ACTIONS), place=_spoken(rest, _PLACES))


def holds(meaning: Meaning, scene: Scene) -> bool:
    """Whether something in a video is as the sentence says.

    A thing in the background stays still from beginning to end, so it can be found and has a place.
    Sides are those that are clear (`language.relation`), of two things that are seen together.
    """
    mine = list(_named(meaning.noun, scene))
    if meaning.action is not None:
        return any(_does(one) == meaning.action for one in mine)
    if meaning.place is not None:
        return any(place_words(one.x, one.y) == meaning.place for one in mine if _keeps(one))
    if meaning.other is None:
        return bool(mine)
    theirs = list(_named(meaning.other, scene))
    if meaning.link in ORDER:
        starts, others = ([e.start for e in of if isinstance(e, Event)] for of in (mine, theirs))
        if not (starts and others):
            return False
        return min(starts) < max(others) if meaning.link == "before" else max(starts) > min(others)
    return any(
        relation(one, other) == meaning.link
        for one in mine
        for other in theirs
        if one is not other and _keeps(one) and _keeps(other) and _together(one, other)
    )


def _named(noun: Noun, scene: Scene) -> Iterator[Event | Distractor]:
    everything: list[Event | Distractor] = [*scene.events, *scene.distractors]
    return (one for one in everything if noun.names(one))


def _does(one: Event | Distractor) -> str:
    return one.action if isinstance(one, Event) else "stay"


def _keeps(one: Event | Distractor) -> bool:
    return _does(one) in IN_PLACE


def _together(one: Event | Distractor, other: Event | Distractor) -> bool:
    """Whether both are seen at one time: events follow each other."""
    return isinstance(one, Distractor) or isinstance(other, Distractor)


def _looks(thing: Thing) -> tuple[str, str]:
    return thing.shape, thing.colour


def _names(words: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return each synonym -> what it means."""
    return {word: name for name, many in words.items() for word in many}


def _any(words: Mapping[str, str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


def _spoken(text: str, words: Mapping[str, str]) -> str | None:
    """Return what the first of the words in a text means, None if there is none."""
    found = re.search(rf"\b(?:{_any(words)})\b", text)
    return words[found[0]] if found else None


def _noun(found: re.Match[str]) -> Noun:
    size = found["size"]
    return Noun(
        shape=_SHAPES[found["shape"]],
        colour=_COLOURS[found["colour"]],
        size=None if size is None else _SIZES[size],
    )


_SIZES, _COLOURS, _SHAPES = (_names(w) for w in (SIZE_WORDS, COLOUR_WORDS, SHAPE_WORDS))
_ACTIONS = _names({name: [*sum(pairs, ())] for name, pairs in ACTION_WORDS.items()})
_LINKS = (*SIDES, *ORDER)
_PLACES = {place: place for place in PLACES}
_NOUN = re.compile(
    rf"\b(?:an?|the|one) (?:(?P<size>{_any(_SIZES)}) )?"
    rf"(?P<colour>{_any(_COLOURS)}) (?P<shape>{_any(_SHAPES)})\b"
)
