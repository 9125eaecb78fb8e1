"""How commands begin: errors before torch is imported, and first of all what is loaded."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from tests.conftest import HANG, environment, run_python, started
from zsvg.backbones import names
from zsvg.errors import BackboneError, ModelFolderError

HEAVY = ("torch", "open_clip", "transformers", "peft", "accelerate", "sklearn")

# Runs a command as `zsvg` does, and tells what it had imported at its end.
_IMPORTS = f"""
import atexit, sys
atexit.register(lambda: print("HEAVY", *[m for m in {HEAVY} if m in sys.modules], file=sys.stderr))
from zsvg.cli.app import main
main()
"""


@pytest.fixture
def places(tmp_path: Path, small_video: Path) -> Path:
    """A folder to run in: `v.mp4`, labels of it, and a folder that is no model."""
    (tmp_path / "v.mp4").symlink_to(small_video)
    (tmp_path / "folder").mkdir()
    line = '{"qid": 1, "query": "a dog", "vid": "v", "duration": 4, "relevant_windows": [[0, 2]]}\n'
    (tmp_path / "labels.jsonl").write_text(line)
    return tmp_path


WRONG = {
    "ground none 'a dog' -m micro": "none: no such file or folder",
    "ground none/*.mp4 'a dog' -m micro": "none/*.mp4: no file fits",
    "ground folder 'a dog' -m micro": "folder: no video in this folder",
    "ground v.mp4 'a dog' -m ./none": "unknown backbone './none'",
    "ground v.mp4 'a dog' -m models/none": "unknown backbone 'models/none'",
    "ground v.mp4 'a dog' -m local-dir:none": "local-dir:none",
    "ground v.mp4 'a dog' -m folder": "folder: there is no zsvg.json",
    "ground v.mp4 'a dog' -m Vit-B-32/x": "did you mean ViT-B-32/TAG",
    "ground v.mp4 'a dog' -m micro -o none/": "none",
    "predict none.jsonl --videos v.mp4 -m micro": "none.jsonl",
    "predict labels.jsonl --videos none -m micro": "none: no such file or folder",
    "predict labels.jsonl --videos v.mp4 -m none/": "unknown backbone 'none/'",
    "tune none.jsonl --videos v.mp4 --backbone micro": "none.jsonl",
    "tune labels.jsonl --videos none --backbone micro": "none: no such file or folder",
    "tune labels.jsonl --videos v.mp4 --backbone ./none": "unknown backbone './none'",
    "tune labels.jsonl --videos v.mp4 --backbone micro --recipe no.yaml": "no.yaml: no such recipe",
    "pseudo-label none --backbone micro --captioner micro": "none: no such file or folder",
    "pseudo-label v.mp4 --backbone none --captioner micro": "unknown backbone 'none'",
    "pseudo-label v.mp4 --backbone micro --captioner ./none": "unknown captioner './none'",
    "features none --backbone micro": "none: no such file or folder",
    "features v.mp4 --backbone ./none": "unknown backbone './none'",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_told_before_torch_is_imported(places: Path, line: str) -> None:
    arguments = [word.strip("'") for word in line.replace("'a dog'", "a_dog").split()]
    done = run_python("-c", _IMPORTS, *arguments, cwd=places)
    told, imported = done.stderr.splitlines()
    assert (done.returncode, imported) == (1, "HEAVY"), done.stderr
    assert told.startswith("error: ")
    assert WRONG[line] in told


def test_an_architecture_is_known_without_open_clip(monkeypatch) -> None:
    import open_clip

    assert names._shipped() == sorted(open_clip.list_models())
    names.check_backbone("ViT-B-32/whatever")
    with pytest.raises(BackboneError, match="unknown backbone"):
        names.check_backbone("ViT-B-33/whatever")
    monkeypatch.setattr(names, "find_spec", lambda _: None)  # it may keep them elsewhere one day
    names.check_backbone("ViT-B-33/whatever")


def test_a_folder_called_micro_is_no_model(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("micro").mkdir()
    assert names.tuned_folder("micro") is None
    with pytest.raises(ModelFolderError, match="micro: there is no zsvg"):
        names.tuned_folder("./micro")
    Path("micro", names.MANIFEST).write_text("{}")
    assert names.tuned_folder("./micro") == Path("micro")
    assert names.tuned_folder("micro") is None


def on_a_terminal(*arguments: str | Path, cwd: Path) -> str:
    """Return what a command shows whose stderr is a terminal."""
    above, below = pty.openpty()
    with started("-m", "zsvg", *arguments, cwd=cwd, stderr=below, stdout=below) as process:
        os.close(below)
        shown = b""
        try:
            while piece := os.read(above, 4096):
                shown += piece
        except OSError:  # how a terminal ends on Linux
            pass
        process.wait(HANG)
    os.close(above)
    return shown.decode().replace("\r\n", "\n")


def test_a_terminal_is_told_at_once_what_is_loaded(places: Path, tiny_clip_folder: Path) -> None:
    model = f"local-dir:{tiny_clip_folder}"
    line = ("ground", "v.mp4", "a dog", "-m", model, "--cache", "cache")
    shown = on_a_terminal(*line, cwd=places)
    assert shown.startswith(f"loading {model} ...\n")
    assert shown.count("loading ") == 1
    again = run_python("-m", "zsvg", *line, cwd=places)  # pipes are told nothing
    assert (again.returncode, again.stderr) == (0, "")


def test_the_first_line_waits_for_no_large_import(places: Path, tiny_clip_folder: Path) -> None:
    code = f"""
import sys
class Terminal:
    def isatty(self): return True
    def write(self, text):
        heavy = [m for m in {(*HEAVY, "numpy", "av", "rich")} if m in sys.modules]
        if text.startswith("loading "): print(text.strip(), *heavy, flush=True)
    def flush(self): pass
sys.stderr = Terminal()
from zsvg.cli.app import main
main()
"""
    model = f"local-dir:{tiny_clip_folder}"
    told = run_python(
        "-c", code, "ground", "v.mp4", "a dog", "-m", model, "-o", "o.csv", cwd=places
    )
    assert told.stdout.splitlines()[0] == f"loading {model} ..."


def test_the_model_may_be_named_by_a_variable(places: Path, tiny_clip_folder: Path) -> None:
    model = f"local-dir:{tiny_clip_folder}"
    line = ("-m", "zsvg", "ground", "v.mp4", "a dog", "--format", "json", "--cache", "cache")
    named = run_python(*line, "--model", model, cwd=places)
    by_variable = run_python(*line, cwd=places, env=environment(ZSVG_MODEL=model))
    assert named.returncode == by_variable.returncode == 0, by_variable.stderr
    assert by_variable.stdout == named.stdout != ""
    # What stands in the line comes first.
    both = run_python(*line, "-m", "./none", cwd=places, env=environment(ZSVG_MODEL=model))
    assert (both.returncode, "'./none'" in both.stderr) == (1, True)


@pytest.mark.parametrize("command", ["ground v.mp4 dog", "predict labels.jsonl --videos v.mp4"])
def test_no_model_is_chosen_for_anybody(places: Path, command: str) -> None:
    for empty in ({}, {"ZSVG_MODEL": ""}):
        done = run_python("-c", _IMPORTS, *command.split(), cwd=places, env=environment(**empty))
        assert done.returncode == 2
        (line,) = [line for line in done.stderr.splitlines() if "Missing" in line]
        assert "'--model' / '-m' (env var: 'ZSVG_MODEL')" in line
        assert done.stderr.splitlines()[-1] == "HEAVY"


def test_the_captioner_may_be_named_by_a_variable(places: Path) -> None:
    line = ("-m", "zsvg", "pseudo-label", "v.mp4", "--backbone", "micro", "-o", "o.jsonl")
    wrong = run_python(*line, cwd=places, env=environment(ZSVG_CAPTIONER="./none"))
    assert (wrong.returncode, "unknown captioner './none'" in wrong.stderr) == (1, True)
    none = run_python(*line, cwd=places)
    assert none.stderr.startswith(
        "error: no captioner is named (--captioner, $ZSVG_CAPTIONER); try"
    )
    # It is not for ready captions, and no mistake there.
    (places / "captions").mkdir()
    text = (
        '{"clip": 0, "caption": "a dog runs"}\n{"clip": 1, "caption": "a cat sleeps on a chair"}\n'
    )
    (places / "captions" / "v.jsonl").write_text(text)
    ready = ("-m", "zsvg", "pseudo-label", "captions", "--backbone", "captions:tfidf")
    done = run_python(*ready, cwd=places, env=environment(ZSVG_CAPTIONER="./none"))
    assert done.returncode == 0, done.stderr
    given = run_python(*ready, "--captioner", "micro", cwd=places)
    assert (given.returncode, "--captioner micro has no meaning" in given.stderr) == (1, True)


HUB = {"ViT-B-32/laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "hf-hub:o/n": "o/n"}


@pytest.mark.parametrize("model", HUB)
def test_what_cannot_be_downloaded_is_told_once_and_whole(places: Path, model: str) -> None:
    own = environment(HF_HUB_OFFLINE="1", HF_HOME=str(places / "hub"))
    done = run_python("-m", "zsvg", "ground", "v.mp4", "a dog", "-m", model, cwd=places, env=own)
    assert done.stderr == (
        f"error: backbone {model!r} cannot be loaded: {HUB[model]} is not on this machine, and "
        "cannot be downloaded (HF_HUB_OFFLINE is set); check the name and the network, or give a "
        "downloaded `local-dir:PATH`\n"
    )
    assert not any((places / "hub").rglob("*.safetensors"))


def test_libraries_are_heard_with_v_and_once(places: Path) -> None:
    own = environment(HF_HUB_OFFLINE="1", HF_HOME=str(places / "hub"))
    line = ("-m", "zsvg", "ground", "-v", "v.mp4", "a dog", "-m", "ViT-B-32/laion2b_s34b_b79k")
    lines = run_python(*line, cwd=places, env=own).stderr.splitlines()
    assert len(lines) == 2, lines
    assert lines[0].startswith("error: Failed to download weights for tag 'laion2b_s34b_b79k'")


def test_a_warning_of_python_is_one_line(places: Path, tiny_clip_folder: Path) -> None:
    line = ("-m", "zsvg", "ground", "v.mp4", "dog " * 40, "-m", f"local-dir:{tiny_clip_folder}")
    done = run_python(*line, "--cache", "cache", cwd=places)
    assert done.returncode == 0
    told = done.stderr.splitlines()
    assert len(told) == 1, told
    assert told[0].startswith("warning: text is cut to 24 tokens, the most that local-dir:")


def test_a_reason_is_not_cut_inside_of_a_word() -> None:
    from zsvg.errors import reason

    assert reason(OSError("no\n such  file.")) == "no such file"
    assert reason(OSError()) == "OSError"
    shown = reason(RuntimeError("word " * 1000))
    assert set(shown.removesuffix(" ...").split()) == {"word"}
    assert shown.endswith(" ...")
    assert len(shown) < 700
