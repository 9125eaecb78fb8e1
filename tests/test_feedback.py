"""Yes and no on moments of a library, by hand and through a search."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("lancedb")

import zsvg.library.feedback as feedback
from zsvg import Library
from zsvg.features.encoder import FrameFeatures
from zsvg.library.rows import packed
from zsvg.microworld.world import write_world


def test_a_sentence_moves_by_hand(monkeypatch: pytest.MonkeyPatch):
    """Clips e1 and e2 less half of their mean are (0, .75, -.25) and (0, -.25, .75), made unit."""
    frames = FrameFeatures(
        vid="film",
        features=np.eye(3, dtype=np.float32)[1:],
        times=np.array([0.5, 1.5]),
        duration=2.0,
        fps=1.0,
        framing="crop",
        content="c",
        fingerprint="f",
    )
    tables = SimpleNamespace(
        features=lambda contents: {c: packed(frames) for c in contents if c == "c"}
    )
    monkeypatch.setattr(feedback, "direction", lambda *_: np.array([2, 0, 0], np.float32))
    one, two, gone = ("c", 0.0, 1.0), ("c", 1.0, 2.0), ("left", 0.0, 1.0)
    long, short = np.array([0.75, -0.25]) / np.hypot(0.75, 0.25)

    def moved(yes, no):
        found = feedback.judged(tables, None, "a dog", yes, no)
        assert (found.name, found.sentence) == ("a dog", "a dog")
        return found.direction

    np.testing.assert_allclose(moved([], []), [1, 0, 0])
    np.testing.assert_allclose(moved([gone], [gone]), [1, 0, 0])
    np.testing.assert_allclose(moved([one], []), [1, 0.75 * long, 0.75 * short], rtol=1e-3)
    expected = [1, 0.75 * long - 0.15 * short, 0.75 * short - 0.15 * long]
    np.testing.assert_allclose(moved([one], [two]), expected, rtol=1e-3)
    # A moment counts as its mean clip, and several count as their mean.
    both = (long + short) / 2
    np.testing.assert_allclose(
        moved([("c", 0.0, 2.0)], []), [1, 0.75 * both, 0.75 * both], rtol=1e-3
    )
    np.testing.assert_allclose(moved([one, two], []), [1, 0.75 * both, 0.75 * both], rtol=1e-3)


@pytest.mark.numeric
def test_what_was_judged_moves_in_a_search(tmp_path: Path):
    folder = write_world(tmp_path / "world", domain="studio", videos=6, annotations=False)
    for file in (folder / "videos").glob("*.mp4"):
        file.with_suffix(".srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nTake the kettle.\n")
    library = Library.open(tmp_path / "library", "micro")
    library.add(folder / "videos")
    sentence = "the kettle"
    plain = library.hits(sentence, by="seen", group=False, per_video=1)
    assert len(plain) == 6
    first, last = plain[0], plain[-1]
    yes, no = ((hit.video.content, hit.start, hit.end) for hit in (last, first))
    asked = feedback.judged(library.tables, library.grounder, sentence, [yes], [no])
    order = [h.video.vid for h in library.hits(asked, by="seen", group=False, per_video=1)]
    assert order.index(last.video.vid) < 5
    assert order.index(last.video.vid) < order.index(first.video.vid)
    # What is said is looked for by the words.
    assert {hit.words for hit in library.hits(asked, by="said")} == {"Take the kettle."}
