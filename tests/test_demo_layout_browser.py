"""The demo on screens of all sizes: where things are, what stays in view, and who is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from tests.demo_pages import Page
from tests.demo_tab import SETTLED, Tab

SIZES = [(390, 844), (1280, 900), (1920, 1080)]


def tuned(tab: Tab) -> None:
    """Tune for a few steps."""
    tab.to("Tune")
    steps = tab.page.get_by_label("number input for Steps")
    steps.fill("10")
    steps.press("Tab")
    tab.page.get_by_role("button", name="Tune", exact=True).click()
    tab.page.get_by_text("held-out labels, mIoU").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_with_results_keeps_nobody_out(
    chromium: Any, served: Page, upload: Path, scheme: str
):
    tab = Tab(chromium, served.url, color_scheme=scheme)
    page = tab.page
    tab.upload(upload)
    page.wait_for_selector("#ground-timeline .zt-film img")
    tab.ask("a red star spins")
    page.wait_for_selector(".zc-card")
    tab.label_folder()
    tab.press("accept")
    tab.says("1 accepted")
    tab.press("reject")
    tab.says("1 rejected")
    tuned(tab)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for name in ("Ground", "Label", "Tune"):
            tab.to(name)
            page.wait_for_function(SETTLED)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
            assert tab.grave() == [], (name, width)
    tab.close()


def test_the_page_stands_in_the_middle_of_a_wide_screen(chromium: Any, served: Page):
    tab = Tab(chromium, served.url, size=(1920, 1080))
    box = tab.page.locator(".gradio-container").bounding_box()
    assert box["width"] == 1320
    assert box["x"] == pytest.approx((1920 - 1320) / 2, abs=8)  # a scroll bar may be there
    tab.close()


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)])
def test_the_player_stays_in_view(chromium: Any, served: Page, size: tuple[int, int]):
    tab = Tab(chromium, served.url, size=size)
    tab.label_folder()
    tab.page.locator("#label-player").bounding_box()
    tab.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    tab.page.wait_for_function("scrollY > 150")
    box = tab.page.locator("#label-player").bounding_box()
    assert 0 <= box["y"] < 60
    tab.close()


def test_on_a_phone_the_question_comes_before_the_lanes(chromium: Any, served: Page, upload: Path):
    tab = Tab(chromium, served.url, size=(390, 844))
    tab.upload(upload)
    tab.page.wait_for_selector("#ground-timeline .zt-film img")
    tops = [
        tab.page.locator(name).bounding_box()["y"]
        for name in ("#ground-player", "#ground-sentences", "#ground-ask", "#ground-timeline")
    ]
    assert tops == sorted(tops)
    tab.close()


def test_a_refusal_stays_after_its_toast(chromium: Any, served: Page):
    tab = Tab(chromium, served.url)
    page = tab.page
    tab.label_folder()
    page.get_by_label("Start (s)").fill("5")
    page.get_by_label("End (s)").fill("4")
    tab.press("accept")
    page.get_by_test_id("toast-body").wait_for()
    page.get_by_test_id("toast-close").click()
    page.get_by_test_id("toast-body").wait_for(state="detached")
    stays = page.locator(".refused:visible")
    assert stays.inner_text() == (
        "Not done: the moment does not end after it starts; choose an end after 5 s"
    )
    page.get_by_label("End (s)").fill("9")
    tab.press("accept")
    tab.says("1 fixed")
    assert stays.count() == 0
    tab.close()


def test_green_is_accepted_and_red_is_rejected(chromium: Any, served: Page):
    tab = Tab(chromium, served.url)
    tab.label_folder()
    tab.page.locator("#label-video input").click()
    tab.page.get_by_role("option", name="chalk-1").click()  # it has enough labels to stay there
    tab.page.wait_for_selector("#label-timeline .zt[data-vid=chalk-1]")
    colours = []
    for verdict in ("accept", "reject"):
        tab.press(verdict)
        tab.says(f"1 {verdict}ed")
        bar = tab.page.locator(f"#label-timeline .zt-bar.{verdict}ed")
        colour = bar.evaluate("bar => getComputedStyle(bar).borderTopColor")
        colours.append([int(part) for part in colour[4:-1].split(",")])
    accepted, rejected = colours
    assert accepted[1] > accepted[0]
    assert rejected[0] > rejected[1]
    tab.close()


def test_the_page_names_the_model_that_was_tuned_here(chromium: Any, served: Page, upload: Path):
    tab = Tab(chromium, served.url)
    page = tab.page
    tab.upload(upload)
    page.wait_for_selector("#ground-timeline .zt-film img")
    page.get_by_label("One sentence per line").fill("a red star spins")
    tab.label_folder()
    tuned(tab)
    assert "yours, tuned here" not in page.locator("#head").inner_text()
    page.get_by_role("button", name="Ask it in Ground").click()
    page.get_by_text("found by training-free and yours, tuned here").wait_for()
    assert "yours, tuned here" in page.locator("#head").inner_text()
    tab.goto(served.url)
    page.locator("#head").get_by_text("yours, tuned here").wait_for()
    tab.close()
