"""The demo as a video tool: moments that are played, a timeline to zoom, and the keyboard."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from tests.demo_pages import Page, labelled_page, microworld_video
from tests.demo_tab import VIDEO, Tab
from tests.films import film
from zsvg.records import Annotation, read_annotations, write_annotations

LABEL = VIDEO.format("label")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("videos")
    for index in range(2):
        microworld_video(folder / f"chalk-{index}.mp4", index)
    film(folder / "long.mkv", [second % 20 for second in range(1200)])
    with labelled_page(tmp_path_factory, folder) as page:
        yield page


def label(number: int, vid: str, start: float, end: float, duration: float) -> Annotation:
    return Annotation(
        qid=f"{vid}-{number}",
        query=f"what happens as number {number}",
        vid=vid,
        duration=duration,
        relevant_windows=((start, end),),
        extra={"source": "test", "weight": 1.0},
    )


def take_in(tab: Tab, labels: list[Annotation], file: Path) -> None:
    """Give a visitor some labels of the folder, and wait until they are there."""
    write_annotations(file, labels)
    tab.to("Label")
    tab.page.get_by_label("The folder of this page").check()
    tab.page.get_by_test_id("Import JSONL-upload-button").set_input_files(str(file))
    tab.says(f"{len(labels)} labels of")
    tab.page.wait_for_function(f"{LABEL}?.readyState >= 2")


def work(vid: str = "chalk-0") -> list[Annotation]:
    """Three labels of a short video."""
    return [label(number, vid, 3 * number, 3 * number + 1.5, 12.0) for number in range(3)]


def stands(tab: Tab, seconds: float) -> None:
    tab.page.wait_for_function(
        f"{LABEL}.paused && Math.abs({LABEL}.currentTime - {seconds}) < 0.06"
    )


def test_a_click_plays_the_moment_and_stops_at_its_end(tab: Tab, tmp_path: Path):
    take_in(tab, work(), tmp_path / "labels.jsonl")
    page = tab.page
    page.evaluate(
        f"""() => {{ window.seen = []; {LABEL}.addEventListener(
            "timeupdate", () => window.seen.push({LABEL}.currentTime)); }}"""
    )
    bar = page.locator("#label-timeline .zt-bar").nth(1)
    bar.click()
    page.wait_for_function(f"!{LABEL}.paused")
    stands(tab, 4.5)
    assert all(2.9 < second < 4.7 for second in page.evaluate("window.seen") if second > 0.1)
    page.get_by_role("button", name="loop moments").click()
    bar.click()
    page.wait_for_function(  # it has begun again
        "window.seen.some((at, i) => i && at < window.seen[i - 1] - 0.5 && at < 3.5)"
    )
    page.wait_for_function(f"!{LABEL}.paused && {LABEL}.currentTime > 3.2")
    page.get_by_role("button", name="loop moments").click()
    stands(tab, 4.5)


def test_cards_play_their_moments_too(tab: Tab, served: Page, tmp_path: Path):
    page = tab.page
    tab.upload(microworld_video(tmp_path / "mine.mp4", 7))
    page.wait_for_selector("#ground-timeline .zt-film img")
    page.get_by_label("One sentence per line").fill("a red star spins")
    page.keyboard.press("Control+Enter")
    card = page.locator(".zc-card").first
    card.wait_for()
    video = VIDEO.format("ground")
    page.wait_for_function(f"{video}?.readyState >= 2")
    end = float(card.get_attribute("data-end"))
    card.click()
    page.wait_for_function(f"!{video}.paused")
    page.wait_for_function(f"{video}.paused && Math.abs({video}.currentTime - {end}) < 0.06")


def test_thirty_moments_of_twenty_minutes_can_be_read(tab: Tab, tmp_path: Path):
    labels = [label(n, "long", 39.0 * n, 39.0 * n + 6.0, 1200.0) for n in range(30)]
    take_in(tab, labels, tmp_path / "labels.jsonl")
    page = tab.page
    readable = """() => {
      const bars = [...document.querySelectorAll("#label-timeline .zt-lane.b .zt-bar")];
      const boxes = bars.map((bar) => bar.getBoundingClientRect());
      return bars.length === 30 && bars.every((bar) => bar.scrollWidth <= bar.clientWidth + 1) &&
        boxes.every((box, i) => i === 0 || box.left >= boxes[i - 1].right);
    }"""
    page.locator("#label-video input").click()
    page.get_by_role("option", name="long").click()
    page.wait_for_function(f"{LABEL}.duration > 1000")
    assert page.locator("#label-timeline .zt-map").is_hidden()
    for _ in range(4):
        page.get_by_role("button", name="Closer").click()
    assert page.evaluate(readable)
    frame = page.locator("#label-timeline .zt-frame")
    assert frame.is_visible()
    pane = "document.querySelector('#label-timeline .zt-pane')"
    whole = page.locator("#label-timeline .zt-map").bounding_box()
    page.mouse.click(whole["x"] + 0.9 * whole["width"], whole["y"] + 5)
    page.wait_for_function(f"{pane}.scrollLeft > 0.8 * {pane}.scrollWidth")
    page.wait_for_function(
        "parseFloat(document.querySelector('#label-timeline .zt-frame').style.left) > 80"
    )
    page.locator("#label-timeline .zt-bar").nth(28).click()  # the view stays with new HTML
    page.wait_for_selector("#label-timeline .zt-bar.picked[data-pick='29']")
    assert page.evaluate(f"{pane}.scrollLeft > 0.8 * {pane}.scrollWidth")
    page.keyboard.press("k")
    page.locator("#label-list input").nth(3).check()
    page.wait_for_selector("#label-timeline .zt-bar.picked[data-pick='4']")
    stands(tab, 117.0)
    box = page.locator("#label-timeline .zt-bar.picked").bounding_box()
    view = page.locator("#label-timeline .zt-pane").bounding_box()
    assert view["x"] <= box["x"] < view["x"] + view["width"]
    page.get_by_role("button", name="all", exact=True).click()
    assert page.locator("#label-timeline .zt-map").is_hidden()
    assert tab.grave() == []


def test_picking_a_label_and_typing_its_start_move_the_player(tab: Tab, tmp_path: Path):
    take_in(tab, work(), tmp_path / "labels.jsonl")
    page = tab.page
    page.locator("#label-list input").nth(2).check()
    stands(tab, 6.0)
    start = page.get_by_label("Start (s)")
    start.fill("6.8")
    stands(tab, 6.8)
    bar = page.locator("#label-timeline .zt-bar.picked")
    assert bar.evaluate("bar => parseFloat(bar.style.left)") == pytest.approx(100 * 6.8 / 12)
    page.get_by_label("End (s)").fill("9.1")
    stands(tab, 9.1)
    assert float(bar.get_attribute("data-end")) == 9.1
    for key in (
        "a",
        "n",
        "Control+z",
        "Escape",
        "r",
    ):  # letters in a field of numbers decide nothing
        page.keyboard.press(key)
    tab.says("1 rejected")
    assert "1 fixed" not in page.inner_text("body")


def test_keys_play_step_mark_and_decide(tab: Tab, tmp_path: Path):
    take_in(tab, work(), tmp_path / "labels.jsonl")
    page, press = tab.page, tab.page.keyboard.press
    page.locator("#label-timeline .zt-ruler").focus()
    press("Home")
    stands(tab, 0.0)
    press("l")
    stands(tab, 5.0)
    press("j")
    stands(tab, 0.0)
    press("l")
    stands(tab, 5.0)
    press(".")
    stands(tab, 5.1)
    press(",")
    stands(tab, 5.0)
    press("Space")
    page.wait_for_function(f"!{LABEL}.paused")
    press("k")
    page.wait_for_function(f"{LABEL}.paused")
    press("p")
    stands(tab, 1.5)  # the end of the picked moment
    page.evaluate(f"{LABEL}.currentTime = 2")
    press("i")
    page.evaluate(f"{LABEL}.currentTime = 2.7")
    press("o")
    press("a")
    tab.says("1 fixed")
    stands(tab, 3.0)  # the next label
    press("r")
    tab.says("1 rejected")
    press("Control+z")
    tab.says("2 open, 1 fixed")
    press("Control+y")
    tab.says("1 rejected")
    press("e")
    page.keyboard.type("space, j and a are letters here")
    press("Escape")
    press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    assert tab.grave() == []
    press("Escape")
    page.get_by_role("dialog", name="Keys").wait_for(state="hidden")
    press("b")
    tab.lists("(no sentence yet)")
    press("n")
    page.wait_for_selector("#label-timeline .zt-bar.picked.open")
    with page.expect_download() as files:
        page.get_by_role("button", name="Export JSONL").click()
    files.value.save_as(tmp_path / "after.jsonl")
    mine = next(a for a in read_annotations(tmp_path / "after.jsonl") if "source" not in a.extra)
    assert mine.relevant_windows == ((2.0, 2.7),)


def test_a_hundred_labels_are_corrected_by_keyboard_alone(tab: Tab, tmp_path: Path):
    labels = [
        label(n, f"chalk-{n // 50}", 0.2 * (n % 50), 0.2 * (n % 50) + 1.0, 12.0) for n in range(100)
    ]
    take_in(tab, labels, tmp_path / "labels.jsonl")
    page, press = tab.page, tab.page.keyboard.press
    begun = time.monotonic()
    for number in range(100):
        page.wait_for_function(f"{LABEL}.currentSrc.includes('chalk-{number // 50}')")
        start = float(page.get_by_label("Start (s)").input_value())
        stands(tab, start)
        press(".")  # the moment begins a picture later, and ends five seconds on
        stands(tab, start + 0.1)
        press("i")
        press("l")
        stands(tab, min(start + 5.1, 12.0))
        press("o")
        press("a")
        tab.says(f"{number + 1} fixed")
    seconds = (time.monotonic() - begun) / 100
    print(f"{seconds:.2f} seconds a label")
    with page.expect_download() as files:
        page.get_by_role("button", name="Export JSONL").click()
    files.value.save_as(tmp_path / "after.jsonl")
    after = read_annotations(tmp_path / "after.jsonl")
    assert len(after) == 100
    for old, new in zip(labels, after, strict=True):
        assert "source" not in new.extra
        start = old.relevant_windows[0][0] + 0.1
        assert new.relevant_windows[0] == pytest.approx((start, min(start + 5, 12.0)), abs=0.05)
