"""Turns are sampled without computing anything twice, and come out as if everything had been."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from PIL import Image

from lensgraph.agent.policy.positions import mrope_positions
from lensgraph.agent.policy.qwen.decode import Decoder
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.rl.pocket import pocket_network as pocket
from lensgraph.rl.pocket.pocket_network import PocketSize


@pytest.fixture
def network(processor: PictureProcessor, tiny_size: dict[str, int]) -> torch.nn.Module:
    """An untrained network, its weights large enough for sharp choices."""
    network = pocket.build_network(processor, PocketSize(**tiny_size)).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2.0)
    return network


def _human(text: str, colour: str | None = None) -> HumanMessage:
    pictures = [{"type": "image", "image": Image.new("RGB", (56, 84), colour)}] if colour else []
    return HumanMessage([*pictures, {"type": "text", "text": text}])


def _said(turn: Sampled) -> AIMessage:
    return AIMessage("x", response_metadata={"token_ids": turn.ids})


OPENINGS = (
    [_human("What is this?", "red")],
    [_human("no picture here, but a longer text")],
    [_human("Which?", "blue")],
)


def _forward(network: torch.nn.Module, row: Rendered, renderer: Renderer) -> torch.Tensor:
    """Log-probabilities (tokens, vocabulary) of one forward over the whole dialogue, alone and unpadded."""
    grids = [picture.grid for picture in row.pixels]
    positions = mrope_positions(row.ids, grids, renderer.image_pad, renderer.processor.merge_size)
    inputs = {"input_ids": torch.tensor([row.ids]), "position_ids": torch.from_numpy(positions)[:, None]}
    if grids:
        inputs["pixel_values"] = torch.from_numpy(np.concatenate([picture.values for picture in row.pixels]))
        inputs["image_grid_thw"] = torch.tensor(grids)
    with torch.inference_mode():
        return torch.log_softmax(network(**inputs).logits[0].float(), -1)


def _check(network: torch.nn.Module, renderer: Renderer, row: Rendered, turn: Sampled) -> None:
    whole = _forward(network, Rendered(row.ids + turn.ids, [], row.pixels), renderer)
    at = range(len(row.ids) - 1, len(row.ids) + len(turn.ids) - 1)
    expected = [float(whole[place, token]) for place, token in zip(at, turn.ids, strict=True)]
    assert turn.logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_turn_s_logprobs_are_those_of_a_whole_forward(
    network: torch.nn.Module, renderer: Renderer, temperature: float
) -> None:
    """Three turns of three dialogues of different lengths, a picture entering one of them on the way."""
    torch.manual_seed(0)
    decoder = Decoder(network, renderer)
    dialogues: list[list[BaseMessage]] = [list(opening) for opening in OPENINGS]
    for number in range(3):
        rows = [renderer.render(dialogue) for dialogue in dialogues]
        turns = decoder.sample(rows, temperature=temperature, max_new_tokens=5 + number)
        for row, turn, dialogue in zip(rows, turns, dialogues, strict=True):
            _check(network, renderer, row, turn)
            dialogue += [_said(turn), _human(f"result {number}", "green" if dialogue is dialogues[1] else None)]


def test_greedy_turns_are_those_of_generate(network: torch.nn.Module, renderer: Renderer) -> None:
    decoder, row = Decoder(network, renderer), renderer.render(OPENINGS[0])
    [turn] = decoder.sample([row], temperature=0.0, max_new_tokens=12)
    ids = torch.tensor([row.ids])
    out = network.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, eos_token_id=renderer.eos,
        pixel_values=torch.from_numpy(row.pixels[0].values), image_grid_thw=torch.tensor([row.pixels[0].grid]),
        mm_token_type_ids=(ids == renderer.image_pad).int(), suppress_tokens=renderer.picture_tokens(),
        pad_token_id=renderer.tokenizer.pad_token_id,
    )  # fmt: skip
    assert out[0, len(row.ids) :].tolist() == turn.ids


def _count(network: torch.nn.Module) -> list[int]:
    """Tokens of every forward through the decoder's blocks, from now on."""
    seen: list[int] = []
    network.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[0] * kwargs["inputs_embeds"].shape[1]),
        with_kwargs=True,
    )
    return seen


def test_a_next_turn_costs_its_new_tokens_only(network: torch.nn.Module, renderer: Renderer) -> None:
    decoder, dialogue = Decoder(network, renderer), list(OPENINGS[0])
    [turn] = decoder.sample([renderer.render(dialogue)], temperature=0.0, max_new_tokens=6)
    before = len(renderer.render([*dialogue, _said(turn)], generate=False).ids)
    dialogue += [_said(turn), _human("and now?", "blue")]
    row, seen = renderer.render(dialogue), _count(network)
    [again] = decoder.sample([row], temperature=0.0, max_new_tokens=6)
    assert seen[0] <= len(row.ids) - before + 4  # the new message, the turn's last token and its template
    assert Decoder(network, renderer, 0).sample([row], temperature=0.0, max_new_tokens=6)[0].ids == again.ids
    assert max(seen) == len(row.ids)  # with nothing kept, everything goes through again


def test_siblings_go_through_the_network_once(network: torch.nn.Module, renderer: Renderer) -> None:
    torch.manual_seed(0)
    row, seen = renderer.render(OPENINGS[0]), _count(network)
    turns = Decoder(network, renderer).sample([row] * 8, temperature=1.0, max_new_tokens=6)
    assert seen[0] == len(row.ids)
    assert len({tuple(turn.ids) for turn in turns}) > 1
    for turn in turns:
        _check(network, renderer, row, turn)


def test_another_picture_is_another_dialogue(network: torch.nn.Module, renderer: Renderer) -> None:
    """The same ids around other pixels: what is kept of the one does not answer for the other."""
    decoder, rows = Decoder(network, renderer), []
    for colour in ("red", "blue"):
        rows.append(renderer.render([_human("What?", colour)]))
    assert rows[0].ids == rows[1].ids
    first, second = decoder.sample(rows, temperature=0.0, max_new_tokens=4)
    _check(network, renderer, rows[0], first)
    _check(network, renderer, rows[1], second)


def test_what_is_kept_stays_below_its_capacity(network: torch.nn.Module, renderer: Renderer) -> None:
    row = renderer.render(OPENINGS[1])
    probe = Decoder(network, renderer)
    probe.sample([row], temperature=0.0, max_new_tokens=4)
    size = probe.kept.bytes // 2
    decoder = Decoder(network, renderer, int(2.5 * size))
    torch.manual_seed(0)
    decoder.sample([row] * 16, temperature=1.0, max_new_tokens=4)
    held = sum(states.numel() * states.element_size() for states in decoder.kept._states.values())
    assert 0 < decoder.kept.bytes == held <= decoder.kept.capacity
