"""Bring a model folder to the Hugging Face Hub: its own files and nothing else, as one commit."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from zsvg.backbones.names import HUB, MANIFEST, HubModel, read_hub_name, tuned_folder
from zsvg.errors import ModelFolderError, ZsvgError
from zsvg.grounding.alignment import ALIGNMENT_FILE
from zsvg.grounding.hub import LOGIN, answer_of
from zsvg.grounding.model_card import CARD, front_matter, hub_card
from zsvg.grounding.model_folder import (
    ADAPTER_CONFIG,
    ADAPTER_FILE,
    HEAD_FILE,
    OWN,
    has_adapter,
    read_manifest,
)
from zsvg.grounding.presence import Presence
from zsvg.heads.presence import PRESENCE_FILE

_log = logging.getLogger(__name__)

_MAIN = "main"
_BEGUN = frozenset({".gitattributes", CARD})  # what the hub and its pages put into a new repository
_ANSWERS = {
    401: f"your token ({LOGIN}) is not accepted",
    403: f"your token ({LOGIN}) may not write there",
    404: "there is no such name, or none for your token",
    409: "something else is being written there",
    412: "something else was written there meanwhile",
}


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """Where a model is now.

    Attributes:
        model: What `zsvg.load` takes.
        url: Its page.
        commit: The commit that holds it.
        changed: It was not there already.
    """

    model: str
    url: str
    commit: str
    changed: bool


def files_to_push(folder: str | Path) -> dict[str, Path]:
    """Return name -> file of all that a model folder is made of; what lies beside it is left out.

    Raises:
        ModelFolderError: It is no model folder, lacks a file, or one is a link that leads out of
            it or is not what it is called.
    """
    place = tuned_folder(folder)
    if place is None:
        raise ModelFolderError(f"{folder}: no such model folder; give one that zsvg tune wrote")
    manifest = read_manifest(place)
    files = {name: place / name for name in sorted(OWN) if (place / name).is_file()}
    wanted = {HEAD_FILE}
    wanted |= {ADAPTER_CONFIG, ADAPTER_FILE} if has_adapter(place) else set()
    wanted |= {ALIGNMENT_FILE} if manifest.get("alignment") else set()
    told = Presence.of(manifest)
    wanted |= {PRESENCE_FILE} if told is not None and told.scale is not None else set()
    if lacking := sorted(wanted - set(files)):
        raise ModelFolderError(f"{place}: there is no {lacking[0]}; tune again")
    for name, file in files.items():
        if not file.resolve().is_relative_to(place.resolve()):
            raise ModelFolderError(
                f"{file}: is a link to {file.resolve()}, out of the folder; it is not followed, "
                "copy the file itself there"
            )
        if name != CARD:
            _check(file)
    return files


def _check(file: Path) -> None:
    """Refuse what has the name of tensors or JSON and is something else, such as a pickle."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="numpy"):
                pass
        else:
            json.loads(file.read_text(encoding="utf-8"))
    except (SafetensorError, OSError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise ModelFolderError(f"{file}: is no {file.suffix} file ({said})") from error


def repository_of(name: str, revision: str | None = None) -> HubModel:
    """Return where "ORG/NAME" or "hf://ORG/NAME" is, on its main branch or another.

    Raises:
        ModelFolderError: No repository or branch can be called so.
        ZsvgError: The revision is a commit.
    """
    model = read_hub_name(name if name.startswith(HUB) else HUB + name, revision)
    branch = model.revision or _MAIN
    if re.fullmatch(r"[0-9a-f]{40}", branch):
        raise ZsvgError(f"--revision {branch}: a commit stays what it is; name a branch")
    return HubModel(model.repository, branch)


def push(
    folder: str | Path,
    repository: str,
    *,
    revision: str | None = None,
    private: bool = False,
    licence: str | None = None,
    message: str | None = None,
) -> Pushed:
    """Bring a model folder to the Hugging Face Hub, as one commit.

    The repository is made where it is not there. What an earlier model has left in it is removed.
    The token is that of `hf auth login` or `$HF_TOKEN`.

    Args:
        folder: Written by `zsvg tune`.
        repository: ORG/NAME.
        revision: Branch to write to, made where it is not there (default: main).
        private: Show it to nobody else. One that is public already is refused.
        licence: The hub's name of a licence for the model, such as "apache-2.0"; for its card.
        message: Of the commit.

    Raises:
        ModelFolderError: The folder is not whole, or the name cannot be one.
        ZsvgError: The hub cannot be reached or refuses it, or something else than a model of zsvg
            is there.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    model = repository_of(repository, revision)
    name, branch = model.repository, model.revision or _MAIN
    files = files_to_push(folder)
    manifest = read_manifest(Path(folder))
    card = _card(
        files.get(CARD), front_matter(manifest, prompts=ADAPTER_FILE in files), name, licence
    )
    token = get_token()
    if token is None:
        raise ZsvgError(f"{name}: no token of the hub is known; {LOGIN} gives one")
    if not (token.isascii() and token.isprintable()):  # and is not repeated, as others would do
        raise ZsvgError(f"the token of the hub ({LOGIN}) is to be printable ASCII")
    if (backbone := manifest["backbone"]["name"]).startswith("local-dir:"):
        _log.warning(
            "%s was made for %s: whoever loads it needs that backbone in that place", name, backbone
        )
    api = HfApi()
    try:
        api.create_repo(name, private=private or None, exist_ok=True)
        if branch != _MAIN:
            api.create_branch(name, branch=branch, exist_ok=True)
        there = api.model_info(name, revision=branch)
    except Exception as error:  # the hub raises a dozen unrelated types
        raise _refused(name, error) from error
    held = {file.rfilename for file in there.siblings or ()}
    if MANIFEST not in held and held - _BEGUN:
        raise ZsvgError(
            f"{name}: there is something else than a model of zsvg ({min(held - _BEGUN)}); choose "
            "another name"
        )
    if private and not there.private:
        raise ZsvgError(f"{name}: is public already; make it private on its page, then push")
    gone = sorted((held & OWN) - set(files) - {CARD})
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(CARD, card.encode()),
        *(CommitOperationAdd(file, path) for file, path in files.items() if file != CARD),
        *(CommitOperationDelete(file) for file in gone),
    ]
    try:
        done = api.create_commit(
            name,
            operations,
            commit_message=message or "Model of zsvg",
            revision=branch,
            parent_commit=there.sha,  # nothing was written there since it was looked at
        )
    except Exception as error:
        raise _refused(name, error) from error
    at = None if branch == _MAIN else branch
    return Pushed(
        model=str(HubModel(name, at)),
        url=f"{api.endpoint}/{name}" + ("" if at is None else f"/tree/{at}"),
        commit=done.oid,
        changed=done.oid != there.sha,
    )


def _card(
    file: Path | None, about: Mapping[str, object], repository: str, licence: str | None
) -> str:
    text = "" if file is None else file.read_text(encoding="utf-8")
    try:
        return hub_card(text, about, repository, licence)
    except Exception as error:  # of YAML, and of what is no mapping
        said = " ".join(str(error).split())
        raise ModelFolderError(f"{file}: its front matter cannot be read ({said})") from error


def _refused(name: str, error: Exception) -> ZsvgError:
    return ZsvgError(
        f"{name}: cannot be pushed ({answer_of(error, _ANSWERS)}); check the name, the token and "
        "the network"
    )
