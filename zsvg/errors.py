"""Errors that a user can act on: one line that names the value and the way out."""


class ZsvgError(Exception):
    """Base of every error that the command line prints as one line, without a traceback."""


class VideoError(ZsvgError):
    """A file cannot be used as a video (missing, empty, no video stream, a still image, ...)."""


class TruncatedVideoError(VideoError):
    """A video ends before its header says; the message names the time that was reached."""


class BackboneError(ZsvgError):
    """A backbone or captioner name is unknown, or its folder cannot be loaded."""


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
    text = " ".join(str(error).split()) or type(error).__name__
    return text if str(name) in text else f"{name}: {text}"
