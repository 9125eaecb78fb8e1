"""A library in a folder: open it, add videos, search it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsvg.backbones.base import videos_for
from zsvg.errors import ZsvgError
from zsvg.features.from_files import FeatureFiles
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.hub import pinned
from zsvg.grounding.load import load
from zsvg.library import candidates
from zsvg.library.example import Example, stored_example
from zsvg.library.filters import chosen_by
from zsvg.library.hearing import bring_up_to_date as hear
from zsvg.library.hits import By, Hit, first, fused, records, seen
from zsvg.library.indexing import Report, bring_up_to_date
from zsvg.library.looking import looking
from zsvg.library.manifest import FILE, Manifest, Space, read_manifest
from zsvg.library.rows import unpacked
from zsvg.library.said import Heard, Said
from zsvg.library.search import NARROW, TRIED, Answer, Question, answers
from zsvg.library.sentences import Sentences, load_sentences, own_sentences, said_there
from zsvg.library.sources import Source, roots_of, sources
from zsvg.library.spaces import begin_space, indexed, own_grounder, space_of, taken_over
from zsvg.library.spoken import spoken
from zsvg.library.tables import Tables, Video
from zsvg.library.upkeep import forget_vanished
from zsvg.library.writing import writing
from zsvg.places.urls import place_of
from zsvg.records import Prediction

if TYPE_CHECKING:
    from zsvg.features.cluster import Cluster
    from zsvg.transcripts.speech import Recogniser


class Library:
    """Videos that were indexed with one frame encoder; make one with `Library.open`.

    Attributes:
        folder: Where it lies.
        grounder: The model that answers.
        space: What the features that it reads and adds are made with.
    """

    def __init__(
        self, folder: Path, grounder: Grounder, space: Space, sentences: Callable[[], Sentences]
    ) -> None:
        self.folder = folder
        self.grounder = grounder
        self.space = space
        self._load_sentences = sentences
        self.tables = Tables(folder / space.name, space.width)
        self._known: tuple[int, list[Video]] | None = None
        self._said: Said | None = None

    @classmethod
    def open(
        cls,
        folder: str | Path,
        model: Grounder | str | Path | None = None,
        *,
        device: str | None = None,
        allow_download: bool = False,
        reembed: bool = False,
        sentence_model: str | None = None,
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
            sentence_model: What is said is compared by this model of sentence-transformers, an id
                or a folder; `add` encodes lines by it. None: what the library was made with.

        Raises:
            ZsvgError: There is no library and no model, it is of a newer format, or was made with
                another frame encoder.
        """
        folder = place_of(folder)
        manifest = read_manifest(folder) if model is None or (folder / FILE).is_file() else None
        if isinstance(model, Grounder):
            grounder = model
        elif manifest is not None and model is None:
            grounder = own_grounder(folder, device, allow_download=allow_download)
        else:
            model = pinned(model)
            grounder = load(model, device, allow_download=allow_download)
        if not grounder.backbone.cross_modal:
            raise ZsvgError(
                f"{grounder.backbone.name}: captions are not compared across videos; a library "
                "needs a CLIP, or a model that was tuned on one"
            )
        space = space_of(grounder, None if isinstance(model, Grounder) else model)
        if manifest is not None and space.name != manifest.current and not reembed:
            old = manifest.space
            raise ZsvgError(
                f"{folder}: made with {old.model} ({old.encoder[:12]}, {old.fps:g} frames a "
                f"second), and {space.model} sees frames otherwise ({space.encoder[:12]}, "
                f"{space.fps:g}); leave the model out, or `zsvg index --model` makes it anew"
            )
        if manifest is None or space.name not in manifest.spaces:
            with writing(folder):
                begin_space(folder, space)
        if sentence_model is None:
            return cls(
                folder,
                grounder,
                space,
                partial(
                    own_sentences, folder, grounder.backbone, device, allow_download=allow_download
                ),
            )
        found = load_sentences(sentence_model, device, allow_download=allow_download)
        return cls(folder, grounder, space, lambda: found)

    def add(
        self,
        videos: Mapping[str, Path] | str | Path | None = None,
        *,
        roots: list[str] | None = None,
        cache: str | Path | None = None,
        allow_truncated: bool = False,
        rehash: bool = False,
        prune: bool = False,
        subtitles: Callable[[Path], bool] | None = None,
        recogniser: Recogniser | None = None,
        cluster: Cluster | None = None,
        on_progress: Callable[[int], None] | None = None,
        on_heard: Callable[[int], None] | None = None,
    ) -> Report:
        """Bring it up to date with videos; of those that have not changed, nothing is read.

        Args:
            videos: A folder, vid -> file, or `FeatureFiles`; None: the folders of earlier calls.
            roots: Folders that were searched for a mapping: what is not there any more, is marked.
            cache: Folder of cached features that is used too; None: none, a library is one itself.
            allow_truncated: Keep the readable part of damaged files.
            rehash: Read the content of all files.
            prune: Forget what is not there any more, instead of marking it.
            subtitles: Whether a file of them beside a video may be read; None: each may.
            recogniser: Of `zsvg.transcripts.load_recogniser`: listens to videos without subtitles.
            cluster: Whose workers encode videos; this process writes, and listens.
            on_progress: Called with the number of videos that are done.
            on_heard: The same of videos in which it was looked after what is said.

        Raises:
            ZsvgError: Another process is writing to it.
            VideoError: There are no videos.
        """
        with writing(self.folder):
            manifest = read_manifest(self.folder)
            places: list[str | Path] = list(roots or ())
            if videos is None:
                places = list(map(place_of, manifest.roots))
                if not places:
                    raise ZsvgError(f"{self.folder}: no folder was indexed yet; name the videos")
                videos = self.grounder.find(*places)
            elif isinstance(videos, FeatureFiles):
                places = [videos.place]
            elif not isinstance(videos, Mapping):
                places, videos = [videos], self.grounder.find(videos)
            below = roots_of(places)
            if self.space.name != manifest.current and not isinstance(videos, FeatureFiles):
                videos = {**indexed(self.folder, manifest), **videos}
            found = list(sources(videos_for(self.grounder.backbone, videos), below))
            how = {"cache": cache, "allow_truncated": allow_truncated}
            look = looking(self.grounder, self.space, cluster, **how)
            report = bring_up_to_date(
                self.tables, look, found, below, rehash=rehash, on_progress=on_progress
            )
            if not isinstance(videos, FeatureFiles):
                manifest = replace(manifest, roots=tuple(sorted({*manifest.roots, *below})))
            before = manifest
            manifest = taken_over(self.folder, manifest, self.space, self.tables)
            if manifest != read_manifest(self.folder):
                manifest.write(self.folder)
            if prune:
                forget_vanished(self.tables)
            if report.changed:
                self.tables.optimise()
            # Last: listening takes hours, and the videos are searched meanwhile.
            report.heard = self._hear(before, found, subtitles, recogniser, on_heard)
            made = read_manifest(self.folder)
            if self.searched and made.sentences != self.sentences.model:
                replace(made, sentences=self.sentences.model).write(self.folder)
        return report

    @cached_property
    def sentences(self) -> Sentences:
        """What lines are encoded by; a model of their own is loaded when it is needed first."""
        return self._load_sentences()

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

    def search(self, query: str | Question, **options: Any) -> list[Prediction]:
        """Return the best moments of all videos, as of `hits`.

        Returns:
            One record a video; in `extra` are "path" and "fit", "alike", where else the same is to
            be seen, and "said", the words of each window, where there are any.
        """
        return records(self.hits(query, **options))

    def hits(
        self,
        query: str | Question,
        *,
        top: int = 20,
        per_video: int = 3,
        by: By = "both",
        group: bool = True,
        folder: str | Path | None = None,
        since: float | None = None,
        min_length: float = 0.0,
        among: Callable[[Video], bool] | None = None,
        exact: bool = False,
        most: int | None = None,
    ) -> list[Hit]:
        """Return the best moments of all videos for a sentence, or for an example.

        Moments that are seen and lines that are said become one list by their ranks. A line that is
        said has words of the sentence, among moments that are seen all of them, or its meaning. An
        example is looked for in what is seen alone.

        Args:
            query: The sentence; or an `Example`, or a sentence that was `judged`.
            top: Most moments in all.
            per_video: Most of one video.
            by: Where to look: at what is "seen", what is "said", or "both".
            group: As of `answers`.
            folder: As of `answers`, like the next ones.
            since: Seconds since 1970.
            min_length: Seconds.
            among: Whether a video is looked at.
            exact: As of `answers`, like the last one.
            most: How many videos are read whole.

        Returns:
            Hits, best first: of what is seen the best one of each video, then the second ones.

        Raises:
            ZsvgError: What is said is to be searched alone, and nothing is known of it, or an
                example is given.
        """
        sentence = query if isinstance(query, str) else query.sentence
        if by == "said" and not isinstance(query, str) and not sentence:
            raise ZsvgError(
                f"{query.name}: an example is seen, not said; look for it in what is seen"
            )
        wanted = chosen_by(self.videos(), folder, since, min_length, among)
        found: list[Hit] = []
        if by != "said":
            tried = TRIED * per_video
            given = self._answers(query, wanted, exact=exact, most=most, top_k=tried, group=group)
            found = seen(given, per_video)
        if by != "seen" and sentence:
            found = fused(found, self._spoken(sentence, wanted, found, by, top, per_video))
        return first(found, top, per_video)

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
        query: str | Question,
        *,
        folder: str | Path | None = None,
        since: float | None = None,
        min_length: float = 0.0,
        among: Callable[[Video], bool] | None = None,
        exact: bool = False,
        most: int | None = None,
        top_k: int = 15,
        group: bool = True,
    ) -> list[Answer]:
        """Return what videos answer to a sentence or an example, the one that fits best first.

        Args:
            query: As of `hits`.
            folder: Only videos below it.
            since: Only videos that were changed then or later, seconds since 1970.
            min_length: Only videos of so many seconds or more.
            among: Only videos of which it is true; None: all.
            exact: Compare all rows of frames, also where there is an index.
            most: How many videos are read whole; None: a tenth of them, or 50
                (`zsvg.library.candidates`).
            top_k: Most moments of each.
            group: Name near duplicates with the better one instead of by themselves.
        """
        wanted = chosen_by(self.videos(), folder, since, min_length, among)
        return self._answers(query, wanted, exact=exact, most=most, top_k=top_k, group=group)

    def _answers(
        self,
        query: str | Question,
        wanted: Sequence[Video],
        *,
        exact: bool = False,
        most: int | None = None,
        top_k: int,
        group: bool,
    ) -> list[Answer]:
        usable = sum(video.usable for video in self.videos())
        chosen = candidates.choose(
            self.tables,
            candidates.direction(self.grounder, query)
            if isinstance(query, str)
            else query.direction,
            list(dict.fromkeys(video.content for video in wanted)),
            candidates.count(usable) if most is None else most,
            exact=exact,
            narrow=len(wanted) < min(usable / 2, NARROW),
        )
        return answers(self.tables, self.grounder, query, chosen, wanted, top_k=top_k, group=group)

    def _spoken(
        self, query: str, wanted: Sequence[Video], seen: Sequence[Hit], by: By, most: int, each: int
    ) -> list[Hit]:
        """Return at most so many lines, and so many `each` of a video, best first."""
        if self._said is None:
            self._said = self.sentences.there(self.tables.folder)
        if self._said is None:
            if by == "both":
                return []
            raise ZsvgError(
                f"{self.folder}: nothing is known of what is said; `zsvg index -o {self.folder}` "
                "reads it"
            )
        return spoken(
            self._said, self.sentences, self.tables, self.grounder, query, wanted,
            seen={hit.video.content: hit.answer for hit in seen}, most=most, per_video=each,
            all_words=by == "both",
        )  # fmt: skip

    def _hear(
        self,
        manifest: Manifest,
        found: Sequence[Source],
        subtitles: Callable[[Path], bool] | None,
        recogniser: Recogniser | None,
        on_progress: Callable[[int], None] | None,
    ) -> dict[str, Heard]:
        """Bring what is said in the videos among some sources up to date."""
        films = {source.key for source in found if source.film}
        before = None
        if (manifest.current, manifest.sentences) != (self.space.name, self.sentences.model):
            before = said_there(self.folder, manifest, manifest.current)
        said = self.sentences.said(self.tables.folder)
        version = said.version
        heard = hear(
            said,
            [video for video in self.videos() if video.usable and video.key in films],
            self.sentences,
            before=before,
            subtitles=subtitles,
            recogniser=recogniser,
            on_progress=on_progress,
        )
        said.sweep(self.videos())  # not before: moved videos bring their lines along
        if said.version != version:
            said.optimise()
        return heard
