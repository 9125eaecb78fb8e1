"""Names of libraries that are not promised to anybody: where one moves, its reason is told."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

_STATE = "Accelerate tells nobody whether a device is chosen without choosing one"
_TUNER = "PEFT calls it on every tuner, so that `PromptModel` overrides it"
_LAYER = "PEFT's own layers hold it, and `disable_adapter` and `set_adapter` go by it"
# Where it is, the parameters that it is called with (None: it is no function), and why.
NAMES = [
    ("accelerate.state", "PartialState._shared_state", None, _STATE),
    (
        "accelerate.state",
        "AcceleratorState._reset_state",
        ("reset_partial_state",),
        "a run on the CPU would bind all later ones to it",
    ),
    ("peft.tuners.tuners_utils", "BaseTuner._prepare_adapter_config",
     ("self", "peft_config", "model_config"), _TUNER),
    ("peft.tuners.tuners_utils", "BaseTuner._create_and_replace",
     ("self", "peft_config", "adapter_name", "target", "target_name", "parent", "current_key",
      "parameter_name"), _TUNER),
    ("peft.tuners.tuners_utils", "BaseTuner._replace_module",
     ("self", "parent", "child_name", "new_module", "child"), _TUNER),
    ("peft.tuners.tuners_utils", "BaseTunerLayer._active_adapter", None, _LAYER),
    ("peft.tuners.tuners_utils", "BaseTunerLayer._disable_adapters", None,
     f"{_LAYER}; `enable_adapters` would switch gradients, too"),
    # Public by name, but documented nowhere.
    *(
        ("peft.mapping", f"PEFT_TYPE_TO_{kind}_MAPPING", None,
         "`register_peft_method` takes members of PEFT's own enum alone")
        for kind in ("CONFIG", "TUNER", "PREFIX")
    ),
    ("transformers.models.auto.modeling_auto", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", None,
     "the public table has classes in place of names, and imports every model"),
    ("huggingface_hub.constants", "HF_HUB_OFFLINE", None,
     "the variable of the environment is read once, before us"),
    ("gradio.utils", "get_upload_folder", (), "the gate looks how full the disk of uploads is"),
    ("gradio.routes", "App.get_blocks", ("self",), "the gate asks the page for its own names"),
    ("gradio.routes", "App.build_middleware_stack", ("self",),
     "the gate stands before `middleware_stack`, as middleware stands behind Gradio's own"),
    ("python_multipart.multipart", "parse_options_header", ("value",),
     "the gate reads uploads as Gradio does"),
    ("ray", "_private", None, "of its address there is no public name"),
    ("ray._private.utils", "read_ray_address", ("temp_dir",),
     "Ray itself looks for minutes for the cluster of this machine where it has gone"),
]  # fmt: skip


@pytest.mark.parametrize(("home", "name", "parameters", "why"), NAMES, ids=[n[1] for n in NAMES])
def test_what_we_lean_on_is_there(home, name, parameters, why):
    found = importlib.import_module(home)
    for part in name.split("."):
        assert hasattr(found, part), f"{home} has no {name} any more; needed as {why}"
        found = getattr(found, part)
    if parameters is not None:
        known = tuple(inspect.signature(found).parameters)
        assert known == parameters, f"{home}.{name} takes {known} now, not {parameters}; {why}"


def test_no_other_private_name_of_a_library_is_used():
    """Of classes that are not ours, `PromptModel` and `PromptLayer` override private names."""
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer

    from zsvg.tuners import PromptLayer, PromptModel

    listed = {name.rpartition(".")[2] for _, name, _, _ in NAMES}
    used = {"_active_adapter"}  # `PromptLayer` sets its own
    for ours, theirs in ((PromptModel, BaseTuner), (PromptLayer, BaseTunerLayer)):
        used |= {name for name in vars(ours) if _private(name) and hasattr(theirs, name)}
    own = {"_abc_impl", "_exit"}  # of every abstract class; of `os`, and documented
    for file in (file for room in ("zsvg", "demo") for file in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                own.add(node.name)
            elif isinstance(node, ast.Attribute) and _private(node.attr):
                if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                    used.add(node.attr)
            elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("zsvg"):
                names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                used |= set(filter(_private, names))
    assert used - (own - listed) == set(filter(_private, listed))


def _private(name):
    return name.startswith("_") and not name.endswith("_")
