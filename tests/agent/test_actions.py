"""Every action has its class, kind, tag, limit and node: a new one that misses a place fails here.

`agent/howto/action.md` lists the places.
"""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest
from PIL import Image

from lensgraph.agent import usage
from lensgraph.agent.actions import KINDS, Action, Answer, GiveUp, Malformed, OverLimit, dump_action, kind, load_action
from lensgraph.agent.dialects.table import DIALECTS, build
from lensgraph.agent.limits import Spent, StopReason
from lensgraph.agent.nodes.answer import outcome
from lensgraph.agent.state import Step
from lensgraph.agent.testing import context
from lensgraph.graphs import search_agent

ENDINGS = {Answer, GiveUp, Malformed, OverLimit}
"""Actions that call no tool."""
TOOL_CALLS: list[type[Any]] = [one for one in KINDS.values() if one not in ENDINGS]


def example(action: type[Any]) -> Any:
    """An action with all its fields filled in."""
    return action(*["the lamp"] * len(fields(action)))


def test_every_action_has_a_kind() -> None:
    assert set(KINDS.values()) == set(get_args(Action))


@pytest.mark.parametrize("action", [example(one) for one in KINDS.values() if one is not OverLimit], ids=kind)
def test_every_action_survives_a_checkpoint(action: Action) -> None:
    assert load_action(dump_action(action)) == action


def test_every_tool_call_can_be_over_a_limit() -> None:
    assert set(get_args(get_type_hints(OverLimit)["wanted"])) == set(TOOL_CALLS)
    for call in TOOL_CALLS:
        refused = OverLimit(example(call), StopReason.TURN_LIMIT)
        assert load_action(dump_action(refused)) == refused


@pytest.mark.parametrize("call", TOOL_CALLS)
def test_every_tool_call_is_held_against_the_limits_and_counted(call: type[Any]) -> None:
    action = example(call)
    dialect = build("compact", limits={"calls": 1})
    assert dialect.limited(action, Spent()) == action
    assert dialect.limited(action, Spent(turns=99)) == OverLimit(action, StopReason.TURN_LIMIT)
    step = Step(node="reason", turn=1, action=dump_action(action))
    assert dialect.limited(action, usage.spent([step], 0.0, (0, 0))) == OverLimit(action, StopReason.SEARCH_LIMIT)


@pytest.mark.parametrize("action", [example(one) for one in (*TOOL_CALLS, Answer)] + [GiveUp()], ids=kind)
def test_some_dialect_writes_every_action_and_reads_it_in_both_ways(action: Action) -> None:
    written = 0
    for name in DIALECTS:
        dialect = build(name)
        try:
            turn = dialect.write("I look.", action)
        except ValueError:
            continue
        assert dialect.read(turn) == dialect.read_leniently(turn) == action, name
        written += 1
    assert written


@pytest.mark.parametrize("call", TOOL_CALLS)
def test_every_tool_call_reaches_a_node_that_leads_back_to_the_policy(call: type[Any]) -> None:
    turns = [build("compact").write("I look.", example(call)), "<answer>1987</answer>"]
    question = {"question": "When?", "images": [Image.new("RGB", (64, 48))]}
    result = asyncio.run(search_agent.graph.ainvoke(question, context=context(turns)))
    nodes = [step["node"] for step in result["steps"]]
    assert (nodes[0], nodes[-1], result["answer"]) == ("reason", "reason", "1987")
    assert len(nodes) > 2 and set(nodes) <= set(search_agent.graph.nodes)
    assert [step["error"] for step in result["steps"]] == [None] * len(nodes)


@pytest.mark.parametrize("call", TOOL_CALLS)
def test_an_episode_that_ends_on_a_tool_call_has_no_answer(call: type[Any]) -> None:
    """The baselines ask for the answer once, and the policy may search instead."""
    assert outcome([Step(node="conclude", turn=1, action=dump_action(example(call)))]) == (
        None,
        StopReason.SEARCH_LIMIT,
    )
