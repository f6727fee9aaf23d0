"""`interrupt()` inside a tool interrupts the graph; on resume the tool gets its answer, and nothing is paid twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt
from langgraph.types import Command, interrupt
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from lensgraph.agent import testing
from lensgraph.agent.images import ImageStore
from lensgraph.agent.savers import saver
from lensgraph.graphs import rag, search_agent
from lensgraph.tools.cache import Cache, CacheSettings
from lensgraph.tools.pages.base import PageReader
from lensgraph.tools.pages.reading import ReadingTextSearch
from lensgraph.tools.pages.summarise import Summariser
from lensgraph.tools.results import Hit, LocateResult, Page, SearchResult

TEXT, WHOLE = "<text_search>kestrel</text_search>", "<img_search><img></img_search>"
REGION, ANSWER = "<img_search>the white tower</img_search>", "<answer>1987</answer>"
PICTURE = Image.new("RGB", (64, 48))
QUESTION: Any = {"question": "When?", "images": [PICTURE]}
THREAD: Any = {"configurable": {"thread_id": "1"}}


class AskingText(testing.FixedText):
    """Asks a person before it searches."""

    told: list[Any] = []

    async def asearch(self, query: str) -> SearchResult:
        self.told.append(interrupt({"may I": query}))
        return await super().asearch(query)


class AskingImage(testing.FixedImage):
    """Asks a person before it searches."""

    told: list[Any] = []

    async def asearch(self, image: Image.Image) -> SearchResult:
        self.told.append(interrupt("may I"))
        return await super().asearch(image)


class AskingLocator(testing.FixedLocator):
    """Asks a person about each picture, and is paid when it was answered."""

    told: list[Any] = []

    async def alocate(self, image: Image.Image, expression: str) -> LocateResult:
        self.told.append((image.size, interrupt(f"which tower in {image.width}x{image.height}?")))
        return await super().alocate(image, expression)


class GatedText(testing.FixedText):
    """Waits, then asks a person."""

    begun: Any = Field(exclude=True)
    gate: Any = Field(exclude=True)

    async def asearch(self, query: str) -> SearchResult:
        self.asked.append(query)
        number = len(self.asked)
        self.begun.set()
        await self.gate.wait()
        interrupt(f"run {number}")
        return SearchResult(kind="text", query=query, hits=[testing.PAGE])


@tool
def plain_search(query: str) -> list[dict[str, str]]:
    """A foreign search with a synchronous body."""
    answer = interrupt(f"search {query}?")
    return [{"title": answer, "url": "https://example.org", "snippet": "Automated in 1987."}]


@tool
async def awaited_search(query: str) -> str:
    """A foreign search with an asynchronous body."""
    await asyncio.sleep(0)
    return f"answered {interrupt(f'search {query}?')}"


@asynccontextmanager
async def checkpoints(kind: str, tmp_path: Path) -> AsyncIterator[Any]:
    if kind == "memory":
        yield InMemorySaver()
        return
    pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")
    async with saver(f"sqlite:///{tmp_path}/threads.db") as made:
        yield made


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize(("turn", "slot", "asking"), [
    (TEXT, "text_search", AskingText), (WHOLE, "image_search", AskingImage), (REGION, "locate", AskingLocator),
])  # fmt: skip
async def test_a_tool_that_interrupts_interrupts_the_graph(
    kind: str, turn: str, slot: str, asking: Any, tmp_path: Path
) -> None:
    made = asking(told=[], price_per_call=0.01)
    context = testing.context([turn, ANSWER], store=ImageStore(tmp_path / "pictures"), **{slot: made})
    async with checkpoints(kind, tmp_path) as kept:
        graph = search_agent.build(kept)
        paused = await graph.ainvoke(QUESTION, THREAD, context=context)
        assert len(paused["__interrupt__"]) == 1 and "answer" not in paused
        assert made.asked == [], "nothing was sent"
        assert (await graph.ainvoke(None, THREAD, context=context))["__interrupt__"], "it still waits"
        result = await graph.ainvoke(Command(resume="yes"), THREAD, context=context)
    assert (result["answer"], [step.get("error") for step in result["steps"]]) == (
        "1987",
        [None] * len(result["steps"]),
    )
    assert len(made.asked) == 1 and "yes" in str(made.told)
    assert sum(result["usage"]["price"].values()) == pytest.approx(0.01)


@pytest.mark.parametrize("foreign", [plain_search, awaited_search], ids=lambda one: one.name)
@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_so_does_a_foreign_tool_behind_the_adapter(foreign: Any, mode: str) -> None:
    context = testing.context([TEXT, ANSWER], text_search=foreign)
    graph = search_agent.build(InMemorySaver())

    async def run(given: Any) -> Any:
        if mode == "async":
            return await graph.ainvoke(given, THREAD, context=context)
        return await asyncio.to_thread(graph.invoke, given, THREAD, context=context)

    assert [one.value for one in (await run(QUESTION))["__interrupt__"]] == ["search kestrel?"]
    result = await run(Command(resume="by all means"))
    assert "by all means" in str(result["steps"][1]["hits"]) and result["answer"] == "1987"


async def test_a_baseline_is_interrupted_too() -> None:
    made = AskingText(told=[])
    context = testing.context(lambda messages: TEXT if len(messages) == 1 else ANSWER, text_search=made)
    graph = rag.build(InMemorySaver())
    assert (await graph.ainvoke(QUESTION, THREAD, context=context))["__interrupt__"]
    result = await graph.ainvoke(Command(resume="yes"), THREAD, context=context)
    assert (result["answer"], made.told) == ("1987", ["yes"])


async def test_every_picture_gets_its_own_answer_and_is_paid_once(tmp_path: Path) -> None:
    """Both are asked about in one node, which runs again each time; LangGraph counts the interrupts of a node."""
    made = AskingLocator(told=[], price_per_call=0.01)
    context = testing.context([REGION, ANSWER], store=ImageStore(tmp_path), locate=made)
    graph = search_agent.build(InMemorySaver())
    two = {"question": "When?", "images": [PICTURE, Image.new("RGB", (32, 32))]}
    asked = [await graph.ainvoke(two, THREAD, context=context)]
    for answer in ("the left one", "the right one"):
        asked.append(await graph.ainvoke(Command(resume=answer), THREAD, context=context))
    assert [run["__interrupt__"][0].value for run in asked[:2]] == ["which tower in 64x48?", "which tower in 32x32?"]
    assert made.told == [((64, 48), "the left one"), ((32, 32), "the right one")]
    assert asked[2]["usage"]["price"]["crop"] == pytest.approx(0.02)


async def test_pages_are_summed_up_after_the_answer_and_their_search_is_paid_once() -> None:
    class Reader(PageReader):
        async def aread(self, url: str) -> Page:
            return Page(url=url, title="t", text="Kestrel Point Light was automated in 1987.")

    class AskingModel(GenericFakeChatModel):
        async def _agenerate(self, *arguments: Any, **named: Any) -> Any:
            interrupt("may this page be sent to the model?")
            return await super()._agenerate(*arguments, **named)

    search = testing.FixedText(price_per_call=0.01)
    model = AskingModel(messages=iter([AIMessage("The light was automated in 1987.")]))
    reading = ReadingTextSearch(search_tool=search, reader=Reader(), summariser=Summariser(model=model))
    context = testing.context([TEXT, ANSWER], text_search=reading)
    graph = search_agent.build(InMemorySaver())
    assert (await graph.ainvoke(QUESTION, THREAD, context=context))["__interrupt__"]
    result = await graph.ainvoke(Command(resume="yes"), THREAD, context=context)
    assert result["steps"][1]["hits"][0]["snippet"] == "The light was automated in 1987."
    assert (search.asked, result["usage"]["price"]["text_search"]) == (["kestrel"], pytest.approx(0.01))


async def test_no_other_run_is_given_the_interrupt_of_a_shared_call(tmp_path: Path) -> None:
    """The cache makes one call for equal questions at once. A person who is asked by one run is not asked by another."""
    slow = GatedText(begun=asyncio.Event(), gate=asyncio.Event()).use_cache(Cache(CacheSettings(folder=str(tmp_path))))
    graph, store = search_agent.build(InMemorySaver()), ImageStore()

    async def run(thread: str, given: Any) -> Any:
        context = testing.context([TEXT, ANSWER], text_search=slow, store=store)
        return await graph.ainvoke(given, {"configurable": {"thread_id": thread}}, context=context)

    first = asyncio.create_task(run("1", QUESTION))
    second = asyncio.create_task(run("2", QUESTION))
    await slow.begun.wait()
    await asyncio.sleep(0.1)
    slow.gate.set()
    values = sorted(one.value for paused in await asyncio.gather(first, second) for one in paused["__interrupt__"])
    assert values == ["run 1", "run 2"], "each was asked for itself"
    assert (await run("1", Command(resume="yes")))["answer"] == "1987"


async def test_an_answer_that_the_tool_refuses_is_an_error_and_may_be_given_again() -> None:
    class Budget(BaseModel):
        euros: int

    class Typed(testing.FixedText):
        async def asearch(self, query: str) -> SearchResult:
            budget: Any = interrupt("how much?", response_schema=Budget)
            return SearchResult(kind="text", query=query, hits=[Hit(title=str(budget.euros), url="u")])

    context = testing.context([TEXT, ANSWER], text_search=Typed())
    graph = search_agent.build(InMemorySaver())
    await graph.ainvoke(QUESTION, THREAD, context=context)
    with pytest.raises(ValidationError, match="euros"):
        await graph.ainvoke(Command(resume={"euros": "many"}), THREAD, context=context)
    result = await graph.ainvoke(Command(resume={"euros": 7}), THREAD, context=context)
    assert result["steps"][1]["hits"][0]["title"] == "7"


def test_an_interrupt_is_no_failure_of_a_tool() -> None:
    with pytest.raises(GraphInterrupt):
        asyncio.run(_raise())


async def _raise() -> Any:
    class Interrupted(testing.FixedText):
        async def asearch(self, query: str) -> SearchResult:
            raise GraphInterrupt

    return await Interrupted().search("q")
