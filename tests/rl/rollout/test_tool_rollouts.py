"""A policy that calls tools is trained as it is served: its turns enter with their sampled ids, whatever they say.

The chat templates are Qwen's, as TRL ships them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trl
from PIL import Image

from lensgraph.agent.actions import Answer, Crop, SearchByImage, SearchByText
from lensgraph.agent.config import Config, ConfigError, load_config
from lensgraph.agent.dialects.table import build
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.agent.policy.scripted import ScriptedPolicy
from lensgraph.agent.testing import FixedImage, FixedLocator, FixedText
from lensgraph.rl.evaluation.run_tasks import ask
from lensgraph.rl.evaluation.trajectories.export import conversations
from lensgraph.rl.network import checkpointing
from lensgraph.rl.pocket import pocket_network as pocket
from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.rl.rollout.episode import Rollout, RolloutSetup, roll
from lensgraph.rl.rollout.trajectory import TrajectoryStore, dump_trajectory, load_trajectory
from lensgraph.rl.supervised.trajectory_rows import TrajectoryRows
from lensgraph.rl.tasks import Task

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
TOOLS = build("tools")
TASK = Task("t0", "When was it built?", (partial(Image.new, "RGB", (56, 56), "red"),), ("1987",))
Turns = list[str]
EPISODE = [
    "I look.\n"
    + TOOLS.write("", SearchByImage("the lamp"))
    + "\n"
    + TOOLS.write("", SearchByText("kestrel \u00e4<b>")),
    '<tool_call>\n{"name": "browse", "arguments": {"url": 7}}\n</tool_call>\n' + TOOLS.write("", Crop("x")),
    TOOLS.write("", Answer("1987")),
]


def tooled(processor: PictureProcessor, template: str) -> Renderer:
    """A renderer of the tiny network with another chat template."""
    text = (TEMPLATES / f"{template}.jinja").read_text("utf-8")
    made = PictureProcessor(
        image_processor=processor.image_processor, tokenizer=processor.tokenizer, chat_template=text
    )
    return Renderer(made)


class Speaker(TransformersPolicy):
    """Says what it is told to, letter by letter: ids that no tokenizer would choose for the same text."""

    turns: Any
    seen: list[list[int]] = []
    said: list[list[int]] = []

    async def aturn(self, rendered: Rendered, stops: Sequence[str]) -> Sampled:
        self.seen.append(list(rendered.ids))
        encode = partial(self.renderer.tokenizer.encode, add_special_tokens=False)
        text = self.turns[len(self.said)]
        ids = [token for letter in text for token in encode(letter)] + [self.renderer.eos]
        self.said.append(ids)
        return Sampled(ids, [-0.25] * len(ids))


@pytest.fixture
def speaker(processor: PictureProcessor) -> Callable[..., Speaker]:
    def make(turns: Turns, template: str = "qwen2_5") -> Speaker:
        policy = Speaker(model="speaker", turns=turns, seen=[], said=[])
        policy._renderer = tooled(processor, template)
        return policy

    return make


async def rolled(policy: Speaker, **options: Any) -> Rollout:
    tools = {"text_search": FixedText(), "image_search": FixedImage(), "locate": FixedLocator()}
    return await roll(TASK, RolloutSetup("search_agent", load_config(), policy, TOOLS, tools=tools, **options))


async def test_every_turn_enters_with_the_ids_that_were_sampled(speaker: Callable[..., Speaker]) -> None:
    policy = speaker(EPISODE)
    one = (await rolled(policy)).trajectory
    assert (one.error, one.answer, one.correct) == (None, "1987", True)
    spans = [step.tokens for step in one.decisions]
    assert [list(one.ids[a:b]) for a, b in spans] == policy.said  # type: ignore[misc]
    assert sum(one.mask) == sum(map(len, policy.said))
    assert [logprob for logprob, mask in zip(one.logprobs, one.mask, strict=True) if mask] == [-0.25] * sum(one.mask)
    for seen, (start, _) in zip(policy.seen, spans, strict=True):  # type: ignore[misc]
        assert seen == list(one.ids[:start]), "the row holds what the policy read, token by token"
    encoded = policy.renderer.tokenizer.encode(EPISODE[0], add_special_tokens=False)
    assert encoded != policy.said[0][:-1], "so the test can fail"


async def test_the_prompt_offers_the_tools_and_the_calls_are_answered_in_the_templates_words(
    speaker: Callable[..., Speaker],
) -> None:
    policy = speaker(EPISODE)
    one = (await rolled(policy)).trajectory
    decode = policy.renderer.tokenizer.decode
    start, _ = one.decisions[0].tokens or (0, 0)
    offered = decode(one.ids[:start]).partition("<tools>\n")[2].partition("</tools>")[0].strip().splitlines()
    assert [json.loads(line) for line in offered] == TOOLS.tools
    environment = decode([token for token, mask in zip(one.ids, one.mask, strict=True) if not mask])
    assert environment.count("<tool_response>") == environment.count("</tool_response>") == 4
    assert "there is no tool 'browse'" in environment
    assert len(one.pictures) == 3  # the question's, the crop that was searched with, the crop that was looked at
    assert [said.role for said in one.messages] == [
        "user", "assistant", "tool", "tool", "user", "assistant", "tool", "tool", "user", "assistant",
    ]  # fmt: skip


async def test_the_record_holds_all_actions_of_a_turn_and_comes_back(speaker: Callable[..., Speaker]) -> None:
    one = (await rolled(speaker(EPISODE))).trajectory
    kinds = [[action["kind"] for action in step.actions] for step in one.decisions]
    assert kinds == [["image_search", "text_search"], ["malformed", "crop"], []]
    assert [step.kind for step in one.decisions] == ["image_search+text_search", "malformed+crop", "answer"]
    assert one.calls() == {"image_search": 1, "text_search": 1}
    assert not one.well_formed, "one call named no tool"
    again = load_trajectory(json.loads(json.dumps(dump_trajectory(one))))
    assert again.steps == one.steps and again.messages == one.messages


async def test_rows_made_of_trajectories_are_rendered_with_the_tools(
    speaker: Callable[..., Speaker], tmp_path: Path
) -> None:
    policy = speaker([EPISODE[0], EPISODE[2]])
    made = await rolled(policy)
    store = TrajectoryStore(tmp_path)
    store.append(made.trajectory, made.pictures)
    row = TrajectoryRows(store, policy.renderer, seed=0).row(0)
    decode = policy.renderer.tokenizer.decode
    assert decode(row.ids) == decode(made.trajectory.ids)
    assert decode([i for i, m in zip(row.ids, row.mask, strict=True) if m]) == "".join(map(decode, policy.said))
    [exported] = conversations(store)
    assert json.loads(exported["tools"]) == TOOLS.tools
    assert [message["role"] for message in exported["messages"]][-3:] == ["tool", "user", "assistant"]


@pytest.mark.parametrize("template", ["qwen2_5_vl", "qwen3_5_think", "llama3_1"])
async def test_a_template_that_offers_no_tools_or_in_another_form_is_refused(
    template: str, speaker: Callable[..., Speaker]
) -> None:
    with pytest.raises(ConfigError, match="chat template does not offer tools in the form of Hermes"):
        await rolled(speaker(EPISODE, template))


async def test_a_cut_call_is_a_mistake_and_its_ids_stay(speaker: Callable[..., Speaker]) -> None:
    policy = speaker(['<tool_call>\n{"name": "text_search", "arguments": {"query": "kes', EPISODE[2]])
    one = (await rolled(policy)).trajectory
    assert (one.answer, one.decisions[0].kind) == ("1987", "malformed")
    assert [list(one.ids[a:b]) for a, b in (step.tokens or (0, 0) for step in one.decisions)] == policy.said


async def test_random_turns_come_back_id_by_id(speaker: Callable[..., Speaker]) -> None:
    """Halves of calls, tags and text in any order: the row is always what was sampled."""
    draw, mismatches = random.Random(0), 0
    parts = [
        *EPISODE,
        "<tool_call>",
        "</tool_call>",
        "words",
        '{"name": "crop"',
        "\n",
        "\u00e4",
        "<|im_start|>",
        "1987",
    ]
    for _ in range(15):
        turns = ["".join(draw.choices(parts, k=draw.randint(1, 4))) for _ in range(7)] + [EPISODE[2]]
        policy = speaker(turns)
        one = (await rolled(policy)).trajectory
        assert one.error is None
        mismatches += [list(one.ids[a:b]) for a, b in (step.tokens or (0, 0) for step in one.decisions)] != policy.said
    assert mismatches == 0


async def test_the_light_and_the_full_renderer_write_the_same_tools(
    processor: PictureProcessor, tmp_path: Path
) -> None:
    from lensgraph.agent.policy.light.processor import LightProcessor

    full = tooled(processor, "qwen2_5").processor
    full.save_pretrained(tmp_path)  # type: ignore[attr-defined]
    (tmp_path / "chat_template.jinja").write_text((TEMPLATES / "qwen2_5.jinja").read_text("utf-8"))
    light = LightProcessor(tmp_path)
    chat = [
        {"role": "user", "content": "a <b>"},
        {"role": "assistant", "content": "c"},
        {"role": "tool", "content": "d"},
    ]
    odd = [*TOOLS.tools, {"type": "function", "function": {"name": "z", "description": "\u00e4 <b> 'x' &"}}]
    for tools in ([], TOOLS.tools, odd):
        assert light.chat(chat, generate=True, tools=tools) == full.chat(chat, generate=True, tools=tools)


async def test_an_evaluation_counts_turns_with_a_mistake_among_their_calls() -> None:
    policy = ScriptedPolicy(EPISODE)
    tools = {kind: {"use": f"lensgraph.agent.testing:Fixed{name}"} for kind, name in (
        ("text_search", "Text"), ("image_search", "Image"), ("locate", "Locator"),
    )}  # fmt: skip
    found = await ask(TASK, "search_agent", Config.model_validate({"tools": tools}), policy, TOOLS)
    assert (found.correct, found.turns, found.malformed, found.well_formed) == (True, 3, 1, False)
    assert (found.image_searches, found.text_searches) == (1, 1)


@pytest.mark.slow
def test_a_step_of_training_learns_from_calls(
    processor: PictureProcessor, tiny_size: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GRPO on the trainer's own path: rows whose turns call tools, with a loss on exactly the sampled tokens."""
    import torch
    from datasets import Dataset
    from trl import GRPOConfig

    from lensgraph.agent.policy.qwen.batching import StaticBatching
    from lensgraph.rl.grpo.generation import GraphRollouts
    from lensgraph.rl.grpo.grpo_trainer import GraphGRPOTrainer

    renderer, draw = tooled(processor, "qwen2_5"), random.Random(0)

    def act(rows: Sequence[Rendered], stops: Any) -> list[Sampled]:
        made = []
        for row in rows:
            turn = sum(1 for a, b in zip(row.mask, row.mask[1:], strict=False) if a and not b)
            text = EPISODE[2] if turn > 1 or draw.random() < 0.3 else draw.choice(EPISODE[:2])
            ids = [*renderer.tokenizer.encode(text, add_special_tokens=False), renderer.eos]
            made.append(Sampled(ids, [-1.0] * len(ids)))
        return made

    monkeypatch.setattr(TransformersPolicy, "worker", lambda self: StaticBatching(act, 64))

    async def reward(trajectory: Any, task: Task) -> dict[str, float]:
        return {"total": float(trajectory.correct) - 0.1 * sum(trajectory.calls().values())}

    setup = RolloutSetup(
        "search_agent", load_config(), TransformersPolicy(model="none"), TOOLS, reward=reward,
        tools={"text_search": FixedText(), "image_search": FixedImage(), "locate": FixedLocator()},
    )  # fmt: skip
    network = pocket.build_network(processor, PocketSize(**tiny_size))
    before = {name: value.clone() for name, value in network.named_parameters()}
    trainer = GraphGRPOTrainer(
        model=network,
        args=GRPOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, **checkpointing.argument(False), report_to=[],
            save_strategy="no", disable_tqdm=True, per_device_train_batch_size=4, num_generations=4, max_steps=1,
            learning_rate=1e-3, max_completion_length=200, temperature=1.0,
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "t0"}]}]),
        processing_class=renderer.processor,
        rollouts=GraphRollouts(tasks={"t0": TASK}, setup=setup, concurrent=8),
    )  # fmt: skip
    trainer.train()
    assert [made.trajectory.error for made in trainer.made] == [None] * 4
    assert len({made.trajectory.total_reward for made in trainer.made}) > 1, "else there is nothing to learn"
    assert any(not torch.equal(before[name], value) for name, value in network.named_parameters())
