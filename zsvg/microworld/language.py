"""Says in words what happens in a microworld script: queries of events.

Every word of every domain is here and is used in pre-training; a domain only prefers some of the
synonyms and has its own phrasing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from zsvg.microworld.script import DIGITS, IN_PLACE, Distractor, Event, Scene, Thing

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson"),
    "green": ("green", "emerald"),
    "blue": ("blue", "navy"),
    "yellow": ("yellow", "golden"),
    "purple": ("purple", "violet"),
    "orange": ("orange", "amber"),
}
SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle", "wedge"),
    "star": ("star", "asterisk"),
    "cross": ("cross", "plus"),
    "ring": ("ring", "hoop"),
    "diamond": ("diamond", "rhombus"),
    **{digit: (f"digit {digit}", f"number {digit}") for digit in DIGITS},
}
SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "large": ("large", "big", "huge"),
}
# Each synonym as (third person, -ing form).
ACTION_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "stay": (("stays still", "staying still"), ("rests", "resting"), ("waits", "waiting")),
    "spin": (("spins", "spinning"), ("rotates", "rotating"), ("turns around", "turning around")),
    "grow": (("grows", "growing"), ("gets bigger", "getting bigger"), ("expands", "expanding")),
    "shrink": (
        ("shrinks", "shrinking"),
        ("gets smaller", "getting smaller"),
        ("contracts", "contracting"),
    ),
    "blink": (("blinks", "blinking"), ("flashes", "flashing"), ("flickers", "flickering")),
    "bounce": (("bounces", "bouncing"), ("hops", "hopping"), ("jumps", "jumping")),
    "enter": (("enters", "entering"), ("comes in", "coming in"), ("arrives", "arriving")),
    "leave": (("leaves", "leaving"), ("goes away", "going away"), ("exits", "exiting")),
    **{
        way: (
            (f"moves {where}", f"moving {where}"),
            (f"slides {where}", f"sliding {where}"),
            (f"drifts {where}", f"drifting {where}"),
        )
        for way, where in (
            ("left", "to the left"),
            ("right", "to the right"),
            ("up", "upwards"),
            ("down", "downwards"),
        )
    },
}


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How a domain speaks.

    Attributes:
        sentences: Patterns of action sentences; {np} noun phrase, {third} / {ing} the verb.
        phrases: Patterns of sentences without a verb.
        synonym: Preferred synonym (index), used with probability `habit`; others share the rest.
    """

    sentences: tuple[str, ...]
    phrases: tuple[str, ...]
    synonym: int
    habit: float
    articles: tuple[str, ...] = ("a", "the")


WORDINGS: dict[str, Wording] = {
    "studio": Wording(
        sentences=("{np} {third}", "{np} is {ing}"),
        phrases=("{np}", "there is {np}"),
        synonym=0,
        habit=0.7,
    ),
    "chalk": Wording(
        sentences=("we see {np} that {third}", "{np} {third}", "{np} {ing} on the board"),
        phrases=("we see {np}", "{np} on the board"),
        synonym=1,
        habit=0.5,
    ),
    "paper": Wording(
        sentences=("the drawing of {np} {third}", "{np} {third}", "look , {np} {ing}"),
        phrases=("the drawing of {np}", "look , {np}"),
        synonym=1,
        habit=0.6,
    ),
    "night": Wording(
        sentences=("{np} {third} on camera", "{np} {third}", "the moment when {np} is {ing}"),
        phrases=("{np} on camera", "the moment with {np}"),
        synonym=0,
        habit=0.5,
    ),
    "fabric": Wording(
        sentences=("find {np} while it {third}", "{np} {third}", "show me {np} {ing}"),
        phrases=("find {np}", "show me {np}"),
        synonym=2,
        habit=0.5,
        articles=("the", "one"),
    ),
}
# What a plain template says; prompts start from it, so the tokenizer must know its words.
TEMPLATE_WORDS = "a video of"


_Word = TypeVar("_Word")


def _choose(rng: np.random.Generator, words: tuple[_Word, ...], wording: Wording) -> _Word:
    """Draw a synonym: the domain's own by habit, else any."""
    if rng.random() < wording.habit:
        return words[min(wording.synonym, len(words) - 1)]
    return words[int(rng.integers(len(words)))]


def place_words(x: float, y: float) -> str:
    """Name a place of the frame by thirds, e.g. `at the top left`."""
    across = "left" if x < 0.4 else "right" if x > 0.6 else ""
    down = "top" if y < 0.4 else "bottom" if y > 0.6 else ""
    if down:
        return f"at the {down} {across}".strip()
    return f"on the {across}" if across else "in the middle"


def noun_phrase(
    rng: np.random.Generator, thing: Thing, wording: Wording, size: str | None = None
) -> str:
    """Return e.g. `the tiny red circle`."""
    words = [str(rng.choice(wording.articles))]
    if size:
        words.append(_choose(rng, SIZE_WORDS[size], wording))
    words.append(_choose(rng, COLOUR_WORDS[thing.colour], wording))
    words.append(_choose(rng, SHAPE_WORDS[thing.shape], wording))
    return re.sub(r"\ba (?=orange|emerald|amber)", "an ", " ".join(words))


def action_sentence(
    rng: np.random.Generator, noun: str, action: str, wording: Wording, tail: str = ""
) -> str:
    """Return a sentence such as `the red circle spins at the top left`."""
    third, ing = _choose(rng, ACTION_WORDS[action], wording)
    pattern = str(rng.choice(wording.sentences))
    return f"{pattern.format(np=noun, third=third, ing=ing)} {tail}".strip()


def phrase_sentence(rng: np.random.Generator, noun: str, wording: Wording, tail: str = "") -> str:
    """Return a sentence without an action, such as `there is the red circle`."""
    return f"{str(rng.choice(wording.phrases)).format(np=noun)} {tail}".strip()


@dataclass(frozen=True, kw_only=True)
class Query:
    """A sentence, the event it means, its kind and whether the object phrase fits elsewhere too."""

    text: str
    event: int
    kind: str
    ambiguous_object: bool


def relation(one: Event | Distractor, other: Event | Distractor) -> str | None:
    """Name the side of `other` on which a thing keeps, if it is clear."""
    dx, dy = one.x - other.x, one.y - other.y
    if max(abs(dx), abs(dy)) < 0.22 or min(abs(dx), abs(dy)) > 0.6 * max(abs(dx), abs(dy)):
        return None
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def scene_queries(rng: np.random.Generator, scene: Scene, wording: Wording) -> list[Query]:
    """Word two unambiguous queries per event: its action, and another kind or its action again.

    `object`: the object phrase alone. `attribute`: the size decides. `action`: the action decides
    (or describes). `relation`: the place, a distractor's side, or what came before decides.
    """
    queries: list[Query] = []
    for index, event in enumerate(scene.events):
        twins = [e for i, e in enumerate(scene.events) if i != index and e.thing == event.thing]
        tails = _tails(rng, scene, index, twins, wording)
        others = ["relation"] if tails else []
        if not twins:
            others += ["object"]
        elif all(e.size != event.size for e in twins):
            others = ["attribute"]  # this fits few events, the others many
        second = str(rng.choice(others)) if others and rng.random() < 0.5 else "action"
        texts: set[str] = set()
        for kind in ("action", second):
            size = event.size if kind == "attribute" or rng.random() < 0.2 else None
            noun = noun_phrase(rng, event.thing, wording, size)
            if kind == "action":
                text = action_sentence(rng, noun, event.action, wording)
            elif kind == "relation":
                text = phrase_sentence(rng, noun, wording, str(rng.choice(tails)))
            else:
                text = phrase_sentence(rng, noun, wording)
            if text not in texts:
                texts.add(text)
                queries.append(
                    Query(text=text, event=index, kind=kind, ambiguous_object=bool(twins))
                )
    return queries


def _tails(
    rng: np.random.Generator, scene: Scene, index: int, twins: list[Event], wording: Wording
) -> list[str]:
    """Endings of a sentence that tell this event from the other events of the same thing."""
    event = scene.events[index]
    tails: list[str] = []
    if event.action in IN_PLACE:
        here = place_words(event.x, event.y)
        still = all(e.action in IN_PLACE for e in twins)
        if still and all(place_words(e.x, e.y) != here for e in twins):
            tails.append(here)
        for other in scene.distractors:
            side = relation(event, other)
            if side and still and all(relation(e, other) != side for e in twins):
                tails.append(f"{side} {noun_phrase(rng, other.thing, wording)}")
    for other_index in (index - 1, index + 1):
        if not twins or not 0 <= other_index < len(scene.events):
            continue
        other_event = scene.events[other_index]
        before = other_index > index
        alone = sum(e.thing == other_event.thing for e in scene.events) == 1
        same_side = [e for e in twins if (e.start < other_event.start) == before]
        if alone and not same_side:
            word = "before" if before else "after"
            tails.append(f"{word} {noun_phrase(rng, other_event.thing, wording)}")
    return tails


def action_in(sentence: str) -> str | None:
    """Return the action that a sentence tells, a name of `ACTIONS`; None of one without."""
    found = _VERB.search(sentence)
    return _VERBS[found[0]][0] if found else None


def with_action(sentence: str, action: str) -> str:
    """Return a sentence with another action, in the same form and by a synonym of equal rank.

    What tells no action stays as it is.
    """

    def other(found: re.Match[str]) -> str:
        _, synonym, form = _VERBS[found[0]]
        return ACTION_WORDS[action][synonym][form]

    return _VERB.sub(other, sentence, count=1)


_VERBS = {
    words: (action, synonym, form)
    for action, pairs in ACTION_WORDS.items()
    for synonym, pair in enumerate(pairs)
    for form, words in enumerate(pair)
}
_VERB = re.compile(rf"\b(?:{'|'.join(sorted(_VERBS, key=len, reverse=True))})\b")


def vocabulary() -> list[str]:
    """Return every word of every domain, sorted."""
    texts = [
        TEMPLATE_WORDS,
        "an one nothing empty scene and before after above below left right of",
    ]
    for group in (COLOUR_WORDS, SHAPE_WORDS, SIZE_WORDS):
        texts += [word for words in group.values() for word in words]
    texts += [form for words in ACTION_WORDS.values() for pair in words for form in pair]
    for wording in WORDINGS.values():
        texts += [*wording.sentences, *wording.phrases, *wording.articles]
    texts += [place_words(x, y) for x in (0.1, 0.5, 0.9) for y in (0.1, 0.5, 0.9)]
    words = set(re.findall(r"[a-z]+|,", re.sub(r"\{\w+\}", " ", " ".join(texts))))
    return sorted(words)
