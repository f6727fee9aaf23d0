"""A tool is called with the picture; its run is told what the picture is, and what the call cost."""

import asyncio
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.schemas import Run
from langchain_core.tracers.stdout import FunctionCallbackHandler
from PIL import Image

from lensgraph.agent import nodes, testing
from lensgraph.agent.images import ImageStore
from lensgraph.tools.results import Hit, LocateResult, SearchResult

IMAGE = Image.new("RGB", (64, 48), "teal")
FOUND = Hit(title="A tower", url="https://example.org/t", thumbnail=b"bytes of a thumbnail")
RECORD = {**ImageStore().add_image(IMAGE), "parent": "another", "box": [1, 2, 65, 50]}


class Watch(BaseCallbackHandler):
    """Keeps what callbacks are told about runs of tools."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.ended: list[Any] = []

    def on_tool_start(self, serialized: Any, input_str: str, **told: Any) -> None:
        self.started.append({"text": input_str, **serialized, **told})

    def on_tool_end(self, output: Any, **told: Any) -> None:
        self.ended.append(output)


class Kept(FunctionCallbackHandler):
    """A tracer that keeps the runs it would send."""

    def __init__(self) -> None:
        super().__init__(function=lambda _: None)
        self.runs: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.runs.append(run)


def call(tool: Any, *handlers: BaseCallbackHandler, **arguments: Any) -> Any:
    """Call as a node does."""
    failed: Any = LocateResult(expression="x") if "expression" in arguments else SearchResult(kind="image", query="q")

    async def node(_: Any) -> Any:
        return await nodes.call(tool, {"image": IMAGE, **arguments}, failed, 3, RECORD)  # type: ignore[arg-type]

    return asyncio.run(RunnableLambda(node).ainvoke({}, {"callbacks": list(handlers)}))


def test_callbacks_are_told_the_record_and_a_result_without_thumbnails() -> None:
    watch, tool = Watch(), testing.FixedImage(hits=[FOUND], price_per_call=0.5, tags=["mine"])
    assert call(tool, watch).hits[0].thumbnail == b"bytes of a thumbnail"
    assert tool.asked == [(64, 48)]
    (started,), (ended,) = watch.started, watch.ended
    assert started["inputs"] == {"image": RECORD}
    assert started["text"] == str(started["inputs"])
    assert (started["name"], started["description"]) == (tool.name, tool.description)
    assert "mine" in started["tags"]
    assert {key: started["metadata"][key] for key in ("turn", "provider", "price")} == {
        "turn": 3, "provider": "FixedImage", "price": 0.5,
    }  # fmt: skip
    assert (ended.name, ended.artifact.hits[0].title, ended.artifact.hits[0].thumbnail) == (
        "image_search", "A tower", None,
    )  # fmt: skip
    assert "A tower" in ended.content


def test_a_locator_is_told_the_picture_and_the_words() -> None:
    watch = Watch()
    assert call(testing.FixedLocator(), watch, expression="the door").regions
    assert watch.started[0]["inputs"] == {"image": RECORD, "expression": "the door"}


def test_a_tracer_learns_the_price_that_a_call_turned_out_to_have() -> None:
    class Cheaper(testing.FixedImage):
        async def asearch(self, image: Image.Image) -> SearchResult:
            found = await super().asearch(image)
            return found.model_copy(update={"price": 0.25})

    kept = Kept()
    call(Cheaper(price_per_call=0.5), kept)
    tool = next(run for run in kept.runs[0].child_runs if run.run_type == "tool")
    assert tool.extra is not None
    assert tool.extra["metadata"]["price"] == 0.25


def test_a_tool_that_takes_the_manager_of_its_run_is_given_it() -> None:
    class Managed(testing.FixedImage):
        async def _arun(self, *arguments: Any, run_manager: Any = None, **named: Any) -> Any:
            assert run_manager.run_id
            return await super()._arun(*arguments, run_manager=run_manager, **named)

    assert call(Managed()).error is None
