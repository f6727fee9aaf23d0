"""Callers that wait at the same time are sampled together, and nobody notices the others but by the clock."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future

import pytest
import torch
from langchain_core.messages import HumanMessage
from PIL import Image

from lensgraph.agent.policy.errors import ContextFull
from lensgraph.agent.policy.qwen.batching import StaticBatching
from lensgraph.agent.policy.qwen.decode import Decoder, RunningBatch, SamplingJob
from lensgraph.agent.policy.qwen.kv_rows import KVRows, empty
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled


def _dialogue(number: int) -> list[HumanMessage]:
    picture = Image.effect_noise((56 + 28 * (number % 3), 56), 40 + number).convert("RGB")
    words = "and another word " * (number % 4)
    return [
        HumanMessage([{"type": "image", "image": picture}, {"type": "text", "text": f"question {number}? {words}"}])
    ]


@pytest.fixture
def rows(renderer: Renderer) -> list[Rendered]:
    """Dialogues of different lengths with pictures of different sizes."""
    return [renderer.render(_dialogue(number)) for number in range(6)]


def test_who_joins_later_says_what_it_says_alone(policy: TransformersPolicy, rows: list[Rendered]) -> None:
    """Greedy turns that begin and end at different tokens equal the turns of dialogues sampled one by one."""
    alone = [policy.sample([row])[0] for row in rows]
    running = RunningBatch(
        Decoder(policy.network, policy.renderer, 0), temperature=0.0, max_new_tokens=policy.max_new_tokens
    )
    turns = [SamplingJob(row) for row in rows]
    for number, turn in enumerate(turns):
        running.admit([turn])
        for _ in range(1 + number % 3):
            running.step()
    while running.jobs:
        running.step()
    for turn, said in zip(turns, alone, strict=True):
        assert turn.said.ids == said.ids
        assert turn.said.logprobs == pytest.approx(said.logprobs, abs=1e-4)


def test_a_dropped_turn_leaves_the_others_as_they_were(policy: TransformersPolicy, rows: list[Rendered]) -> None:
    alone = [policy.sample([row])[0] for row in rows]
    running = RunningBatch(
        Decoder(policy.network, policy.renderer, 0), temperature=0.0, max_new_tokens=policy.max_new_tokens
    )
    turns = [SamplingJob(row) for row in rows]
    running.admit(turns)
    running.step()
    running.step()
    running.drop(turns[1])
    running.drop(turns[-1])
    while running.jobs:
        running.step()
    for number in (0, 2, 3, 4):
        assert turns[number].said.ids == alone[number].ids
    assert len(turns[1].said.ids) == 2


def test_a_sibling_that_comes_late_reads_one_token(policy: TransformersPolicy, rows: list[Rendered]) -> None:
    seen: list[int] = []
    policy.network.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    running = RunningBatch(Decoder(policy.network, policy.renderer), temperature=1.0, max_new_tokens=4)
    running.admit([SamplingJob(rows[0])])
    running.step()
    seen.clear()
    running.admit([SamplingJob(rows[0])])
    assert seen == [1]


def test_callers_of_many_threads_and_loops_get_their_own_turns(policy: TransformersPolicy) -> None:
    dialogues = [_dialogue(number) for number in range(8)]
    alone = [policy.invoke(dialogue).text for dialogue in dialogues]
    found: dict[int, str] = {}

    def one(number: int) -> None:
        if number % 2:
            found[number] = policy.invoke(dialogues[number]).text
        else:
            found[number] = asyncio.run(policy.ainvoke(dialogues[number])).text

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(8)] == alone


def test_one_that_cannot_be_read_does_not_cost_the_others(policy: TransformersPolicy, rows: list[Rendered]) -> None:
    broken = Rendered(rows[0].ids, rows[0].mask, [])  # placeholders without their picture
    futures = [policy.submit(row) for row in (rows[1], broken, rows[2])]
    with pytest.raises(ValueError, match="placeholders"):
        futures[1].result(timeout=30)
    assert futures[0].result(timeout=30).ids == policy.sample([rows[1]])[0].ids
    assert futures[2].result(timeout=30).ids == policy.sample([rows[2]])[0].ids


def test_an_error_of_the_network_reaches_everybody_and_the_next_call_works(
    policy: TransformersPolicy, rows: list[Rendered], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = RunningBatch.step
    monkeypatch.setattr(RunningBatch, "step", lambda self: (_ for _ in ()).throw(RuntimeError("out of memory")))
    futures = [policy.submit(row) for row in rows[:2]]
    for future in futures:
        with pytest.raises(RuntimeError, match="out of memory"):
            future.result(timeout=30)
    monkeypatch.setattr(RunningBatch, "step", step)
    assert policy.submit(rows[0]).result(timeout=30).ids == policy.sample([rows[0]])[0].ids


@pytest.mark.parametrize("method", ["admit", "__init__"])
def test_an_error_before_the_first_token_reaches_everybody(
    policy: TransformersPolicy, rows: list[Rendered], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Memory that runs out while dialogues are read, weights that cannot be loaded: nobody is left waiting."""
    stock = getattr(RunningBatch, method)

    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(RunningBatch, method, fails)
    for future in [policy.submit(row) for row in rows[:3]]:
        with pytest.raises(RuntimeError, match="out of memory"):
            future.result(timeout=30)
    monkeypatch.setattr(RunningBatch, method, stock)
    assert policy.submit(rows[0]).result(timeout=30).ids == policy.sample([rows[0]])[0].ids


def test_a_call_does_not_wait_for_the_network_to_begin(policy: TransformersPolicy, rows: list[Rendered]) -> None:
    """An event loop hands its dialogue over at once, also while others are being read."""
    policy.submit(rows[0]).result(timeout=30)
    with policy._lock:
        holder: list[float] = []

        def hand_over() -> None:
            started = time.monotonic()
            assert policy.renderer is not None
            futures.append(policy.submit(rows[1]))
            holder.append(time.monotonic() - started)

        futures: list[Future[Sampled]] = []
        thread = threading.Thread(target=hand_over)
        thread.start()
        thread.join(10)
        assert holder
    assert futures[0].result(timeout=30).ids == policy.sample([rows[1]])[0].ids


def test_a_cancelled_turn_is_sampled_no_further(
    policy: TransformersPolicy, rows: list[Rendered], monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[SamplingJob] = []
    drop = RunningBatch.drop

    def noted(self: RunningBatch, turn: SamplingJob) -> None:
        dropped.append(turn)
        drop(self, turn)

    monkeypatch.setattr(RunningBatch, "drop", noted)
    object.__setattr__(policy, "max_new_tokens", 4000)
    told: list[int] = []
    futures: list[Future[Sampled]] = []
    ready = threading.Event()

    def tell(turn: Sampled) -> None:
        ready.wait(10)
        told.append(len(turn.ids))
        if len(told) == 3:
            futures[0].cancel()

    # an untrained network may end its turn at any token; end-of-turn is kept from it
    monkeypatch.setattr(Renderer, "picture_tokens", lambda self: [self.image_pad, self.eos])
    futures.append(policy.submit(rows[0], (), tell))
    ready.set()
    limit = time.monotonic() + 30
    while not dropped and time.monotonic() < limit:
        time.sleep(0.01)
    assert len(dropped) == 1
    assert 3 <= len(dropped[0].said.ids) <= 5


def test_a_stream_tells_the_text_token_by_token(policy: TransformersPolicy) -> None:
    dialogue = _dialogue(0)
    whole = policy.invoke(dialogue).text

    async def read() -> list[str]:
        return [chunk.text async for chunk in policy.astream(dialogue)]

    for told in (asyncio.run(read()), [chunk.text for chunk in policy.stream(dialogue)]):
        assert "".join(told) == whole
        assert sum(map(bool, told)) > 1


def test_a_dialogue_over_the_context_is_its_own_failure(policy: TransformersPolicy, rows: list[Rendered]) -> None:
    context = policy.network.config.text_config.max_position_embeddings
    long = Rendered([rows[0].ids[0]] * (context + 1), [0] * (context + 1), [])
    futures = [policy.submit(row) for row in (rows[1], long)]
    with pytest.raises(ContextFull, match=f"{context + 1} tokens"):
        futures[1].result(timeout=30)
    assert futures[0].result(timeout=30).ids == policy.sample([rows[1]])[0].ids


def test_a_buffer_does_not_stay_as_large_as_one_long_dialogue_made_it(
    policy: TransformersPolicy, renderer: Renderer, rows: list[Rendered]
) -> None:
    alone = [policy.sample([row])[0].ids for row in rows[:2]]
    running = RunningBatch(Decoder(policy.network, renderer, 0), temperature=0.0, max_new_tokens=policy.max_new_tokens)
    long = SamplingJob(renderer.render([HumanMessage("a word " * 400)]))
    short = [SamplingJob(row) for row in rows[:2]]
    running.admit([long, short[0]])
    large = running._rows._states.numel()
    running.drop(long)
    running.admit([short[1]])
    assert running._rows._states.numel() < large / 2
    while running.jobs:
        running.step()
    assert [turn.said.ids for turn in short] == alone


def test_a_smaller_buffer_holds_all_that_was_promised(policy: TransformersPolicy) -> None:
    """A row that still has to grow, when the buffer is exchanged for one that just holds the shorter newcomer."""
    network = policy.network
    states = torch.randn_like(empty(network, 1, 1000)[:, :, 0])
    small, never_moved = KVRows(network), KVRows(network)
    for slots in (small, never_moved):
        slots.add([states[..., :120, :]], 120, 64)
    for _ in range(20):
        small.add([states], 1000, 64)
    for _ in range(20):
        small.remove(len(small) - 1)
    wide = small._states.numel()
    small.reserve(2, 10)
    assert small._states.numel() < wide
    with torch.inference_mode():
        for token in range(64):
            assert torch.equal(small.step([token]), never_moved.step([token]))


def test_python_waits_for_the_sampling_before_it_ends(policy: TransformersPolicy, rows: list[Rendered]) -> None:
    """A network that is being freed while Python ends aborts the program."""
    daemons: list[bool] = []
    policy.submit(rows[0], (), lambda turn: daemons.append(threading.current_thread().daemon)).result(timeout=30)
    assert daemons
    assert not any(daemons)


def test_a_small_network_computes_on_one_thread_and_leaves_the_others_as_they_were(
    policy: TransformersPolicy, rows: list[Rendered]
) -> None:
    before, seen = torch.get_num_threads(), list[int]()
    torch.set_num_threads(2)
    try:
        policy.submit(rows[0], (), lambda turn: seen.append(torch.get_num_threads())).result(timeout=30)
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_whole_batches_keep_what_belongs_to_whom(rows: list[Rendered]) -> None:
    asked: list[int] = []

    def sample(batch: list[Rendered], stops: list[list[str]]) -> list[Sampled]:
        asked.append(len(batch))
        if len(batch[0].ids) == 0:
            raise RuntimeError("the engine is gone")
        return [Sampled([len(row.ids), len(stop)], [0.0, 0.0]) for row, stop in zip(batch, stops, strict=True)]

    batches = StaticBatching(sample, 4)
    futures = [batches.submit(row, ["a"] * number) for number, row in enumerate(rows)]
    assert [future.result(timeout=30).ids for future in futures] == [[len(row.ids), n] for n, row in enumerate(rows)]
    assert max(asked) <= 4 < sum(asked)
    with pytest.raises(RuntimeError, match="gone"):
        batches.submit(Rendered([], [], [])).result(timeout=30)
    assert batches.submit(rows[0]).result(timeout=30).ids == [len(rows[0].ids), 0]


def test_no_thread_is_left_when_nobody_waits(policy: TransformersPolicy, rows: list[Rendered]) -> None:
    policy.submit(rows[0]).result(timeout=30)
    limit = time.monotonic() + 10
    while any(thread.name == "lensgraph-policy" for thread in threading.enumerate()) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not any(thread.name == "lensgraph-policy" for thread in threading.enumerate())
