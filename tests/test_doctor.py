"""The doctor: a whole look in a real process, and what it says of what is broken."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from conftest import environment, run_python

from zsvg.backbones.offline import offline_models
from zsvg.cli import doctor

VERSION = metadata.version


def repository(hub: Path, name: str, files: dict[str, str]) -> None:
    """Lay files down as huggingface_hub does."""
    folder = hub / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    (folder / "blobs").mkdir()
    for number, (file, content) in enumerate(files.items()):
        (folder / "blobs" / str(number)).write_text(content)
        (snapshot / file).symlink_to(folder / "blobs" / str(number))


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "hub"
    weights = {"open_clip_model.safetensors": "x"}
    repository(folder, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", weights)
    repository(folder, "some/clip", {**weights, "open_clip_config.json": "{}"})
    blip = {"config.json": '{"model_type": "blip"}', "model.safetensors": "x"}
    repository(folder, "Salesforce/blip-image-captioning-base", blip)
    repository(folder, "some/half", {"config.json": '{"model_type": "blip"}'})
    repository(folder, "some/bert", {**blip, "config.json": '{"model_type": "bert"}'})
    repository(folder, "sentence-transformers/all-MiniLM-L6-v2", {**blip, "modules.json": "[]"})
    (folder / "models--broken--one").mkdir()
    repository(folder, "no/such/name", blip)
    return folder


def test_models_in_the_local_hub_are_named_as_commands_take_them(hub: Path, tmp_path: Path):
    found = offline_models(hub)
    assert found.backbones == ("micro", "ViT-B-32/laion2b_s34b_b79k", "hf-hub:some/clip")
    assert found.captioners == ("micro", "Salesforce/blip-image-captioning-base")
    assert found.encoders == ("tfidf", "sentence-transformers/all-MiniLM-L6-v2")
    nothing = offline_models(tmp_path / "nowhere")
    assert nothing.backbones == nothing.captioners == ("micro",)


def visit(tmp_path: Path, **more: str) -> tuple[int, dict, str]:
    line = ("-m", "zsvg", "doctor", "--format", "json")
    done = run_python(*line, env=environment(**more), cwd=tmp_path)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_whole_look(hub: Path, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    status, said, err = visit(
        tmp_path, HF_HOME=str(hub.parent), HF_HUB_CACHE=str(hub), ZSVG_CACHE=str(tmp_path / "new")
    )
    assert (status, said["ok"]) == (0, True), err
    checks = {(check["group"], check["name"]): check for check in said["checks"]}
    assert checks["packages", "torch"]["found"] == metadata.version("torch")
    assert "hf-hub:some/clip" in checks["offline", "backbones"]["found"]
    assert "h264" in checks["video", "decodes"]["found"]
    assert "moments" in checks["tried out", "asks a video"]["found"]
    assert checks["tried out", "captions a frame"]["found"].startswith("micro: '")
    assert "0 files, 0 bytes" in checks["folders", "features"]["found"]
    assert sorted(tmp_path.rglob("*")) == before  # nothing is left behind
    assert "error" not in err


def test_what_is_broken_comes_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").write_text("")
    asked = [
        *("numpy>=99", "no-such-package>=1", "nonsense>=6; extra == 'test'", "rich<14,>=13.0"),
        *("open_clip_torch<4,>=3.3", "torch>=2.6", "scikit-learn>=1.4"),
    ]
    monkeypatch.setattr(metadata, "requires", lambda _: asked)
    monkeypatch.setattr(metadata, "version", installed)
    broken = {check.name: check for check in doctor.diagnose() if not check.ok}
    assert broken["numpy"].found.endswith("but zsvg needs >=99")
    assert "pip install" in broken["numpy"].remedy
    assert broken["no-such-package"].found == "missing"
    assert broken["open_clip_torch"].found == "4.0.0rc1, but zsvg needs <4,>=3.3"
    assert broken.keys() == {"numpy", "no-such-package", "open_clip_torch"}
    monkeypatch.setattr(metadata, "requires", lambda _: [])
    monkeypatch.setattr(doctor, "_try_out", lambda: iter(()))
    (check,) = [c for c in doctor.diagnose(tmp_path / "file" / "cache") if not c.ok]
    assert (check.name, "ZSVG_CACHE" in check.remedy) == ("features", True)


def installed(name: str) -> str:
    if name == "no-such-package":
        raise metadata.PackageNotFoundError
    told = {
        **{"numpy": "2.1.0", "rich": "13.9.4", "open-clip-torch": "4.0.0rc1"},
        **{"torch": "2.10.1+cu124", "scikit-learn": "1.10"},
    }
    return told.get(name) or VERSION(name)


def test_broken_weights_are_found_by_trying(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "requires", lambda _: [])
    monkeypatch.setattr("zsvg.backbones.captioner.MICRO", Path("nowhere"))
    broken = [check for check in doctor.diagnose() if not check.ok]
    assert [check.name for check in broken] == ["captions a frame"]
    assert "reinstall" in broken[0].remedy
