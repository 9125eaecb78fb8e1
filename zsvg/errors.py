"""Errors that a user can act on: one line that names the value and the way out, safe to print."""

from __future__ import annotations

import dis
import logging
import re
from textwrap import shorten

_log = logging.getLogger(__name__)

CONTROLS = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"
"""In a set of `re`: C0 and C1 controls, and what stands for bytes of a name that are no text."""

# Those, ends of lines of other scripts, and what turns the order of other letters around.
_UNSEEN = re.compile(rf"[{CONTROLS}\u2028-\u202e\u2066-\u2069]")

_LONG = 600  # letters; of a model that does not fit, torch names hundreds of weights
_PACKAGES = ("zsvg", "demo")  # the second is the demo of a checkout


class ZsvgError(Exception):
    """Base of every error that the command line prints as one line, without a traceback."""


class VideoError(ZsvgError):
    """A file cannot be used as a video (missing, empty, no video stream, a still image, ...)."""


class TruncatedVideoError(VideoError):
    """A video ends before its header says; the message names the time that was reached."""


class BackboneError(ZsvgError):
    """A backbone or captioner name is unknown, or its folder cannot be loaded."""


class EndpointError(BackboneError):
    """An endpoint is not there, or refuses all that it is asked: a batch ends with it."""


class TranscriptError(ZsvgError):
    """Subtitles or speech cannot be read; the message names the file and the way out."""


class SilentError(TranscriptError):
    """There is nothing to hear: the video has no sound."""


class RecordError(ZsvgError):
    """A record or annotation file is malformed; the message names file, line and value."""


class ModelFolderError(ZsvgError):
    """A model folder is incomplete, or belongs to another backbone."""


class RecipeError(ZsvgError):
    """A recipe or option has an unknown key or a value out of range."""


ITEM_ERRORS = (ZsvgError, OSError, ValueError, MemoryError)
"""What one video, sentence or clip of a batch may raise: the others are done all the same.

A picture too large for the memory is among them. Other errors are ours, and end the batch.
"""


def failure(name: object, error: BaseException) -> str:
    """Return what is wrong with an item of a batch, on one line that names it."""
    text = told(error)
    return text if str(name) in text else f"{name}: {text}"


def reason(error: BaseException) -> str:
    """Return the message of a library's error on one line, shortened if it is very long."""
    said = " ".join(str(error).split()).rstrip(".")
    return shorten(said, _LONG, placeholder=" ...") or type(error).__name__


def told(error: BaseException) -> str:
    """Return an error on one line; log the traceback of one that is not `ours`."""
    text = out_of_range(error) or " ".join(str(error).split())
    if ours(error):
        return text or type(error).__name__
    _log.info("the internal error was raised here", exc_info=error)
    return f"internal error, -v shows more: {type(error).__name__}: {text}"


def out_of_range(error: BaseException) -> str | None:
    """Return the first mistake that pydantic found in options; None for other errors."""
    if not isinstance(error, ValueError) or not hasattr(error, "errors"):
        return None
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] in ("value_error", "extra_forbidden"):
        why = str(first["msg"]).removeprefix("Value error, ")
    else:
        why = f"{first['msg']}, got {str(first['input'])[:80]}"
    return f"{where}: {why}" if where else why


def visible(text: str) -> str:
    r"""Return one line in which characters that a terminal obeys are escapes, such as `\x1b`.

    Names of files and sentences are other people's: shown as they are, they could move the cursor,
    colour what follows, or pass for a line of ours.
    """
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def ours(error: BaseException) -> bool:
    """Whether an error tells a user what to change; others are bugs, ours or of a library.

    A `ValueError` may say that an option is out of range, or that numpy was given what it cannot
    add. The former are those that a `raise` of this package made.
    """
    if out_of_range(error):
        return True
    trace = error.__traceback__
    if not isinstance(error, ValueError) or isinstance(error, ZsvgError) or trace is None:
        return isinstance(error, (ZsvgError, OSError, MemoryError))
    while trace.tb_next is not None:
        trace = trace.tb_next
    package = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
    # Of what is written in C, as most of numpy, there is no frame: the last one is its caller's.
    last = trace.tb_frame.f_code.co_code[trace.tb_lasti]
    return package in _PACKAGES and dis.opname[last] == "RAISE_VARARGS"
