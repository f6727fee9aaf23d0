"""A network of a hundred thousand parameters and a handful of demonstrations: everything trains in seconds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="the rl room needs lensgraph[train]")

from lensgraph.agent.dialects.table import build
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Renderer
from lensgraph.rl.pocket import pocket_network as pocket
from lensgraph.rl.pocket.invent import Demonstration, Message
from lensgraph.rl.pocket.oracle import OraclePolicy
from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.tools.local.world.questions import splits as world

TINY = PocketSize(
    vocabulary=640, hidden=48, layers=2, heads=3, kv_heads=3, mlp=96, vision_hidden=32, vision_layers=2,
    vision_heads=2, vision_mlp=64, picture_tokens=9,
)  # fmt: skip
TEXTS = ["What is the capital of this country? <answer>Nairobi</answer>", "The page says: 1963. Kenya (0.93)"] * 8


@pytest.fixture(scope="session")
def tiny_size() -> dict[str, int]:
    """Numbers of the tiny network, as a recipe takes them."""
    return TINY.model_dump()


@pytest.fixture(scope="session")
def processor() -> PictureProcessor:
    """Tokenizer and image processor of the tiny network."""
    return pocket.build_processor(pocket.train_tokenizer(TEXTS, TINY.vocabulary), TINY)


@pytest.fixture
def renderer(processor: PictureProcessor) -> Renderer:
    """A fresh renderer."""
    return Renderer(processor)


@pytest.fixture
def policy(processor: PictureProcessor, renderer: Renderer) -> TransformersPolicy:
    """An untrained tiny policy."""
    network = pocket.build_network(processor, TINY).eval()
    return TransformersPolicy(model="tiny", max_new_tokens=8).attach(network, renderer)


@pytest.fixture(scope="session")
def demonstrations() -> list[Demonstration]:
    """Closed-book demonstrations of real tasks, as the oracle writes them; no tool runs."""
    made = []
    for family in ("visible", "known"):
        for task in world.load_split("train", family, limit=6):
            oracle = OraclePolicy(task=task, dialect=build("compact"))
            said = build("compact").write(*oracle.decide([], task.question))
            messages = (Message("user", task.question, (0,)), Message("assistant", said))
            scene = asdict(task.picture)
            made.append(Demonstration(task.id, "search_agent", family, scene, messages, answer=task.golds[0]))
    return made


@pytest.fixture
def demonstration_file(tmp_path: Path, demonstrations: list[Demonstration]) -> Path:
    """The demonstrations as the file that a recipe names."""
    import json

    path = tmp_path / "demonstrations.jsonl"
    path.write_text("".join(json.dumps({**asdict(demo), "right": True}) + "\n" for demo in demonstrations))
    return path
