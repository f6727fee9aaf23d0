"""Trajectories survive a kill and come back as they were."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from lensgraph.agent.limits import StopReason
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Renderer
from lensgraph.rl.evaluation.trajectories.export import export
from lensgraph.rl.rollout.length_budget import ended
from lensgraph.rl.rollout.recording import steps_of, tokens_of
from lensgraph.rl.rollout.trajectory import (
    TrajectoryStep,
    TrajectoryStore,
    dump_trajectory,
    load_trajectory,
)

from .conftest import PICTURES, a_trajectory, said


def test_a_record_comes_back_as_it_was() -> None:
    trajectory = replace(a_trajectory(), steps=(*a_trajectory().steps,))
    again = load_trajectory(json.loads(json.dumps(dump_trajectory(trajectory))))
    assert dump_trajectory(again) == json.loads(json.dumps(dump_trajectory(trajectory))) | {
        name: dump_trajectory(again)[name]
        for name in ("golds", "steps", "messages", "pictures", "ids", "mask", "logprobs")
    }
    assert again.steps[0] == trajectory.steps[0]
    assert again.calls() == {"image_search": 1}
    assert [step.kind for step in again.decisions] == ["image_search", "answer"]


def test_what_the_policy_was_not_shown_is_told() -> None:
    """Thumbnails left out for want of context, results cut for want of tokens."""
    common = {"seconds": 0.1, "price": 0.0}
    spoken = {"node": "reason", "turn": 1, "text": "t", "action": {"kind": "text_search"}, "left_out": ["p"], **common}
    searched = {"node": "text_search", "turn": 1, "query": "q", "hits": [], "cut_off": 2, **common}
    steps = steps_of({"steps": [spoken, searched]}, [(3, 5)])
    assert [(step.left_out, step.cut_off, step.tokens) for step in steps] == [(("p",), 0, (3, 5)), ((), 2, None)]
    whole = replace(a_trajectory(), steps=steps)
    assert load_trajectory(json.loads(json.dumps(dump_trajectory(whole)))).steps == steps


@pytest.mark.parametrize(("turns", "nodes", "said"), [(1, ["reason", "image_search"], 2), (0, [], 1)])
def test_what_came_after_the_row_was_never_said(turns: int, nodes: list[str], said: int) -> None:
    """The search that the last turn asked for was made, and counts; the answer that nobody can train on was not given."""
    whole = a_trajectory()
    one = ended(whole, turns)
    assert (one.answer, one.correct, one.well_formed, one.stop_reason) == (None, False, False, StopReason.TOKEN_LIMIT)
    assert [step.node for step in one.steps] == nodes
    assert len(one.messages) == said
    assert one.steps == () or one.steps[-1].edge is None
    assert sum(one.calls().values()) == turns
    assert one.messages == whole.messages[:said]


def test_a_tool_that_failed_behind_the_row_is_not_the_rows() -> None:
    down = TrajectoryStep("text_search", "reason", 2, 0.1, 0.0, query="q", hits=(), error="unavailable: no connection")
    whole = a_trajectory()
    later = a_trajectory(steps=(*whole.steps[:2], whole.steps[0], down, whole.steps[2]))
    assert later.failed_tools()
    assert not ended(later, 1).failed_tools()
    assert ended(later, 2).failed_tools()


def test_another_version_or_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="version 99"):
        load_trajectory({**dump_trajectory(a_trajectory()), "version": 99})
    with pytest.raises(ValueError, match="unknown fields: extra"):
        load_trajectory({**dump_trajectory(a_trajectory()), "extra": 1})
    with pytest.raises(ValueError, match="must be as many"):
        a_trajectory(mask=(1,))


def test_pictures_are_kept_once_and_before_the_line_that_names_them(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path)
    with pytest.raises(ValueError, match="was not given"):
        store.append(a_trajectory(), {"a": PICTURES["a"]})
    assert list(tmp_path.glob("trajectories-*.jsonl")) == []
    store.append(a_trajectory(), PICTURES)
    store.append(a_trajectory(1), {})  # they are there already
    assert sorted(path.name for path in store.pictures.iterdir()) == ["a", "b"]
    assert [trajectory.id for trajectory in store] == ["t0#0", "t1#0"]
    assert store.picture("a") == PICTURES["a"]


def test_half_a_line_is_forgotten_and_the_next_one_is_whole(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path)
    store.append(a_trajectory(), PICTURES)
    with store.path.open("a") as file:
        file.write('{"id": "cut off by a ki')
    assert [trajectory.id for trajectory in TrajectoryStore(tmp_path)] == ["t0#0"]
    TrajectoryStore(tmp_path).append(a_trajectory(1), PICTURES)
    assert [trajectory.id for trajectory in TrajectoryStore(tmp_path)] == ["t0#0", "t1#0"]


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    store, other = TrajectoryStore(tmp_path), TrajectoryStore(tmp_path, writer=1)
    for step in (0, 1, 2, 3):
        store.append(a_trajectory(step, step=step), PICTURES)
    other.append(a_trajectory(9, step=3), PICTURES)
    assert store.forget(2) == 2
    assert [one.step for one in store] == [0, 1, 3]
    store.append(a_trajectory(2, step=2), {})
    assert [one.step for one in TrajectoryStore(tmp_path)] == [0, 1, 2, 3]


def test_a_run_that_goes_on_with_fewer_processes_forgets_for_those_that_are_gone(tmp_path: Path) -> None:
    for writer in (0, 1, 2):
        for step in (0, 1):
            TrajectoryStore(tmp_path, writer=writer).append(a_trajectory(10 * writer + step, step=step), PICTURES)
    assert TrajectoryStore(tmp_path, writer=1).forget(1, processes=2) == 1  # its own only
    assert TrajectoryStore(tmp_path).forget(1, processes=2) == 2  # its own, and the third's, which nobody else will
    assert [one.step for one in TrajectoryStore(tmp_path)] == [0, 0, 0]


def test_writers_do_not_share_a_file(tmp_path: Path) -> None:
    for writer in (0, 1):
        TrajectoryStore(tmp_path, writer=writer).append(a_trajectory(writer), PICTURES)
    assert len(list(TrajectoryStore(tmp_path))) == 2


def test_a_kill_loses_at_most_the_trajectory_that_is_being_written(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]);"
        "from tests.rl.rollout.conftest import PICTURES, a_trajectory;"
        "from lensgraph.rl.rollout.trajectory import TrajectoryStore;"
        "from pathlib import Path; import itertools;"
        "store = TrajectoryStore(Path(sys.argv[1]));"
        "[(store.append(a_trajectory(n), PICTURES), print(n, flush=True)) for n in itertools.count()]"
    )
    root = str(Path(__file__).parents[3])
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), root], stdout=subprocess.PIPE, text=True, cwd=root,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert child.stdout is not None
    confirmed = 0
    for line in child.stdout:
        confirmed = int(line)
        if confirmed >= 40:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    rest = [int(line) for line in child.stdout.read().split()]
    confirmed = max([confirmed, *rest])
    kept = [trajectory.task for trajectory in TrajectoryStore(tmp_path)]
    assert kept[: confirmed + 1] == [f"t{n}" for n in range(confirmed + 1)]
    assert len(kept) <= confirmed + 2


def test_half_of_a_surrogate_pair_is_kept(tmp_path: Path) -> None:
    """A page or a turn may hold one, and UTF-8 has no bytes for it; the run goes on, and the record comes back as it was."""
    store = TrajectoryStore(tmp_path)
    odd = a_trajectory(answer="\ud83d", question="é", messages=(said("user", "\udc00", "a"), said("assistant", "x")))
    store.append(odd, PICTURES)
    store.append(a_trajectory(1, step=5), PICTURES)
    assert [one.answer for one in store] == ["\ud83d", "x"]
    assert store.forget(4) == 1
    (kept,) = store
    assert (kept.answer, kept.question, kept.messages[0].text) == ("\ud83d", "é", "\udc00")
    assert export(store, tmp_path / "out.jsonl") == 1


def test_ten_thousand_random_turns_come_back_id_by_id(renderer: Renderer) -> None:
    """Byte-level ids do not survive decoding and encoding; they are never put through it."""
    rng, policy = random.Random(0), TransformersPolicy(model="none")
    policy._renderer = renderer
    vocabulary = [n for n in range(len(renderer.tokenizer)) if n != renderer.eos and n not in renderer.picture_tokens()]
    mismatches = encoded_again = 0
    for _ in range(2500):
        said: list[list[int]] = []
        messages: list[HumanMessage | AIMessage] = []
        for _ in range(4):
            ids = rng.choices(vocabulary, k=rng.randint(1, 16))
            ids = ids if rng.random() < 0.3 else [*ids, renderer.eos]
            said.append(ids)
            text = renderer.tokenizer.decode(ids)
            metadata = {"token_ids": ids, "logprobs": [-0.5] * len(ids)}
            messages += [HumanMessage("What is this?"), AIMessage(text, response_metadata=metadata)]
            encoded_again += renderer.tokenizer.encode(text, add_special_tokens=False) != ids
        rendered, logprobs, spans = tokens_of(messages, policy)
        mismatches += sum(rendered.ids[a:b] != ids for (a, b), ids in zip(spans, said, strict=True))
        assert sum(rendered.mask) == sum(map(len, said))
        assert all((mask == 1) == (logprob == -0.5) for mask, logprob in zip(rendered.mask, logprobs, strict=True))
    assert mismatches == 0
    assert encoded_again > 5000  # so the test can fail
