"""The report: one file that needs nothing else, well formed, the same for the same data."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zsvg.report.figures import CurveFigure, LearningFigure, SimilarityFigure, TimelineFigure
from zsvg.report.run import ReportData, ResultRow, gap_closed, render, write_report

SPITEFUL = 'a <script>alert("1")</script> & "quotes" \u2028'
HEADINGS = [
    "How often is the right moment found?",
    "Which kinds of query are hard?",
    "Where does something new begin?",
    "What does it teach itself?",
    "Does it look at the right time?",
    "Did it learn?",
]


def scores(value: float, kinds: bool = True) -> dict:
    flat = {"R1@0.5": value, "R5@0.5": None, "mIoU": value / 2, "queries": 1200, "missing": 0}
    inner = {"verb": {"R1@0.5": value / 4, "queries": 40}, "colour": {"R1@0.5": 1.0, "queries": 2}}
    return {**flat, "kinds": inner if kinds else {}}


def similarity(clips: int = 12) -> SimilarityFigure:
    block = np.arange(clips) // 4
    matrix = np.where(block[:, None] == block[None, :], 0.9, 0.2)
    edges = np.arange(clips + 1) / 2
    return SimilarityFigure(
        vid="micro", similarity=matrix, edges=edges, events=[[0, 2], [2, 4], [4, 6]]
    )


def full() -> ReportData:
    rows = (
        ResultRow(method="whole video", metrics=scores(0.2)),
        ResultRow(method="training-free", metrics=scores(0.4), role="floor"),
        ResultRow(method="ours", metrics=scores(0.55), role="ours", note="no labels"),
        ResultRow(method="supervised", metrics=scores(0.6), role="ceiling"),
    )
    frame = np.full((48, 64, 3), 90, np.uint8)
    times = np.arange(20) / 2 + 0.25
    curve = CurveFigure(
        query=SPITEFUL,
        vid="micro",
        duration=10,
        centres=times,
        curves={"training-free": np.sin(times), "tuned": np.where(times < 5, np.nan, 1.0)},
        predicted={"tuned": (5, 9)},
        truth=[(5, 10)],
    )
    return ReportData(
        title=SPITEFUL,
        summary="One line.",
        facts={"seed": "0", "command": SPITEFUL},
        results=rows,
        similarities=[similarity()],
        timelines=[
            TimelineFigure(
                vid="micro",
                duration=10,
                thumbnails=[frame] * 4,
                truth=[(0, 5, SPITEFUL)],
                pseudo=[(1, 6, "a red circle"), (2, 3, "overlaps"), (9, 10, "near the end " * 9)],
            )
        ],
        curves=[curve],
        learning=[
            LearningFigure(
                title="seed 0",
                steps=np.arange(1, 3001),
                losses=np.linspace(1, 0.1, 3000),
                validation=[(1000, 0.2), (2000, 0.4), (3000, 0.3)],
            )
        ],
    )


class Balance(HTMLParser):
    """Checks that elements close in the order in which they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_one_well_formed_file_that_needs_nothing_else(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", full())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert not {"script", "link", "iframe", "object"} & set(parser.seen)
    addresses = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert addresses
    kinds = ("data:image/png;base64,", "data:image/jpeg;base64,")
    assert all(address.startswith(kinds) for address in addresses)
    assert "url(" not in page
    assert "@import" not in page
    assert "http" not in page
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(drawings) == 5
    for drawing in drawings:
        assert ElementTree.fromstring(drawing).get("aria-label")


def test_equal_data_gives_equal_bytes(tmp_path: Path) -> None:
    write_report(tmp_path / "a.html", full())
    write_report(tmp_path / "b.html", full())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_every_section_has_a_heading_and_two_sentences() -> None:
    page = render(full())
    found = re.findall(r"<section>\n<h2>(.*?)</h2>\n<p>(.*?)</p>", page, re.DOTALL)
    assert [heading for heading, _ in found] == HEADINGS
    for _, explanation in found:
        assert len(re.findall(r"[.]\s[A-Z]|[.]$", explanation)) == 2


def test_sections_without_data_are_left_out() -> None:
    page = render(ReportData(title="Empty"))
    assert "<section>" not in page
    only = render(
        ReportData(title="t", results=[ResultRow(method="m", metrics=scores(0.1, False))])
    )
    assert re.findall("<h2>(.*?)</h2>", only) == HEADINGS[:1]
    assert "gap" not in only.split("</style>")[1]


def test_numbers_of_the_tables() -> None:
    page = render(full())
    text = re.sub(r"<[^>]+>", "|", page)
    assert re.search(r"whole video\|+20\.00\|+10\.00\|", text)
    assert '<tr class="ours"><th scope="row">ours <small>no labels</small></th>' in page
    assert page.count('<tr class="ours">') == 1
    # The column R5 has no number in any row; the kinds are printed for every method.
    assert '<th scope="col">R5@0.5' not in page
    assert re.search(r"verb\|+40\|+5\.00\|+10\.00\|+13\.75\|+15\.00\|", text)
    assert "1,200 queries" in page
    assert "<b>75 %</b> of the gap in R1@0.5 from training-free to supervised" in page
    assert re.search(r"gap closed by ours\|+75 %\|+75 %\|", text)


def test_the_gap_needs_two_ends() -> None:
    rows = full().results
    assert gap_closed(rows, "R1@0.5") == {"ours": pytest.approx(0.75)}
    assert gap_closed(rows[:3], "R1@0.5") == {}
    assert gap_closed(rows, "R5@0.5") == {}
    low = ResultRow(method="low", metrics=scores(0.1), role="ceiling")
    assert gap_closed([*rows[:3], low], "R1@0.5") == {}


def pictures(drawing: str) -> list[np.ndarray]:
    codes = re.findall(r"base64,([^\"]+)", drawing)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))) for code in codes]


def test_alike_is_bright_and_events_lie_on_the_blocks() -> None:
    figure = similarity()
    drawing = figure.svg()
    cells = pictures(drawing)[0].astype(int).sum(axis=-1)
    assert cells.shape == (12, 12)
    assert cells[0, 3] > cells[0, 4]
    assert "similarity 0.20 to 0.90" in drawing
    boxes = [e for e in ElementTree.fromstring(drawing) if e.get("class") == "event"]
    assert len(boxes) == 3
    widths = [float(box.get("width")) for box in boxes]
    assert widths == pytest.approx([346 / 3] * 3, abs=0.1)


def test_long_inputs_stay_small() -> None:
    assert pictures(similarity(1000).svg())[0].shape == (256, 256, 3)
    loss, validation = full().learning[0].svg()
    (path,) = (e for e in ElementTree.fromstring(loss) if e.get("class") == "line")
    assert len(re.findall("[ML]", path.get("d"))) == 600
    assert "best 40.0" in validation
    assert len(LearningFigure(title="t", steps=[1, 2], losses=[1, 2]).svg()) == 1


def test_sentences_of_a_timeline_do_not_collide() -> None:
    moments = [(i / 2, i / 2 + 3, f"sentence number {i} about something") for i in range(12)]
    drawing = TimelineFigure(vid="v", duration=10, truth=moments).svg()
    texts = [e for e in ElementTree.fromstring(drawing) if (e.text or "").startswith("sentence")]
    placed = []
    for element in texts:
        x, length = float(element.get("x")), 6.6 * len(element.text)
        left = x - length if element.get("text-anchor") == "end" else x
        assert 0 <= left <= 880
        placed.append((float(element.get("y")), left, left + length))
    for i, (y, a, b) in enumerate(placed):
        assert all(y != other or b <= c or d <= a for other, c, d in placed[i + 1 :])


def test_a_curve_breaks_where_it_has_no_value_and_shows_its_iou() -> None:
    drawing = full().curves[0].svg()
    lines = [e for e in ElementTree.fromstring(drawing) if e.get("class") == "line"]
    assert [len(re.findall("[ML]", line.get("d"))) for line in lines] == [20, 10]
    assert "nan" not in drawing
    assert "tuned, IoU 0.80" in drawing


@pytest.mark.parametrize("duration", [0.4, 1.0, 9.99, 30.7, 99.5, 151.0, 7205.0])
def test_axes_have_few_round_times(duration: float) -> None:
    figure = TimelineFigure(vid="v", duration=duration, pseudo=[(0, duration, "all of it")])
    labels = re.findall(r'<text[^>]*class="small"[^>]*>(.*?)</text>', figure.svg())
    assert 3 <= len(labels) <= 10
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResultRow(method="m", metrics={}, role="best"), "role 'best'"),
        (lambda: TimelineFigure(vid="v", duration=0), "duration"),
        (
            lambda: SimilarityFigure(vid="v", similarity=np.eye(3), edges=[0, 1, 2], events=[]),
            "edges",
        ),
        (
            lambda: CurveFigure(query="q", duration=3, centres=[1, 2], curves={"a": [1]}),
            "curve 'a'",
        ),
        (lambda: LearningFigure(title="t", steps=[1], losses=[1, 2]), "losses"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
