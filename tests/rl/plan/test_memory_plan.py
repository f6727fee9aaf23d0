"""The memory of a run before it starts: published sizes, what is measured, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForImageTextToText

from lensgraph.agent.pocket import WEIGHTS
from lensgraph.rl import recipes, train
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.plan.memory_plan import memory_plan
from lensgraph.rl.plan.shapes import adapter_size, load_shape, size, vision_size

GIB = 2**30
SEVEN = "Qwen/Qwen2.5-VL-7B-Instruct"


@pytest.mark.parametrize(
    ("model", "parameters"), [("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976), (SEVEN, 8_292_166_656)]
)
def test_the_published_models_have_their_published_size(model: str, parameters: int) -> None:
    assert size(load_shape(model, torch.bfloat16).parameters()) == parameters


@pytest.mark.parametrize(
    "targets", [["q_proj", "k_proj", "v_proj", "o_proj"], "all-linear", r".*language_model.*\.(q_proj|up_proj)"]
)
def test_an_adapter_is_as_large_as_pefts_own(targets: object) -> None:
    network = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(WEIGHTS))
    vision = vision_size(network)
    assert vision == size(network.model.visual.parameters())
    found = adapter_size(network, {"target_modules": targets, "r": 4})
    adapted = get_peft_model(network, LoraConfig(r=4, target_modules=targets))  # type: ignore[arg-type]
    assert found == size(weight for name, weight in adapted.named_parameters() if "lora_" in name)


UPDATE = """
import json, re, sys, torch
from trl.trainer.utils import add_fused_lm_head
from transformers import AutoModelForImageTextToText
torch.manual_seed(0)
rows, length = int(sys.argv[2]), int(sys.argv[3])
network = AutoModelForImageTextToText.from_pretrained(sys.argv[1], dtype=torch.float32).train()
network.model.visual.requires_grad_(False)
add_fused_lm_head(network, temperature=0.9, outputs=("log_probs", "entropy"))
trained = [one for one in network.parameters() if one.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-5)
def step(length):
    ids = torch.randint(5, 4000, (rows, length))
    network(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, fused_lm_head=True).log_probs.mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
step(8)
open("/proc/self/clear_refs", "w").write("5")  # the peak of a process counts its parent's
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
before = peak()
step(length)
print(json.dumps(peak() - before))
"""


@pytest.mark.parametrize(("rows", "length"), [(2, 1200), (6, 500)])
def test_the_plan_of_the_pocket_policy_is_what_an_update_takes(rows: int, length: int) -> None:
    """A process of its own grows by what comes with the rows, which is nearly all."""
    done = subprocess.run(
        [sys.executable, "-c", UPDATE, str(WEIGHTS), str(rows), str(length)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    recipe = recipes.read("world_grpo", GRPORecipe, ["start_from=pocket", f"batch={rows}", f"max_tokens={length}"])
    parts = memory_plan(recipe, 16 * GIB, gpu=False).parts
    planned = sum(part.bytes for part in parts if part.phase == "updating")
    assert planned == pytest.approx(measured, rel=0.25)


def test_an_adapter_of_7b_fits_80_gib_and_all_its_weights_do_not() -> None:
    lora = ["start_from=" + SEVEN, "lora={r: 16}", "vllm='off'", "concurrent=8", "max_tokens=8192", "beta=0"]
    plan = memory_plan(recipes.read("mmsearch_r1_7b", GRPORecipe, lora), 80 * GIB)
    assert plan.bytes < 76 * GIB
    parts = {part.name: part.bytes / GIB for part in plan.parts}
    assert parts["weights"] == pytest.approx(15.45, abs=0.01)
    assert parts["KV cache"] == pytest.approx(28 * 2 * 4 * 128 * 2 * 8192 * 8 / GIB)
    assert train.main(["grpo", "--plan", "--card", "80", "--recipe", "mmsearch_r1_7b"]) == 2


def test_a_plan_prints_its_parts_or_refuses_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert train.main(["--plan"]) == 0
    shown = capsys.readouterr().out
    assert all(
        word in shown
        for word in ("weights", "gradients", "optimizer", "activations", "a tile of logits", "the most at one time")
    )
    for wrong, said in [
        (["--card", "2", f"start_from={SEVEN}"], "does not fit: "),
        ([f"start_from={tmp_path}"], "no config.json in that folder"),
        (["max_tokens=null"], "max_tokens: none"),
        (["lora={target_modules: [query]}"], "lora.target_modules=['query']: this model has no matrix of that name"),
    ]:
        assert train.main(["grpo", "--plan", *wrong]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert said in line


def test_the_shipped_one_gpu_recipe_fits_its_cards(capsys: pytest.CaptureFixture[str]) -> None:
    for card, model in (("24", "Qwen/Qwen2.5-VL-3B-Instruct"), ("80", SEVEN)):
        assert train.main(["grpo", "--plan", "--card", card, "--recipe", "one_gpu_lora", f"start_from={model}"]) == 0
    text = (recipes.FOLDER / "one_gpu_lora.yaml").read_text("utf-8")
    assert yaml.safe_load(text)["lora"]["r"] == 16
