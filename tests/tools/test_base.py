"""A tool call never raises for what happened outside: it comes back as a result with a reason."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import StructuredTool
from PIL import Image

from lensgraph.tools.adapter import adapt
from lensgraph.tools.base import MAX_QUERY_CHARS, ImageSearch, Locator, TextSearch
from lensgraph.tools.results import Box, Hit, LocateResult, Region, SearchResult, ToolFailure


class Words(TextSearch):
    """Does with a query what the test wants."""

    act: Any = None

    async def asearch(self, query: str) -> SearchResult:
        result = self.act(query) if self.act else [Hit(title="T", url="U", snippet="S", score=0.5)]
        if asyncio.iscoroutine(result):
            result = await result
        return SearchResult(kind="text", query=query, hits=result)


class Look(ImageSearch):
    """Remembers what it was shown."""

    async def asearch(self, image: Image.Image) -> SearchResult:
        assert image.mode == "RGB"
        return SearchResult(kind="image", query=str(image.size), hits=[Hit(title="T", url="U")])


class Point(Locator):
    """Points at the upper left corner."""

    found: bool = True

    async def alocate(self, image: Image.Image, expression: str) -> LocateResult:
        regions = [Region(box=Box(left=0, top=0, right=2, bottom=2), score=0.9, label="thing")]
        return LocateResult(expression=expression, regions=regions if self.found else [])


def fail(error: Exception) -> Any:
    def act(query: str) -> Any:
        raise error

    return act


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": "1", "name": name, "args": arguments}


async def test_a_tool_message_carries_text_for_agents_and_the_typed_result() -> None:
    message = await Words().ainvoke(call("text_search", query="kenya"))
    assert isinstance(message, ToolMessage)
    assert message.content == "1. T (0.50)\nU\nS"
    assert isinstance(message.artifact, SearchResult)
    assert message.artifact.seconds > 0
    found = await Point().ainvoke(call("locate", image=Image.new("RGB", (9, 9)), expression="it"))
    assert found.content == "1. thing at [0, 0, 2, 2] (0.90)"
    assert isinstance(found.artifact, LocateResult)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ToolFailure("rate_limited", "slow down"), "rate_limited"),
        (TimeoutError(), "timeout"),
        (RuntimeError("boom\nwith a second line"), "unavailable"),
        (KeyError("hits"), "unavailable"),
    ],
)
async def test_whatever_a_provider_raises_is_a_result_with_a_reason(error: Exception, reason: str) -> None:
    message = await Words(act=fail(error), price_per_call=1.0).ainvoke(call("text_search", query="q"))
    assert message.artifact.error.reason == reason
    assert message.content.startswith(f"error ({reason}): ")
    assert "\n" not in message.content
    assert message.artifact.hits == []
    assert message.artifact.price == 0


async def test_a_slow_provider_is_cut_off_at_the_timeout() -> None:
    started = time.perf_counter()
    result = await Words(act=lambda _: asyncio.sleep(30), timeout=0.05).search("q")
    assert result.error is not None
    assert result.error.reason == "timeout"
    assert time.perf_counter() - started < 2


async def test_a_cancelled_search_is_cancelled_and_not_an_error_result() -> None:
    task = asyncio.create_task(Words(act=lambda _: asyncio.sleep(30)).search("q"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_finding_nothing_is_an_error_of_its_own_kind() -> None:
    result = await Words(act=lambda _: []).search("q")
    assert result.error is not None
    assert (result.error.reason, result.error.message) == ("empty", "No page matches 'q'.")
    located = await Point(found=False).locate(Image.new("RGB", (5, 5)), "it")
    assert located.error is not None
    assert located.error.reason == "empty"


@pytest.mark.parametrize("query", ["", "  \n ", "x" * (MAX_QUERY_CHARS + 1), "y" * 100_000])
async def test_an_empty_or_endless_query_is_bad_input_and_is_not_sent(query: str) -> None:
    result = await Words(act=fail(AssertionError("sent"))).search(query)
    assert result.error is not None
    assert result.error.reason == "bad_input"
    assert len(result.query) <= MAX_QUERY_CHARS


async def test_a_price_is_charged_for_a_call_that_worked() -> None:
    assert (await Words(price_per_call=0.008).search("q")).price == 0.008


async def test_a_picture_may_be_a_path_bytes_or_a_pil_image(tmp_path: Path) -> None:
    Image.new("RGBA", (7, 5)).save(tmp_path / "a.png")
    for image in (
        tmp_path / "a.png",
        (tmp_path / "a.png").read_bytes(),
        Image.new("L", (7, 5)),
    ):
        assert (await Look().search(image)).query == "(7, 5)"


async def test_a_missing_picture_is_bad_input() -> None:
    result = await Look().search(Path("/no/such.png"))
    assert result.error is not None
    assert result.error.message == "/no/such.png: no such file; check the path."


async def test_an_agent_that_holds_a_tool_alone_reads_no_file_of_this_machine(tmp_path: Path) -> None:
    """A model writes the arguments, perhaps as a page told it to."""
    Image.new("RGB", (7, 5)).save(tmp_path / "a.png")
    message = await Look().ainvoke(call("image_search", image=str(tmp_path / "a.png")))
    assert message.content.startswith("error (bad_input)")
    assert "give a picture as a data URI" in message.content


def test_the_schema_that_a_model_sees_is_strings_only() -> None:
    """Models are told to give a string for a picture; programs may give more."""
    properties = Point().tool_call_schema.model_json_schema()["properties"]
    assert {name: field["type"] for name, field in properties.items()} == {"image": "string", "expression": "string"}


def test_tools_work_from_synchronous_code_with_and_without_a_running_loop() -> None:
    assert Words().invoke({"query": "q"}).startswith("1. T")

    async def inside() -> str:
        return str(Words().invoke({"query": "q"}))

    assert asyncio.run(inside()).startswith("1. T")


def sleeping(seconds: float) -> TextSearch:
    """A foreign tool that works in a thread and that nobody can cancel."""

    def search(query: str) -> str:
        """Search."""
        time.sleep(seconds)
        return "late"

    adapted = adapt("text_search", StructuredTool.from_function(search)).model_copy(update={"timeout": 0.2})
    assert isinstance(adapted, TextSearch)
    return adapted


def test_the_timeout_holds_in_synchronous_code_too_where_the_work_is_in_a_thread() -> None:
    started = time.monotonic()
    message = sleeping(20).invoke(call("text_search", query="q"))
    assert time.monotonic() - started < 5
    assert message.artifact.error.reason == "timeout"

    async def inside() -> Any:
        return sleeping(20).invoke(call("text_search", query="q"))

    assert asyncio.run(inside()).artifact.error.reason == "timeout"
    assert time.monotonic() - started < 10


def test_a_tool_that_never_returns_does_not_keep_the_program_alive() -> None:
    code = "import test_base; print(test_base.sleeping(1e6).invoke({'query': 'q'}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("error (timeout): "), done.stderr


def test_importing_the_tools_loads_nothing_heavy() -> None:
    """A warm question answers in three seconds: what is not used must not be imported."""
    modules = ", ".join(
        f"lensgraph.tools.{name}" for name in ("base", "registry", "guard", "local.search_pages", "local.index.engine")
    )
    code = f"import json, sys, {modules}; print(json.dumps(sorted(sys.modules)))"
    loaded = set(
        json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    )
    assert not loaded & {
        "torch",
        "transformers",
        "numpy",
        "scipy",
        "pandas",
        "pyarrow",
        "lancedb",
        "langchain_community",
    }
