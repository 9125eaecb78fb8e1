"""The demo: upload a video, write a sentence, see its moments and jump to the best one.

Only the public interface of zsvg is used, so this file is also an example of it:

    import zsvg
    from app import build_demo

    build_demo(zsvg.load("micro")).launch()
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd

from zsvg import EncodedVideo, Grounder, Grounding, ZsvgError
from zsvg.video import probe, video_hash

MAX_ANSWERS = 20
MAX_QUERY = 300  # characters
MAX_POINTS = 1000  # of the curve; a browser draws no more than that anyway
COLUMNS = ["rank", "start (s)", "end (s)", "score"]
MICRO_NOTE = (
    "**`micro` understands only microworld**, the small rendered videos of `zsvg microworld`: "
    "coloured shapes and digits that move, spin, grow, shrink, blink or bounce. Its answers about "
    "any other video mean nothing."
)


def build_demo(grounder: Grounder, *, max_minutes: float = 60.0) -> gr.Blocks:
    """Lay out the page around one grounder.

    Args:
        grounder: What answers; the page says which backbone it uses.
        max_minutes: Longer videos are refused, so that one visitor does not keep all the others
            waiting.

    Returns:
        A page with the endpoint `/ground` (video, sentence, answers -> moments, curve, player,
        summary); call `.launch()` on it.
    """

    def ground(
        video: str | None, query: str, top_k: float, encoded: EncodedVideo | None
    ) -> tuple[pd.DataFrame, pd.DataFrame, Any, str, EncodedVideo]:
        if not video:
            raise _refusal("upload a video first")
        if not query.strip():
            raise _refusal("write a sentence that describes the moment")
        if len(query) > MAX_QUERY:
            raise _refusal(f"the sentence has {len(query)} characters; at most {MAX_QUERY}")
        try:
            minutes = probe(video).duration / 60
            if minutes > max_minutes:
                raise _refusal(
                    f"the video lasts {minutes:.0f} minutes; this page takes up to {max_minutes:g}"
                )
            # The page's state: the next question about the same video skips the encoding.
            if encoded is None or encoded.frames.content != video_hash(video):
                encoded = grounder.encode(video)
            answer = grounder.ground(encoded, query, top_k=int(top_k))
        except (ZsvgError, ValueError) as error:
            # Uploads lie in a folder of the server, which is nobody's business.
            raise _refusal(str(error).replace(video, Path(video).name)) from error
        best = answer.moments[0].start if answer.moments else 0.0
        return (
            _table(answer),
            _curve(answer),
            gr.Video(playback_position=best),
            _summary(answer, encoded),
            encoded,
        )

    def seek(event: gr.SelectData) -> Any:
        return gr.Video(playback_position=float(event.row_value[1]))

    # Uploads are deleted once they are a day old.
    with gr.Blocks(title="zsvg", delete_cache=(3600, 86400)) as demo:
        gr.Markdown("# zsvg: find moments by sentence\n" + describe(grounder))
        encoded = gr.State(time_to_live=86400)
        with gr.Row():
            with gr.Column():
                video = gr.Video(label="Video", sources=["upload"])
                query = gr.Textbox(
                    label="Sentence",
                    placeholder="what happens in the moment you look for",
                    max_length=MAX_QUERY,
                )
                top_k = gr.Slider(1, MAX_ANSWERS, value=5, step=1, label="Most answers")
                button = gr.Button("Find the moment", variant="primary")
            with gr.Column():
                summary = gr.Markdown(min_height=60)
                table = gr.Dataframe(
                    headers=COLUMNS,
                    datatype="number",
                    label="Moments, best first; click one to jump to it",
                    interactive=False,
                )
                curve = gr.LinePlot(
                    x="seconds", y="relevance", label="Relevance over time", height=240
                )
        gr.on(
            [button.click, query.submit],
            ground,
            inputs=[video, query, top_k, encoded],
            outputs=[table, curve, video, summary, encoded],
            api_name="ground",
            show_progress_on=summary,  # a refusal then leaves video and answers in sight
        )
        table.select(seek, outputs=video, api_visibility="private", show_progress="hidden")
    return demo.queue(max_size=32)


def describe(grounder: Grounder) -> str:
    """Return Markdown that says who answers, and what it can be asked."""
    name = grounder.backbone.name
    if name.startswith("local-dir:"):  # only the folder's own name: the page may be public
        name = f"local-dir:{Path(name.removeprefix('local-dir:')).name}"
    how = "similarity alone, nothing was trained"
    if grounder.head is not None:
        how = "tuned prompts and head" if grounder.adapter else "a tuned head, no prompts"
    text = f"Backbone: `{name}`, {how}. {grounder.fps:g} frames per second are looked at."
    return f"{text}\n\n{MICRO_NOTE}" if name == "micro" else text


def _refusal(message: str) -> gr.Error:
    return gr.Error(message, print_exception=False)


def _table(answer: Grounding) -> pd.DataFrame:
    rows = [
        (rank, round(m.start, 2), round(m.end, 2), round(m.score, 3))
        for rank, m in enumerate(answer.moments, 1)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _curve(answer: Grounding) -> pd.DataFrame:
    """Return the relevance curve with at most MAX_POINTS points; peaks survive the thinning."""
    step = -(-len(answer.curve) // MAX_POINTS)
    starts = np.arange(0, len(answer.curve), step)
    return pd.DataFrame(
        {
            "seconds": answer.centres[starts].round(3),
            "relevance": np.maximum.reduceat(answer.curve, starts).astype(float).round(4),
        }
    )


def _summary(answer: Grounding, encoded: EncodedVideo) -> str:
    if not answer.moments:
        return f"No moment found in {encoded.duration:.1f} seconds of video."
    best = answer.moments[0]
    return (
        f"Best of {len(answer.moments)}: **{best.start:.2f} to {best.end:.2f} s** "
        f"of {encoded.duration:.2f} s."
    )
