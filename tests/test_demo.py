"""The demo page on a running server, asked through its endpoint as a browser does."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import zsvg
from zsvg.resources import shipped


@pytest.fixture(scope="module")
def app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_app", shipped("demo") / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def grounder(tiny_clip_folder: Path) -> zsvg.Grounder:
    return zsvg.load(f"local-dir:{tiny_clip_folder}", "cpu")


class Page:
    """A served demo; `ask` is what a visitor does."""

    def __init__(self, demo: Any) -> None:
        from gradio_client import Client

        self.demo = demo
        for attempt in range(3):
            try:
                _, self.url, _ = demo.launch(
                    prevent_thread_lock=True, server_name="127.0.0.1", quiet=True
                )
                break
            except ValueError:  # Gradio gives its own first page three seconds, busy machine or not
                demo.close()
                if attempt == 2:
                    raise
        self.client = Client(self.url, verbose=False)

    def ask(self, video: Path | None, query: str, top_k: float = 5) -> tuple[Any, ...]:
        from gradio_client import handle_file

        file = None if video is None else handle_file(str(video))
        return self.client.predict(file, query, top_k, api_name="/ground")

    def refusal(self, video: Path | None, query: str, top_k: float = 5) -> str:
        from gradio_client.exceptions import AppError

        with pytest.raises(AppError) as caught:
            self.ask(video, query, top_k)
        return str(caught.value)


@pytest.fixture(scope="module")
def page(app: ModuleType, grounder: zsvg.Grounder) -> Iterator[Page]:
    page = Page(app.build_demo(grounder))
    yield page
    page.demo.close()


def test_the_answer_is_the_grounders(page: Page, grounder: zsvg.Grounder, small_video: Path):
    table, curve, player, summary = page.ask(small_video, "a red square moves right", 3)
    expected = grounder.ground(small_video, "a red square moves right", top_k=3)
    assert expected.moments
    assert [row[0] for row in table["data"]] == list(range(1, len(expected.moments) + 1))
    for (_, start, end, score), moment in zip(table["data"], expected.moments, strict=True):
        assert start == pytest.approx(moment.start, abs=0.005)
        assert end == pytest.approx(moment.end, abs=0.005)
        assert score == pytest.approx(moment.score, abs=0.0005)
    assert player["playback_position"] == pytest.approx(expected.moments[0].start)
    assert f"{expected.moments[0].start:.2f} to {expected.moments[0].end:.2f} s" in summary
    plotted = json.dumps(curve)
    assert "seconds" in plotted
    assert "relevance" in plotted


def test_curve_keeps_its_peak_and_stays_small(app: ModuleType):
    import numpy as np

    relevance = np.zeros(7201, np.float32)
    relevance[5003] = 1.0
    answer = zsvg.Grounding(
        query="a", vid="v", moments=(), curve=relevance, centres=np.arange(7201) / 2 + 0.25
    )
    frame = app._curve(answer)
    assert len(frame) <= app.MAX_POINTS
    assert frame["relevance"].max() == 1.0
    assert abs(frame["seconds"][frame["relevance"].idxmax()] - 5003 / 2) < 4


def test_a_second_question_does_not_encode_again(
    page: Page, grounder: zsvg.Grounder, small_video: Path, monkeypatch: pytest.MonkeyPatch
):
    page.client.reset_session()
    encoded = []
    original = grounder.encode
    monkeypatch.setattr(
        grounder, "encode", lambda video, **more: encoded.append(video) or original(video, **more)
    )
    page.ask(small_video, "a red square")
    page.ask(small_video, "a blue circle")
    assert len(encoded) == 1
    page.client.reset_session()
    page.ask(small_video, "a blue circle")
    assert len(encoded) == 2


@pytest.mark.parametrize(
    ("query", "top_k", "message"),
    [("  ", 5, "write a sentence"), ("a" * 301, 5, "at most 300"), ("a cat", 0, "minimum value 1")],
)
def test_bad_questions_are_refused_in_one_line(
    page: Page, small_video: Path, query: str, top_k: float, message: str
):
    refusal = page.refusal(small_video, query, top_k)
    assert message in refusal
    assert "\n" not in refusal


def test_no_video_is_refused(page: Page):
    assert page.refusal(None, "a red square") == "upload a video first"


def test_a_file_that_is_no_video_is_refused_without_the_servers_path(
    page: Page, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is not a video at all")
    refusal = page.refusal(broken, "a red square")
    assert refusal.startswith("broken.mp4: ")
    assert "\n" not in refusal
    assert "Traceback" not in capfd.readouterr().err


def test_too_long_videos_are_refused(app: ModuleType, grounder: zsvg.Grounder, small_video: Path):
    page = Page(app.build_demo(grounder, max_minutes=0.05))
    try:
        assert "this page takes up to 0.05" in page.refusal(small_video, "a red square")
    finally:
        page.demo.close()


def test_the_page_says_who_answers(
    app: ModuleType, grounder: zsvg.Grounder, tiny_clip_folder: Path
):
    from types import SimpleNamespace

    said = app.describe(grounder)
    assert "`local-dir:tiny-clip`, similarity alone" in said
    assert str(tiny_clip_folder.parent) not in said
    assert "microworld" not in said
    micro = SimpleNamespace(
        backbone=SimpleNamespace(name="micro"), head=object(), adapter="a", fps=2.0
    )
    said = app.describe(micro)
    assert "`micro`, tuned prompts and head" in said
    assert "understands only microworld" in said


def test_two_pages_do_not_share_anything(
    app: ModuleType, grounder: zsvg.Grounder, tiny_clip_folder: Path
):
    other = zsvg.load(f"local-dir:{tiny_clip_folder}", "cpu")
    first, second = app.build_demo(grounder), app.build_demo(other)
    assert first is not second
    assert not [name for name, value in vars(app).items() if isinstance(value, zsvg.Grounder)]
