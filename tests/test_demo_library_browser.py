"""The Library tab as people meet it: searched, played, judged, tuned on, added to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from tests.browser import launched
from tests.demo_pages import Page, library_page
from tests.demo_tab import SETTLED, Tab
from zsvg.resources import demo_module

SENTENCE = "a red circle spins"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with library_page(tmp_path_factory) as page:
        yield page


@pytest.fixture
def tab(chromium: Any, served: Page) -> Iterator[Tab]:
    tab = Tab(chromium, served.url, reduced_motion="no-preference")
    yield tab
    tab.close()


def choose(tab: Tab, field: str, choice: str) -> None:
    """Take a choice of a list of the tab."""
    tab.page.locator(f"#library-{field} input").click()
    tab.page.get_by_role("option", name=choice, exact=True).click()


def test_moments_are_found_played_under_the_pointer_and_filtered(tab: Tab):
    page = tab.page
    page.locator("#library-said").get_by_text("20 videos").wait_for()
    found = tab.search(SENTENCE)
    assert len(found) > 20
    assert "film-0.mp4" not in found
    assert {"film-0", "film-1"} <= set(found)
    assert page.locator(".zw-open img").count() == len(found)  # each has a picture
    page.locator(".zw-open").nth(1).hover()
    film = page.locator(".zw-card.playing video")
    film.wait_for()
    page.wait_for_function("document.querySelector('.zw-card video')?.currentTime > 0")
    assert page.locator(".zw-card").nth(1).locator("video").count() == 1
    page.locator("#head").hover()
    film.wait_for(state="detached")
    assert tab.grave() == []

    choose(tab, "changed", "Last year")
    page.wait_for_function(
        "![...document.querySelectorAll('.zw-name')].some(n => n.innerText == 'film-0')"
    )
    assert "film-1" in tab.wall()
    choose(tab, "folder", "videos/day2")
    page.wait_for_function(
        "[...document.querySelectorAll('.zw-name')].every(n => n.title.startsWith('day2/'))"
    )
    choose(tab, "length", "1 min or more")
    page.get_by_text("Nothing is found").wait_for()


def test_the_wall_is_walked_by_keys_and_a_moment_opened_with_its_timeline(tab: Tab):
    page = tab.page
    tab.to("Ground")
    page.wait_for_selector("#ground-ask")
    page.keyboard.press("/")
    page.wait_for_function("document.activeElement?.closest('#library-search')")
    page.keyboard.type(SENTENCE)
    page.keyboard.press("Enter")
    page.wait_for_selector(".zw-card")
    page.locator("#library-search textarea").press("ArrowDown")
    for key in ("ArrowRight", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    at = "document.activeElement.closest('.zw-card')?.dataset.number"
    assert page.evaluate(at) == "1"
    card = page.locator(".zw-card").nth(1)
    outline = "card => getComputedStyle(card.querySelector('.zw-open')).outlineStyle"
    assert card.evaluate(outline) == "solid"
    page.keyboard.press("Space")
    card.locator("video").wait_for()
    page.keyboard.press("Space")
    card.locator("video").wait_for(state="detached")
    start = float(card.get_attribute("data-start"))
    page.keyboard.press("Enter")
    bar = page.locator("#ground-timeline .zt-bar.picked")
    bar.wait_for()
    assert float(bar.get_attribute("data-start")) == start
    page.wait_for_function("document.querySelector('#ground-player video')?.readyState > 0")
    tab.arrives(start)
    assert page.get_by_label("One sentence per line").input_value() == SENTENCE
    assert page.locator("#ground-timeline .zt-curve").count() == 1


def test_more_like_this_finds_the_moment_itself_first(tab: Tab):
    page = tab.page
    found = tab.search("a blue star")
    page.get_by_label("More like moment 3", exact=True).click()
    page.locator("#library-said").get_by_text("like day").wait_for()
    assert tab.wall()[0] == found[2]
    assert page.locator("[data-verdict]").count() == 0  # of what there is no sentence
    page.locator(".zw-open").first.click()
    page.wait_for_selector("#ground-timeline .zt-curve")
    assert page.locator("#ground-timeline .zt-bar.picked").count() == 1


def test_yes_and_no_change_the_ranking_once_they_are_tuned_on(tab: Tab, served: Page):
    page = tab.page
    tab.search(SENTENCE)
    order = "[...document.querySelectorAll('.zw-card')].map(card => card.dataset.start).join()"
    before = page.evaluate(order)
    page.get_by_label("Yes, moment 3", exact=True).click()
    for rank in (1, 2, 4):
        page.get_by_label(f"No, moment {rank}", exact=True).click()
    page.locator("#library-judged").get_by_text("1 yes and 3 no").wait_for()
    page.locator("#library-start").click()
    page.get_by_text("ranked by yours, tuned here").wait_for()
    assert page.evaluate(order) != before
    assert page.locator(".zw-moved").count() > 0  # what stood elsewhere says where
    judged = "[...document.querySelectorAll('.zw-card.yes, .zw-card.no')].map(c => c.className)"
    assert page.evaluate(judged)[0] == "zw-card yes"  # which three others stood around
    assert page.locator("#head").get_by_text("yours, tuned here").count() == 1
    assert tab.grave() == []
    tab.goto(served.url)  # and it stays
    page.wait_for_selector(".zw-moved")
    page.get_by_label("The page's model").check()
    page.wait_for_function(f"{order} == {before!r}")
    tab.to("Label")
    page.get_by_label("Judged in the library").check()
    tab.says("1 accepted, 3 rejected")


def test_more_is_shown_where_there_is_more(tab: Tab, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo_module("searching"), "PAGE", 12)
    first = tab.search(SENTENCE)
    assert len(first) == 12
    tab.page.get_by_role("button", name="More", exact=True).click()
    tab.page.locator(".zw-card").nth(23).wait_for()
    assert tab.wall()[:12] == first


def test_a_folder_is_indexed_from_the_page_and_no_other(tab: Tab):
    page = tab.page
    page.get_by_role("button", name="Index a folder").click()
    inside = page.get_by_label("Only this folder in it")
    for wrong in ("../secret", "link", "/etc"):
        inside.fill(wrong)
        page.locator("#index-start").click()
        page.get_by_test_id("toast-body").get_by_text("there is no such folder in more").wait_for()
        page.get_by_test_id("toast-close").first.click()
        page.get_by_test_id("toast-body").wait_for(state="detached")
    inside.fill("inner")
    page.locator("#index-start").click()
    page.locator("#index-said").get_by_text("New videos: 1").wait_for()
    choose(tab, "folder", "more/inner")
    assert set(tab.search(SENTENCE)) == {"late"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_wall_fits_a_phone(chromium: Any, served: Page, scheme: str):
    tab = Tab(chromium, served.url, size=(390, 844), color_scheme=scheme, has_touch=True)
    page = tab.page
    tab.search(SENTENCE)
    page.get_by_label("Play moment 2 here").tap()
    page.locator(".zw-card.playing video").wait_for()
    page.wait_for_function(SETTLED)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    sides = [page.locator(".zw-card").nth(number).bounding_box() for number in (0, 1)]
    assert sides[0]["y"] == sides[1]["y"]  # two beside each other
    assert tab.grave() == []
    tab.close()
