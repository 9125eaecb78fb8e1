"""A library over HTTP: JSON for programs, read-only, with a document that says what it takes."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, time
from html import escape
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from zsvg.errors import ITEM_ERRORS, ours, told
from zsvg.library.gate import Gate
from zsvg.library.hits import By
from zsvg.library.library import Library
from zsvg.library.pictures import nearest

AT_ONCE = 2
WAITING = 64
"""Searches that run, and that wait for them; more are told to come back."""


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


class Moment(BaseModel):
    """A moment of a video that was seen, or a line that is said; times are seconds."""

    vid: str
    path: str
    content: str
    start: float
    end: float
    score: float
    fit: float
    by: By
    words: str
    alike: list[str]


class Found(BaseModel):
    """Moments, best first: of each video that was chosen one, then the second ones."""

    query: str
    moments: list[Moment]


class Event(BaseModel):
    """Something that happens in a video, seconds; it has a thumbnail where there are pictures."""

    start: float
    end: float


class Listed(BaseModel):
    """A video of the library."""

    vid: str
    path: str
    content: str
    title: str
    duration: float
    size: int
    modified: float
    vanished: bool


class Listing(BaseModel):
    """A part of all videos."""

    total: int
    videos: list[Listed]


class Health(BaseModel):
    """Whether it answers, and from how much."""

    status: str
    videos: int
    model: str


_REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The token is missing or wrong."},
    403: {"model": Problem, "description": "A page of another origin asked."},
    413: {"model": Problem, "description": "Requests have no body here."},
    421: {"model": Problem, "description": "Not served under this name."},
}
_Content = Annotated[
    str, Query(pattern="^[0-9a-f]{64}$", description="`content` of a video, its SHA-256.")
]


def build_app(library: Library, *, host: str = "127.0.0.1", token: str | None = None) -> FastAPI:
    """Return the server of a library, as an ASGI application.

    Args:
        library: What is searched.
        host: Name or address that it will listen at: others are refused.
        token: What requests have to bring (`Authorization: Bearer TOKEN`); None: nothing.
    """
    app = FastAPI(
        title="zsvg library",
        version="1",  # of what is asked and answered here
        description="Find moments in videos by sentence.",
        docs_url=None,  # its page would fetch scripts from another host
        redoc_url=None,
        responses=_REFUSED,
    )
    app.add_middleware(Gate, host=host, token=token)
    running = asyncio.Semaphore(AT_ONCE)
    waiting = 0

    @app.get("/search", responses={400: {"model": Problem}, 503: {"model": Problem}})
    async def search(
        q: Annotated[str, Query(min_length=1, max_length=1000, description="The sentence.")],
        by: Annotated[By, Query(description="Where to look.")] = "both",
        top: Annotated[int, Query(ge=1, le=1000, description="Most moments.")] = 20,
        per_video: Annotated[int, Query(ge=1, le=100, description="Most of one video.")] = 3,
        folder: Annotated[
            str | None, Query(max_length=4000, description="Only videos below it.")
        ] = None,
        since: Annotated[
            date | None, Query(description="Only videos changed on that day or later.")
        ] = None,
        min_length: Annotated[
            float, Query(ge=0, le=1e9, description="Only videos of so many seconds or more.")
        ] = 0.0,
        exact: Annotated[bool, Query(description="Look at every row.")] = False,
    ) -> Found:
        """Find the moments that a sentence describes."""
        nonlocal waiting
        if waiting >= WAITING:
            raise HTTPException(503, "too many searches at once", headers={"retry-after": "1"})
        waiting += 1
        try:
            async with running:
                hits = await run_in_threadpool(
                    library.hits,
                    q,
                    by=by,
                    top=top,
                    per_video=per_video,
                    folder=folder,
                    since=None if since is None else datetime.combine(since, time()).timestamp(),
                    min_length=min_length,
                    exact=exact,
                )
        except ITEM_ERRORS as error:
            if not ours(error):
                raise
            raise HTTPException(400, told(error)) from error
        finally:
            waiting -= 1
        moments = [
            Moment(
                vid=hit.video.vid,
                path=str(hit.video.file),
                content=hit.video.content,
                alike=list(hit.alike),
                **{name: getattr(hit, name) for name in _TOLD},
            )
            for hit in hits
        ]
        return Found(query=q, moments=moments)

    @app.get("/videos")
    def videos(
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Listing:
        """List the videos, in the order of their names."""
        known = [video for video in library.videos() if video.content]
        return Listing(
            total=len(known),
            videos=[
                Listed(path=str(video.file), **{n: getattr(video, n) for n in _LISTED})
                for video in known[offset : offset + limit]
            ],
        )

    @app.get("/events", responses={404: {"model": Problem}})
    def events(content: _Content) -> list[Event]:
        """Return what happens in a video, in order of time."""
        return [Event(start=e["start"], end=e["end"]) for e in _events(library, content)]

    @app.get(
        "/thumbnail",
        response_class=Response,
        responses={404: {"model": Problem}, 200: {"content": {"image/jpeg": {}}}},
    )
    def thumbnail(
        content: _Content,
        at: Annotated[float, Query(ge=0, le=1e9, description="Seconds.")] = 0.0,
    ) -> Response:
        """Return a picture of the event that is nearest to a time."""
        picture = nearest(_events(library, content), at)
        if picture is None:
            raise HTTPException(404, "there are no pictures of it")
        return Response(picture, media_type="image/jpeg")

    @app.get("/health")
    def health() -> Health:
        """Tell whether the library can be read."""
        usable = sum(video.usable for video in library.videos())
        return Health(status="ok", videos=usable, model=library.space.model)

    @app.get("/", include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(_page(app.openapi()))

    return app


_TOLD = ("start", "end", "score", "fit", "by", "words")
_LISTED = ("vid", "content", "title", "duration", "size", "modified", "vanished")


def _events(library: Library, content: str) -> list[dict[str, Any]]:
    if not (found := library.tables.events(content)):
        raise HTTPException(404, "there is no such video")
    return found


def _page(document: dict[str, Any]) -> str:
    """Return the document for people to read."""
    parts = []
    for path, operations in document["paths"].items():
        told = operations["get"]
        rows = "".join(
            f"<dt><code>{escape(p['name'])}</code></dt><dd>{escape(p.get('description', ''))}</dd>"
            for p in told.get("parameters", ())
        )
        what = escape(told["description"])
        parts.append(f"<h2><code>GET {escape(path)}</code></h2><p>{what}</p><dl>{rows}</dl>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>zsvg library</title>'
        f"<h1>zsvg library</h1><p>{escape(document['info']['description'])} The whole of it for "
        f'programs: <a href="openapi.json">openapi.json</a></p>{"".join(parts)}</html>'
    )
