"""Wrong usage: sentences that look like options, and messages that a terminal can show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from zsvg.errors import visible
from zsvg.places.patience import without_secrets

_DASH = (
    'a sentence that begins with "-" stands after "--", which ends the options: '
    'zsvg ground VIDEO --model MODEL -- "-5 degrees"'
)
_OPTION_AND_VALUE = re.compile(r"--[a-z-]+=")


class Commands(TyperGroup):
    """All commands; what they say of wrong arguments holds no control characters."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse what comes before the command."""
        with _readable():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Parse the arguments of the command, and run it."""
        with _readable():
            return super().invoke(ctx)


class WithSentences(TyperCommand):
    """A command that takes sentences, which may begin with a dash as options do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse what can only be a sentence: "-minus one" would be read as `-m "inus one"`."""
        valued = {
            name
            for option in self.params
            if isinstance(option, TyperOption) and not (option.is_flag or option.count)
            for name in option.opts
        }
        before = ""
        for argument in takewhile(lambda word: word != "--", args):
            dashed = argument.startswith("-") and not _OPTION_AND_VALUE.match(argument)
            if dashed and re.search(r"\s", argument) and before not in valued:
                raise typer.BadParameter(f"{argument!r} is no option; {_DASH}", ctx=ctx)
            before = argument
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # The class belongs to click, or to the copy of it in newer versions of typer.
            if type(error).__name__ == "NoSuchOption":
                error.message = f"{error.message}; {_DASH}"  # type: ignore[attr-defined]
            raise


@contextmanager
def _readable() -> Iterator[None]:
    """Make the message of wrong usage one that a terminal can show: it quotes arguments."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):  # of wrong usage, see above
            error.message = visible(without_secrets(error.message))  # type: ignore[attr-defined]
        raise
