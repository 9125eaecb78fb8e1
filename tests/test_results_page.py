"""`zsvg ground -o results.html`: one file, whatever videos and sentences are called."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin, urlparse

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run_python
from tests.films import film
from zsvg.grounding.answers import Grounding
from zsvg.records import Prediction
from zsvg.report.results_page import Curve, write_results

HOSTILE = 'a <script>alert("1")</script> & "quotes" </title></style> \u2028{{0}}'
NAMES = [
    "plain.mp4",
    "a #1?x=%20&\"b\" 'c' <d> javascript:.mp4",
    "two\x1b[31m\nlines.mp4",
]
EMPTY = {"meta", "img"}


class Reader(HTMLParser):
    """Checks that elements close in the order in which they were opened, and keeps them."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in {*self.open}:
            self.texts[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.seen if name == tag]


@pytest.fixture
def asked(tmp_path: Path, tiny_clip_folder: Path):
    """A folder that is not called in UTF-8, with videos of odd names; ask about them in it."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    (folder / "v").mkdir(parents=True)
    for name in NAMES:
        film(folder / "v" / name, range(6))

    def ask(*arguments: str | Path) -> tuple[int, str, str]:
        model = f"local-dir:{tiny_clip_folder}"
        line = ("-m", "zsvg", "ground", *arguments, "--model", model, "--cache", "../cache")
        done = run_python(*line, cwd=folder)
        return done.returncode, done.stdout, done.stderr

    return folder, ask


def test_names_and_sentences_of_others(asked, tmp_path: Path):
    folder, ask = asked
    pages = [folder / "results.html", tmp_path / "elsewhere" / "results.html"]
    status, out, error = ask("v", HOSTILE, "a dog", "-o", "results.html", "--format", "jsonl")
    assert (status, "wrote 6 answers to results.html, stdout" in error) == (0, True), error
    assert out.count("\n") == 6
    status, table, error = ask("v", HOSTILE, "a dog", "-o", "../elsewhere/results.html")
    assert status == 0, error
    for page, start in zip(pages, ("v/", "file:///"), strict=True):
        made = Reader(page)
        assert made.texts["h2"] == [" ".join(HOSTILE.split()), "a dog"]
        headings = "".join(tag for tag, _ in made.seen if re.fullmatch(r"h\d", tag))
        assert re.fullmatch("h1(h2(h3)+){2}", headings)
        # Nothing is loaded but the videos, and those only once somebody wants to see them.
        assert not {"link", "iframe", "object", "embed", "source", "b", "d"} & set(made.texts)
        assert made.all("script") == [{}]
        assert not any(name.startswith("on") for _, given in made.seen for name in given)
        assert all(picture["src"].startswith("data:image/jpeg;") for picture in made.all("img"))
        assert all(picture["alt"] for picture in made.all("img"))
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"http|url\(|@import|\x1b", text)
        videos = made.all("video")
        assert {video["preload"] for video in videos} == {"none"}
        leads = [(video["src"], "t=") for video in videos] + [
            (a["href"], "") for a in made.all("a")
        ]
        assert len(leads) == 2 * len(videos)
        led = set()
        for link, fragment in leads:
            assert link.startswith(start)
            whole = urlparse(urljoin(page.as_uri(), link))
            assert (whole.scheme, whole.query) == ("file", "")
            assert whole.fragment.startswith(fragment)
            path = unquote_to_bytes(whole.path)
            assert os.path.isfile(path)
            led.add(os.path.basename(os.fsdecode(path)))
        assert led == set(NAMES)
        for drawing in re.findall(r"<svg.*?</svg>", text, flags=re.S):
            assert " is marked" in ElementTree.fromstring(drawing).get("aria-label", "")
        # The page holds what the table does, in its order.
        times = re.findall(r"(\d:\d\d:\d\d\.\d) +(\d:\d\d:\d\d\.\d)", table)
        assert [f"Play {start} to {end}" for start, end in times] == made.texts["summary"]


def test_equal_answers_give_equal_bytes(asked):
    folder, ask = asked
    for name in ("a.html", "b.html"):
        assert ask("v/plain.mp4", "a dog", "-o", name)[0] == 0
    assert (folder / "a.html").read_bytes() == (folder / "b.html").read_bytes()
    assert len(Reader(folder / "a.html").all("img")) % 3 == 0


def answer(path: Path, absent: bool = False) -> Prediction:
    told = {"fit": 0.25, "path": str(path)} | ({"absent": True} if absent else {})
    windows = ((1.0, 2.0, 0.5), (3.0, 4.0, 0.25))
    return Prediction(qid=0, query="q", vid=path.stem, pred_relevant_windows=windows, extra=told)


def page_of(folder: Path, *answers: Prediction) -> tuple[Reader, str, list[str]]:
    shown = [(one, window) for one in answers for window in one.pred_relevant_windows]
    curve = Curve(duration=4.0, centres=np.array([2.0]), values=np.array([0.5]))
    curves = {one.vid: curve for one in answers}
    page = folder / "results.html"
    failures = write_results(page, [("q", shown, curves)], model="micro")
    return Reader(page), page.read_text(encoding="utf-8"), failures


def test_a_video_without_pictures_keeps_its_place(tmp_path: Path):
    good, bad = film(tmp_path / "good.mp4", range(4)), tmp_path / "<bad>.mp4"
    bad.write_text("to be filmed")
    made, text, failures = page_of(tmp_path, answer(bad), answer(good))
    assert len(made.texts["h3"]) == 4
    assert len(made.all("img")) == 6  # of the other
    (failure,) = failures
    assert failure.startswith(str(bad))
    assert text.count("No pictures: ") == 2
    assert text.count(failure.replace("<", "&lt;").replace(">", "&gt;")) == 2
    assert len(made.all("video")) == 4


def test_pictures_are_of_their_moment(tmp_path: Path):
    """The middles of thirds of [1, 2) show second 1, those of [3, 4) second 3."""
    made, _, failures = page_of(tmp_path, answer(film(tmp_path / "a.mp4", range(4))))
    assert failures == []
    shown = []
    for picture in made.all("img"):
        data = base64.b64decode(picture["src"].partition(",")[2])
        shown.append(round((np.asarray(Image.open(io.BytesIO(data))).mean() - 10) / 10))
    assert shown == [1, 1, 1, 3, 3, 3]
    assert made.all("img")[0]["alt"] == "At 0:00:01.2"


def test_captions_have_nothing_to_play(tmp_path: Path, run_zsvg):
    lines = [{"clip": n, "caption": f"a dog sleeps {n}"} for n in range(4)]
    (tmp_path / "cam.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "results.html"
    line = ("ground", tmp_path / "cam.jsonl", "a dog", "--model", "captions:tfidf", "-o", out)
    status, _, error = run_zsvg(*line)
    assert status == 0, error
    made = Reader(out)
    assert made.texts["h3"]
    assert not made.all("video")
    assert made.all("svg")


def test_what_may_not_be_there_is_said(tmp_path: Path):
    video = film(tmp_path / "a.mp4", range(4))
    said = "Perhaps there is no such moment"
    assert said in page_of(tmp_path, answer(video, absent=True))[1]
    assert said not in page_of(tmp_path, answer(video))[1]
    both = [answer(video, absent=True), answer(film(tmp_path / "b.mp4", range(4)))]
    assert said not in page_of(tmp_path, *both)[1]
    made, text, _ = page_of(tmp_path)
    assert made.texts["h2"] == ["q"]
    assert "No answer." in text


def test_a_long_curve_is_thinned_out():
    count = 100_000
    centres = np.arange(count) + 0.5
    values = (centres > count / 2).astype(np.float32)
    given = Grounding(query="q", vid="v", moments=(), curve=values, centres=centres)
    curve = Curve.of(given, duration=float(count))
    assert len(curve.values) == len(curve.centres) < 1000
    assert set(curve.values[curve.centres < 0.49 * count]) == {0.0}
    assert set(curve.values[curve.centres > 0.51 * count]) == {1.0}
    assert len(curve.svg(0, 10)) < 20_000


def test_pages_are_files_of_ground_alone(tmp_path: Path, run_zsvg):
    (tmp_path / "asked.jsonl").write_text("")
    line = ("predict", tmp_path / "asked.jsonl", "--videos", tmp_path, "--model", "micro")
    status, out, error = run_zsvg(*line, "-o", tmp_path / "x.html")
    assert (status, out, error.count("\n")) == (1, "", 1)
    assert "x.html: cannot write .html; end the name in .jsonl, .json, .csv, .srt, " in error
    line = ("ground", tmp_path, "a dog", "--model", "micro")
    assert run_zsvg(*line, "--format", "html")[0] == 2
    status, _, error = run_zsvg(*line, "-o", "x.txt")
    assert (status, ".edl, .fcpxml or .html" in error) == (1, True)
