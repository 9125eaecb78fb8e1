"""Prompts for CLIP as one PEFT tuner; importing this module registers it with PEFT.

    from peft import get_peft_model
    from zsvg.tuners import prompt_config_for

    config = prompt_config_for(tokenizer, "a video of")       # CoOp
    model = get_peft_model(clip, config)                      # open_clip CLIP or CustomTextCLIP
    model.encode_text(tokenizer([f"a video of {query}"]))     # equals zero-shot until trained

Backbones are open_clip's CLIP, SigLIP and CoCa (vision prompts in its own or timm's vision
transformers) and Hugging Face's `CLIPModel` and `SiglipModel`, there with `get_text_features`.

`PeftModel.from_pretrained` on such an adapter needs this import first; `load_adapter` does it and
also refuses adapters of another backbone, where PEFT only warns.
"""

from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)

from zsvg.tuners.config import PromptConfig, PromptType, prompt_config_for
from zsvg.tuners.context import condition_on, in_domain
from zsvg.tuners.layer import PromptLayer
from zsvg.tuners.loading import load_adapter, read_adapter
from zsvg.tuners.model import PromptModel
from zsvg.tuners.suffix import POINTS, Suffix

# `peft.utils.register_peft_method` accepts only members of PEFT's own closed enum, so an
# out-of-tree method writes to the tables that it fills.
PEFT_TYPE_TO_CONFIG_MAPPING[PromptType.ZSVG_PROMPT] = PromptConfig
PEFT_TYPE_TO_TUNER_MAPPING[PromptType.ZSVG_PROMPT] = PromptModel
PEFT_TYPE_TO_PREFIX_MAPPING[PromptType.ZSVG_PROMPT] = PromptModel.prefix

__all__ = [
    "POINTS",
    "PromptConfig",
    "PromptLayer",
    "PromptModel",
    "PromptType",
    "Suffix",
    "condition_on",
    "in_domain",
    "load_adapter",
    "prompt_config_for",
    "read_adapter",
]
