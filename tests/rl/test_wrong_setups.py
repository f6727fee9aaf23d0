"""Set-ups that a researcher gets wrong: each ends with exit code 2 and one line, before any weight is loaded.

The list was written before the code that refuses them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.rl import train
from lensgraph.rl.network import memory
from lensgraph.rl.pocket import pocket_network
from lensgraph.rl.pocket.pocket_network import PocketSize


@dataclass(frozen=True)
class Wrong:
    """A set-up that cannot work."""

    given: list[str]
    """Arguments of `python -m rl.train`, on top of a recipe that works."""
    says: list[str]
    """Words of the line: the value that is wrong, and the fix."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of the shell."""
    stage: str = "grpo"
    """The stage that is run."""
    prepare: Callable[[Path], None] = lambda folder: None
    """Puts files into the folder of the test, which arguments call FOLDER."""


def other_family(folder: Path) -> None:
    """A checkpoint of a family that is not supported."""
    (folder / "phi").mkdir()
    (folder / "phi" / "config.json").write_text(json.dumps({"model_type": "phi4_multimodal"}))


def adapter(folder: Path) -> None:
    """The files of peft: an adapter without the model that it belongs to."""
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "Qwen/Qwen2-VL"}))


def large(folder: Path) -> None:
    """The configuration of a network of seven billion weights, in a folder whose weights are never read."""
    config = json.loads((folder / "base" / "config.json").read_text())
    config["text_config"] |= {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064,
    }  # fmt: skip
    config["text_config"]["rope_parameters"]["mrope_section"] = [16, 24, 24]
    config["text_config"]["layer_types"] = ["full_attention"] * 28
    config["vision_config"]["out_hidden_size"] = 3584
    (folder / "large").mkdir()
    for file in (folder / "base").iterdir():
        if file.suffix != ".safetensors":
            (folder / "large" / file.name).write_bytes(file.read_bytes())
    (folder / "large" / "config.json").write_text(json.dumps(config))


def tasks_without_a_picture(folder: Path) -> None:
    """A task file whose picture was not copied along."""
    row = {"question": "Which colour?", "answers": ["red"], "images": ["red.png"]}
    (folder / "mine.jsonl").write_text(json.dumps(row) + "\n")


WRONG = {
    "a family that is not supported": Wrong(["start_from=FOLDER/phi"], ["phi4_multimodal"], prepare=other_family),
    "an adapter for a checkpoint": Wrong(["start_from=FOLDER/adapter"], ["adapter", "Qwen/Qwen2-VL"], prepare=adapter),
    "a hub that cannot be reached": Wrong(
        ["start_from=Qwen/Qwen2.5-VL-7B-Instruct"], ["Qwen/Qwen2.5-VL-7B-Instruct", "start_from", "folder"]
    ),
    "7B on a card of 2 GB": Wrong(["start_from=FOLDER/large"], ["7.1 billion", "2 GB", "lora"], prepare=large),
    "a task file that is not there": Wrong(["tasks=fvqa_train.jsonl"], ["fvqa_train.jsonl"]),
    "a picture that is not there": Wrong(["tasks=FOLDER/mine.jsonl"], ["red.png"], prepare=tasks_without_a_picture),
    "a held-out set that is not there": Wrong(["held_out=world/validatoin"], ["world/validatoin", "world/validation"]),
    "a search without its key": Wrong(["settings=[tools.text_search.use=tavily]"], ["TAVILY_API_KEY"]),
    "a search that cannot be imported": Wrong(
        ["settings=['tools.image_search.use=package.module:Class']"], ["package.module:Class"]
    ),
    "an engine that is not installed": Wrong(["vllm=colocate"], ["vllm", "pip install"]),
    "an engine that does not answer": Wrong(
        ["vllm=server", "vllm_url=http://127.0.0.1:9"], ["vllm=server", "127.0.0.1:9"]
    ),
    "DeepSpeed that is not installed": Wrong(
        [], ["deepspeed", "pip install"], {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}
    ),
    "a judge that does not answer": Wrong(
        ["reward.match=judge", "judge.kind=openai_compatible", "judge.base_url=http://127.0.0.1:9/v1",
         "judge.model=judge", "judge.retries=0", "judge.options.start_wait=0"],
        ["judge", "127.0.0.1:9"],
    ),
    "a field that is misspelt": Wrong(["learning_rat=1e-5"], ["learning_rat", "did you mean 'learning_rate'"]),
    "a loss that TRL does not know": Wrong(["loss_type=drgrpo"], ["drgrpo", "dr_grpo"]),
    "an option of LoRA that is misspelt": Wrong(["lora={rank: 8}"], ["rank", "lora_"]),
    "rollouts that do not divide": Wrong(["prompts=3", "batch=5"], ["prompts=3", "batches of 5"]),
    "a rule for another dialect": Wrong(["reward.rule=mmsearch_r1"], ["mmsearch_r1", "compact"]),
    "a node that decides nothing": Wrong(["train_nodes=[raeson]"], ["raeson", "reason"]),
    "trajectories that are not there": Wrong(
        ["trajectories=FOLDER/none", "start_from=FOLDER/base"], ["none", "trajectories"], stage="sft"
    ),
}  # fmt: skip


@pytest.fixture
def base(tmp_path: Path, processor: PictureProcessor, tiny_size: dict[str, int]) -> Path:
    """A checkpoint that works."""
    folder = tmp_path / "base"
    pocket_network.save(pocket_network.build_network(processor, PocketSize(**tiny_size)), processor, folder)
    return folder


class WeightsLoaded(AssertionError):
    """Weights were loaded for a set-up that cannot work."""


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_pretrained(*args: Any, **kwargs: Any) -> Any:
        raise WeightsLoaded(f"weights of {args[:1]}")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", from_pretrained)
    monkeypatch.setattr(memory, "device_bytes", lambda: 2_000_000_000)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.usefixtures("no_weights", "base")
def test_a_wrong_set_up_is_one_line_before_any_weight_is_loaded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = WRONG[name]
    wrong.prepare(tmp_path)
    for variable, value in wrong.environment.items():
        monkeypatch.setenv(variable, value)
    working = {"grpo": [f"start_from={tmp_path}/base", "batch=8", "prompts=2", "generations=4"], "sft": []}
    given = [one.replace("FOLDER", str(tmp_path)) for one in wrong.given]
    assert train.main([wrong.stage, f"output={tmp_path}/run", *working[wrong.stage], *given]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert [word for word in wrong.says if word not in lines[0]] == [], lines[0]
    assert not (tmp_path / "run").exists(), "nothing was begun"
