"""The `zsvg` command: which functions it is made of, and how errors end."""

from __future__ import annotations

import atexit
import gc
import inspect
import logging
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Annotated, Any

import typer

from zsvg import __version__
from zsvg.cli import demos, evaluate, label, library, maintenance, search, tune
from zsvg.cli.compare import compare
from zsvg.cli.ground import ground
from zsvg.cli.options import Verbose
from zsvg.cli.places import as_places, as_text
from zsvg.cli.prompts import prompts
from zsvg.cli.push import push
from zsvg.cli.terminal import logs, say
from zsvg.cli.usage import Commands, WithSentences
from zsvg.errors import ZsvgError, told
from zsvg.features.strangers import watching

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

_log = logging.getLogger(__name__)

app = typer.Typer(
    name="zsvg",
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    epilog="Exit status: 0 done; 1 something failed, named on stderr; 2 wrong usage; 130 stopped "
    "by Ctrl-C, the same command continues. Results go to stdout, everything else to stderr; "
    "`-` as a file is stdin or stdout.",
)

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "From videos to moments": (
        label.pseudo_label,
        tune.tune,
        ground,
        tune.predict,
        label.features,
        demos.demo,
        push,
    ),
    "Many videos at once": (library.index, search.search, library.serve),
    "How good is it?": (
        evaluate.evaluate,
        compare,
        evaluate.baseline,
        evaluate.audit,
        evaluate.inspect,
        evaluate.probe,
        evaluate.convert,
    ),
    "Without videos of your own": (demos.quickstart, demos.microworld),
    "Upkeep": (maintenance.doctor,),
}


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function as a command: with --verbose, and with status 130 when interrupted."""
    signature = inspect.signature(function, eval_str=True)
    own, paths = as_text(signature.parameters.values())

    @wraps(function)
    def command(*, verbose: int, **options: Any) -> None:
        # It warns in a dozen lines of a hub that is out of reach; -v, read before, shows them.
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
        if not sys.stderr.isatty():  # nor do bars of downloads belong into a log
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        try:
            with nullcontext() if function is demos.demo else watching():  # its page says so
                function(**as_places(options, paths))
        except KeyboardInterrupt:
            say("stopped; the same command continues")
            raise typer.Exit(130) from None

    more = inspect.Parameter(
        "verbose", inspect.Parameter.KEYWORD_ONLY, default=0, annotation=Verbose
    )
    command.__signature__ = inspect.Signature([*own, more])  # type: ignore[attr-defined]
    return command


for _panel, _functions in COMMANDS.items():
    for _function in _functions:
        _name = _function.__name__.replace("_", "-")
        _class = WithSentences if _function in (ground, search.search) else None
        app.command(_name, cls=_class, rich_help_panel=_panel)(_command(_function))
for _group, _name in (
    (maintenance.caches, "cache"),
    (library.libraries, "library"),
    (prompts, "prompts"),
):
    for _info in _group.registered_commands:
        if _info.callback is not None:
            _info.callback = _command(_info.callback)
    app.add_typer(_group, name=_name, rich_help_panel="Upkeep")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    verbose: Verbose = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    """From a folder of unlabelled videos to a model that finds moments by sentence.

    Example: zsvg ground videos/ "a person opens the fridge" --model ViT-B-32/laion2b_s34b_b79k
    """


def main() -> None:
    """Run the command line; errors that a user can act on are one line."""
    # What the imports made is not looked through once more, only to be given up: a second of work.
    atexit.register(gc.freeze)
    with logs():
        try:
            app()
        except (ZsvgError, OSError, ValueError) as error:  # ValueError: a bad option
            _log.debug("the error below was raised here", exc_info=True)
            say(f"error: {told(error)}")
            sys.exit(1)
