"""Limits are ceilings: a caller lowers what the operator configured, and nothing that a caller sends spends past it."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, Overwrite, Send
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.config import Config, load_config
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.dialects.table import DIALECTS, build
from lensgraph.agent.errors import UserError
from lensgraph.agent.limits import StopReason
from lensgraph.agent.nodes.answer import UNANSWERED
from lensgraph.graphs import direct, rag, search_agent
from lensgraph.tools.pages.base import PageReader
from lensgraph.tools.pages.reading import ReadingTextSearch
from lensgraph.tools.results import Page

TEXT, WHOLE = "<text_search>kestrel</text_search>", "<img_search><img></img_search>"
REGION, ANSWER = "<img_search>the white tower</img_search>", "<answer>1987</answer>"
QUESTION = {"question": "When?", "images": [Image.new("RGB", (64, 48))]}
THREAD: Any = {"configurable": {"thread_id": "1"}}


def configured(*settings: str) -> Config:
    return load_config(overrides=settings, environ={})


def limits(*settings: str, **options: Any) -> Any:
    return Backends(Context(config=configured(*settings), **options)).dialect.limits


# --- what a caller may set


@pytest.mark.parametrize(
    ("option", "limit", "setting", "own"),
    [
        ("max_turns", "turns", "limits.turns", 6),
        ("max_image_searches", "image", "limits.image_searches", 2),
        ("max_text_searches", "text", "limits.text_searches", 3),
    ],
)
def test_a_caller_lowers_a_limit_and_never_raises_it(option: str, limit: str, setting: str, own: int) -> None:
    assert getattr(limits(), limit) == own, "compact's own"
    assert getattr(limits(**{option: own}), limit) == own
    assert getattr(limits(**{option: 1}), limit) == 1
    with pytest.raises(UserError) as caught:
        limits(**{option: own + 1})
    assert str(caught.value) == (
        f"{option}={own + 1}: above the ceiling of {own}; give {own} or less, or raise {setting} in the configuration."
    )
    assert getattr(limits(f"{setting}=9", **{option: 9}), limit) == 9, "the operator raised it"
    with pytest.raises(UserError, match="above the ceiling of 1;"):
        limits(f"{setting}=1", **{option: 2})


def test_where_nothing_limits_every_value_is_lower() -> None:
    assert limits("dialect.name=deepmmsearch_r1", max_text_searches=100).text == 100


def test_a_live_dialect_is_lowered_too_and_stays_as_it_was() -> None:
    live = build("compact", limits={"turns": 4})
    assert limits(dialect=live, max_turns=2).turns == 2
    assert live.limits.turns == 4, "other runs share it"
    with pytest.raises(UserError, match="above the ceiling of 4"):
        limits(dialect=live, max_turns=5)


async def test_a_raised_limit_is_refused_before_anything_runs() -> None:
    context = testing.context([ANSWER], max_turns=7)
    with pytest.raises(UserError, match="max_turns=7: above the ceiling of 6"):
        await search_agent.graph.ainvoke(QUESTION, context=context)
    assert context.policy.seen == []


@pytest.mark.parametrize("name", list(DIALECTS))
def test_a_caller_chooses_a_dialect_only_from_the_operators_list(name: str) -> None:
    if name == "compact":
        assert Backends(Context(config=configured(), dialect=name)).dialect.name == name, "the configured one"
        return
    with pytest.raises(UserError, match=rf"^dialect={name}: not offered here; offered: compact \(callers\.dialects\)"):
        Backends(Context(config=configured(), dialect=name))
    assert Backends(Context(config=configured(f"callers.dialects=[{name}]"), dialect=name)).dialect.name == name
    assert Backends(Context(config=configured(), dialect=build(name))).dialect.name == name, "the program's own choice"


def test_a_caller_chooses_a_policy_only_from_the_operators_list() -> None:
    with pytest.raises(
        UserError, match=r"^policy=transformers: not offered here; offered: pocket \(callers\.policies\)"
    ):
        Backends(Context(config=configured(), policy="transformers"))
    offered = configured("callers.policies=[transformers]")
    assert Backends(Context(config=offered, policy="transformers")).config.policy.kind == "transformers"
    assert Backends(Context(config=configured(), policy="pocket")).config.policy.kind == "pocket"


def test_nothing_is_offered_unless_the_operator_says_so() -> None:
    assert (Config().callers.policies, Config().callers.dialects) == ([], [])


@pytest.mark.parametrize(
    "given",
    [
        {"config": {"limits": {"turns": 100}}}, {"store": {"local_files": True}}, {"text_search": {"use": "os:system"}},
        {"image_search": "os:system"}, {"locate": {}}, {"policy": "os:system"}, {"policy": {"lc": 1}}, {"dialect": {}},
        {"dialect": "../prompts"}, {"_backends": {}}, {"local_files": True}, {"limits": {}}, {"max_turns": 0},
        {"approve": ["answer"]}, {"max_turns": 101}, {"max_text_searches": -1}, {"max_text_searches": "all"},
        {"graph": "os:system"},
    ],
)  # fmt: skip
async def test_json_sets_no_object_no_path_and_no_other_option(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="^context: "):
        await search_agent.graph.ainvoke(QUESTION, context=given)


async def test_input_writes_no_internal_state() -> None:
    forged = {"first_step": 99, "steps": [{"node": "x", "price": -9.0}], "dialogue": [AIMessage("x")], "started": 9e9}
    graph = search_agent.build(InMemorySaver())
    try:
        await graph.ainvoke({**QUESTION, **forged}, THREAD, context=testing.context([ANSWER]))
    except UserError:
        return
    values = (await graph.aget_state(THREAD)).values
    assert values["first_step"] == 0 and [step["node"] for step in values["steps"]] == ["reason"]


# --- commands

ACTIONS = {
    "text_search": {"kind": "text_search", "query": "more"},
    "image_search": {"kind": "image_search", "region": None},
    "crop": {"kind": "image_search", "region": "the tower"},
}


@pytest.mark.parametrize("node", list(ACTIONS))
async def test_a_command_cannot_search_past_a_limit(node: str) -> None:
    """Sent again and again to the node that spends: what is left is spent, and no more; turns of the policy too."""
    context = testing.context(lambda messages: ANSWER)
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    for _ in range(12):
        command: Any = Command(goto=node, update={"action": ACTIONS[node]})
        result = await graph.ainvoke(command, THREAD, context=context)
        assert result["stop_reason"] in set(StopReason)
    assert len(context.text_search.asked) == (3 if node == "text_search" else 0)
    assert len(context.image_search.asked) == (0 if node == "text_search" else 2)
    assert len(context.locate.asked) <= 6
    assert len(context.policy.seen) == 6, "limits.turns"
    assert result["usage"]["searches"] == {
        "image": len(context.image_search.asked),
        "text": len(context.text_search.asked),
    }


async def test_a_command_cannot_spend_past_the_price() -> None:
    context = testing.context(
        lambda messages: ANSWER,
        config=configured("limits.price=0.02"),
        text_search=testing.FixedText(price_per_call=0.01),
    )
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    for _ in range(6):
        result = await graph.ainvoke(
            Command(goto="text_search", update={"action": ACTIONS["text_search"]}), THREAD, context=context
        )
    assert len(context.text_search.asked) == 2
    assert sum(result["usage"]["price"].values()) == pytest.approx(0.02)


async def test_a_command_cannot_talk_to_the_policy_past_its_turns() -> None:
    context = testing.context(lambda messages: ANSWER)
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    for _ in range(9):
        await graph.ainvoke(Command(goto="reason"), THREAD, context=context)
    assert len(context.policy.seen) == 6


async def test_the_baseline_that_always_searches_counts_as_well() -> None:
    context = testing.context(lambda messages: ANSWER, max_text_searches=1, max_image_searches=0)
    graph = rag.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    for _ in range(3):
        await graph.ainvoke(
            Command(goto="text_search", update={"action": ACTIONS["text_search"]}), THREAD, context=context
        )
    assert (len(context.image_search.asked), len(context.text_search.asked)) == (0, 1)


@pytest.mark.parametrize(
    "command",
    [
        Command(goto=[Send("text_search", {"action": ACTIONS["text_search"], "steps": [], "asked": "?"})] * 50),
        Command(goto=Send("text_search", {})), Command(goto=["text_search", "image_search"]), Command(goto="nowhere"),
        Command(goto="__start__"), Command(goto="text_search", update={"first_step": 99}),
        Command(update={"started": 9e9}), Command(update={"steps": [{"node": "text_search", "price": -1.0}]}),
        Command(update={"steps": {"__overwrite__": []}}), Command(update={"messages": {"__overwrite__": []}}),
        Command(update={"messages": Overwrite([])}), Command(update=[("first_step", 99)]), Command(update=7),
        Command(update={"dialogue": [AIMessage("<answer>x</answer>")]}), Command(update={"pictures": []}),
        Command(goto="text_search"), Command(goto="text_search", update={"action": {"kind": "text_search"}}),
        Command(goto="text_search", update={"action": {"kind": "nothing"}}), Command(update={"action": "text_search"}),
        Command(goto="text_search", update={"action": {"kind": "text_search", "query": "x" * 9000}}),
        Command(goto="text_search", update={"action": {"kind": "text_search", "query": ["x"]}}),
        Command(goto="text_search", update={"action": {"kind": "text_search", "query": None}}),
        Command(goto="crop", update={"action": {"kind": "image_search", "region": None}}),
        Command(goto="receive", update={"question": "?", "images": ["/etc/passwd"]}),
    ],
    ids=str,
)  # fmt: skip
async def test_a_command_that_forges_state_is_refused_in_one_line(command: Any) -> None:
    context = testing.context(lambda messages: ANSWER)
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    before = (await graph.aget_state(THREAD)).values
    with pytest.raises(UserError) as caught:
        await graph.ainvoke(command, THREAD, context=context)
    assert "\n" not in str(caught.value)
    assert (await graph.aget_state(THREAD)).values == before
    assert (context.text_search.asked, len(context.policy.seen)) == ([], 1)


@pytest.mark.parametrize("node", ["reason", "crop", "image_search", "text_search", "answer"])
async def test_a_command_to_a_thread_without_a_question_is_refused(node: str) -> None:
    graph = search_agent.build(InMemorySaver())
    with pytest.raises(UserError, match="there is no question in this thread yet"):
        await graph.ainvoke(Command(goto=node), THREAD, context=testing.context([ANSWER]))
    with pytest.raises(UserError, match="needs a graph with a checkpointer"):
        await search_agent.graph.ainvoke(Command(goto=node), context=testing.context([ANSWER]))


async def test_a_command_may_ask_a_further_question() -> None:
    """Its picture is stored first, so the thread holds no bytes; its counts start anew, as for every question."""
    context = testing.context(lambda messages: "<answer>teal</answer>" if "colour" in messages[-1].text else ANSWER)
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    update = {"question": "Which colour?", "images": [Image.new("RGB", (30, 30), "teal")]}
    result = await graph.ainvoke(Command(goto="receive", update=update), THREAD, context=context)
    assert result["answer"] == "teal"
    assert "base64" not in str((await graph.aget_state(THREAD)).values["messages"])


# --- the price


@pytest.mark.parametrize(
    ("price", "stop", "asked"),
    [
        (None, "answered", 2),
        (0.02, "answered", 2),
        (0.019, "price_limit", 1),
        (0.009, "price_limit", 0),
        (0, "price_limit", 0),
    ],
)
async def test_a_search_whose_price_goes_beyond_the_limit_is_not_made(price: Any, stop: str, asked: int) -> None:
    settings = [] if price is None else [f"limits.price={price}"]
    context = testing.context(
        [TEXT, TEXT, ANSWER], config=configured(*settings), text_search=testing.FixedText(price_per_call=0.01)
    )
    result = await search_agent.graph.ainvoke(QUESTION, context=context)
    assert (result["stop_reason"], len(context.text_search.asked)) == (stop, asked)
    assert price is None or sum(result["usage"]["price"].values()) <= price
    if stop == "price_limit":
        assert (
            result["answer"] is None and result["messages"][-1].content == "I have no answer within the allowed price."
        )


async def test_the_price_of_a_region_counts_locator_and_search() -> None:
    tools = {
        "locate": testing.FixedLocator(price_per_call=0.01),
        "image_search": testing.FixedImage(price_per_call=0.02),
    }
    for price, stop in ((0.03, "answered"), (0.029, "price_limit")):
        context = testing.context([REGION, ANSWER], config=configured(f"limits.price={price}"), **tools)
        result = await search_agent.graph.ainvoke(QUESTION, context=context)
        assert result["stop_reason"] == stop
    assert (len(tools["locate"].asked), len(tools["image_search"].asked)) == (1, 1)


class PaidReader(PageReader):
    """Reads every page for one US cent."""

    price_per_call: float = 0.01

    async def aread(self, url: str) -> Page:
        return Page(url=url, title="Kenya", text="Kenya's anthem is Ee Mungu Nguvu Yetu.")


@pytest.mark.parametrize(("price", "asked"), [(0.03, 1), (0.029, 0)])
async def test_the_pages_that_a_search_may_read_are_part_of_its_price(price: float, asked: int) -> None:
    found = testing.FixedText(price_per_call=0.01)
    tool = ReadingTextSearch(search_tool=found, reader=PaidReader(), pages=2)
    context = testing.context([TEXT, ANSWER], config=configured(f"limits.price={price}"), text_search=tool)
    result = await search_agent.graph.ainvoke(QUESTION, context=context)
    assert len(found.asked) == asked
    assert sum(result["usage"]["price"].values()) <= price


async def test_free_tools_run_under_a_price_of_nothing() -> None:
    context = testing.context([REGION, TEXT, ANSWER], config=configured("limits.price=0"))
    assert (await search_agent.graph.ainvoke(QUESTION, context=context))["stop_reason"] == "answered"


async def test_what_the_policys_turns_cost_counts() -> None:
    def turn(messages: list[Any]) -> AIMessage:
        return AIMessage(TEXT, response_metadata={"price": 0.01})

    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel

    policy = GenericFakeChatModel(messages=iter(turn([]) for _ in range(9)))
    context = testing.context([], policy=policy, config=configured("limits.price=0.025"))
    result = await search_agent.graph.ainvoke(QUESTION, context=context)
    assert (result["stop_reason"], result["usage"]["turns"]) == ("price_limit", 3)
    assert len(context.text_search.asked) == 2


async def test_a_call_that_cost_more_than_its_tool_said_ends_the_question_before_the_policy_is_paid_again() -> None:
    """Pages that a search reads, for example: their price is known when they were read."""

    class Reading(testing.FixedText):
        async def asearch(self, query: str) -> Any:
            return (await super().asearch(query)).model_copy(update={"price": 0.5})

    context = testing.context([TEXT, ANSWER], config=configured("limits.price=0.1"), text_search=Reading())
    result = await search_agent.graph.ainvoke(QUESTION, context=context)
    assert (result["stop_reason"], result["answer"]) == ("price_limit", None)
    assert len(context.policy.seen) == 1
    assert result["steps"][-1]["error"] == "price_spent: $0.5000 spent, the limit is $0.1000 (limits.price)"


@pytest.mark.parametrize("graph", [search_agent, rag, direct])
async def test_every_graph_ends_typed_when_there_is_no_money(graph: Any) -> None:
    tools: Any = {
        "text_search": testing.FixedText(price_per_call=1),
        "image_search": testing.FixedImage(price_per_call=1),
    }
    context = testing.context(lambda messages: TEXT, config=configured("limits.price=0.5"), **tools)
    result = await graph.build().ainvoke(QUESTION, context=context)
    assert result["stop_reason"] in ("price_limit", "search_limit")
    assert tools["text_search"].asked == tools["image_search"].asked == []


def test_every_ending_without_an_answer_has_its_words() -> None:
    assert set(UNANSWERED) == set(StopReason) - {StopReason.ANSWERED}


async def test_sixteen_questions_at_once_keep_their_own_counts() -> None:
    async def one() -> int:
        context = testing.context(lambda messages: TEXT, max_text_searches=2)
        await search_agent.graph.ainvoke(QUESTION, context=context)
        return len(context.text_search.asked)

    assert await asyncio.gather(*(one() for _ in range(16))) == [2] * 16


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"foo": 1}, "foo: unknown key"), ({"max_turn": 2}, "did you mean 'max_turns'"), ({1: 2}, "1: "),
        ("short", "a str"), (5, "a int"),
    ],
)  # fmt: skip
async def test_a_context_that_is_none_is_refused_in_one_line(given: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        await search_agent.graph.ainvoke(QUESTION, context=given)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("price", ["abc", None, float("nan"), float("inf"), -3.0, [1]])
async def test_a_price_that_is_none_costs_nothing(price: Any) -> None:
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel

    told = {"price": price, "left_out": 5}
    policy = GenericFakeChatModel(messages=iter([AIMessage(ANSWER, response_metadata=told)]))
    result = await search_agent.graph.ainvoke(QUESTION, context=testing.context([], policy=policy))
    assert (result["stop_reason"], result["usage"]["price"].get("reason", 0.0)) == ("answered", 0.0)
