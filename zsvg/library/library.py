"""A library in a folder: open it, add videos, search it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zsvg.backbones.base import videos_for
from zsvg.backbones.names import tuned_folder
from zsvg.errors import ZsvgError
from zsvg.features.from_files import FeatureFiles
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.grounding.model_folder import load_named
from zsvg.library import candidates
from zsvg.library.example import Example, stored_example
from zsvg.library.hits import Hit, first, records, seen
from zsvg.library.indexing import Report, bring_up_to_date
from zsvg.library.manifest import FILE, Manifest, Space, read_manifest
from zsvg.library.rows import unpacked
from zsvg.library.search import Answer, answers
from zsvg.library.sources import roots_of, sources
from zsvg.library.tables import Tables, Video
from zsvg.library.upkeep import forget_vanished
from zsvg.library.writing import writing
from zsvg.records import Prediction

LOCAL = "local-dir:"
_TRIED = 5  # moments of a video that are looked at for each that may be shown
_NARROW = 2000  # videos that the engine is told to look at alone; more are sorted out afterwards


class Library:
    """Videos that were indexed with one frame encoder; make one with `Library.open`.

    Attributes:
        folder: Where it lies.
        grounder: The model that answers.
        space: What the features that it reads and adds are made with.
    """

    def __init__(self, folder: Path, grounder: Grounder, space: Space) -> None:
        self.folder = folder
        self.grounder = grounder
        self.space = space
        self.tables = Tables(folder / space.name, space.width)
        self._known: tuple[int, list[Video]] | None = None

    @classmethod
    def open(
        cls,
        folder: str | Path,
        model: Grounder | str | Path | None = None,
        *,
        device: str | None = None,
        allow_download: bool = False,
        reembed: bool = False,
    ) -> Library:
        """Open a library, or begin one.

        Args:
            folder: Where it lies.
            model: A grounder, a model folder or a backbone, as of `zsvg.load`. It must see frames
                as the one did that the library was made with; None takes that one. A library that
                is not there yet needs one.
            device: As of `zsvg.load`, like the next one.
            allow_download: Fetch the backbone that a library or model folder names.
            reembed: Another model may be given: what is added is encoded by it, beside what is
                there, and takes its place once all videos are.

        Raises:
            ZsvgError: There is no library and no model, it is of a newer format, or was made with
                another frame encoder.
        """
        folder = Path(folder)
        manifest = read_manifest(folder) if model is None or (folder / FILE).is_file() else None
        if isinstance(model, Grounder):
            grounder = model
        elif manifest is not None and model is None:
            grounder = own_grounder(folder, device, allow_download=allow_download)
        else:
            grounder = load(model, device, allow_download=allow_download)
        if not grounder.backbone.cross_modal:
            raise ZsvgError(
                f"{grounder.backbone.name}: captions are not compared across videos; a library "
                "needs a CLIP, or a model that was tuned on one"
            )
        space = _space(grounder, None if isinstance(model, Grounder) else model)
        if manifest is not None and space.name != manifest.current and not reembed:
            old = manifest.space
            raise ZsvgError(
                f"{folder}: made with {old.model} ({old.encoder[:12]}, {old.fps:g} frames a "
                f"second), and {space.model} sees frames otherwise ({space.encoder[:12]}, "
                f"{space.fps:g}); leave the model out, or `zsvg index --model` makes it anew"
            )
        if manifest is None or space.name not in manifest.spaces:
            with writing(folder):
                _begin(folder, space)
        return cls(folder, grounder, space)

    def add(
        self,
        videos: Mapping[str, Path] | str | Path | None = None,
        *,
        roots: list[str] | None = None,
        cache: str | Path | None = None,
        allow_truncated: bool = False,
        rehash: bool = False,
        prune: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> Report:
        """Bring it up to date with videos; of those that have not changed, nothing is read.

        Args:
            videos: A folder, vid -> file, or `FeatureFiles`; None: the folders of earlier calls.
            roots: Folders that were searched for a mapping: what is not there any more, is marked.
            cache: Folder of cached features that is used too; None: none, a library is one itself.
            allow_truncated: Keep the readable part of damaged files.
            rehash: Read the content of all files.
            prune: Forget what is not there any more, instead of marking it.
            on_progress: Called with the number of videos that are done.

        Raises:
            ZsvgError: Another process is writing to it.
            VideoError: There are no videos.
        """
        with writing(self.folder):
            manifest = read_manifest(self.folder)
            places: list[str | Path] = list(roots or ())
            if videos is None:
                places = list(map(Path, manifest.roots))
                if not places:
                    raise ZsvgError(f"{self.folder}: no folder was indexed yet; name the videos")
                videos = self.grounder.find(*places)
            elif isinstance(videos, FeatureFiles):
                places = [videos.place]
            elif not isinstance(videos, Mapping):
                places, videos = [videos], self.grounder.find(videos)
            below = roots_of(places)
            if self.space.name != manifest.current and not isinstance(videos, FeatureFiles):
                videos = {**_indexed(self.folder, manifest), **videos}
            found = sources(videos_for(self.grounder.backbone, videos), below)
            report = bring_up_to_date(
                self.tables,
                self.grounder,
                found,
                below,
                cache=cache,
                allow_truncated=allow_truncated,
                rehash=rehash,
                on_progress=on_progress,
            )
            if not isinstance(videos, FeatureFiles):
                manifest = replace(manifest, roots=tuple(sorted({*manifest.roots, *below})))
            manifest = _taken_over(self.folder, manifest, self.space, self.tables)
            if manifest != read_manifest(self.folder):
                manifest.write(self.folder)
            if prune:
                forget_vanished(self.tables)
            if report.changed:
                self.tables.optimise()
        return report

    @property
    def searched(self) -> bool:
        """Whether its space is the one that is searched: not while videos are still missing."""
        return read_manifest(self.folder).current == self.space.name

    def videos(self) -> list[Video]:
        """Return what was indexed, in the order of names."""
        version = self.tables.version
        if self._known is None or self._known[0] != version:
            self._known = version, self.tables.videos()
        return self._known[1]

    def search(self, query: str | Example, **options: Any) -> list[Prediction]:
        """Return the best moments of all videos, as of `hits`.

        Returns:
            One record a video; in `extra` are "path" and "fit", "alike", where else the same is to
            be seen, and "said", the words of each window, where there are any.
        """
        return records(self.hits(query, **options))

    def hits(
        self,
        query: str | Example,
        *,
        top: int = 20,
        per_video: int = 3,
        group: bool = True,
        **options: Any,
    ) -> list[Hit]:
        """Return the best moments of all videos for a sentence, or for an example.

        Args:
            query: The sentence, or what moments are to look like.
            top: Most moments in all.
            per_video: Most of one video.
            group: As of `answers`.
            options: As of `answers`, too.

        Returns:
            Hits, best first: of each video that was chosen one, then the second ones.
        """
        found = self.answers(query, top_k=_TRIED * per_video, group=group, **options)
        return first(seen(found, per_video), top, per_video)

    def like(self, content: str, start: float, end: float) -> Example:
        """Return a moment of an indexed video as an example to search by.

        Args:
            content: Of the video, as `Video.content`.
            start: Seconds.
            end: Seconds.

        Raises:
            ZsvgError: There is no such video.
            VideoError: Nor such a part of it.
        """
        video = next((v for v in self.videos() if v.usable and v.content == content), None)
        row = self.tables.features([content]).get(content)
        if video is None or row is None:
            raise ZsvgError(f"{self.folder}: has no video with content {content[:12]}")
        return stored_example(unpacked(row, video.vid), start, end)

    def answers(
        self,
        query: str | Example,
        *,
        folder: str | Path | None = None,
        since: float | None = None,
        min_length: float = 0.0,
        exact: bool = False,
        most: int | None = None,
        top_k: int = 15,
        group: bool = True,
    ) -> list[Answer]:
        """Return what videos answer to a sentence or an example, the one that fits best first.

        Args:
            query: The sentence, or what moments are to look like.
            folder: Only videos below it.
            since: Only videos that were changed then or later, seconds since 1970.
            min_length: Only videos of so many seconds or more.
            exact: Compare all rows of frames, also where there is an index.
            most: How many videos are read whole; None: a tenth of them, or 50
                (`zsvg.library.candidates`).
            top_k: Most moments of each.
            group: Name near duplicates with the better one instead of by themselves.
        """
        usable = [video for video in self.videos() if video.usable]
        wanted = [
            video
            for video in usable
            if (folder is None or _is_below(video, folder))
            and (since is None or video.modified >= since)
            and video.duration >= min_length
        ]
        chosen = candidates.choose(
            self.tables,
            query.direction
            if isinstance(query, Example)
            else candidates.direction(self.grounder, query),
            list(dict.fromkeys(video.content for video in wanted)),
            candidates.count(len(usable)) if most is None else most,
            exact=exact,
            narrow=len(wanted) < min(len(usable) / 2, _NARROW),
        )
        return answers(self.tables, self.grounder, query, chosen, wanted, top_k=top_k, group=group)


def _begin(folder: Path, space: Space) -> None:
    """Make the tables of a space, and name it in the manifest."""
    Tables(folder / space.name, space.width)
    if (folder / FILE).is_file():
        read_manifest(folder).beside(space).write(folder)
    else:
        Manifest(current=space.name, spaces={space.name: space}).write(folder)


def _indexed(folder: Path, manifest: Manifest) -> dict[str, Path]:
    """Return vid -> file of what is in the space that is searched."""
    old = Tables(folder / manifest.current, manifest.space.width)
    return {video.vid: video.file for video in old.videos() if not video.vanished}


def _taken_over(folder: Path, manifest: Manifest, space: Space, tables: Tables) -> Manifest:
    """Return a manifest by which a space is searched that has all that the other one has."""
    if space.name == manifest.current:
        return manifest
    there = {video.key for video in tables.videos()}
    lacking = [f for f in _indexed(folder, manifest).values() if str(f) not in there]
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
    backbone = load_named(folder, name, device, allow_download=allow_download)
    return load(name, backbone=backbone, domain=domain, templates=templates)


def _space(grounder: Grounder, model: str | Path | None) -> Space:
    tuned = None if model is None else tuned_folder(model)
    name = grounder.backbone.name
    if name.startswith(LOCAL):  # it is to be found from other folders too
        name = LOCAL + os.path.abspath(Path(name.removeprefix(LOCAL)).expanduser())
    return Space(
        model=name if tuned is None else os.path.abspath(tuned),
        encoder=grounder.encoder,
        fps=grounder.fps,
        framing=grounder.framing,
        width=grounder.backbone.embed_dim,
    )


def _is_below(video: Video, folder: str | Path) -> bool:
    """Return whether a video is below a folder, named from here or from the root of the video."""
    inside = str(folder).strip("/") + "/"
    return video.file.is_relative_to(os.path.abspath(folder)) or video.path.startswith(inside)
