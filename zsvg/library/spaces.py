"""With which model a library is made and searched: its spaces, and the one that takes over."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zsvg.backbones.names import HubModel, hub_model, tuned_folder
from zsvg.errors import ModelFolderError, ZsvgError
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.hub import fetch
from zsvg.grounding.load import load
from zsvg.grounding.model_folder import TRUSTED, load_named
from zsvg.library.manifest import FILE, Manifest, Space, read_manifest
from zsvg.library.tables import Tables

LOCAL = "local-dir:"


def begin_space(folder: Path, space: Space) -> None:
    """Make the tables of a space, and name it in the manifest."""
    Tables(folder / space.name, space.width)
    if (folder / FILE).is_file():
        read_manifest(folder).beside(space).write(folder)
    else:
        Manifest(current=space.name, spaces={space.name: space}).write(folder)


def indexed(folder: Path, manifest: Manifest) -> dict[str, Path]:
    """Return vid -> file of what is in the space that is searched."""
    old = Tables(folder / manifest.current, manifest.space.width)
    return {video.vid: video.file for video in old.videos() if not video.vanished}


def taken_over(folder: Path, manifest: Manifest, space: Space, tables: Tables) -> Manifest:
    """Return a manifest by which a space is searched that has all that the other one has."""
    if space.name == manifest.current:
        return manifest
    there = {video.key for video in tables.videos()}
    lacking = [f for f in indexed(folder, manifest).values() if str(f) not in there]
    if lacking:
        return manifest
    return replace(manifest, current=space.name, spaces={space.name: space})


def own_grounder(
    folder: Path,
    device: str | None = None,
    *,
    allow_download: bool = False,
    domain: str | None = None,
    templates: Sequence[str] = (),
) -> Grounder:
    """Load the model that a library was made with.

    Libraries come from anybody: what their model would download is looked at first.

    Args:
        folder: The library.
        device: As of `zsvg.load`, like the others.
        allow_download: Fetch the backbone that is named.
        domain: One of the model's.
        templates: Texts to ask a bare backbone with.

    Raises:
        ModelFolderError: It is not here; see `zsvg.grounding.model_folder.load_named`.
        ZsvgError: There is no library.
    """
    name = read_manifest(folder).space.model
    if os.path.isabs(name):
        if not os.path.isdir(name):
            raise ZsvgError(f"{folder}: made with {name}, which is not there; name it with --model")
        return load(name, device, allow_download=allow_download, domain=domain, templates=templates)
    if (model := hub_model(name)) is not None:
        tuned = _fetched(folder, model, allow_download)
        return load(
            tuned, device, allow_download=allow_download, domain=domain, templates=templates
        )
    backbone = load_named(folder, name, device, allow_download=allow_download)
    return load(name, backbone=backbone, domain=domain, templates=templates)


def _fetched(library: Path, model: HubModel, allow_download: bool) -> Path:
    """Return the folder of the model of the hub that a library names; it is a stranger's choice."""
    try:
        return fetch(model, stored=not allow_download)
    except ModelFolderError as error:
        if allow_download:
            raise
        raise ModelFolderError(
            f"{library}: made with {model}, which is not on this machine; {TRUSTED}"
        ) from error


def space_of(grounder: Grounder, model: str | Path | None) -> Space:
    """Return the space of what a model sees; `model` is what it was loaded by."""
    of_hub = hub_model(model)
    tuned = None if model is None or of_hub is not None else tuned_folder(model)
    name = grounder.backbone.name
    if name.startswith(LOCAL):  # it is to be found from other folders too
        name = LOCAL + os.path.abspath(Path(name.removeprefix(LOCAL)).expanduser())
    if tuned is not None:
        name = os.path.abspath(tuned)
    elif of_hub is not None:
        name = str(of_hub)
    return Space(
        model=name,
        encoder=grounder.encoder,
        fps=grounder.fps,
        framing=grounder.framing,
        width=grounder.backbone.embed_dim,
    )
