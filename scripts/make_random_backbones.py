"""Write full-size CLIP and BLIP folders of random weights, for speed and memory measurements.

    python scripts/make_random_backbones.py OUT

writes OUT/clip-vit-b-32 (use `local-dir:OUT/clip-vit-b-32`, about 605 MB) and OUT/blip-base (about
0.9 GB). The sizes are those of the real models; the outputs mean nothing. Seeded: the same call
gives the same weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def write_clip(folder: Path, seed: int, architecture: str = "ViT-B-32") -> None:
    """Write an open_clip `local-dir:` folder; its tokenizer is open_clip's built-in one."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = open_clip.create_model(architecture, force_custom_text=True, load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {
        "model_cfg": open_clip.get_model_config(architecture),
        "preprocess_cfg": {
            key: model.visual.preprocess_cfg[key]
            for key in ("mean", "std", "interpolation", "resize_mode")
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def write_blip(folder: Path, seed: int) -> None:
    """Write a transformers folder of BLIP-base: full sizes, a small vocabulary padded to 30,524."""
    import torch
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder.mkdir(parents=True, exist_ok=True)
    size = 30_524
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    words += ["a", "person", "opens", "the", "door", "and", "walks", "to", "table", "of"]
    words += [f"word{index}" for index in range(size - len(words))]
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    text = {
        "vocab_size": size,
        "bos_token_id": words.index("[DEC]"),
        "eos_token_id": words.index("[SEP]"),
        "sep_token_id": words.index("[SEP]"),
        "pad_token_id": words.index("[PAD]"),
    }
    # transformers' default of 1e-10 would make the picture invisible to the text decoder.
    config = BlipConfig(
        text_config=text, vision_config={"image_size": 384, "initializer_range": 0.02}
    )
    torch.manual_seed(seed)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    processor = BlipImageProcessor(size={"height": 384, "width": 384})
    BlipProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)


def main() -> None:
    """Write the folders that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=["clip", "blip"], help="write one of the two")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.only != "blip":
        write_clip(arguments.out / "clip-vit-b-32", arguments.seed)
    if arguments.only != "clip":
        write_blip(arguments.out / "blip-base", arguments.seed)


if __name__ == "__main__":
    main()
