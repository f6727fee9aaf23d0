"""Parts that a process builds once and shares: bounded, built once for all who ask at a time, and again after a failure."""

import gc
import threading
import time
import weakref
from collections import OrderedDict
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from PIL import Image

from lensgraph.agent import shared, testing
from lensgraph.agent.config import Config, ImagesConfig
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.images import ImageStore
from lensgraph.graphs import search_agent

ANSWER = "<reason>I know.</reason><answer>1987</answer>"


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "KEPT_BUILT", 4)
    monkeypatch.setattr(shared, "_built", OrderedDict())
    monkeypatch.setattr(shared, "_stores", OrderedDict())
    monkeypatch.setattr(shared, "_alive", weakref.WeakValueDictionary())


def test_what_was_not_asked_for_of_late_is_forgotten() -> None:
    in_use = shared.once(("test", "in use"), object)
    for n in range(50):
        shared.once(("test", str(n)), object)
        assert shared.once(("test", "in use"), object) is in_use
    assert len(shared._built) == 4
    assert shared._locks == {}


def _store(**images: Any) -> ImageStore:
    return Backends(Context(config=Config(images=ImagesConfig(**images)))).store


async def test_a_threads_picture_is_there_for_its_follow_up_however_many_settings_came_between() -> None:
    """Tools of other settings push out tools, not a store with pictures; neither do other stores, nor another view."""
    graph = search_agent.build(InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "one"}}

    def mine(view: int) -> Context:
        policy, config = testing.context([ANSWER]).policy, Config(images=ImagesConfig(view_pixels=view))
        return Context(policy=policy, config=config)

    given = {"question": "What is this?", "images": [Image.new("RGB", (8, 8), "red")]}
    await graph.ainvoke(given, thread, context=mine(500_000))
    for n in range(20):
        shared.once(("test", str(n)), object)
        _store(max_pixels=1000 + n)
    answered = await graph.ainvoke({"question": "And this?"}, thread, context=mine(400_000))
    assert answered["answer"] == "1987"
    assert len(shared._stores) <= 5


def test_stores_in_memory_are_bounded_together_and_found_while_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SHARED_BYTES", 100_000)
    in_use = _store(max_pixels=9_999)
    for n in range(8):
        _store(max_pixels=10_000 + n).add_image(Image.effect_noise((100, 100), 90))
    gc.collect()
    assert len(shared._stores) < 4
    assert sum(store.weight for store in shared._stores.values()) < 150_000
    assert _store(max_pixels=9_999) is in_use


def test_those_who_ask_at_the_same_time_share_one() -> None:
    made, found = [], []

    def make() -> object:
        time.sleep(0.05)
        made.append(object())
        return made[-1]

    threads = [threading.Thread(target=lambda: found.append(shared.once(("test", "slow"), make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert found == made * 8


def test_a_failure_is_not_kept() -> None:
    def fail() -> object:
        raise ValueError("not now")

    with pytest.raises(ValueError, match="not now"):
        shared.once(("test", "flaky"), fail)
    assert shared._locks == {}
    assert shared.once(("test", "flaky"), lambda: "built") == "built"
