"""Model folders from anybody: what they name is not fetched, and their sizes are looked at."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import zsvg
from tests.conftest import environment, run_python
from zsvg.backbones.clip import load_backbone
from zsvg.errors import BackboneError, ModelFolderError
from zsvg.heads.by_name import describe_head, make_head
from zsvg.training.network import GroundingNetwork
from zsvg.tuners import prompt_config_for

LISTED = "ViT-B-32/laion2b_s34b_b79k"
REPOSITORY = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"


@pytest.fixture(scope="module")
def model(tiny_clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model folder with prompts in both towers, untrained."""
    backbone = load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")
    head = make_head("regression", {"dim": 32, "hidden": 16, "layers": 1, "attention_heads": 2})
    config = prompt_config_for(backbone.tokenize, "a video of", vision_tokens=2)
    network = GroundingNetwork(backbone, head, prompts=config)
    network.attach()
    folder = tmp_path_factory.mktemp("models") / "model"
    network.save(folder)
    network.release()
    manifest = {
        "format_version": 1,
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint},
        "template": "a video of",
        "sampling": {"fps": 1.0, "framing": "crop"},
        "head": describe_head(head),
    }
    (folder / "zsvg.json").write_text(json.dumps(manifest))
    return folder


def changed(model: Path, folder: Path, changes: dict[str, Any], file: str = "zsvg.json") -> Path:
    """Copy a model folder with other values, by dotted key, in one of its files."""
    if folder != model:
        shutil.copytree(model, folder)
    whole = json.loads((folder / file).read_text())
    for key, value in changes.items():
        *path, last = key.split(".")
        place = whole
        for part in path:
            place = place[part]
        place[last] = value
    (folder / file).write_text(json.dumps(whole))
    return folder


def test_the_folder_itself_is_fine(model: Path, small_video: Path):
    assert zsvg.load(model, "cpu").ground(small_video, "a red square").moments


NOWHERE = {"backbone.name": "local-dir:/nowhere"}  # is not even looked for


def head(kind: str, **values: Any) -> dict[str, Any]:
    return {"head": {"kind": kind, "config": {"dim": 32, **values}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"head.config.layers": 1e7},
            "head: layers: Input should be less than or equal to 32, got 10000000",
        ),
        (
            {"head.config.hidden": 2**40},
            f"hidden: Input should be less than or equal to 1024, got {2**40}",
        ),
        (
            {"head.config.hidden": -16},
            "head: hidden: Input should be greater than or equal to 1, got -16",
        ),
        (
            {"head.config.dim": 10**9},
            "head: dim: Input should be less than or equal to 8192, got 1000000000",
        ),
        (
            {"head.config.attention_heads": 10**6},
            "attention_heads: Input should be less than or equal to 64, got 1000000",
        ),
        (
            {"head.config.answers": 10**9},
            "head: answers: Input should be less than or equal to 1000, got 1000000000",
        ),
        ({"head.config.layers": "many"}, "head: layers: "),
        (
            head("set", queries=10**8),
            "queries: Input should be less than or equal to 1000, got 100000000",
        ),
        (
            head("set", decoder_layers=99),
            "decoder_layers: Input should be less than or equal to 32, got 99",
        ),
        (head("map", scales=[2**20]), "scales.0: Input should be less than or equal to 1024"),
        (head("map", scales=[64] * 17), "give 1 to 16 scales"),
        (
            head("map", map_layers=10**6),
            "map_layers: Input should be less than or equal to 16, got 1000000",
        ),
        (
            head("map", map_width=10**6),
            "map_width: Input should be less than or equal to 256, got 1000000",
        ),
        (
            head("map", kernel=10**6 + 1),
            "kernel: Input should be less than or equal to 15, got 1000001",
        ),
        (
            head("map", dense=2**30),
            f"dense: Input should be less than or equal to 1024, got {2**30}",
        ),
        (head("windows", lengths=[1e-9]), "windows; at most 10000 are taken"),
        (head("windows", lengths=[5e-324]), "windows; at most 10000 are taken"),
        (head("windows", overlap=0.99999999), "windows; at most 10000 are taken"),
        (
            {"sampling.fps": 1e9},
            "sampling.fps: Input should be less than or equal to 1000, got 1000000000.0",
        ),
        ({"share": 2.0}, "share: Input should be less than or equal to 1, got 2.0"),
        ({"alignment": -1.0}, "alignment: Input should be greater than or equal to 0, got -1.0"),
        ({"sampling.fps": "often"}, "sampling.fps: Input should be a valid number"),
        (
            {"sampling.framing": "round"},
            "sampling.framing: Input should be 'crop', 'pad' or 'squash', got round",
        ),
        ({"backbone": {}}, "backbone.name: Field required"),
        ({"head": None}, "head: Input should be a valid dictionary"),
        (
            {"template": "a " * 10**6},
            "template: String should have at most 10000 characters, got a a a a ",
        ),
    ],
)
def test_absurd_values_are_refused_in_one_line_before_anything_is_built(
    model: Path, tmp_path: Path, changes: dict[str, Any], message: str
):
    folder = changed(model, tmp_path / "model", NOWHERE | changes)
    with pytest.raises(ModelFolderError) as caught:
        zsvg.load(folder, "cpu")
    said = str(caught.value)
    assert said.startswith(f"{folder / 'zsvg.json'}: ")
    assert message in said
    assert "\n" not in said
    assert len(said) < len(str(folder)) + 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_tokens": 10**7}, "vision_tokens=10000000 must be an integer in [0, 1024]"),
        ({"text_tokens": 10**7}, "text_tokens=10000000 must be an integer in [0, 1024]"),
        ({"text_depth": 10**7}, "text_depth=10000000 must be an integer in [1, 256]"),
        ({"domains": [str(n) for n in range(2000)], "domain_tokens": 1}, "domains: 2000 names"),
    ],
)
def test_absurd_prompts_are_refused_before_the_backbone_is_loaded(
    model: Path, tmp_path: Path, changes: dict[str, Any], message: str
):
    folder = changed(model, tmp_path / "model", NOWHERE)
    changed(folder, folder, changes, "adapter_config.json")
    with pytest.raises(ModelFolderError) as caught:
        zsvg.load(folder, "cpu")
    assert str(folder / "adapter_config.json") in str(caught.value)
    assert message in str(caught.value)


def test_a_head_for_other_features_is_refused_before_it_is_built(model: Path, tmp_path: Path):
    folder = changed(model, tmp_path / "model", {"head.config.dim": 8192})
    with pytest.raises(ModelFolderError, match=r"head: dim is 8192, local-dir:.* has 32"):
        zsvg.load(folder, "cpu")


# Loads folders where every way to the network is told and blocked; prints what came of each.
GUARDED = """
import json, socket, sys
asked = []
def blocked(*given, **_):
    asked.append(str(given[:1]))
    raise OSError("the network is blocked")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = blocked
import zsvg
said = []
for folder in sys.argv[1:]:
    asked.clear()
    try:
        said.append(["loaded " + zsvg.load(folder, "cpu").backbone.name, len(asked)])
    except zsvg.ZsvgError as error:
        said.append([f"{type(error).__name__}: {error}", len(asked)])
print(json.dumps(said))
"""


def online(home: Path, **more: str) -> dict[str, str]:
    """Variables of a process that may use the hub, and has nothing of it yet."""
    variables = environment(HF_HOME=str(home), HF_HUB_CACHE=str(home / "hub"), **more)
    variables.pop("HF_HUB_OFFLINE", None)
    return variables


def in_the_hub(home: Path, name: str, backbone: Path) -> None:
    """Lay a backbone down as huggingface_hub does, with its tokenizer in the same place."""
    repository, commit = home / "hub" / f"models--{name.replace('/', '--')}", "a" * 40
    snapshot = shutil.copytree(backbone, repository / "snapshots" / commit)
    config = snapshot / "open_clip_config.json"
    whole = json.loads(config.read_text())
    whole["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = name
    config.write_text(json.dumps(whole))
    absent = repository / ".no_exist" / commit / "config.json"  # as found out at the download
    absent.parent.mkdir(parents=True)
    absent.touch()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)


def test_a_folder_that_names_something_of_the_hub_fetches_nothing(
    model: Path, tiny_clip_folder: Path, tmp_path: Path
):
    home = tmp_path / "home"
    in_the_hub(home, "mine/tiny", tiny_clip_folder)
    tower = shutil.copytree(tiny_clip_folder, tmp_path / "tower") / "open_clip_config.json"
    config = json.loads(tower.read_text())
    config["model_cfg"]["text_cfg"] = {"hf_model_name": "somebody/text"}
    tower.write_text(json.dumps(config))
    names = {
        "unknown": "hf-hub:somebody/clip",
        "indirect": f"local-dir:{tower.parent}",
        "mine": "hf-hub:mine/tiny",
        "listed": LISTED,
    }
    folders = [
        changed(model, tmp_path / folder, {"backbone.name": name}) for folder, name in names.items()
    ]
    done = run_python("-c", GUARDED, *folders, env=online(home))
    unknown, indirect, mine, listed = json.loads(done.stdout)
    assert unknown == [
        f"ModelFolderError: {folders[0]}: made for hf-hub:somebody/clip, which is not on this "
        "machine; --allow-download (in Python `allow_download=True`) fetches it, if you trust both",
        0,
    ]
    assert indirect[0].startswith(f"ModelFolderError: {folders[1]}: backbone 'local-dir:")
    assert "--allow-download" in indirect[0]
    assert indirect[1] == 0
    assert mine == ["loaded hf-hub:mine/tiny", 0]  # it was downloaded when the user named it
    assert listed[0].startswith(f"BackboneError: backbone {LISTED!r} cannot be loaded")
    assert listed[1] > 0


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """A server in place of the hub, which knows the size of one model and has no file of any."""
    asked: list[str] = []
    about = {
        "id": REPOSITORY,
        "siblings": [
            {"rfilename": "open_clip_model.safetensors", "size": 605_123_456},
            {"rfilename": "open_clip_pytorch_model.bin", "size": 605_999_999},
        ],
    }

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            known = self.path.startswith(f"/api/models/{REPOSITORY}")
            body = json.dumps(about if known else {"error": "no such file"}).encode()
            self.send_response(200 if known else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_what_is_fetched_is_told_or_allowed(
    model: Path, small_video: Path, tmp_path: Path, hub: tuple[str, list[str]]
):
    url, asked = hub

    listed = changed(model, tmp_path / "listed", {"backbone.name": LISTED})
    unknown = changed(model, tmp_path / "unknown", {"backbone.name": "hf-hub:somebody/clip"})

    def ground(folder: Path, *options: str) -> list[str]:
        line = ("-m", "zsvg", "ground", small_video, "a red square", "--model", folder, *options)
        done = run_python(*line, env=online(tmp_path / "home", HF_ENDPOINT=url), cwd=tmp_path)
        assert done.returncode == 1
        return [
            line for line in done.stderr.splitlines() if line.startswith(("warning: ", "error: "))
        ]

    told = ground(listed)
    assert told[0] == (
        f"warning: {listed} names {LISTED}, which is not on this machine: downloading it from "
        f"{REPOSITORY} (605 MB)"
    )
    assert told[-1].startswith(f"error: backbone {LISTED!r} cannot be loaded")
    assert any(f"/{REPOSITORY}/resolve/" in path for path in asked)
    asked.clear()
    assert "which is not on this machine; --allow-download" in ground(unknown)[-1]
    assert asked == []
    assert "cannot be loaded" in ground(unknown, "--allow-download")[-1]
    assert any("/somebody/clip/resolve/" in path for path in asked)


@pytest.mark.parametrize(
    "line",
    [
        ("predict", "{labels}", "--videos", "{videos}", "--model", "{model}"),
        ("probe", "{labels}", "--videos", "{videos}", "--model", "{model}"),
        ("prompts", "show", "{model}"),
        ("demo", "--model", "{model}"),
    ],
)
def test_every_command_asks_before_it_fetches(
    model: Path, small_video: Path, tmp_path: Path, run_zsvg, line: tuple[str, ...]
):
    labels = tmp_path / "labels.jsonl"
    labels.write_text(
        '{"qid": 1, "query": "a", "vid": "small", "duration": 4, "relevant_windows": [[0, 2]]}\n'
    )
    folder = changed(model, tmp_path / "model", {"backbone.name": "hf-hub:somebody/clip"})
    places = {"labels": labels, "videos": small_video.parent, "model": folder}
    filled = [part.format(**places) for part in line]
    status, _, err = run_zsvg(*filled)
    assert status == 1
    assert f"error: {folder}: made for hf-hub:somebody/clip, which is not on this machine" in err
    status, _, err = run_zsvg(*filled, "--allow-download")  # and HF_HUB_OFFLINE is set here
    assert "cannot be loaded" in err


def test_what_you_name_yourself_is_fetched(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match="'hf-hub:somebody/clip' cannot be loaded"):
        zsvg.load("hf-hub:somebody/clip", "cpu")
