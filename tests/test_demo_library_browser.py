"""The Library tab as people meet it: 300 videos are searched, played, judged, tuned on, added to.

Every test is run on a screen and on a phone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from tests.conftest import wait_for
from tests.demo_pages import Page, library_page
from tests.demo_tab import SETTLED, Tab
from zsvg.microworld.world import plan_video

SENTENCE = "a red star spins"
PHONE = {"size": (390, 844), "has_touch": True}
ORDER = "[...document.querySelectorAll('.zw-card')].map(card => card.dataset.start).join()"
NAMES = "[...document.querySelectorAll('.zw-card .zw-name')].map(name => name.innerText)"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with library_page(tmp_path_factory, videos=300) as page:
        yield page


@pytest.fixture(params=[{}, PHONE], ids=["desktop", "phone"])
def tab(chromium: Any, served: Page, request: pytest.FixtureRequest) -> Iterator[Tab]:
    tab = Tab(chromium, served.url, reduced_motion="no-preference", **request.param)
    yield tab
    tab.close()


def is_phone(tab: Tab) -> bool:
    return bool(tab.page.viewport_size["width"] < 500)


def choose(tab: Tab, field: str, choice: str) -> None:
    """Take a choice of a list of the tab, and wait for what it finds."""
    wall = tab.page.locator(".zw").get_attribute("data-drawn")
    tab.page.locator(f"#library-{field} input").click()
    tab.page.get_by_role("option", name=choice, exact=True).click()
    tab.page.wait_for_function(f"document.querySelector('.zw')?.dataset.drawn != {wall!r}")


def play(tab: Tab, rank: int) -> Any:
    """Have a moment played, by the pointer or by its button; return its card."""
    card = tab.page.locator(".zw-card").nth(rank - 1)
    if is_phone(tab):
        card.get_by_label(f"Play moment {rank} here").tap()
    else:
        tab.page.locator("#head").hover()
        card.locator(".zw-open").hover()
    return card


def shown(card: Any) -> list[str]:
    """Return the colours that are to be seen in a moment, by the script of its video."""
    number = int(card.locator(".zw-name").inner_text().removeprefix("film-"))
    start, end = (float(card.get_attribute(f"data-{side}")) for side in ("start", "end"))
    scene, _ = plan_video("chalk", "val", 5, number)
    events = [event.thing for event in scene.events if event.start < end and event.end > start]
    return [thing.colour for thing in (*events, *(d.thing for d in scene.distractors))]


def test_moments_of_300_videos_are_found_and_played(tab: Tab):
    page = tab.page
    page.locator("#library-said").get_by_text("300 videos").wait_for()
    found = tab.search(SENTENCE)
    assert len(found) == 60
    assert len(set(found)) >= 45
    assert page.locator(".zw-open img").count() == 60  # each has a picture
    red = ["red" in shown(page.locator(".zw-card").nth(rank)) for rank in range(10)]
    assert sum(red) >= 6  # of all things one in six is
    card = play(tab, 2)
    page.wait_for_function("document.querySelector('.zw-card video')?.currentTime > 0")
    assert card.locator("video").count() == 1
    if is_phone(tab):
        play(tab, 2)
    else:
        page.locator("#head").hover()
    card.locator("video").wait_for(state="detached")
    page.wait_for_function(SETTLED)
    assert tab.grave() == []


def test_a_wall_is_narrowed_by_folder_date_and_length(tab: Tab):
    page = tab.page
    found = tab.search(SENTENCE)
    assert not page.locator("#library-how").is_visible()  # nothing is said in any of them
    numbers = [int(name.removeprefix("film-")) for name in found]
    assert any(number % 3 == 0 for number in numbers)  # those are years old
    choose(tab, "changed", "Last year")
    wait_for(lambda: not any(int(name.removeprefix("film-")) % 3 == 0 for name in tab.wall()))
    choose(tab, "folder", "videos/day2")
    titles = "names => names.map(name => name.title.split('/')[0])"
    wait_for(lambda: set(page.locator(".zw-name").evaluate_all(titles)) == {"day2"})
    choose(tab, "folder", "All folders")
    choose(tab, "length", "10 s or more")
    wait_for(lambda: {int(name.removeprefix("film-")) % 10 for name in tab.wall()} == {0})
    choose(tab, "length", "1 min or more")
    page.get_by_text("Nothing is found").wait_for()
    assert tab.grave() == []


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
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert tab.grave() == []


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
    before, stood = page.evaluate(ORDER), page.evaluate(NAMES)
    page.get_by_label("Yes, moment 1", exact=True).click()  # it has a red star, the others have not
    for rank in (2, 3, 4):
        page.get_by_label(f"No, moment {rank}", exact=True).click()
    page.locator("#library-judged").get_by_text("1 yes and 3 no").wait_for()
    page.locator("#library-start").click()
    page.get_by_text("ranked by yours, tuned here").wait_for()
    assert page.evaluate(ORDER) != before
    assert page.locator(".zw-moved").count() > 0  # what stood elsewhere says where
    assert page.locator(".zw-card").first.get_attribute("class") == "zw-card yes"
    names = page.evaluate(NAMES)  # whatever ends their moments have now
    assert names[0] == stood[0]
    places = [names.index(name) if name in names else len(names) for name in stood[1:4]]
    assert sum(places) > 2 * (1 + 2 + 3)
    assert page.locator("#head").get_by_text("yours, tuned here").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert tab.grave() == []
    tab.goto(served.url)  # and it stays
    page.wait_for_selector(".zw-moved")
    page.get_by_label("The page's model").check()
    page.wait_for_function(f"{ORDER} == {before!r}")
    tab.to("Label")
    page.get_by_label("Judged in the library").check()
    tab.says("1 accepted, 3 rejected")


def test_yes_and_no_rank_the_wall_anew_at_once(tab: Tab):
    page, anew = tab.page, tab.page.get_by_role("button", name="Rank anew")
    found = tab.search(SENTENCE)
    before = page.evaluate(ORDER)
    assert anew.count() == 0
    page.get_by_label("Yes, moment 9", exact=True).click()
    anew.wait_for()  # a yes alone will do
    page.get_by_label("No, moment 1", exact=True).click()
    page.locator("#library-judged").get_by_text("1 yes and 1 no").wait_for()
    anew.click()
    page.locator("#library-said").get_by_text("ranked anew by 1 yes and 1 no").wait_for()
    page.wait_for_function(f"{ORDER} != {before!r}")
    wall = tab.wall()
    assert wall.index(found[8]) < 8
    assert wall.index(found[0]) > 0
    assert page.locator(".zw-card.yes .zw-moved.up").count() == 1  # and says where it was
    assert page.locator(".zw-card.yes .zw-name").inner_text() == found[8]
    assert page.locator(".zw-card.no .zw-name").inner_text() == found[0]
    page.wait_for_function(SETTLED)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert tab.grave() == []
    # A filter narrows it, a browser that comes back gets it, and an example is another search.
    choose(tab, "folder", "videos/day2")
    page.locator("#library-said").get_by_text("ranked anew by 1 yes and 1 no").wait_for()
    page.reload()
    page.locator("#library-said").get_by_text("ranked anew by 1 yes and 1 no").wait_for()
    page.get_by_label("More like moment 2", exact=True).click()
    page.locator("#library-said").get_by_text("like day2").wait_for()
    anew.wait_for(state="detached")
    # Verdicts on other words do not count, and words are looked for as they are at first.
    tab.search("a blue cross")
    assert anew.count() == 0
    choose(tab, "folder", "All folders")
    tab.search(SENTENCE)
    page.wait_for_function(f"{ORDER} == {before!r}")
    anew.wait_for()


def test_more_is_shown_where_there_is_more(tab: Tab):
    first = tab.search(SENTENCE)
    tab.page.get_by_role("button", name="More", exact=True).click()
    tab.page.locator(".zw-card").nth(60).wait_for()
    assert tab.wall()[:60] == first


def test_a_video_that_has_vanished_says_so(tab: Tab, served: Page):
    page = tab.page
    tab.search(SENTENCE)
    # What was played before is kept, and a pointer that rests among the first ones plays them.
    rank = 41 if is_phone(tab) else 40
    name = page.locator(".zw-name").nth(rank - 1).get_attribute("title")
    file = served.base / "videos" / f"{name}.mp4"
    away = file.rename(file.with_suffix(".away"))
    try:
        card = page.locator(".zw-card").nth(rank - 1)

        def said() -> bool:
            play(tab, rank)
            page.wait_for_timeout(1000)
            return bool(card.get_by_text("This video is not there any more.").count())

        wait_for(said)
        assert tab.grave() == []
        card.locator(".zw-open").click()
        toast = page.get_by_test_id("toast-body").get_by_text("is not there any more")
        toast.wait_for()
        page.locator("#library-search textarea").focus()  # no other is played meanwhile
    finally:
        away.rename(file)
    page.get_by_test_id("toast-close").first.click()
    play(tab, rank)
    card.locator("video").wait_for()
    assert card.get_by_text("not there any more").count() == 0


def test_what_is_asked_before_the_answer_is_there_is_answered(tab: Tab):
    box = tab.page.locator("#library-search textarea")
    for sentence in ("a red square", "x" * 500, "ein ★ <b>Stern</b>", "a blue cross"):
        box.fill(sentence)
        box.press("Enter")
    tab.page.locator("#library-said").get_by_text("“a blue cross”").wait_for()
    tab.search("x" * 300)  # more is not taken, and nothing is as wide
    width = tab.page.viewport_size["width"]
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    tab.search("ein ★ <b>Stern</b>")
    box.fill("  ")
    box.press("Enter")
    tab.page.get_by_test_id("toast-body").get_by_text("write a sentence").wait_for()
    assert len(tab.wall()) == 60  # of the sentence before


def test_two_visitors_have_walls_of_their_own(tab: Tab, chromium: Any, served: Page):
    other = Tab(chromium, served.url)
    found = tab.search(SENTENCE), other.search("a blue cross")
    assert (tab.wall(), other.wall()) == found
    assert found[0] != found[1]
    tab.goto(served.url)
    tab.page.locator("#library-said").get_by_text(f"“{SENTENCE}”").wait_for()
    assert tab.wall() == found[0]
    other.close()


def test_a_folder_is_indexed_from_the_page_and_no_other(tab: Tab, served: Page):
    page = tab.page
    page.get_by_role("button", name="Index a folder").click()
    inside = page.get_by_label("Only this folder in it")
    for wrong in ("../secret", "link", "/etc"):
        inside.fill(wrong)
        page.locator("#index-start").click()
        page.get_by_test_id("toast-body").get_by_text("there is no such folder in more").wait_for()
        page.get_by_test_id("toast-close").first.click()
        page.get_by_test_id("toast-body").wait_for(state="detached")
    place, name = ("other", "later") if is_phone(tab) else ("inner", "late")
    inside.fill(place)
    page.locator("#index-start").click()
    page.locator("#index-said progress").wait_for()
    page.locator("#index-said").get_by_text("New videos: 1").wait_for()
    assert tab.search(SENTENCE)
    choose(tab, "folder", f"more/{place}")
    assert set(tab.wall()) == {name}
    choose(tab, "how", "Said")  # there are lines by now
    page.get_by_text("Nothing is found").wait_for()
    tab.search(f"what is {name}")
    assert tab.wall() == [name]
    assert page.locator(".zw-said").inner_text() == f"This kettle whistles {name}."
    assert page.locator("[data-verdict]").count() == 0  # what is said is not judged by its looks
    assert tab.grave() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_wall_fits_a_phone(chromium: Any, served: Page, scheme: str):
    tab = Tab(chromium, served.url, color_scheme=scheme, **PHONE)
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
