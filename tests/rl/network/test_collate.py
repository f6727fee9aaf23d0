"""Batches hold exactly what the model would have worked out itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image

from lensgraph.agent.policy.positions import mrope_positions
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Renderer
from lensgraph.rl.network.collate import IGNORE, Collator
from lensgraph.rl.network.vision_attention import batch_pictures


@pytest.fixture
def batch(policy: TransformersPolicy) -> dict[str, torch.Tensor]:
    """Two rows with pictures of different sizes, one of them with a second picture in mid-dialogue, and one without."""

    def picture(width: int, height: int) -> dict[str, object]:
        noise = np.random.default_rng(height).integers(0, 255, (height, width, 3), dtype=np.uint8)
        return {"type": "image", "image": Image.fromarray(noise)}

    renderer = policy.renderer
    rows = [
        [
            HumanMessage([picture(200, 90), {"type": "text", "text": "q"}]), AIMessage("look"),
            HumanMessage([picture(60, 60), {"type": "text", "text": "crop"}]), AIMessage("<answer>x</answer>"),
        ],
        [HumanMessage("text only"), AIMessage("fine")],
        [HumanMessage([picture(90, 90), {"type": "text", "text": "q"}]), AIMessage("b")],
    ]  # fmt: skip
    collate = Collator(policy.network.config, pad=renderer.tokenizer.pad_token_id)
    return collate([{"rendered": renderer.render(row, generate=False)} for row in rows])


def _without_layout(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in batch.items() if k not in ("position_ids", "labels") and not k.startswith("image_")} | {
        "image_grid_thw": batch["image_grid_thw"]
    }


def test_rotary_positions_are_the_models_own(policy: TransformersPolicy, batch: dict[str, torch.Tensor]) -> None:
    kinds = (batch["input_ids"] == policy.renderer.image_pad).int()
    own, _ = policy.network.model.get_rope_index(
        batch["input_ids"], kinds, image_grid_thw=batch["image_grid_thw"], attention_mask=batch["attention_mask"]
    )
    real = batch["attention_mask"].bool()
    assert torch.equal(own[:, real], batch["position_ids"][:, real])


def test_precomputed_layout_and_batched_attention_change_no_output_and_no_gradient(
    policy: TransformersPolicy, batch: dict[str, torch.Tensor]
) -> None:
    network, real = policy.network, batch["attention_mask"].bool()
    kinds = (batch["input_ids"] == policy.renderer.image_pad).int()
    stock = network(**_without_layout(batch), mm_token_type_ids=kinds).logits[real]
    stock.square().mean().backward()
    name = "model.visual.blocks.0.attn.qkv.weight"
    gradient = dict(network.named_parameters())[name].grad.clone()
    network.zero_grad()
    batch_pictures(network.model.visual)
    ours = network(**{k: v for k, v in batch.items() if k != "labels"}).logits[real]
    ours.square().mean().backward()
    assert torch.allclose(stock, ours, atol=1e-5)
    assert torch.allclose(gradient, dict(network.named_parameters())[name].grad, atol=1e-5)


def test_only_the_policys_own_tokens_are_labelled(renderer: Renderer, batch: dict[str, torch.Tensor]) -> None:
    said = [renderer.tokenizer.decode(row[row != IGNORE]) for row in batch["labels"]]
    assert said == ["look<|im_end|><answer>x</answer><|im_end|>", "fine<|im_end|>", "b<|im_end|>"]


@pytest.mark.parametrize(("ids", "grids"), [([1, 9, 9, 2], []), ([1, 9, 2], [(1, 2, 4)]), ([1, 2], [(1, 2, 2)])])
def test_placeholders_without_their_picture_are_refused(ids: list[int], grids: list[tuple[int, int, int]]) -> None:
    with pytest.raises(ValueError, match="placeholders"):
        mrope_positions(ids, grids, image_pad=9, merge=2)
