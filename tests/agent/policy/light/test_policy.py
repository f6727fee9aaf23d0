"""The light policy says, token for token, what transformers says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from PIL import Image

from lensgraph.agent.config import ConfigError, PolicyConfig
from lensgraph.agent.policy import build
from lensgraph.agent.policy.light.numpy_qwen import KVCache
from lensgraph.agent.policy.light.policy import LightPolicy
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Rendered

CLOSE = 1e-4


def picture(width: int, height: int, seed: int = 0) -> dict[str, object]:
    """An image block of noise."""
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return {"type": "image", "image": Image.fromarray(noise)}


def text(said: str) -> dict[str, object]:
    """A text block."""
    return {"type": "text", "text": said}


DIALOGUES: dict[str, list[BaseMessage]] = {
    "no picture": [HumanMessage("What is 1963? Naïve – 名.")],
    "a picture": [HumanMessage([picture(120, 90), text("What is the capital?")])],
    "two pictures of different sizes": [HumanMessage([picture(300, 60), picture(70, 200, 1), text("Which?")])],
    "a picture in a later turn": [
        HumanMessage([picture(120, 90), text("Which?")]),
        AIMessage("<img_search>the red one</img_search>"),
        HumanMessage([picture(64, 80, 2), text("<information>1. Kenya (0.93)</information>")]),
    ],
}


@pytest.fixture(scope="module", params=["one file", "shards, grouped heads, windows, untied", "other names"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random network in a folder, as the recipes save it and in the other shapes a checkpoint may have."""
    pocket = pytest.importorskip("lensgraph.rl.pocket.pocket_network", reason="makes the networks")
    size = pocket.PocketSize(
        vocabulary=640, hidden=48, layers=2, heads=3, kv_heads=3, mlp=96, vision_hidden=32, vision_layers=2,
        vision_heads=2, vision_mlp=64, picture_tokens=24, copying=False,
    )  # fmt: skip
    if "grouped" in request.param:
        size = size.model_copy(update={"heads": 6, "kv_heads": 2, "hidden": 96})
    processor = pocket.build_processor(pocket.train_tokenizer(["What is the capital? Kenya 1963"] * 8, 640), size)
    network = pocket.build_network(processor, size)
    folder: Path = tmp_path_factory.mktemp("checkpoint")
    if "grouped" in request.param:
        config = network.config
        config.vision_config.window_size, config.vision_config.fullatt_block_indexes = 56, [1]
        config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
        torch.manual_seed(1)
        network = type(network)(config)
    with torch.no_grad():  # a fresh network says much the same about everything
        for name, weight in network.named_parameters():
            if weight.ndim > 1 and "embed" not in name:
                weight.mul_(3)
    pocket.save(network, processor, folder)
    if "grouped" in request.param:
        network.to(torch.bfloat16).save_pretrained(folder, max_shard_size="100KB")
        (folder / "model.safetensors").unlink(missing_ok=True)
        assert (folder / "model.safetensors.index.json").is_file()
    if "other names" in request.param:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        old = "model.language_model." in " ".join(tensors)
        renamed = {}
        for key, value in tensors.items():
            if old:
                key = key.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
            elif key.startswith("model."):
                key = key.replace("model.", "model.language_model.", 1)
            elif key.startswith("visual."):
                key = f"model.{key}"
            renamed[key] = value
        save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def light(checkpoint: Path) -> LightPolicy:
    return LightPolicy(model=str(checkpoint), max_new_tokens=12).load()


@pytest.fixture(scope="module")
def heavy(checkpoint: Path) -> TransformersPolicy:
    return TransformersPolicy(model=str(checkpoint), max_new_tokens=12, device="cpu").load()


def their_logits(heavy: TransformersPolicy, rendered: Rendered) -> np.ndarray:
    """transformers' logits at every token."""
    ids = torch.tensor([rendered.ids])
    inputs = {"input_ids": ids, "mm_token_type_ids": (ids == heavy.renderer.image_pad).int()}
    if rendered.pixels:
        inputs["pixel_values"] = torch.from_numpy(np.concatenate([p.values for p in rendered.pixels]))
        inputs["image_grid_thw"] = torch.tensor([p.grid for p in rendered.pixels])
    with torch.inference_mode():
        return heavy.network(**inputs).logits[0].numpy()


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_dialogue_is_the_same_ids_and_pixels(light: LightPolicy, heavy: TransformersPolicy, name: str) -> None:
    ours, theirs = light.renderer.render(DIALOGUES[name]), heavy.renderer.render(DIALOGUES[name])
    assert (ours.ids, ours.mask) == (theirs.ids, theirs.mask)
    assert [p.grid for p in ours.pixels] == [p.grid for p in theirs.pixels]
    for mine, other in zip(ours.pixels, theirs.pixels, strict=True):
        np.testing.assert_allclose(mine.values, other.values, atol=1e-6)


@pytest.mark.parametrize(("width", "height"), [(28, 28), (5, 7), (1000, 30), (31, 997), (640, 480), (113, 227)])
def test_pictures_of_any_size_become_the_same_patches(
    light: LightPolicy, heavy: TransformersPolicy, width: int, height: int
) -> None:
    ours, theirs = (policy.renderer.pixels(picture(width, height)) for policy in (light, heavy))
    assert ours.grid == theirs.grid
    np.testing.assert_allclose(ours.values, theirs.values, atol=1e-6)


@pytest.mark.parametrize("name", DIALOGUES)
def test_logits_and_greedy_words_are_those_of_transformers(
    light: LightPolicy, heavy: TransformersPolicy, name: str
) -> None:
    rendered = heavy.renderer.render(DIALOGUES[name])
    expected = their_logits(heavy, rendered)[-1]
    found = light.network.read(KVCache(), rendered.ids, rendered.pixels)
    assert float(expected.std()) > 0.05
    assert float(np.abs(found - expected).max()) < CLOSE
    mine, theirs = light.invoke(DIALOGUES[name]), heavy.invoke(DIALOGUES[name])
    assert mine.response_metadata["token_ids"] == theirs.response_metadata["token_ids"]
    assert mine.content == theirs.content
    assert mine.usage_metadata == theirs.usage_metadata
    assert set(mine.response_metadata) == set(theirs.response_metadata)
    np.testing.assert_allclose(mine.response_metadata["logprobs"], theirs.response_metadata["logprobs"], atol=CLOSE)


def test_a_dialogue_that_goes_on_is_read_from_where_it_stood(light: LightPolicy, heavy: TransformersPolicy) -> None:
    dialogue: list[BaseMessage] = [HumanMessage([picture(120, 90), text("Which?")])]
    memory, before = KVCache(), 0
    for turn in range(3):
        rendered = light.renderer.render(dialogue)
        known = memory.shared(light.network._tokens(rendered.ids, rendered.pixels)[0])
        logits = light.network.read(memory, rendered.ids, rendered.pixels)
        expected = their_logits(heavy, rendered)[-1]
        assert float(np.abs(logits - expected).max()) < CLOSE
        assert known == before  # all that was read, the policy's own words included
        position = light.network.next_position(rendered.ids, rendered.pixels)
        said = [3 + turn, 70, 12]
        for n, token in enumerate(said):
            logits = light.network.step(memory, token, position + n)
        rendered.extend(said, 1)
        assert float(np.abs(logits - their_logits(heavy, rendered)[-1]).max()) < CLOSE
        before = len(rendered.ids)
        ids = [*said, light.renderer.eos]
        dialogue += [
            AIMessage("", response_metadata={"token_ids": ids}),
            HumanMessage([picture(60 + 40 * turn, 90, turn + 1), text("observed")]),
        ]


def test_another_picture_or_another_dialogue_is_never_taken_from_memory(light: LightPolicy) -> None:
    for blocks in ([picture(90, 90, 1)], [picture(90, 90, 2)], [], [picture(90, 90, 1), picture(60, 90, 3)]):
        dialogue = [HumanMessage([*blocks, text("Which?")])]
        rendered = light.renderer.render(dialogue)
        alone = light.network.read(KVCache(), rendered.ids, rendered.pixels)
        after = light.network.read(light._cache, rendered.ids, rendered.pixels)
        assert float(np.abs(alone - after).max()) < CLOSE


def test_the_pixels_matter(light: LightPolicy) -> None:
    rendered = light.renderer.render([HumanMessage([picture(80, 80, 7), text("q?")])])
    seen = light.turn(rendered)
    rendered.pixels[0].values[:] = 0
    assert light.turn(rendered).logprobs != seen.logprobs


def test_sampled_ids_are_never_encoded_again(light: LightPolicy) -> None:
    hot = light.model_copy(update={"temperature": 3.0, "seed": 0})
    opening = HumanMessage("q")
    turn = hot.invoke([opening])
    ids = turn.response_metadata["token_ids"]
    assert len(ids) == len(turn.response_metadata["logprobs"])
    turn = turn.model_copy(update={"content": "something else"})
    rendered = hot.renderer.render([opening, turn, HumanMessage("o")])
    own = [i for i, sampled in zip(rendered.ids, rendered.mask, strict=True) if sampled]
    assert own[: len(ids)] == ids


def test_a_seed_makes_sampling_repeatable_and_pictures_are_never_said(checkpoint: Path) -> None:
    policies = [LightPolicy(model=str(checkpoint), temperature=5.0, seed=3, max_new_tokens=64) for _ in range(2)]
    first, second = (policy.invoke([HumanMessage("q")]).response_metadata["token_ids"] for policy in policies)
    assert first == second
    assert not set(first) & set(policies[0].renderer.picture_tokens())


async def test_concurrent_questions_do_not_mix(light: LightPolicy) -> None:
    dialogues = [[HumanMessage([picture(40 + 20 * n, 60), text(f"question {n}?")])] for n in range(4)]
    alone = [light.invoke(dialogue).text for dialogue in dialogues]
    together = await asyncio.gather(*(light.ainvoke(dialogue) for dialogue in dialogues))
    assert [message.text for message in together] == alone


@pytest.mark.parametrize(
    ("file", "field", "value", "message"),
    [
        ("config.json", "model_type", "llama", "model_type is 'llama'"),
        ("config.json", "text_config.hidden_act", "gelu", "text_config.hidden_act is 'gelu'"),
        ("config.json", "text_config.use_sliding_window", True, "text_config.use_sliding_window is True"),
        ("tokenizer_config.json", "eos_token", None, "no eos_token"),
    ],
)
def test_a_checkpoint_it_cannot_run_is_refused_in_one_line(
    checkpoint: Path, tmp_path: Path, file: str, field: str, value: object, message: str
) -> None:
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    changed = json.loads((tmp_path / file).read_text("utf-8"))
    *sections, key = field.split(".")
    section = changed
    for name in sections:
        section = section[name]
    section[key] = value
    (tmp_path / file).write_text(json.dumps(changed))
    with pytest.raises(ConfigError, match=message) as caught:
        build(PolicyConfig(kind="pocket", model=str(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["model.language_model.layers.1.mlp.up_proj.weight", "model.visual.blocks.0.attn.qkv.bias"]
)
def test_a_checkpoint_that_lacks_a_tensor_is_refused_in_one_line(checkpoint: Path, tmp_path: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    ending = name.split(".", 2)[2]
    for path in tmp_path.glob("*.safetensors"):
        tensors = load_file(path)
        save_file({key: tensor for key, tensor in tensors.items() if not key.endswith(ending)}, path)
    with pytest.raises(ConfigError, match=f"has no tensor '.*{ending}'; give a complete") as caught:
        build(PolicyConfig(kind="pocket", model=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_is_cut_off_is_refused_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[: -8 if path.suffix == ".safetensors" else None])
    with pytest.raises(ConfigError, match="is cut off; copy or download the file again"):
        build(PolicyConfig(kind="pocket", model=str(tmp_path)))


def test_a_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        build(PolicyConfig(kind="pocket", model="/nowhere/at/all"))
