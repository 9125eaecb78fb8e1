"""The command line: `app` holds the commands, and each group of them is one file."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from zsvg.cli.app import main as run

    run()
