"""The `zsvg` command: which functions it is made of, and how errors end."""

from __future__ import annotations

import os
import sys

import typer

from zsvg.commands import models, worlds, yardsticks
from zsvg.commands.compare import compare
from zsvg.commands.prompts import prompts
from zsvg.errors import ZsvgError
from zsvg.terminal import say

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

app = typer.Typer(
    name="zsvg",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="From a folder of unlabelled videos to a model that finds moments by sentence.",
    epilog="Exit status: 0 done, 1 something failed (named on stderr), 2 wrong usage.",
)

for command in (
    worlds.microworld,
    models.features,
    models.pseudo_label,
    models.tune,
    compare,
    models.ground,
    models.predict,
    yardsticks.evaluate,
    yardsticks.baseline,
    yardsticks.audit,
    yardsticks.inspect,
    yardsticks.probe,
    yardsticks.convert,
    worlds.quickstart,
    worlds.demo,
):
    app.command(command.__name__.replace("_", "-"))(command)
app.add_typer(prompts, name="prompts")


def main() -> None:
    """Run the command line; errors that a user can act on are one line."""
    try:
        app()
    except (ZsvgError, FileNotFoundError, ValueError) as error:  # ValueError: a bad option
        say(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("stopped; the same command continues")
        sys.exit(130)


if __name__ == "__main__":
    main()
