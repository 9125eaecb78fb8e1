"""Pseudo labels of sentences that are found: words that fit, or sentences at hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import run_python

from zsvg.backbones.base import TextStates
from zsvg.cli.by_phrases import phrases_of
from zsvg.errors import ZsvgError
from zsvg.features.encoder import FrameFeatures
from zsvg.label.by_matching import read_lines, shipped_words
from zsvg.label.matching import Phrases, match
from zsvg.microworld.world import write_world
from zsvg.records import read_annotations

SCENES = ("kitchen", "garden", "office", "stairs", "garage", "hall")
CLIPS, WIDTH = 40, 64


class Named:
    """Sentences that lie where the scenes lie that they name; all have something in common."""

    embed_dim, template = WIDTH, ""

    def __init__(self) -> None:
        self.rows = np.random.default_rng(7).normal(size=(len(SCENES) + 1, WIDTH))

    def encode_text(self, texts: list[str]) -> TextStates:
        named = [[place for place, scene in enumerate(SCENES) if scene in text] for text in texts]
        rows = np.stack([self.rows[[*places, -1]].sum(axis=0) for places in named])
        pooled = torch.nn.functional.normalize(torch.from_numpy(rows).float(), dim=-1)
        return TextStates(pooled=pooled, tokens=pooled[:, None], mask=torch.ones(len(texts), 1) > 0)


@pytest.fixture
def filmed() -> tuple[Any, dict[str, Any], dict[str, str]]:
    """Twelve videos of 20 s: noise, and in each a scene of 6 s, which is its first event."""
    backbone, draw = Named(), np.random.default_rng(3)
    videos, truth = {}, {}
    for number in range(12):
        vid, place, start = f"v{number:02}", number % len(SCENES), int(draw.integers(2, 26))
        rows = 0.7 * draw.normal(size=(CLIPS, WIDTH)) + backbone.rows[-1]
        rows[start : start + 12] += backbone.rows[place]
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        frames = FrameFeatures(
            vid=vid, features=rows, times=np.arange(CLIPS) / 2 + 0.25, duration=CLIPS / 2, fps=2.0,
            framing="crop", fingerprint="named", content=vid,
        )  # fmt: skip
        other = (0.0, start / 2) if start > 14 else (start / 2 + 6, CLIPS / 2)
        videos[vid] = frames, np.array([(start / 2, start / 2 + 6), other])
        truth[vid] = SCENES[place]
    return backbone, videos, truth


def test_the_sentence_of_an_event_is_the_nearest_one(filmed):
    backbone, videos, truth = filmed
    sentences = [f"somebody is in the {scene}" for scene in SCENES]
    found = match(videos, backbone, Phrases(sentences=sentences), samples=1, seed=0)
    assert list(found) == list(videos)
    first = {vid: next(said for said in found[vid] if said.event == 0) for vid in videos}
    assert all(truth[vid] in said.text for vid, said in first.items())
    # What is said of the rest fits worse.
    rest = [said.score for vid in videos for said in found[vid] if said.event == 1]
    assert min(said.score for said in first.values()) > max(rest)


def test_words_that_stand_out_become_sentences(filmed):
    backbone, videos, truth = filmed
    nouns = [*SCENES, *(f"thing {n}" for n in range(30))]
    actions = [*(f"running through a {s}" for s in SCENES), *(f"act {n}" for n in range(30))]
    phrases = Phrases(nouns=nouns, actions=actions)
    found = match(videos, backbone, phrases, samples=6, seed=0)
    named = Counter()
    for vid, said in found.items():
        texts = [one.text for one in said if one.event == 0]
        assert len(set(texts)) == len(texts) <= 6
        assert all(text.startswith("a person is ") for text in texts)
        named[truth[vid] in " ".join(texts)] += 1
    assert named[True] >= 10
    assert match(videos, backbone, phrases, samples=6, seed=0) == found
    assert match(videos, backbone, phrases, samples=6, seed=1) != found


def test_a_sentence_near_to_everything_stands_back(filmed):
    backbone, videos, truth = filmed
    everything = "somewhere between " + " and ".join(SCENES)
    sentences = [everything, *(f"somebody is in the {scene}" for scene in SCENES)]
    found = match(videos, backbone, Phrases(sentences=sentences), samples=1, seed=0)
    assert all(truth[vid] in found[vid][0].text != everything for vid in videos)


def test_what_is_missing_or_left_over_is_one_line(tmp_path: Path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    (tmp_path / "odd.txt").write_bytes("Tür".encode("latin-1"))
    cases = (
        (("captions", empty, None, None), "--nouns"),
        (("vocabulary", None, None, empty), "--sentences"),
        (("retrieved", None, None, None), "needs --sentences"),
        (("retrieved", None, None, empty), "none are left"),
        (("vocabulary", empty, None, None), "none are left"),
        (("vocabulary", None, tmp_path / "odd.txt", None), "odd.txt: .*UTF-8"),
    )
    for given, told in cases:
        with pytest.raises(ZsvgError, match=told) as error:
            phrases_of(*given)
        assert "\n" not in str(error.value)
    assert phrases_of("captions", None, None, None) is None
    assert phrases_of("vocabulary", None, None, None) == shipped_words()


def test_lists_are_read_line_by_line(tmp_path: Path):
    file = tmp_path / "words.txt"
    file.write_text("a  cup \n\ndoor\r\na cup\nTür\n", encoding="utf-8")
    assert read_lines(file) == ["a cup", "door", "Tür"]
    words = shipped_words()
    assert min(len(words.nouns), len(words.actions)) >= 200
    for lines in (words.nouns, words.actions):
        assert list(lines) == sorted(set(lines))


def test_labels_are_written_and_tuned_on(tmp_path: Path):
    world = write_world(tmp_path / "world", domain="studio", videos=4, seed=5)
    truth = read_annotations(world / "annotations.jsonl")
    (tmp_path / "sentences.txt").write_text("".join(f"{a.query}\n" for a in truth))
    begin = ("-m", "zsvg", "pseudo-label", "world/videos", "--backbone", "micro")
    more = ("--form", "retrieved", "--sentences", "sentences.txt", "--samples", "2")
    done = run_python(*begin, *more, "-o", "labels.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    labels = read_annotations(tmp_path / "labels.jsonl")
    assert {label.vid for label in labels} == {a.vid for a in truth}
    assert {label.query for label in labels} <= {a.query for a in truth}
    source = labels[0].extra["source"]
    assert (source["form"], source["backbone"]) == ("retrieved", "micro")
    assert "captioner" not in source
    done = run_python(*begin, *more, "-o", "again.jsonl", cwd=tmp_path)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "labels.jsonl").read_bytes()
    done = run_python("-m", "zsvg", "tune", "labels.jsonl", "--videos", "world/videos",
                      "--backbone", "micro", "--recipe", "head-only", "--dry-run",
                      cwd=tmp_path)  # fmt: skip
    assert "unpaired" in done.stdout + done.stderr
    done = run_python(*begin, *more, "--captioner", "micro", cwd=tmp_path)
    assert done.returncode == 1
    assert "--captioner micro has no meaning" in done.stderr
