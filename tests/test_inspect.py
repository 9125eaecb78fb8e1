"""`zsvg inspect`: one page about pseudo labels, from real files, through the command itself."""

from __future__ import annotations

import base64
import io
import re
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import encode_video
from PIL import Image

from zsvg.cli import app
from zsvg.errors import ZsvgError
from zsvg.records import Annotation, write_annotations
from zsvg.report.inspect import draw_videos, write_inspection
from zsvg.report.svg import histogram

HOSTILE = 'a <script>alert("1")</script> & "quotes" </title></style> \u2028'
VIDS = [f"v{number}" for number in range(6)]


def label(vid: str, query: str, start: float, end: float, score: float | None = 0.5) -> Annotation:
    source = {"proposals": "psvl", "captioner": "micro <b>", "caption": query, "score": score}
    return Annotation(
        qid=f"{vid}-{start}-{end}",
        query=query,
        vid=vid,
        duration=4.0,
        relevant_windows=((start, end),),
        extra={"source": {k: v for k, v in source.items() if v is not None}, "weight": 1.0},
    )


def labels() -> list[Annotation]:
    first = [
        label("v0", HOSTILE, 0, 1, 0.25),
        label("v0", "it is dark", 1, 3, 0.75),
        label("v0", "it is dark", 2, 4, None),
    ]
    return [*first, *(label(vid, f"the bar of {vid}", 0, 2) for vid in VIDS[1:])]


class Reader(HTMLParser):
    """Checks that elements close in the order in which they were opened, and keeps them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


@pytest.fixture
def files(tmp_path: Path, small_video: Path) -> Path:
    """Labels, annotations and six videos, the last of which is none."""
    write_annotations(tmp_path / "pseudo.jsonl", labels())
    true = [label(vid, "what <i>people</i> saw", 0, 2) for vid in VIDS]
    write_annotations(tmp_path / "truth.jsonl", true)
    folder = tmp_path / "videos"
    folder.mkdir()
    for vid in VIDS[:-1]:
        (folder / f"{vid}.mp4").write_bytes(small_video.read_bytes())
    (folder / "v5.mp4").write_bytes(b"this is no video")
    (folder / "silent.mp4").write_bytes(small_video.read_bytes())
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command; return its exit status and what it said."""

    def command(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["zsvg", "inspect", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            app.main()
        return int(left.value.code or 0), capsys.readouterr().err

    return command


def test_labels_alone(files: Path, run) -> None:
    out = files / "page.html"
    assert run(files / "pseudo.jsonl", "-o", out) == (0, f"wrote {out}\n")
    page = out.read_text(encoding="utf-8")
    read = Reader(page)
    assert not {"script", "b", "link", "iframe", "object", "image"} & set(read.seen)
    assert not re.search(r"https?:|url\(|@import|(?:src|href)=", page)
    assert "6 videos, 8 labels: 1 in the median video, 3 at most" in read.text
    assert "7 different sentences; 25 % of the labels share theirs" in read.text
    assert "A label lasts 47 % of its video" in read.text  # (1 + 2 + 2 + 5 * 2) / 8 / 4
    assert HOSTILE.split("\u2028")[0].strip() in read.text
    assert re.search(r"captioner\s*micro <b>\s*proposals\s*psvl", read.text)
    assert "truth" not in read.text
    assert "All videos are shown." in read.text
    assert re.search(r"it is dark\s*2\s*1", read.text)  # two labels, one video
    # Each drawing is well-formed and says what it is; headings do not skip a level.
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(drawings) == 3 + len(VIDS)
    for drawing in drawings:
        assert ElementTree.fromstring(drawing).get("aria-label")
    levels = [int(tag[1]) for tag in read.seen if re.fullmatch("h[1-6]", tag)]
    assert levels[:2] == [1, 2]
    assert max(np.diff(levels)) == 1
    assert levels.count(1) == 1


def test_videos_and_truth_and_a_video_that_is_none(files: Path, run) -> None:
    out = files / "page.html"
    given = [files / "pseudo.jsonl", "--videos", files / "videos"]
    status, said = run(*given, "--truth", files / "truth.jsonl", "-o", out)
    assert status == 1
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert str(files / "videos" / "v5.mp4") in errors[0]
    page = out.read_text(encoding="utf-8")
    read = Reader(page)
    assert f"No pictures: {errors[0].removeprefix('error: ')}" in read.text
    assert "1 of 7 in the folder" in read.text  # without a label
    addresses = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert len(addresses) == 6 * 5
    sizes = set()
    for address in addresses:
        kind, code = address.split(",")
        assert kind == "data:image/jpeg;base64"
        sizes.add(Image.open(io.BytesIO(base64.b64decode(code))).size)
    assert sizes == {(64, 48)}
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.S)[3:]
    assert all("against the truth" in picture for picture in pictures)
    # Precision by hand: (0.5 + 0.33 + 0 + 5 * 1) / 8; warnings need more labels than these.
    assert re.search(r"precision\s*0\.729\s*0\.750\s*0\.625", read.text)
    assert "precision, labels exchanged between videos" in read.text
    assert re.search(r"coverage\s*0\.917", read.text)
    assert "what <i>people</i> saw" in read.text


def test_equal_seeds_give_equal_bytes_and_others_other_videos(files: Path, run) -> None:
    pages = []
    for seed in (0, 0, 1):
        out = files / f"{len(pages)}.html"
        given = [files / "pseudo.jsonl", "--videos", files / "videos", "--most", "2"]
        run(*given, "--seed", str(seed), "-o", out)
        pages.append(out.read_bytes())
    assert pages[0] == pages[1] != pages[2]
    read = Reader(pages[0].decode())
    assert "2 of 6 videos are shown, drawn with seed 0; 4 are not." in read.text
    chosen = draw_videos(labels(), 2, 0)
    assert chosen == sorted(chosen)
    assert [vid for vid in VIDS if f"Pseudo labels of {vid}" in pages[0].decode()] == chosen
    assert draw_videos(labels()[::-1], 2, 0) == chosen
    assert draw_videos(labels(), 99, 0) == VIDS
    with pytest.raises(ValueError, match="most -1"):
        draw_videos(labels(), -1, 0)


def test_a_video_that_is_missing_is_named(files: Path, run) -> None:
    (files / "videos" / "v5.mp4").unlink()
    (files / "videos" / "v2.mp4").unlink()
    out = files / "page.html"
    status, said = run(files / "pseudo.jsonl", "--videos", files / "videos", "-o", out)
    assert status == 1
    assert [re.sub(":.*", "", s) for s in re.findall("error: (.*)", said)] == ["v2", "v5"]
    assert out.read_text(encoding="utf-8").count("No pictures: v") == 2


def test_leak_signs_are_shown(tmp_path: Path) -> None:
    draws = np.random.default_rng(0).uniform(0, 3, 150)
    exact = [label(f"v{i}", "q", start, start + 1) for i, start in enumerate(draws)]
    assert not write_inspection(tmp_path / "page.html", exact, truth=exact, most=0)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.search(r'<p class="gap">warning: [^<]*leak', page)
    assert "<h2>What do they look like?" not in page


def test_thirty_wide_videos_stay_below_five_megabytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 180, 320, 3), dtype=np.uint8)
    wide = encode_video(tmp_path / "wide.mp4", noise)
    many = [label(f"v{i:02}", "noise " * 40, 0, 1) for i in range(30)]
    videos = {one.vid: wide for one in many}
    assert not write_inspection(tmp_path / "page.html", many, videos=videos)
    page = (tmp_path / "page.html").read_bytes()
    assert page.count(b"data:image/jpeg") == 180
    assert len(page) < 5_000_000
    picture = Image.open(io.BytesIO(base64.b64decode(re.findall(rb"base64,([^\"]+)", page)[0])))
    assert picture.size == (160, 90)


def test_a_crowded_video_is_thinned_out(tmp_path: Path, small_video: Path) -> None:
    crowd = [label("v", f"number {i}", i / 100, i / 100 + 1) for i in range(300)]
    done: list[int] = []
    write_inspection(tmp_path / "page.html", crowd, on_progress=done.append)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    drawing = re.findall(r"<svg.*?</svg>", page, flags=re.S)[-1]
    assert drawing.count('class="guess"') == 40
    assert "No more than 40 moments are drawn" in page
    assert ">0.50 number 1<" in page.replace(drawing, "")
    assert done == [1]


def test_sources_of_any_form_are_no_error(tmp_path: Path) -> None:
    odd: list = ["spl", None, {"score": "high"}, {"score": 10**400}, {"captioner": 3}, {}]
    mixed = [
        Annotation(qid=i, query="", vid="v", duration=4, relevant_windows=[(1, 9)],
                   extra={"source": source})
        for i, source in enumerate(odd)
    ]  # fmt: skip
    write_inspection(tmp_path / "page.html", [*mixed, label("v", "q", 3, 1, 2)])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    Reader(page)
    assert "captioner</dt><dd>micro &lt;b&gt; (1 of 7)" in page


def test_refused_input(files: Path, run) -> None:
    empty = files / "empty.jsonl"
    empty.write_text("")
    status, said = run(empty, "-o", files / "page.html")
    assert (status, said.count("\n")) == (1, 1)
    assert "empty.jsonl: no label" in said
    status, said = run(files / "none.jsonl")
    assert (status, "none.jsonl" in said) == (1, True)
    other = files / "other.jsonl"
    write_annotations(other, [label("another", "q", 0, 1)])
    status, said = run(files / "pseudo.jsonl", "--truth", other, "-o", files / "page.html")
    assert (status, "no video in common" in said) == (1, True)
    assert not (files / "page.html").exists()
    assert run(files / "pseudo.jsonl", "--most", "-1")[0] == 2
    with pytest.raises(ZsvgError, match="no label"):
        write_inspection(files / "page.html", [])


def test_bars_have_the_height_of_their_shares() -> None:
    drawing = histogram("Title <", [("a", np.array([0.5, 0, 1.0])), ("b", np.ones(3))], ("0", "1"))
    root = ElementTree.fromstring(drawing)
    bars = [e for e in root if e.get("class") == "a"]
    heights = [float(bar.get("height")) for bar in bars]
    assert heights == pytest.approx([heights[1] / 2, heights[1]])
    lefts = sorted(float(e.get("x")) for e in root.iter() if e.get("class") in ("a", "b"))
    assert len(set(lefts)) == 5
    assert histogram("t", [("a", np.zeros(3))], ("x",)).count("rect") == 0
