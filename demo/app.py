"""The whole page: head, tabs, theme, and options of its server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from zsvg import Grounder

from .api import endpoints
from .gate import gated
from .ground import ground_tab
from .heading import heading
from .label import label_tab
from .library import library_tab
from .library_api import library_endpoints
from .shelf import Shelf
from .tune import tune_tab
from .visit import Limits, Site, Visit

if TYPE_CHECKING:
    from zsvg.library.library import Library

STYLE = Path(__file__).with_name("style.css")
SCRIPT = "\n".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.js", "keys.js")
)
FREE, TUNED = "training-free", "tuned"


def build_demo(
    models: Grounder | Mapping[str, Grounder],
    *,
    captioner: str | None = None,
    videos: str | Path | None = None,
    project: str | Path | None = None,
    device: str | None = None,
    limits: Limits | None = None,
    library: Library | None = None,
    index: Sequence[str | Path] = (),
) -> gr.Blocks:
    """Lay out the page around one grounder, or around several by name.

    Args:
        models: The models to query. A single tuned one gets its bare backbone beside it.
        captioner: The captioner of the Label tab; None: no labelling, except that the backbone
            `micro` has its own.
        videos: Folder that the Label tab offers to every visitor; None: none.
        project: Folder that keeps visitors' labels and uploads when the page ends; None: none.
        device: Of labelling and tuning runs; None: the best there is.
        limits: Limits for one visitor.
        library: What the Library tab searches, by the first of the models; None: there is no such
            tab.
        index: Folders below which visitors may have a folder added to it; none: it stays as it is.

    Returns:
        A page; call `.launch(**launch_options())` on it.
    """
    limits = limits or Limits()
    sides = _sides(models)
    backbone = next(iter(sides.values())).backbone.name
    if captioner is None and backbone == "micro":
        captioner = "micro"
    folder = None if videos is None else Path(videos).resolve()
    kept = None if project is None else Path(project).resolve()
    shelf = None if library is None else Shelf(library, [Path(place) for place in index])
    site = Site(
        sides,
        captioner=captioner,
        videos=folder,
        device=device,
        limits=limits,
        project=kept,
        shelf=shelf,
    )
    # Uploads are deleted once they are a day old.
    with gr.Blocks(title="zsvg", delete_cache=(3600, 86400), analytics_enabled=False) as demo:
        site.page = demo
        head = gr.HTML(heading(sides), js_on_load=SCRIPT, apply_default_css=False, elem_id="head")
        visit = gr.State(Visit(), time_to_live=86400, delete_callback=site.forget)
        endpoints(site, visit)  # before the tabs, whose handlers would take their names
        if shelf:
            library_endpoints(site, visit)
        arriving = gr.Textbox("", visible="hidden")
        with gr.Tabs(selected="library" if shelf else "ground") as tabs:
            if shelf:
                with gr.Tab("Library", id="library"):
                    library_tab(site, visit, demo, tabs, head, arriving)
            with gr.Tab("Ground", id="ground"):
                ground_tab(site, visit, demo, arriving)
            with gr.Tab("Label", id="label"):
                label_tab(site, visit, demo)
            with gr.Tab("Tune", id="tune") as tab:
                tune_tab(site, visit, demo, tab, tabs, head)
    return demo.queue(
        max_size=limits.queue, default_concurrency_limit=limits.asking, api_open=False
    )


def launch_options(limits: Limits | None = None) -> dict[str, Any]:
    """Return the options of `launch`: theme, upload size, gate."""
    return {
        "theme": _theme(),
        "css_paths": [STYLE],
        "max_file_size": (limits or Limits()).upload_mb * 1024**2,
        "footer_links": ["api"],
        "ssr_mode": False,  # it would start a second server where node is installed
        "enable_monitoring": False,
        "num_workers": 0,  # they would be servers beside the gate
        "app_kwargs": {"lifespan": gated},
    }


def _sides(models: Grounder | Mapping[str, Grounder]) -> dict[str, Grounder]:
    """Name the models; a tuned one alone gets its bare backbone beside it."""
    given = {"": models} if isinstance(models, Grounder) else dict(models)
    if len(given) > 1:
        return given
    ((name, only),) = given.items()
    if only.head is None:
        return {name or FREE: only}
    free = Grounder(only.backbone, template=only.template, fps=only.fps, framing=only.framing)
    return {FREE: free, name or TUNED: only}


def _theme() -> gr.themes.Base:
    """Return the colours of the reports, in Gradio's names; no font is fetched."""
    names = {  # (light, dark): what has that colour
        ("#fbfaf7", "#14171a"): "body_background_fill background_fill_secondary "
        "button_secondary_background_fill_hover",
        ("#ffffff", "#1b1f23"): "background_fill_primary block_background_fill "
        "block_label_background_fill input_background_fill button_secondary_background_fill "
        "checkbox_label_background_fill",
        ("#1d2126", "#e8e6e1"): "body_text_color button_secondary_text_color "
        "checkbox_label_text_color_selected button_primary_background_fill "
        "button_primary_border_color",
        ("#ffffff", "#14171a"): "button_primary_text_color",
        ("#3a4149", "#ffffff"): "button_primary_background_fill_hover "
        "button_primary_border_color_hover",
        ("#5b636c", "#9aa3ad"): "block_label_text_color block_title_text_color "
        "block_info_text_color body_text_color_subdued input_placeholder_color",
        ("#dfdcd4", "#343a41"): "block_border_color border_color_primary input_border_color "
        "button_secondary_border_color",
        ("#0068a3", "#56b4e9"): "border_color_accent input_border_color_focus slider_color "
        "link_text_color checkbox_background_color_selected checkbox_border_color_selected",
        ("#e6f1f8", "#1d3443"): "checkbox_label_background_fill_selected",
    }
    colours: dict[str, str] = {}
    for (light, dark), keys in names.items():
        for key in keys.split():
            colours |= {key: light, f"{key}_dark": dark}
    theme = gr.themes.Base(
        primary_hue="blue",
        neutral_hue="stone",
        spacing_size="sm",
        radius_size="sm",
        text_size="md",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )
    return theme.set(
        **colours,
        block_shadow="none",
        block_label_shadow="none",
        input_border_width="1px",
        input_shadow="none",
    )
