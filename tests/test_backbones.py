"""What grounding asks of a backbone is a Protocol: those that there are, and one more."""

from pathlib import Path

import numpy as np
import pytest
import torch

from zsvg.backbones.base import TEMPLATE, Backbone, TextStates
from zsvg.backbones.captions import load_caption_backbone
from zsvg.backbones.clip import load_backbone
from zsvg.errors import BackboneError
from zsvg.features.encoder import FrameFeatures
from zsvg.grounding.grounder import Grounder
from zsvg.microworld.world import write_world
from zsvg.scorers.options import DRAWINGS
from zsvg.video.finding import find_readable

AXES = ("ball", "square", "star")


class Stored:
    """Features that lie in files, and a text tower that knows three words."""

    name = "stored"
    fingerprint = "3f"
    precision = "fp32"
    image_size = 8
    embed_dim = len(AXES)
    device = torch.device("cpu")
    reads = (".npy", ".txt")
    fps = 2.0
    cross_modal = True
    template = TEMPLATE
    prompts = None

    def prompted(self, adapter):
        raise BackboneError(f"{self.name} takes no prompts")

    def encode_frames(self, frames):
        raise BackboneError(f"{self.name} encodes no frames")

    def ready(self, path):
        rows = np.load(path).astype(np.float32)
        return FrameFeatures(
            vid=Path(path).stem,
            features=rows,
            times=(np.arange(len(rows)) + 0.5) / self.fps,
            duration=len(rows) / self.fps,
            fps=self.fps,
            framing="crop",
            fingerprint=self.fingerprint,
            content=Path(path).name,
        )

    def encode_text(self, texts):
        pooled = torch.tensor([[float(axis in text) for axis in AXES] for text in texts])
        pooled = torch.nn.functional.normalize(pooled + 0.1, dim=-1)
        return TextStates(pooled=pooled, tokens=pooled[:, None], mask=torch.ones(len(texts), 1) > 0)

    def relevance(self, features, query):
        return features @ query


def test_a_backbone_of_feature_files_is_grounded(tmp_path):
    backbone: Backbone = Stored()
    np.save(tmp_path / "one.npy", np.eye(3)[[0] * 4 + [1] * 3 + [2] * 5])
    grounder = Grounder(backbone, scorer=DRAWINGS)
    assert (grounder.fps, grounder.template) == (2.0, TEMPLATE)
    found = grounder.find(tmp_path)
    assert found == {"one": tmp_path / "one.npy"}
    video = grounder.encode(found["one"], cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    best = grounder.ground(video, "the square").moments[0]
    assert (best.start, best.end) == (2, 3.5)


def test_files_that_a_backbone_reads_come_before_videos(tmp_path):
    write_world(tmp_path, domain="studio", videos=1, seed=3)
    clips = tmp_path / "videos"
    (video,) = clips.iterdir()
    for name in ("b.txt", "a.npy", ".hidden.npy", "c.json"):
        (clips / name).write_bytes(b"")
    named = {"a": clips / "a.npy", "b": clips / "b.txt"}
    assert find_readable(clips, reads=Stored.reads) == named
    assert find_readable(clips, reads=()) == {video.stem: video}
    assert find_readable(clips, reads=(".npz",)) == {video.stem: video}


def test_captions_take_no_prompts_and_no_template():
    backbone = load_caption_backbone("captions:tfidf")
    grounder = Grounder(backbone)
    assert (grounder.fps, grounder.template, grounder.prompts) == (0.5, "", None)
    with pytest.raises(BackboneError, match="takes no prompts"):
        Grounder(backbone, adapter="default")


def test_a_clip_has_nothing_ready(tiny_clip_folder, tmp_path):
    backbone: Backbone = load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")
    assert backbone.ready(tmp_path / "one.jsonl") is None
    assert backbone.prompts is None
