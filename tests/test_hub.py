"""Model folders on the Hugging Face Hub: pushed to a server in its place, and loaded from there."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HANG, environment, run_python, started
from tests.hub import READER, WRITER, Hub, serving
from zsvg.backbones.names import HubModel, check_model, hub_model
from zsvg.errors import ModelFolderError, ZsvgError
from zsvg.grounding.model_card import hub_card
from zsvg.grounding.push import files_to_push, repository_of

FILES = {"README.md", "adapter_config.json", "adapter_model.safetensors", "head.safetensors",
         "history.json", "presence.safetensors", "zsvg.json"}  # fmt: skip
ASK = ("a red circle", "--format", "csv", "-m")

# Runs commands in one process, each with a token; prints (status, stdout, stderr) of each.
COMMANDS = """
import contextlib, io, json, os, sys
from zsvg.cli.app import main
told = []
for token, *line in json.loads(sys.stdin.read()):
    os.environ["HF_TOKEN"] = token
    sys.argv = ["zsvg", *line]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as left:
            status = left.code or 0
    told.append([status, *(text.buffer.getvalue().decode() for text in (out, err))])
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two videos in `w/videos`, and `model`, tuned on them, with more beside it."""
    folder = tmp_path_factory.mktemp("work")
    for line in (
        ("microworld", "--domain", "chalk", "--videos", "2", "-o", "w"),
        ("tune", "w/annotations.jsonl", "--videos", "w/videos", "--backbone", "micro", "--steps",
         "2", "-o", "model", "--cache", "cache"),
    ):  # fmt: skip
        done = run_python("-m", "zsvg", *line, cwd=folder)
        assert done.returncode == 0, done.stderr
    (folder / "model" / "notes.txt").write_text("my own")
    (folder / "model" / "optimizer.pt").write_bytes(pickle.dumps({"a": 1}))
    (folder / "model" / "checkpoint").mkdir()
    return folder


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


def variables(hub: Hub, home: Path, token: str = "", **more: str) -> dict[str, str]:
    """Variables of a process for which `hub` is the hub, and `home` is empty at first."""
    unset = {"HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": str(home / "hub"), "HF_TOKEN": token}
    return environment(HF_ENDPOINT=hub.url, HF_HOME=str(home), HF_HUB_DISABLE_XET="1",
                       **{**unset, **more})  # fmt: skip


def zsvg(work: Path, env: dict[str, str], *line: str | Path) -> tuple[int, str, str]:
    done = run_python("-m", "zsvg", *line, env=env, cwd=work)
    return done.returncode, done.stdout, done.stderr


def commands(work: Path, env: dict[str, str], *lines: tuple[str | Path, ...]) -> list[Any]:
    """Run commands, each a token and what follows `zsvg`, in one process."""
    given = json.dumps([[str(part) for part in line] for line in lines])
    done = run_python("-c", COMMANDS, env=env, cwd=work, input=given)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def content(model: Path) -> dict[str, bytes]:
    """What a push of a model folder puts onto the hub."""
    return {name: path.read_bytes() for name, path in files_to_push(model).items()}


def ground(model: str | Path, *more: str) -> tuple[str, ...]:
    return ("ground", "w/videos", *ASK, str(model), "--cache", "cache", *more)


@pytest.fixture(scope="module")
def answers(work: Path) -> str:
    """What the folder itself answers."""
    done = run_python("-m", "zsvg", *ground("model"), cwd=work)
    assert done.stdout.count("\n") > 2, done.stderr
    return done.stdout


def test_pushed_and_loaded_elsewhere_it_gives_the_same_answers(
    work: Path, answers: str, hub: Hub, tmp_path: Path
):
    here, there = variables(hub, tmp_path / "here", WRITER), variables(hub, tmp_path / "there")
    status, _, said = zsvg(work, here, "push", "model", "org/kitchen")
    assert status == 0
    repository = hub.repositories["org/kitchen"]
    sha, files = repository.files("main")
    assert said == (
        f"pushed model to {hub.url}/org/kitchen (commit {sha[:7]}); it loads as hf://org/kitchen\n"
    )
    assert set(files) == FILES | {".gitattributes"}  # and nothing that lies beside them
    for name in FILES - {"README.md"}:
        assert files[name] == (work / "model" / name).read_bytes()
    assert WRITER.encode() not in b"".join(files.values())

    hub.asked.clear()
    assert zsvg(work, there, *ground("hf://org/kitchen")) == (0, answers, "")
    fetched = {path.rpartition("/")[2] for _, path in hub.asked if "/resolve/" in path}
    assert fetched == FILES

    hub.asked.clear()
    offline = {**there, "HF_HUB_OFFLINE": "1"}
    same, other = commands(
        work, offline, ("", *ground("hf://org/kitchen")), ("", *ground("hf://org/other"))
    )
    assert same == [0, answers, ""]
    assert other == [
        1,
        "",
        "error: model 'hf://org/other' cannot be loaded: it is not on this machine, and cannot be "
        "downloaded (HF_HUB_OFFLINE is set); check the name and the network, or give a model "
        "folder\n",
    ]
    assert hub.asked == []


def test_every_command_that_asks_a_model_takes_it(work: Path, hub: Hub, tmp_path: Path):
    hub.add("org/kitchen", content(work / "model"))
    model, asked = "hf://org/kitchen", "w/annotations.jsonl"
    predict = ("predict", asked, "--videos", "w/videos", "--cache", "cache", "-o")
    library = str(tmp_path / "library")
    done = commands(
        work,
        variables(hub, tmp_path / "home"),
        ("", *predict, tmp_path / "here.jsonl", "-m", "model"),
        ("", *predict, tmp_path / "there.jsonl", "-m", model),
        ("", "prompts", "show", model),
        ("", "prompts", "show", "model"),
        ("", "probe", asked, "--videos", "w/videos", "-m", model, "--seconds", "1", "--cache",
         "cache"),
        ("", "index", "w/videos", "-o", library, "-m", model),
        ("", "search", library, "a red circle", "--format", "csv"),
        ("", "search", library, "a red circle", "--format", "csv", "-m", model, "--revision",
         "main"),
        ("", "search", library, "a red circle", "--revision", "main"),
        ("", "demo", "-m", model, "-m", "micro", "--revision", "main"),
    )  # fmt: skip
    *good, unnamed, two = done
    assert [status for status, _, _ in good] == [0] * len(good), good
    assert (tmp_path / "here.jsonl").read_bytes() == (tmp_path / "there.jsonl").read_bytes()
    assert done[2][1] == done[3][1]
    assert done[6][1] == done[7][1]
    assert (unnamed[0], two[0]) == (1, 1)
    assert "name it with --model" in unnamed[2]
    assert "give hf://ORG/NAME@REVISION" in two[2]
    told = json.loads((tmp_path / "library" / "library.json").read_text())
    sha, _ = hub.repositories["org/kitchen"].files("main")
    assert [space["model"] for space in told["spaces"].values()] == [f"{model}@{sha}"]


def test_a_library_fetches_no_model_that_a_stranger_named(work: Path, hub: Hub, tmp_path: Path):
    hub.add("org/kitchen", content(work / "model"))
    library = str(tmp_path / "library")
    mine = variables(hub, tmp_path / "mine")
    search = ("search", library, "a red circle", "--format", "csv")
    (made, _, _), (_, expected, _) = commands(
        work,
        mine,
        ("", "index", "w/videos", "-o", library, "-m", "hf://org/kitchen"),
        ("", *search),
    )
    assert made == 0
    # The commit that it was made with, also when there is a newer one, and without a network.
    hub.repositories["org/kitchen"].commit("main", {"zsvg.json": b"{}"})
    hub.asked.clear()
    assert zsvg(work, mine, *search) == (0, expected, "")
    assert hub.asked == []
    refused, allowed = commands(
        work, variables(hub, tmp_path / "yours"), ("", *search), ("", *search, "--allow-download")
    )
    assert refused[0] == 1
    assert f"error: {library}: made with hf://org/kitchen@" in refused[2]
    assert "which is not on this machine; --allow-download (in Python" in refused[2]
    assert allowed[:2] == [0, expected]


def test_revisions(work: Path, answers: str, hub: Hub, tmp_path: Path):
    second = shutil.copytree(work / "model", tmp_path / "second")
    manifest = json.loads((second / "zsvg.json").read_text())
    manifest["template"] = "a drawing of"
    (second / "zsvg.json").write_text(json.dumps(manifest))
    model = "hf://org/kitchen"
    first, other, again, *wrong, plain, branch, option, none, local, _, newest = commands(
        work,
        variables(hub, tmp_path / "home"),
        (WRITER, "push", "model", "org/kitchen"),
        (WRITER, "push", second, model, "--revision", "try/2", "--message", "words"),
        (WRITER, "push", second, "org/kitchen@try/2"),
        (WRITER, "push", second, "org/kitchen", "--revision", "0" * 40),
        (WRITER, "push", second, "org/kitchen@a", "--revision", "b"),
        (WRITER, "push", second, "org/kitchen", "--revision", "../a"),
        ("", *ground(model)),
        ("", *ground(f"{model}@try/2")),
        ("", *ground(model, "--revision", "try/2")),
        ("", *ground(model, "--revision", "v9")),
        ("", *ground("model", "--revision", "v9")),
        (WRITER, "push", second, "org/kitchen"),
        ("", *ground(model)),
    )
    assert (first[0], other[0], again[0]) == (0, 0, 0), (first, other, again)
    assert f"to {hub.url}/org/kitchen/tree/try/2 (commit " in other[2]
    assert other[2].endswith("it loads as hf://org/kitchen@try/2\n")
    assert " holds " in again[2]
    assert hub.repositories["org/kitchen"].messages[2:3] == ["words"]
    assert [status for status, _, _ in wrong] == [1, 1, 1]
    assert "a commit stays what it is; name a branch" in wrong[0][2]
    assert "names a revision, and --revision another" in wrong[1][2]
    assert "'../a' can be no revision" in wrong[2][2]
    assert plain == [0, answers, ""]
    assert branch[1] != answers
    assert branch == option == newest  # the newest of a branch, whatever was downloaded before
    assert none[0] == local[0] == 1
    assert "cannot be downloaded (it has no such revision)" in none[2]
    assert "model: has no revision 'v9'; only hf://ORG/NAME has revisions" in local[2]


def test_killed_in_the_middle_of_a_download(work: Path, answers: str, hub: Hub, tmp_path: Path):
    hub.add("org/kitchen", content(work / "model"))
    hub.stalls.add("head.safetensors")
    env = variables(hub, tmp_path / "home")
    line = ("-m", "zsvg", *ground("hf://org/kitchen"))
    with started(*line, env=env, cwd=work) as process:
        assert hub.stalled.wait(HANG)
        process.send_signal(signal.SIGKILL)
    hub.ended.set()
    hub.stalls.clear()
    status, _, said = zsvg(work, {**env, "HF_HUB_OFFLINE": "1"}, *ground("hf://org/kitchen"))
    assert status == 1
    assert "cannot be loaded: it is not on this machine" in said
    assert said.count("\n") == 1
    assert zsvg(work, env, *ground("hf://org/kitchen")) == (0, answers, "")


def test_what_the_hub_refuses_is_one_line(work: Path, hub: Hub, tmp_path: Path):
    hub.add("org/secret", content(work / "model"), private=True)
    hub.add("org/other", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    hub.add("org/public", {})
    hub.broken = {
        "(GET|POST) .*/org/gone.*": 500,
        "GET .*/org/no/.*": 403,
        "POST .*/org/late/commit/main": 412,
    }
    hub.add("org/late", {})
    push = ("push", "model")
    done = commands(
        work,
        variables(hub, tmp_path / "home"),
        (READER, *ground("hf://org/secret")),
        ("", *ground("hf://org/secret@main")),
        (READER, *ground("hf://org/nothing")),
        (READER, *ground("hf://org/gone")),
        (READER, *ground("hf://org/no")),
        (READER, *ground("hf://org/other")),
        ("", *push, "org/new"),
        ("hf_nobody", *push, "org/new"),
        (READER, *push, "org/new"),
        (WRITER, *push, "else/new"),
        (WRITER, *push, "org/other"),
        (WRITER, *push, "org/public", "--private"),
        (WRITER, *push, "org/late"),
        ("hf_tok\xe9n", *push, "org/new"),
        (WRITER, *push, "new"),
        (WRITER, "push", "nowhere", "org/new"),
        (WRITER, *push, "org/mine", "--private"),
        ("", *ground("hf://org/mine")),
    )
    pushed = done.pop(-2)
    assert (pushed[0], hub.repositories["org/mine"].private) == (0, True)
    expected = [
        None,
        None,  # downloaded before
        "cannot be downloaded (404: there is no such model)",
        "cannot be downloaded (500: ",
        "cannot be downloaded (403: your token (`hf auth login` or $HF_TOKEN) has no right to it)",
        "hf://org/other: there is no zsvg.json; is this a zsvg model?",
        "org/new: no token of the hub is known; `hf auth login` or $HF_TOKEN gives one",
        "org/new: cannot be pushed (401: your token (`hf auth login` or $HF_TOKEN) is not accepted",
        "org/new: cannot be pushed (403: your token (`hf auth login` or $HF_TOKEN) may not write",
        "else/new: cannot be pushed (403: ",
        "org/other: there is something else than a model of zsvg (config.json)",
        "org/public: is public already; make it private on its page",
        "org/late: cannot be pushed (412: something else was written there meanwhile)",
        "the token of the hub (`hf auth login` or $HF_TOKEN) is to be printable ASCII",
        "hf://new: no model of the hub can be called so; give hf://ORG/NAME",
        "nowhere: no such model folder; give one that zsvg tune wrote",
        "cannot be downloaded (401: there is no such model, or none for your token (",
    ]
    for (status, _, said), words in zip(done, expected, strict=True):
        if words is None:
            assert (status, said) == (0, "")
        else:
            assert status == 1
            assert words in said
            assert said.count("\n") == 1, said
        assert "hf_" not in said
    assert "org/new" not in hub.repositories


def test_what_an_earlier_model_left_is_removed(work: Path, hub: Hub, tmp_path: Path):
    repository = hub.add("org/kitchen", {**content(work / "model"), "examples/a.mp4": b"mine"})
    bare = shutil.copytree(work / "model", tmp_path / "bare")
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md"):
        (bare / name).unlink()
    status, _, said = zsvg(
        work, variables(hub, tmp_path / "home", WRITER), "push", bare, "org/kitchen", "--license",
        "cc-by-4.0",
    )  # fmt: skip
    assert status == 0, said
    _, files = repository.files("main")
    assert set(files) == {".gitattributes", "README.md", "head.safetensors", "history.json",
                          "presence.safetensors", "zsvg.json", "examples/a.mp4"}  # fmt: skip
    card = files["README.md"].decode()
    assert card.startswith("---\n")
    assert "\nlicense: cc-by-4.0\n" in card
    assert "library_name: zsvg\n" in card


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_what_comes_from_strangers_is_looked_at(work: Path, hub: Hub, tmp_path: Path):
    good, trap = content(work / "model"), tmp_path / "unpickled"
    evil = pickle.dumps(Touch(trap))

    def naming(backbone: str) -> dict[str, bytes]:
        manifest = json.loads(good["zsvg.json"])
        manifest["backbone"]["name"] = backbone
        return {**good, "zsvg.json": json.dumps(manifest).encode()}

    hub.add("org/names", naming("hf-hub:somebody/clip"))
    hub.add("org/allowed", naming("hf-hub:trusted/clip"))
    hub.add("org/paths", naming("local-dir:../nowhere"))
    hub.add("org/listed", naming("ViT-B-32/laion2b_s34b_b79k"))
    hub.add("org/pickle", {**good, "head.safetensors": evil, "evil.pkl": evil, "a.py": b"1/0"})
    hub.add("org/bin", {**{name: data for name, data in good.items()
                           if name != "adapter_model.safetensors"},
                        "adapter_model.bin": evil, "head.pt": evil})  # fmt: skip
    hub.add(
        "org/absurd",
        {**good, "zsvg.json": good["zsvg.json"].replace(b'"layers": ', b'"layers": 9999')},
    )
    done = commands(
        work,
        variables(hub, tmp_path / "home"),
        ("", *ground("hf://org/names")),
        ("", *ground("hf://org/paths")),
        ("", *ground("hf://org/pickle")),
        ("", *ground("hf://org/bin")),
        ("", *ground("hf://org/absurd")),
        ("", *ground("hf://org/allowed", "--allow-download")),
        ("", *ground("hf://org/listed")),
    )
    *done, allowed, listed = done
    expected = [
        "made for hf-hub:somebody/clip, which is not on this machine; --allow-download (in Python",
        "no open_clip_config.json in ../nowhere; give a folder written by open_clip; or --allow-",
        "head.safetensors: cannot be loaded",
        "there is no adapter_model.safetensors; is this an adapter folder?",
        "zsvg.json: head: layers: Input should be less than or equal to 32",
    ]
    for (status, _, said), words in zip(done, expected, strict=True):
        assert status == 1
        assert words in said
        assert said.count("\n") == 1
    assert not trap.exists()
    of_models = {path.rpartition("/")[2] for _, path in hub.asked if path.startswith("/org/")}
    assert of_models == FILES  # no pickle, no program
    assert not any("somebody" in path for _, path in hub.asked)
    assert (allowed[0], listed[0]) == (1, 1)  # this hub has no backbone
    assert any("/trusted/clip/" in path for _, path in hub.asked)
    assert (
        "names ViT-B-32/laion2b_s34b_b79k, which is not on this machine: downloading" in listed[2]
    )


def test_nothing_but_its_own_files_leaves_a_folder(work: Path, tmp_path: Path, run_zsvg):
    assert set(files_to_push(work / "model")) == FILES
    status, out, said = run_zsvg("push", work / "model", "org/kitchen", "--dry-run")
    assert status == 0
    assert all(name in out for name in FILES)
    assert "notes" not in out
    assert said.startswith(f"would push {len(FILES)} files, ")
    assert said.endswith(" to org/kitchen\n")

    def changed(name: str, file: str, data: bytes | None = None, link: Path | None = None) -> Path:
        folder = shutil.copytree(work / "model", tmp_path / name)
        (folder / file).unlink()
        if link is not None:
            (folder / file).symlink_to(link)
        elif data is not None:
            (folder / file).write_bytes(data)
        return folder

    secret = tmp_path / "id_rsa"
    secret.write_text("secret")
    whole = work / "model" / "head.safetensors"
    for folder, words in (
        (changed("card", "README.md", link=secret), r"README.md: is a link to .*id_rsa, out of"),
        (changed("link", "head.safetensors", link=whole), r"head.safetensors: is a link to "),
        (changed("none", "head.safetensors"), r"there is no head.safetensors; tune again"),
        (changed("half", "adapter_config.json"), r"there is no adapter_config.json; tune again"),
        (changed("bad", "head.safetensors", pickle.dumps([1])), r"is no .safetensors file \("),
        (changed("json", "history.json", b"\x80\x04."), r"history.json: is no .json file \("),
        (changed("manifest", "zsvg.json", b"[]"), r"zsvg.json: cannot be read"),
        (tmp_path, r"there is no zsvg.json; is this a zsvg model folder\?"),
    ):
        with pytest.raises(ModelFolderError, match=words):
            files_to_push(folder)
    inside = changed("inside", "history.json")
    (inside / "old.json").write_text("{}")
    (inside / "history.json").symlink_to("old.json")
    assert set(files_to_push(inside)) == FILES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf://org/name", HubModel("org/name")),
        ("hf://o.r_g-1/N.a_m-e@main", HubModel("o.r_g-1/N.a_m-e", "main")),
        ("hf://org/name@refs/pr/3", HubModel("org/name", "refs/pr/3")),
        ("hf://org/name@v1@2", HubModel("org/name", "v1@2")),
        ("org/name", None),
        ("hf-hub:org/name", None),
        ("micro", None),
        (None, None),
    ],
)
def test_names(name: str | None, expected: HubModel | None):
    assert hub_model(name) == expected
    if expected is not None:
        assert str(expected) == name
        check_model(name)


@pytest.mark.parametrize(
    "name",
    ["hf://", "hf://name", "hf://a/b/c", "hf://../b", "hf://a/..", "hf://a/b.git", "hf://a/b--c",
     "hf:///b", "hf://a/", "hf://a/-b", "hf://a/b c", "hf://a/b?c", "hf://datasets/a/b",
     "hf://a/b@", "hf://a/b@../../c", "hf://a/b@/c", "hf://a/b@c/", "hf://a/b@c d", "hf://a/b@c\n"],
)  # fmt: skip
def test_names_that_cannot_be(name: str):
    with pytest.raises(ModelFolderError, match="hf://"):
        check_model(name)
    with pytest.raises(ZsvgError):
        repository_of(name)


def test_the_card_on_the_hub():
    about = {"library_name": "zsvg", "tags": ["zsvg"], "base_model": "a/b"}
    own = '---\nlicense: mit\ntags: [mine]\n---\n\n# Mine\n\nzsvg.load("this-folder")\n'
    card = hub_card(own, about, "org/name")
    front, _, text = card.removeprefix("---\n").partition("---\n")
    assert sorted(front.splitlines()) == ["- mine", "base_model: a/b", "library_name: zsvg",
                                          "license: mit", "tags:"]  # fmt: skip
    assert text == '\n# Mine\n\nzsvg.load("hf://org/name")\n'
    assert "license: cc0-1.0\n" in hub_card(own, about, "org/name", "cc0-1.0")
    assert sys.getsizeof(hub_card("", about, "org/name")) > 0
