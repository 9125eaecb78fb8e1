"""The library of a demo, asked through its endpoints, and what it shows to nobody."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import zsvg
from tests.conftest import run_python
from tests.demo_pages import Page, library_page, microworld_video
from zsvg.errors import ZsvgError
from zsvg.files import sha256_json
from zsvg.records import Annotation
from zsvg.resources import demo_module
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import Recipe, load_recipe

SENTENCE = "a red circle spins"
DOCUMENTATION = (Path(__file__).parent.parent / "docs" / "demo.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with library_page(tmp_path_factory) as page:
        yield page


def search(page: Page, sentence: str = SENTENCE, **filters: Any) -> list[dict[str, Any]]:
    given = {"folder": "", "days": 0, "length": 0, "by": "", "most": 60, **filters}
    found: list[dict[str, Any]] = page.call("/library_search", sentence, *given.values())
    return found


def play(page: Page, *asked: Any) -> dict[str, str]:
    """Ask for the film of a moment as the wall does."""
    (number,) = (
        block._id
        for block in page.demo.blocks.values()
        if getattr(block, "elem_id", "") == "library-wall"
    )
    body = {"session_hash": "x", "component_id": number, "fn_name": "play", "data": list(asked)}
    kind = {"content-type": "application/json"}
    status, said = page.post("/gradio_api/component_server", json.dumps(body), kind)
    assert status == 200, said
    answer: dict[str, str] = json.loads(said)
    return answer


def test_a_library_is_searched_opened_and_judged_by_programs(served: Page):
    found = search(served)
    assert {moment["by"] for moment in found} == {"seen"}
    assert {"film-0", "film-1"} <= {Path(moment["video"]).name for moment in found}
    assert {m["video"].split("/")[0] for m in search(served, folder="videos/day2")} == {"day2"}
    assert "day1/film-0" not in {m["video"] for m in search(served, days=366)}
    assert search(served, length=60) == []
    found = search(served)
    opened = served.call("/library_open", 2)
    assert opened["video"] == found[2]["video"]
    assert opened["duration"] in (4, 12)
    answers = served.call("/ground", SENTENCE, 1)[0]["answers"]
    assert answers[0]["moments"][0]["start"] >= 0
    assert served.call("/library_judge", 0, "yes") == {"yes": 1, "no": 0}
    assert served.call("/library_judge", 0, "no") == {"yes": 0, "no": 1}
    assert "say yes to a moment first" in served.refusal("/library_learn")
    assert served.call("/library_judge", 0, "") == {"yes": 0, "no": 0}
    alike = served.call("/library_like", 2)
    assert alike[0]["video"] == found[2]["video"]
    assert "search by one" in served.refusal("/library_judge", 0, "yes")
    assert "there is no such moment" in served.refusal("/library_open", 999)
    assert "no folder" in served.refusal("/library_search", SENTENCE, "secret", 0, 0, "", 60)


def test_the_documentation_lists_the_endpoints_of_a_library(served: Page):
    table = DOCUMENTATION.partition("<!-- library -->")[2].partition("<!-- /library -->")[0]
    rows = re.findall(r"^\| `(/\w+)` \|(.*?)\|", table, re.MULTILINE)
    about = served.client.view_api(return_format="dict")["named_endpoints"]
    known = {
        name: [parameter["parameter_name"] for parameter in endpoint["parameters"]]
        for name, endpoint in about.items()
        if name.startswith("/library")
    }
    assert {name: re.findall(r"`(\w+)`", takes) for name, takes in rows} == known


def test_a_film_is_played_of_what_the_page_shows_alone(served: Page):
    from base64 import b64decode

    first = search(served)[0]
    film = b64decode(play(served, first["content"], first["start"], first["end"])["film"])
    assert film[4:8] == b"ftyp"
    assert len(film) < 1e6
    for wrong in (
        ("0" * 64, 0, 1),
        (str(served.base / "secret" / "hidden.mp4"), 0, 1),
        (first["content"], 5, 1),
        (first["content"], "nan", 1),
        (first["content"], 0, 1e12),
        (first["content"], 0, 10**400),
        (first["content"],),
        (None, None, None),
    ):
        answer = play(served, *wrong)
        assert answer["film"] == ""
        assert answer["says"].startswith("there is no such ")


def test_folders_that_were_not_allowed_are_neither_indexed_nor_shown(served: Page):
    from zsvg.library.library import Library

    secret = served.base / "secret"
    for below in (
        "../secret",
        str(secret),
        "link",
        "link/..",
        "inner/../../secret",
        "\0",
        "x" * 5000,
    ):
        said = served.refusal("/library_index", "more", below)
        assert "there is no such folder in more" in said
    for name in ("secret", str(secret), "", ".."):
        assert "no such folder" in served.refusal("/library_index", name, "")
    # Another program adds it to the library while the page runs.
    library = Library.open(served.base / "library")
    library.add(secret)
    (hidden,) = (video for video in library.videos() if "hidden" in video.vid)
    found = search(served, most=300)
    assert found
    assert not any("hidden" in moment["video"] for moment in found)
    assert play(served, hidden.content, 0, 1)["film"] == ""
    assert str(served.base) not in json.dumps(found)
    for path in (secret / "hidden.mp4", served.base / "videos" / "day1" / "film-0.mp4"):
        assert served.get(f"/gradio_api/file={path}")[0] == 403


def test_a_folder_is_indexed_without_what_links_lead_to(served: Page):
    assert not served.site.shelf.worded()
    with served.site.turns.free:  # somebody tunes meanwhile, and nobody waits for the other
        served.call("/library_index", "more", "")
        assert served.until("/library_index_progress", "done")["total"] == 2
    names = {Path(moment["video"]).name for moment in search(served, folder="more")}
    assert names == {"late", "later"}
    assert served.site.shelf.worded()


def test_a_page_without_index_only_reads(tmp_path_factory: pytest.TempPathFactory):
    with library_page(tmp_path_factory, index=False) as page:
        assert search(page)
        said = page.refusal("/library_index", "more", "")
        assert "this page indexes no such folder" in said
        assert "Index a folder" not in json.dumps(page.client.config)


def shelf_with(*files: Path, index: Sequence[Path] = (), content: str = "") -> Any:
    """Return a shelf of a library that has these files, each with its folder for a root.

    They are copies where a content is given.
    """
    from zsvg.library.tables import Video

    videos = [
        Video(
            vid=file.stem,
            root=str(file.parent),
            path=file.name,
            content=content or sha256_json(str(file)),
            state="",
            size=1,
            modified=0.0,
            duration=8.0,
        )
        for file in files
    ]
    tables = SimpleNamespace(events_of=lambda contents: {})
    folder = Path("/shelves/library")
    library = SimpleNamespace(videos=lambda: videos, folder=folder, tables=tables)
    return demo_module("shelf").Shelf(library, index)


def test_folders_with_one_last_name_have_names_of_their_own(tmp_path: Path):
    folders = {place: tmp_path / place / "videos" for place in "abc"}
    files = [folder / f"{place}.mp4" for place, folder in folders.items()]
    shelf = shelf_with(*files, index=[folders["b"]])
    named = {"videos": "b", "a/videos": "a", "c/videos": "c"}
    assert shelf.folders() == {name: folders[place] for name, place in named.items()}


def test_what_links_lead_to_out_of_a_folder_is_not_shown(tmp_path: Path):
    allowed, secret, own = (tmp_path / name for name in ("allowed", "secret", "own"))
    for folder in (allowed, secret, own):
        folder.mkdir()
    films = [allowed / "here.mp4", allowed / "near.mp4", allowed / "out.mp4", own / "link.mp4"]
    for film in (films[0], secret / "film.mp4"):
        film.touch()
    films[1].symlink_to(films[0])
    films[2].symlink_to(secret / "film.mp4")
    films[3].symlink_to(secret / "film.mp4")  # of a folder that the library itself was made of
    shelf = shelf_with(*films, index=[allowed])
    assert {video.vid for video in shelf.videos().values()} == {"here", "near", "link"}
    (near,) = (video for video in shelf.videos().values() if video.vid == "near")
    assert shelf.video(near.content) is near
    films[1].unlink()
    films[1].symlink_to(secret / "film.mp4")
    with pytest.raises(ZsvgError, match="no such video"):
        shelf.video(near.content)


def test_subtitles_that_are_links_out_of_a_folder_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    library_of = pytest.importorskip("zsvg.library.library").Library
    place, secret = tmp_path / "videos", tmp_path / "secret.srt"
    for number, name in enumerate(("own", "link")):
        microworld_video(place / f"{name}.mp4", number, 4)
    lines = "1\n00:00:01,000 --> 00:00:02,500\nThe kettle is whistling.\n"
    (place / "own.srt").write_text(lines, encoding="utf-8")
    secret.write_text(lines, encoding="utf-8")
    (place / "link.srt").symlink_to(secret)
    library_of.open(tmp_path / "library", zsvg.load("micro", "cpu"))
    work = {"place": str(place), "root": str(place), "device": "cpu"}
    work |= {"library": str(tmp_path / "library"), "cache": str(tmp_path / "cache")}
    demo_module("worker").index(work, lambda **event: None)
    library = library_of.open(tmp_path / "library", device="cpu")
    found = library.hits("the kettle is whistling", by="said")
    assert [hit.video.vid for hit in found] == ["own"]


def test_a_film_that_was_cut_out_is_kept_and_another_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = demo_module("shelf")
    monkeypatch.setattr(module, "_PATIENCE", 0)
    (tmp_path / "film.mp4").touch()
    shelf = shelf_with(tmp_path / "film.mp4")
    (content,) = shelf.videos()
    answers, cuts = [], []

    def cut(video: Path, start: float, end: float, file: Path, *, longest: int) -> None:
        cuts.append(start)
        if start < 1:  # another one is asked for meanwhile
            answers.append(shelf.played(content, start + 0.5, 8))
        file.write_bytes(b"film")

    monkeypatch.setattr(module, "cut", cut)
    assert shelf.played(content, 0, 8) == b"film"
    assert (cuts, answers) == ([0, 0.5], [b"", b"film"])  # the innermost one is refused
    assert shelf.played(content, 0.5, 8) == b"film"
    assert cuts == [0, 0.5]


def test_verdicts_on_what_another_library_shows_are_kept(tmp_path: Path):
    visits, learning, searching = map(demo_module, ("visit", "learning", "searching"))
    files = {place: tmp_path / place / "film.mp4" for place in "ab"}
    desk = tmp_path / "desk"

    def page(place: str) -> tuple[Any, Any]:
        shelf = shelf_with(files[place])
        visit = visits.Visit(desk=desk)
        visits.restore(visit)
        visits.hide(visit, shelf.covers)
        (video,) = shelf.videos().values()
        hit = SimpleNamespace(video=video, start=1.0, end=2.0, by="seen")
        visit.shown = searching.Shown(wanted=searching.Wanted(text=SENTENCE), hits=(hit,))
        return visit, learning.verdicts(visit, visit.shown)

    for place, said in (("a", "yes"), ("b", "no")):
        visit, before = page(place)
        assert before == [""]
        learning.judge(visit, visit.shown, 0, said)
    for place, said, counted in (("a", "yes", (1, 0)), ("b", "no", (0, 1))):
        visit, before = page(place)
        assert (before, learning.counts(visit)) == ([said], counted)
        assert visit.benches["library"].videos == {"film": files[place]}
    kept = (desk / "library" / "work.jsonl").read_text(encoding="utf-8")
    assert len(kept.splitlines()) == 2
    assert len((desk / "library" / "labels.jsonl").read_text(encoding="utf-8").splitlines()) == 1


@pytest.mark.parametrize("folder", ["/srv/my films/library", "films of me/library"])
def test_messages_name_no_folder_of_the_library(folder: str):
    visits, shelf = demo_module("visit"), shelf_with()
    shelf.library.folder = Path(folder)
    site = visits.Site(
        {}, captioner=None, videos=None, device=None, limits=visits.Limits(), shelf=shelf
    )
    assert site.without_folders(f"{folder}: nothing is said") == "library: nothing is said"
    assert site.without_folders(f"{folder}/a/rows.lance is torn") == "rows.lance is torn"


def test_what_is_said_of_a_copy_is_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    learning, searching, visits = map(demo_module, ("learning", "searching", "visit"))
    shelf = shelf_with(tmp_path / "film.mp4", tmp_path / "copy.mp4", content="a" * 64)
    film, copy = (
        searching.Shown(
            wanted=searching.Wanted(text=SENTENCE),
            hits=(SimpleNamespace(video=video, start=1.0, end=3.0, by="seen"),),
        )
        for video in shelf.library.videos()
    )
    visit, given = visits.Visit(), {}
    learning.judge(visit, copy, 0, "yes")
    assert learning.verdicts(visit, film) == ["yes"]
    monkeypatch.setattr(learning, "run", lambda *_, **more: given.update(more))
    learning.begin(SimpleNamespace(shelf=shelf), visit)
    assert list(given["videos"].values()) == [{"content": "a" * 64, "behind": []}]
    learning.judge(visit, film, 0, "no")
    assert learning.counts(visit) == (0, 1)


def test_what_is_said_is_shown_with_its_words_and_not_judged_by_its_pictures(tmp_path: Path):
    library_of = pytest.importorskip("zsvg.library.library").Library
    searching, visits = demo_module("searching"), demo_module("visit")
    for number in range(2):
        film = microworld_video(tmp_path / "videos" / f"film-{number}.mp4", number, 4)
    lines = "1\n00:00:01,000 --> 00:00:02,500\nThe kettle <is> whistling.\n"
    film.with_suffix(".srt").write_text(lines, encoding="utf-8")
    grounder = zsvg.load("micro", "cpu")
    library = library_of.open(tmp_path / "library", grounder)
    library.add(tmp_path / "videos")
    shelf = demo_module("shelf").Shelf(library)
    site = visits.Site(
        {"": grounder},
        captioner=None,
        videos=None,
        device="cpu",
        limits=visits.Limits(),
        shelf=shelf,
    )
    visit = visits.Visit()
    wanted = searching.Wanted(text="the kettle is whistling", by="said")
    shown = searching.search(site, visit, wanted)
    hit = shown.hits[0]
    assert (hit.video.vid, hit.start, hit.end, hit.by) == ("film-1", 1.0, 2.5, "said")
    verdicts = demo_module("learning").verdicts(visit, shown)
    html = demo_module("wall").wall(shown, searching.thumbnails(site, shown.hits), verdicts)
    assert "The kettle" in html
    assert "<is>" not in html
    assert "data-verdict" not in html
    with pytest.raises(ZsvgError, match="about what is seen"):
        demo_module("learning").judge(visit, shown, 0, "yes")
    searching.open_hit(site, visit, shown, 0)
    assert visit.found.bars[0].start == 1.0
    assert visit.answers == []


def test_of_the_models_that_visitors_tune_the_last_few_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = demo_module("tuned")
    monkeypatch.setattr(module, "KEPT", 2)
    page = zsvg.load("micro", "cpu")
    folders = []
    for seed in range(3):
        folders.append(tmp_path / str(seed))
        few = {"steps": 2, "batch_size": 2, "validate_every": 2, "warmup": 1}
        recipe = Recipe.model_validate({**load_recipe("coop").model_dump(), "training": few})
        videos = {f"film-{n}": microworld_video(tmp_path / f"film-{n}.mp4", n, 4) for n in range(2)}
        labels = [
            Annotation(qid=n, query=f"a red {n}", vid=vid, duration=4.0, relevant_windows=((1, 3),))
            for n, vid in enumerate(videos)
        ]
        backbone = zsvg.load("micro", "cpu").backbone
        options = TuneOptions(seed=seed)
        zsvg.tune(labels, videos, backbone, folders[-1], recipe=recipe, options=options)
    models = module.Tuned([page])
    asked = [models.of(folder).encode_query(SENTENCE).pooled for folder in folders]
    assert not torch.equal(asked[0], asked[2])
    assert len(page.backbone.adapters.peft_config) == 2
    assert models.of(folders[2]) is models.of(folders[2])
    again = models.of(folders[0])  # which was let go, and is loaded anew
    assert torch.equal(again.encode_query(SENTENCE).pooled, asked[0])
    assert torch.equal(models.of(folders[2]).encode_query(SENTENCE).pooled, asked[2])
    assert len(page.backbone.adapters.peft_config) == 2


def test_a_library_asked_by_a_visitors_model_is_not_opened_again(tmp_path: Path):
    searching, shelf = demo_module("searching"), shelf_with(tmp_path / "film.mp4")
    shelf.library.grounder = SimpleNamespace(encoder="frames")
    model = SimpleNamespace(encoder="frames")
    site = SimpleNamespace(shelf=shelf, tuned=SimpleNamespace(of=lambda folder: model))
    asked = searching._asked_by(site, tmp_path)
    assert (asked.grounder, asked.tables) == (model, shelf.library.tables)
    assert shelf.library.grounder is not model
    model.encoder = "other frames"
    with pytest.raises(ZsvgError, match="sees frames otherwise"):
        searching._asked_by(site, tmp_path)


def test_what_cannot_be_played_says_why(served: Page):
    first = search(served)[0]
    (video,) = (v for v in served.site.shelf.videos().values() if v.content == first["content"])
    asked = (first["content"], 0.25, first["end"])  # another one may have been cut out before
    content = video.file.read_bytes()
    video.file.write_bytes(b"no film")
    assert play(served, *asked) == {"film": "", "says": "this video cannot be played"}
    video.file.unlink()
    assert play(served, *asked) == {"film": "", "says": "this video is not there any more"}
    video.file.write_bytes(content)
    assert play(served, *asked)["film"]


def test_a_wall_that_another_window_has_changed_is_not_mistaken(tmp_path: Path):
    library, searching, visits = map(demo_module, ("library", "searching", "visit"))
    learning = demo_module("learning")
    (video,) = shelf_with(tmp_path / "film.mp4").videos().values()
    hit = SimpleNamespace(video=video, start=2.0, end=3.0, by="seen")
    old, new = (
        searching.Shown(wanted=searching.Wanted(text=text), hits=(hit,))
        for text in (SENTENCE, "a blue square")
    )
    visit = visits.Visit()

    def pressed(wall: Any, **more: Any) -> Any:
        return SimpleNamespace(wall=wall.token, **more)

    visit.shown = old
    moment = library.moment_of(pressed(old, number=0), visit)
    assert moment == (old, 0)
    visit.shown = new  # of the same moment, by another sentence
    learning.judge(visit, *moment, "yes")
    assert [label.query for label in visit.benches["library"].labels()] == [SENTENCE]
    for other in (pressed(old, number=0), SimpleNamespace(number=0)):
        with pytest.raises(ZsvgError, match="another window; search again"):
            library.moment_of(other, visit)
    with pytest.raises(ZsvgError, match="another window; search again"):
        library.wall_of(pressed(old), visit)
    for number in (None, "0", 10**400, -1):
        with pytest.raises(ZsvgError, match="no such moment"):
            learning.judge(visit, *library.moment_of(pressed(new, number=number), visit), "no")


def test_a_page_that_comes_late_does_not_take_back_what_was_looked_for_meanwhile(
    served: Page, monkeypatch: pytest.MonkeyPatch
):
    """What a browser gets as it comes is made while people already search."""
    from gradio import skip

    library, searching, visits = map(demo_module, ("library", "searching", "visit"))
    for arrive in served.demo.fns.values():
        place = {getattr(block, "elem_id", ""): at for at, block in enumerate(arrive.outputs)}
        if arrive.name == "arrive" and "library-wall" in place:
            break
    box, wall, said = (place[f"library-{name}"] for name in ("search", "wall", "said"))
    visit, wanted = visits.Visit(), searching.Wanted(text=SENTENCE)

    def meanwhile(site: Any, visit: Any) -> bool:
        searching.search(site, visit, wanted)
        return False

    with monkeypatch.context() as patch:
        patch.setattr(library, "take", meanwhile)
        sent = arrive.fn(visit)
    assert visit.shown.wanted == wanted
    assert [sent[at] for at in (box, wall, said)] == [skip()] * 3
    sent = arrive.fn(visit)  # and who comes back gets it
    assert sent[box] == SENTENCE
    assert f'data-wall="{visit.shown.token}"' in sent[wall]
    assert SENTENCE in sent[said]


def test_the_command_says_what_it_lacks(tmp_path: Path):
    for options, said in (
        (("--index", str(tmp_path)), "name one with --library"),
        (("--library", str(tmp_path)), "no library"),
        (("--library", str(tmp_path), "--index", str(tmp_path / "none")), "no such folder"),
    ):
        done = run_python("-m", "zsvg", "demo", *options)
        assert done.returncode == 1
        assert said in " ".join(done.stderr.split())
