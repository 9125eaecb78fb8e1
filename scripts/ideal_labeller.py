"""A labeller that knows the scripts of microworld's scenes and answers from its grammar.

It is asked as a vision-language model is (`zsvg.label.asking`), reads the seconds of the pictures
from the question, and answers as one JSON object what the script says of these seconds: it is blind
and ideal. What it is not told is where an event begins or ends: it sees the proposals of others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zsvg.backbones.questions import NoAnswer, Question
from zsvg.files import sha256_json
from zsvg.microworld.domains import look_of
from zsvg.microworld.language import (
    ACTION_WORDS,
    WORDINGS,
    action_sentence,
    noun_phrase,
    phrase_sentence,
    place_words,
)
from zsvg.microworld.script import IN_PLACE, ROUND, Event, Scene

_SECONDS = re.compile(r" at ((?:[\d.]+, )*[\d.]+) s\.")
_MIDDLE = re.compile(r"Pictures (\d+) to (\d+) show the moment")


class IdealLabeller:
    """Answers from the script of `scene`, which is set before each video.

    Attributes:
        name: What labels say of where they come from.
        fingerprint: Of the grammar's use.
        image_size: Pictures may be as small as can be, as nobody looks at them.
        scene: The script of the video that is asked about.
        said: sentence -> the events that it is true of.
    """

    name = "ideal"
    fingerprint = sha256_json("ideal")
    image_size = 8

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.scene: Scene | None = None
        self.said: dict[str, list[Event]] = {}

    def answers(self, questions: Sequence[Question]) -> list[str | NoAnswer]:
        """Return the answers, each decided by its question and the scene alone."""
        return [self.answer(question.text) for question in questions]

    def answer(self, text: str) -> str:
        """Return the answer to one question: as JSON, in the fields that it asks for."""
        if '"inside"' in text:
            return json.dumps(self._verdict(text))
        if '"the other ways"' in text or " other ways" in text:
            return json.dumps({"sentences": self._other_ways(text)})
        return json.dumps(self._look(text))

    def _rng(self, *parts: object) -> np.random.Generator:
        return np.random.default_rng([self.seed, int(sha256_json([*map(str, parts)])[:8], 16)])

    def _scene(self) -> Scene:
        if self.scene is None:
            raise ValueError("set the scene that is asked about")
        return self.scene

    def _look(self, text: str) -> Mapping[str, Any]:
        scene, times = self._scene(), _times(text)
        shown = range(len(times))
        if middle := _MIDDLE.search(text):
            shown = range(int(middle[1]) - 1, int(middle[2]))
        counts = [sum(_in(event, times[i]) for i in shown) for event in scene.events]
        if not any(counts):
            return {"sentences": []}
        event = scene.events[int(np.argmax(counts))]
        rng = self._rng(scene.vid, text)
        wording = WORDINGS[look_of(scene.domain).wording]
        noun = noun_phrase(rng, event.thing, wording)
        usual = action_sentence(rng, noun, event.action, wording)
        found: dict[str, Any] = {"sentences": [usual]}
        self.said[usual] = [event]
        if "one to three sentences" in text:
            large = noun_phrase(rng, event.thing, wording, event.size)
            tail = place_words(event.x, event.y) if event.action in IN_PLACE else ""
            least = phrase_sentence(rng, noun, wording)
            most = action_sentence(rng, large, event.action, wording, tail)
            found["sentences"] = [least, usual, most]
            self.said[least] = [e for e in scene.events if e.thing == event.thing]
            self.said[most] = [event]
        if '"borders"' in text:
            own = [i for i, time in enumerate(times, start=1) if _in(event, time)]
            found["borders"] = [own[0], own[-1]]
        if '"nearly"' in text:
            done = {e.action for e in scene.events if e.thing == event.thing}
            if event.thing.shape in ROUND:
                done.add("spin")  # which nobody sees
            other = str(rng.choice([a for a in ACTION_WORDS if a not in done]))
            found["nearly"] = action_sentence(rng, noun, other, wording)
        return found

    def _other_ways(self, text: str) -> list[str]:
        scene = self._scene()
        count, sentence = re.findall(r" in (\d+) other ways.* Sentence: \"(.*?)\"\. Answer", text)[
            0
        ]
        events = self.said.get(sentence, [])
        if not events:
            return []
        event, wording = events[0], WORDINGS[look_of(scene.domain).wording]
        acts = any(form in sentence for pair in ACTION_WORDS[event.action] for form in pair)
        rng = self._rng(scene.vid, text)
        found: dict[str, None] = {}
        for _ in range(20):
            noun = noun_phrase(rng, event.thing, wording)
            if acts:
                found[action_sentence(rng, noun, event.action, wording)] = None
            else:
                found[phrase_sentence(rng, noun, wording)] = None
        found.pop(sentence, None)
        ways = list(found)[: int(count)]
        self.said |= dict.fromkeys(ways, events)
        return ways

    def _verdict(self, text: str) -> dict[str, str]:
        times = _times(text)
        inside, sentence = re.findall(
            r"Pictures 1 to (\d+) show.* this happen: \"(.*?)\"\? Answer", text
        )[0]
        events = self.said.get(sentence, [])  # none of a near miss
        held = [any(_in(event, time) for event in events) for time in times]
        share = float(np.mean(held[: int(inside)]))
        words = "yes" if share >= 0.75 else "partly" if share >= 0.25 else "no"
        return {"inside": words, "outside": "yes" if any(held[int(inside) :]) else "no"}


def _in(event: Event, time: float) -> bool:
    return event.start <= time < event.end


def _times(text: str) -> list[float]:
    found = _SECONDS.search(text)
    if found is None:
        raise ValueError(f"no seconds of pictures in {text!r}")
    return [float(time) for time in found[1].split(", ")]
