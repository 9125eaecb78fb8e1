"""The demo keeps people's work: after a reload, among other sources, on servers that are killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from tests.conftest import HANG
from tests.demo_pages import Page, command, microworld_video
from tests.demo_tab import Tab
from zsvg.records import read_annotations


@pytest.fixture
def tab(chromium: Any, served: Page) -> Iterator[Tab]:
    tab = Tab(chromium, served.url)
    tab.label_folder()
    yield tab
    tab.close()


def fix(tab: Tab, sentence: str) -> None:
    """Give the picked label another sentence."""
    tab.page.get_by_label("Sentence", exact=True).fill(sentence)
    tab.press("accept")


def export(tab: Tab, file: Path) -> Path:
    with tab.page.expect_download() as files:
        tab.page.get_by_role("button", name="Export JSONL").click()
    files.value.save_as(file)
    return file


def test_labels_and_the_video_are_there_after_a_reload(
    tab: Tab, served: Page, tmp_path_factory: pytest.TempPathFactory
):
    page = tab.page
    fix(tab, "a cat that I have seen")
    tab.says("1 fixed")
    tab.press("reject")
    tab.says("1 rejected")
    page.locator("#label-video input").click()
    page.get_by_role("option", name="chalk-2").click()
    page.wait_for_function("document.querySelector('#label-video input').value.includes('chalk-2')")
    tab.to("Ground")
    tab.upload(microworld_video(tmp_path_factory.mktemp("upload") / "mine.mp4", 7))
    page.wait_for_selector("#ground-timeline .zt-film img")
    tab.ask("a red star spins")
    page.wait_for_selector(".zc-card")
    cards = page.locator(".zc-card").all_inner_texts()

    tab.goto(served.url)
    page.wait_for_selector(".zc-card")
    assert page.locator(".zc-card").all_inner_texts() == cards
    assert page.get_by_label("One sentence per line").input_value() == "a red star spins"
    page.wait_for_function("document.querySelector('#ground-player video')?.readyState > 0")
    tab.to("Label")
    tab.says("1 fixed, 1 rejected")
    assert "chalk-2" in tab.video()
    page.locator("#label-video input").click()
    page.get_by_role("option", name="chalk-0").click()
    tab.lists("a cat that I have seen")


def test_corrections_stay_while_another_source_is_labelled(
    tab: Tab, tmp_path_factory: pytest.TempPathFactory
):
    page = tab.page
    fix(tab, "a dog that I have seen")
    tab.says("1 fixed")
    page.get_by_label("My uploads").check()
    page.locator("#label-list").wait_for(state="hidden")
    other = microworld_video(tmp_path_factory.mktemp("upload") / "other.mp4", 8)
    page.locator("#label-uploads input[type=file]").set_input_files(str(other))
    page.locator("#label-uploads").get_by_text("other").first.wait_for()
    tab.press("start")
    tab.says("of 1 videos")
    assert "other" in tab.video()
    page.get_by_label("The folder of this page").check()
    tab.says("1 fixed")
    tab.press("start")  # labels that are written again are the same
    page.get_by_text("Done.").wait_for()
    tab.says("1 fixed")
    page.get_by_label("My uploads").check()
    tab.says("of 1 videos")


def test_two_people_at_once_keep_their_work_apart(chromium: Any, served: Page):
    first, second = Tab(chromium, served.url), Tab(chromium, served.url)
    for tab, sentence in ((first, "the work of ann"), (second, "the work of ben")):
        tab.label_folder()
        fix(tab, sentence)
        tab.says("1 fixed")
    for tab, own, others in ((second, "ben", "ann"), (first, "ann", "ben")):
        tab.goto(served.url)
        tab.to("Label")
        tab.lists(f"the work of {own}")
        assert f"the work of {others}" not in tab.page.content()
    for tab in (first, second):
        tab.close()


def test_an_export_is_taken_in_again(tab: Tab, chromium: Any, served: Page, tmp_path: Path):
    fix(tab, "a fish that I have seen")
    tab.says("1 fixed")
    tab.press("reject")
    tab.says("1 rejected")
    file = export(tab, tmp_path / "labels.jsonl")
    other = Tab(chromium, served.url)  # somebody who has no labels yet
    other.to("Label")
    other.page.get_by_test_id("Import JSONL-upload-button").set_input_files(str(file))
    other.lists("a fish that I have seen")
    other.says("1 fixed")
    again = export(other, tmp_path / "again.jsonl")
    assert again.read_bytes() == file.read_bytes()
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"qid": 1}\n')
    other.page.get_by_test_id("Import JSONL-upload-button").set_input_files(str(wrong))
    other.page.get_by_text('no "duration" in this record').first.wait_for()
    other.close()


def test_changes_are_undone_and_labels_added_split_and_merged(tab: Tab, tmp_path: Path):
    page = tab.page
    before = tab.labels()
    export(tab, tmp_path / "before.jsonl")
    tab.press("split")
    page.wait_for_function(
        f"document.querySelectorAll('#label-list label').length == {len(before) + 1}"
    )
    tab.press("merge")
    tab.says("1 rejected")
    page.evaluate(  # faster than any answer
        "[1, 2].forEach(() => document.querySelector('#label-undo').click())"
    )
    page.wait_for_function(
        f"document.querySelectorAll('#label-list label').length == {len(before)}"
    )
    assert tab.labels() == before
    tab.press("redo")
    page.wait_for_function(
        f"document.querySelectorAll('#label-list label').length == {len(before) + 1}"
    )
    tab.press("undo")
    page.wait_for_function(
        f"document.querySelectorAll('#label-list label').length == {len(before)}"
    )
    page.evaluate("document.querySelector('#label-player video').currentTime = 3.5")
    tab.press("add")
    tab.lists("(no sentence yet)")
    assert float(page.get_by_label("Start (s)").input_value()) == 3.5
    export(tab, tmp_path / "draft.jsonl")  # a draft is nothing to train on
    assert (tmp_path / "draft.jsonl").read_bytes() == (tmp_path / "before.jsonl").read_bytes()
    tab.press("accept")
    page.get_by_text("the label has no sentence").first.wait_for()
    fix(tab, "a bird of mine")
    tab.says("1 fixed")
    labels = read_annotations(export(tab, tmp_path / "after.jsonl"))
    assert [a.relevant_windows for a in labels if a.query == "a bird of mine"] == [((3.5, 8.5),)]


def test_after_the_last_label_comes_the_next_video(tab: Tab):
    first = tab.video().partition(":")[0]
    for done in range(1, len(tab.labels()) + 1):
        assert tab.video().startswith(first)
        tab.press("accept")
        tab.says(f"{done} accepted")
    tab.page.wait_for_function(
        f"!document.querySelector('#label-video input').value.startsWith('{first}')"
    )
    following = tab.video().partition(":")[0]
    tab.page.wait_for_function(
        f"document.querySelector('#label-player video').currentSrc.includes('{following}')"
    )


def test_a_killed_server_comes_back_with_the_labels_of_a_project(chromium: Any, tmp_path: Path):
    folder, project = tmp_path / "videos", tmp_path / "project"
    for index in range(2):
        folder.mkdir(exist_ok=True)
        microworld_video(folder / f"chalk-{index}.mp4", index)
    options = ("--videos", str(folder), "--project", str(project))
    (tmp_path / "tmp").mkdir()
    with command(tmp_path / "tmp", *options) as (process, url):
        ann, ben = Tab(chromium, url), Tab(chromium, url)
        ann.label_folder()
        fix(ann, "the work of ann")
        ann.says("1 fixed")
        ben.label_folder()
        fix(ben, "the work of ben")
        ben.says("1 fixed")
        process.kill()
        process.wait(HANG)
    lines = (project / "folder" / "work.jsonl").read_text().splitlines()
    assert [r["query"] for r in map(json.loads, lines) if r["verdict"] == "fixed"] == [
        "the work of ann"
    ]
    queries = [label.query for label in read_annotations(project / "folder" / "labels.jsonl")]
    assert "the work of ann" in queries
    with command(tmp_path / "tmp", *options) as (_, url):
        for tab, own, others in ((ben, "ben", "ann"), (ann, "ann", "ben")):
            tab.goto(url)
            tab.to("Label")
            tab.lists(f"the work of {own}")
            assert f"the work of {others}" not in tab.page.content()
            tab.close()
    with command(tmp_path / "tmp", *options) as (_, url):  # a browser that nobody knows
        tab = Tab(chromium, url)
        tab.to("Label")
        tab.lists("the work of ann")
        tab.close()
