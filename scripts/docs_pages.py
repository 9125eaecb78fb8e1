"""Pages of the documentation that are made from the package: an MkDocs hook (see mkdocs.yml).

The reference of commands is what `--help` says, the page of recipes what the YAML files hold, so
neither can say anything else than the code does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from zsvg.cli.app import app
from zsvg.resources import shipped
from zsvg.training.recipes import load_recipe, recipe_names

ROOT = Path(__file__).parent.parent


def on_files(files: Any, config: Any) -> Any:
    """Add the pages, and the picture of the README, to what MkDocs found in docs/."""
    from mkdocs.structure.files import File

    for name, text in {"commands.md": commands_page(), "recipes.md": recipes_page()}.items():
        files.append(File.generated(config, name, content=text))
    picture = "assets/path.svg"
    files.append(File.generated(config, picture, abs_src_path=str(ROOT / picture)))
    return files


def commands_page() -> str:
    """Return the reference of all commands as Markdown."""
    parts = [
        "# Commands",
        "",
        "What `--help` shows. [Files and exit codes](files.md) says the rest.",
    ]
    for path, command, context in commands():
        help_text, _, more = (command.help or "").partition("Example: ")
        example, _, more = more.partition("\n\n")
        parts += ["", f"## {path}", "", help_text.strip(), "", "```sh", _joined(example), "```"]
        parts += ["", more.strip(), "", "| option | meaning |", "|---|---|"]
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None and "--help" not in parameter.opts:
                name, meaning = (" ".join(text.split()).replace("|", "\\|") for text in record)
                parts.append(f"| `{name}` | {meaning} |")
    return "\n".join(parts) + "\n"


def commands() -> Iterator[tuple[str, Any, typer.Context]]:
    """Yield (name with `zsvg`, command, context) of every command that does something itself."""

    def walk(command: Any, parent: typer.Context | None, name: str) -> Iterator[Any]:
        context = typer.Context(command, info_name=name, parent=parent)
        for child_name, child in getattr(command, "commands", {}).items():
            yield from walk(child, context, child_name)
        if not hasattr(command, "commands"):
            yield context.command_path, command, context

    return walk(typer.main.get_command(app), None, "zsvg")


def recipes_page() -> str:
    """Return what the recipes hold as Markdown."""
    parts = [
        "# Recipes",
        "",
        "What `zsvg tune --recipe NAME` takes; `coop` is the default. A file of",
    ]
    parts += ["your own is a copy of one of these with other values: `--recipe own.yaml`."]
    parts += ["", "| recipe | method | text prompts | vision prompts | learning rate |"]
    parts += ["|---|---|---|---|---|"]
    for name in recipe_names():
        recipe = load_recipe(name)
        prompts = recipe.prompts
        text = f"depth {prompts.text_depth}" if prompts.text else "none"
        if prompts.points:
            text = "two that point"
        vision = f"border of {prompts.border:g}" if prompts.border else "none"
        if prompts.vision_tokens:
            vision = f"{prompts.vision_tokens}, depth {prompts.vision_depth}"
        rate = f"{recipe.training.prompt_learning_rate:g}"
        method = recipe.source.partition(":")[0]  # the whole source stands in the file below
        parts.append(f"| [{name}](#{name}) | {method} | {text} | {vision} | {rate} |")
    for name in recipe_names():
        text = (shipped("prompts") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
        parts += ["", f"## {name}", "", "```yaml", text.rstrip(), "```"]
    parts += ["", "## Every key"]
    for model in ("Recipe", "Prompts", "HeadRecipe", "Training"):
        parts += ["", f"::: zsvg.training.recipes.{model}"]
    return "\n".join(parts) + "\n"


def _joined(text: str) -> str:
    return " ".join(text.split())
