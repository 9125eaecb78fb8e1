"""The page of moments as people meet it: in a browser, by mouse, by keyboard, without scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import WAIT, grave
from tests.conftest import run_python
from tests.demo_pages import microworld_video
from tests.films import film

SENTENCES = (
    "a red star spins",
    "the green circle " + "ohneLeerzeichen" * 15,
    "<b>blue</b> & {{0}}",
)
VIDEO = "[...document.querySelectorAll('video')][{}]"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two videos that browsers play and of one that they do not, moved with them."""
    folder = tmp_path_factory.mktemp("made")
    videos = folder / "my #1 videos, 100%?"
    videos.mkdir()
    for index in range(2):
        microworld_video(videos / f"chalk '{index}'.mp4", index)
    film(videos / ("long" * 30 + ".avi"))  # MPEG-4 Part 2
    done = run_python(
        *("-m", "zsvg", "ground", videos.name, *SENTENCES, "--model", "micro", "--device", "cpu"),
        *("--cache", folder / "cache", "-o", "results.html", "--format", "jsonl"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    moved = folder.with_name("elsewhere")
    folder.rename(moved)
    (moved / "answers.jsonl").write_text(done.stdout)
    return moved / "results.html"


@pytest.fixture
def opened(chromium: Any, results: Path) -> Iterator[Any]:
    """Open the page in windows of their own; they may ask for nothing but local files."""
    contexts, asked = [], []

    def look(**options: Any) -> Any:
        contexts.append(chromium.new_context(**options))
        contexts[-1].set_default_timeout(WAIT)
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: asked.append(f"error: {error}"))
        page.goto(results.as_uri())
        return page

    yield look
    for context in contexts:
        context.close()
    assert all(url.startswith((results.parent.as_uri(), "data:")) for url in asked), asked


def playable(page: Any) -> list[int]:
    """Return which of the players play videos of microworld."""
    names = page.locator("h3").all_inner_texts()
    return [number for number, name in enumerate(names) if "chalk" in name]


def test_a_click_plays_the_moment(opened: Any, results: Path):
    page = opened()
    answers = [json.loads(line) for line in (results.parent / "answers.jsonl").open()]
    known = {
        (Path(answer["path"]).name, *window[:2])
        for answer in answers
        for window in answer["pred_relevant_windows"]
    }
    times = page.evaluate(
        """() => [...document.querySelectorAll('video')].map(video => {
            const address = new URL(video.src);
            return [decodeURIComponent(address.pathname.split("/").pop()),
                    ...address.hash.match(/[0-9.]+/g).map(Number)];
        })"""
    )
    shown = [next(k for k in known if k == (n, pytest.approx(a, abs=2e-3),
                                            pytest.approx(b, abs=2e-3)))
             for n, a, b in times]  # fmt: skip
    assert len(shown) > 5
    late = [n for n in playable(page) if shown[n][1] > 1]
    assert len(late) > 1  # else nothing could be told from playing a video from its start
    for number in late[:2]:
        _, start, end = shown[number]
        page.locator("summary").nth(number).click()
        video = VIDEO.format(number)
        page.wait_for_function(f"{video}.currentTime > {start} + 0.05")
        assert page.evaluate(f"{video}.currentTime") <= end + 0.5
    # The first has stopped for the second, and a moment that is closed begins anew.
    assert page.evaluate(f"{VIDEO.format(late[0])}.paused")
    page.locator("summary").nth(late[1]).click()
    video = VIDEO.format(late[1])
    page.wait_for_function(f"{video}.paused && {video}.currentTime < {start} + 0.01")


def test_what_the_browser_cannot_play_is_said(opened: Any):
    page = opened()
    cards = page.locator(".figure", has_text="long")
    assert cards.count()
    card = cards.first
    said = card.get_by_text("This browser does not play")
    card.locator("summary").focus()
    assert not said.is_visible()
    page.keyboard.press("Enter")
    said.wait_for()
    assert not card.locator("video").is_visible()
    assert card.locator("img").count() == 3  # it is seen all the same


def test_it_does_without_its_script(opened: Any):
    page = opened(java_script_enabled=False)
    number = playable(page)[0]
    card = page.locator(".figure").nth(number)
    assert not card.locator("video").is_visible()
    card.locator("summary").click()
    assert card.locator("video[controls]").is_visible()
    assert card.get_by_text("Nothing to see?").is_visible()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_keeps_nobody_out(opened: Any, width: int, scheme: str):
    page = opened(viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.locator("h2").all_inner_texts() == list(SENTENCES)
    page.locator("summary").nth(playable(page)[0]).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [box.bounding_box() for box in page.locator(".figure *:not(svg *)").all()]
    assert all(box["x"] + box["width"] <= width for box in boxes if box)
    assert grave(page) == []
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, colour[4:-1].split(","))) < 384) == (scheme == "dark")
