"""The model card of a model folder: what it is, how it was made, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from zsvg.backbones.offline import weights_place
from zsvg.files import write_text
from zsvg.grounding.presence import Presence

CARD = "README.md"  # where the Hugging Face Hub and PEFT look for it
_TAGS = ("zsvg", "video-moment-retrieval", "temporal-grounding")
_LOAD = 'zsvg.load("this-folder")'


def front_matter(manifest: Mapping[str, Any], *, prompts: bool) -> dict[str, Any]:
    """Return what the hub reads of a card. Of its tasks none is to find moments, so none is named.

    Args:
        manifest: The model's `zsvg.json`.
        prompts: It has prompts, which PEFT can load alone.
    """
    about: dict[str, Any] = {"library_name": "zsvg", "tags": [*_TAGS]}
    if prompts:
        about["tags"] += ["prompt-tuning", "peft"]
    if (base := hub_id(manifest["backbone"]["name"])) is not None:
        about |= {"base_model": base, "base_model_relation": "adapter"}
    return about


def hub_card(
    text: str, about: Mapping[str, Any], repository: str, licence: str | None = None
) -> str:
    """Return a card as it stands on the hub: it loads from there, and has what the hub reads.

    Args:
        text: The card of the folder, perhaps edited; what its front matter says stays.
        about: The front matter that it should have.
        repository: ORG/NAME.
        licence: The hub's name of a licence for the model, such as "apache-2.0".

    Raises:
        ValueError: The front matter of the text is no YAML.
    """
    from huggingface_hub import ModelCard

    card = ModelCard(text.replace(_LOAD, f'zsvg.load("hf://{repository}")'))
    for key, value in about.items():
        if card.data.get(key) is None:
            card.data[key] = value
    if licence:
        card.data["license"] = licence
    return str(card)


def write_model_card(folder: Path, manifest: Mapping[str, Any], *, prompts: int, head: int) -> None:
    """Write the card of a tuned model; it replaces the empty one of PEFT.

    Args:
        folder: The model folder.
        manifest: Its `zsvg.json`.
        prompts: Number of trained prompt parameters; 0 without prompts.
        head: Number of trained head parameters.
    """
    backbone, labels = manifest["backbone"]["name"], manifest["labels"]
    about = front_matter(manifest, prompts=prompts > 0)
    pseudo = labels["count"] - labels["true"]
    made_of = [
        f"{n} {kind} labels" for n, kind in ((pseudo, "pseudo"), (labels["true"], "true")) if n
    ]
    recipe, versions = manifest["recipe"], manifest["versions"]
    rows = [
        (
            "backbone, frozen",
            f"`{backbone}` (fingerprint `{manifest['backbone']['fingerprint'][:12]}`)",
        ),
        ("recipe", recipe["name"] + (f": {recipe['source']}" if recipe["source"] else "")),
        (
            "trained",
            f"{prompts} prompt and {head} head parameters, {recipe['training']['steps']} steps",
        ),
        ("labels", f"{' and '.join(made_of)}: {labels['level']}"),
        ("frames", _frames(manifest)),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))),
    ]
    if "captioner" in manifest:
        rows.append(("captioner", f"`{manifest['captioner']}`"))
    if scores := manifest.get("held_out"):
        said = ", ".join(f"{name} {100 * value:.1f}" for name, value in sorted(scores.items()))
        if sure := manifest.get("gain"):
            more = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in sure))
            said += f"; gain {more}, 95 % over videos"
        rows.append(("mIoU on held-out labels of this run, no benchmark", said))
    if (share := manifest.get("share")) is not None:
        turned = manifest.get("alignment")
        aligned = f" of aligned sentences ({turned:g})" if turned else ""
        rows.append(("of the answers the head's", f"{share:.0%}; the rest is similarity{aligned}"))
    if presence := Presence.of(manifest):
        rows.append(
            (
                "says that a moment may not be there",
                f"below {presence.threshold:.3f}: of {presence.labels} held-out labels"
                + (f", but for {presence.wrong:.0%} that look wrong," if presence.wrong else "")
                + f" {presence.lost:.0%}, of sentences that are not true of their videos "
                f"{presence.refused:.0%}",
            )
        )
        if presence.brier is not None and presence.error is not None:
            rows.append(
                (
                    "how likely it says a moment is, on held-out labels",
                    f"Brier score {presence.brier:.3f} (0.250: as likely as not, always), expected "
                    f"calibration error {presence.error:.3f}; half of the sentences are true",
                )
            )
    table = "\n".join(f"| {name} | {value.replace('|', '/')} |" for name, value in rows)
    note = (
        "\n\n`micro` understands only zsvg's rendered microworld; about other videos its answers "
        "mean nothing."
        if backbone == "micro"
        else ""
    )
    write_text(
        folder / CARD,
        f"---\n{yaml.safe_dump(about, sort_keys=True)}---\n\n"
        "# Finds moments in videos by sentence\n\n"
        f"Prompts and a small head on a frozen CLIP, tuned with zsvg.{note}\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        "```python\nimport zsvg\n\n"
        f"grounder = {_LOAD}\n"
        'print(grounder.ground("video.mp4", "a person opens the door").moments)\n```\n'
        + (
            "\nThe prompts alone are a PEFT adapter: `import zsvg.tuners`, then "
            "`PeftModel.from_pretrained(clip, folder)`.\n"
            if prompts
            else ""
        ),
    )


def hub_id(backbone: str) -> str | None:
    """Return the ORG/NAME of a backbone on the Hugging Face Hub, where its name tells one."""
    if backbone.startswith("hf-hub:"):
        return backbone.removeprefix("hf-hub:").partition("@")[0]
    repository, _ = weights_place(backbone)
    return repository or None


def _frames(manifest: Mapping[str, Any]) -> str:
    if "features" in manifest:
        return f"features of files, {describe_features(manifest['features'])}"
    sampling = manifest["sampling"]
    return f"{sampling['fps']:g} per second, {sampling['framing']}"


def describe_features(about: Mapping[str, Any]) -> str:
    """Return what features have to be: `features` of a manifest, in words."""
    seconds = about["clip_seconds"]
    lie = "spread evenly over the video" if seconds is None else f"one each {seconds:g} s"
    return f"rows of {about['width']} numbers, {lie}"
