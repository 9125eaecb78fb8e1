"""`zsvg push`: bring a tuned model to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zsvg.cli.results import Table, show_result
from zsvg.cli.terminal import say


def push(
    model: Annotated[Path, typer.Argument(help="A tuned model folder.")],
    repository: Annotated[
        str,
        typer.Argument(metavar="ORG/NAME", help="Where to; made where it is not there."),
    ],
    revision: Annotated[
        str | None,
        typer.Option(metavar="BRANCH", help="Branch to write to, made where it is not there."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Show it to nobody else.")] = False,
    licence: Annotated[
        str | None,
        typer.Option("--license", metavar="ID", help="Licence of the model, such as apache-2.0."),
    ] = None,
    message: Annotated[str | None, typer.Option(help="What the commit says.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be pushed, and stop.")
    ] = False,
) -> None:
    """Bring a tuned model to the Hugging Face Hub, where hf://ORG/NAME loads it.

    Example: zsvg push model/ me/kitchen --private

    It goes there as one commit of the files that a model is made of; what lies
    beside them stays here. The token is that of hf auth login, or $HF_TOKEN.
    """
    from rich.filesize import decimal

    from zsvg.grounding.push import files_to_push, repository_of
    from zsvg.grounding.push import push as bring

    name = repository_of(repository, revision).repository
    if dry_run:
        sizes = {file: path.stat().st_size for file, path in files_to_push(model).items()}
        rows = [(file, decimal(size)) for file, size in sizes.items()]
        show_result("table", sizes, Table(header=("file", "size"), rows=rows))
        say(f"would push {len(sizes)} files, {decimal(sum(sizes.values()))}, to {name}")
        return
    done = bring(
        model, repository, revision=revision, private=private, licence=licence, message=message
    )
    if done.changed:
        say(f"pushed {model} to {done.url} (commit {done.commit[:7]}); it loads as {done.model}")
    else:
        say(f"{done.url} holds {model} already (commit {done.commit[:7]})")
