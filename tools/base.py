"""The kinds of tool, as small abstract LangChain tools.

Invariant: calling a tool never raises for what happened outside. Whatever a provider throws becomes a result with an `error`,
so a failed tool is an observation for the policy and a line in the trajectory; only what steers LangGraph passes, such as
`interrupt()` in a tool. The content of the tool message is text for any
LangChain agent; the artifact is the typed result.

A provider subclasses one of `TextSearch`, `ImageSearch`, `Locator` (or `pages.base.PageReader`) and writes one async method.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun
from langchain_core.tools import BaseTool
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, WithJsonSchema

from lensgraph.tools import guard
from lensgraph.tools.cache import key
from lensgraph.tools.cache.identity import identity
from lensgraph.tools.results import LocateResult, Page, SearchResult, ToolError, ToolFailure
from lensgraph.tools.runtime import loops
from lensgraph.tools.safety.escape import entry, line
from lensgraph.tools.safety.one_line import named_line
from lensgraph.tools.safety.signals import steers
from lensgraph.tools.safety.surrogates import whole

if TYPE_CHECKING:
    from lensgraph.tools.cache import Cache

ImageInput = Annotated[
    Any,
    WithJsonSchema({"type": "string", "description": "A data URI or an http(s) address of a picture."}),
]
"""A picture as a tool takes it: PIL image, bytes, `pathlib.Path`, or a string (data URI, http or https address)."""

MAX_QUERY_CHARS = 1_000
"""Longest text query sent anywhere: a runaway generation is not a query."""
MAX_TITLE_CHARS = 300
"""Longest title, label or error shown to a LangChain agent."""
MAX_URL_CHARS = 2_000
"""Longest address shown to a LangChain agent."""
MAX_SHOWN_CHARS = 20_000
"""Longest snippet shown to a LangChain agent; providers and readers cut far earlier."""

T = TypeVar("T")
_Result = TypeVar("_Result", SearchResult, LocateResult, Page)


class TextSearchArgs(BaseModel):
    """Arguments of a text search."""

    query: str = Field(description="What to look for, in a few words.")


class ImageSearchArgs(BaseModel):
    """Arguments of an image search."""

    image: ImageInput = Field(description="The picture to search with.")


class LocateArgs(BaseModel):
    """Arguments of a locator."""

    image: ImageInput = Field(description="The picture to look in.")
    expression: str = Field(description="What to find, for example 'the second flag from the left'.")


class LensTool(BaseTool):
    """The part that all kinds share: the clock, the price, the cache and the boundary that turns exceptions into results."""

    model_config = ConfigDict(hide_input_in_errors=True)  # pydantic would show a key that stands beside what is wrong

    repeatable: ClassVar[bool] = False
    """True where a call costs nothing: it may then be made again when nobody knows what became of it."""

    irrelevant_to_answers: ClassVar[frozenset[str]] = frozenset({"name", "timeout", "price_per_call"})
    """Fields that decide how a call is made and not what it answers: tools that differ in these alone share answers. A
    subclass adds its own."""

    parts: ClassVar[Mapping[str, Literal["locate"]]] = {}
    """Fields that hold another tool, and its kind: a configuration gives its settings, and the registry builds it."""

    on_this_machine: ClassVar[bool] = False
    """True where a tool answers from this machine as fast as a cache would: configuration gives it none."""

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    timeout: float = Field(default=30.0, gt=0)
    """Seconds after which a call counts as failed."""
    price_per_call: float = Field(default=0.0, ge=0)
    """US dollars a call costs; recorded with each result, paid by the search budget in training."""

    _cache: Cache | None = PrivateAttr(default=None)

    @property
    def highest_price(self) -> float:
        """US dollars that a call costs at most, as far as the settings tell; a limit of money is held against it."""
        return self.price_per_call

    def use_cache(self, cache: Cache | None) -> Self:
        """Answer equal questions from `cache` from now on; None: ask every time."""
        self._cache = cache
        return self

    async def _once(
        self, ask: Callable[[], key.Question], call: Callable[[], Awaitable[_Result]], read: type[_Result]
    ) -> _Result:
        """The result of `call()`, or the cache's for this question. `ask` runs in a thread, and only if there is a cache."""
        if self._cache is None:
            return await call()
        return await self._cache.answer(
            identity(self), type(self).__name__, ask, call, read, seconds=self.timeout, price=self.price_per_call
        )

    def prepare(self) -> None:
        """Load now what the first call would load, such as an index or a model, outside of that call's timeout.

        Blocking: call it from a thread. Raises `ToolFailure` when the tool can never work as configured."""

    @abstractmethod
    async def _rendered(self, *arguments: Any, **named: Any) -> tuple[str, BaseModel]:
        """The result of a call as text for any agent, and as it is."""

    async def _arun(
        self, *arguments: Any, run_manager: AsyncCallbackManagerForToolRun | None = None, **named: Any
    ) -> tuple[str, BaseModel]:
        return await self._rendered(*arguments, **named)

    def _run(
        self, *arguments: Any, run_manager: CallbackManagerForToolRun | None = None, **named: Any
    ) -> tuple[str, BaseModel]:
        return wait_for(self._rendered(*arguments, **named))

    async def _measure(self, call: Coroutine[Any, Any, _Result], failed: _Result) -> _Result:
        """Await `call` under the clock; on any exception return `failed` with the error filled in."""
        started = time.perf_counter()
        try:
            result = await asyncio.wait_for(call, self.timeout)
            price = 0.0 if result.cached else result.price or self.price_per_call
        except Exception as error:  # the boundary to providers, which may throw anything
            if steers(error):
                raise
            result, price = failed.model_copy(update={"error": self._to_error(error)}), 0.0
        return result.model_copy(update={"seconds": time.perf_counter() - started, "price": price})

    def _to_error(self, error: Exception) -> ToolError:
        if isinstance(error, ToolFailure):
            return ToolError(reason=error.reason, message=str(error))
        if isinstance(error, TimeoutError):
            return ToolError(reason="timeout", message=f"{self.name}: no answer in {self.timeout:g} s.")
        return ToolError(reason="unavailable", message=f"{self.name}: {named_line(error)}")


class TextSearch(LensTool):
    """Search by words. A provider writes `asearch`."""

    name: str = "text_search"
    description: str = "Search pages by words. Returns titles, addresses and snippets."
    args_schema: Any = TextSearchArgs
    k: int = Field(default=5, ge=1)
    """Number of results to return."""

    @abstractmethod
    async def asearch(self, query: str) -> SearchResult:
        """Search; raise `ToolFailure` (or anything) on failure."""

    async def search(self, query: str) -> SearchResult:
        """Search outside LangChain: the query is checked and timed, and a failure is a result."""
        return await self._measure(self._checked(query), SearchResult(kind="text", query=query[:MAX_QUERY_CHARS]))

    async def _checked(self, query: str) -> SearchResult:
        query = whole(query.strip())
        if not query:
            raise ToolFailure("bad_input", "The text query is empty; write what to look for.")
        if len(query) > MAX_QUERY_CHARS:
            raise ToolFailure(
                "bad_input", f"The text query has {len(query)} characters; use at most {MAX_QUERY_CHARS}."
            )

        async def ask() -> SearchResult:
            return _require_hits(await self.asearch(query), f"No page matches {query!r}.")

        found = await self._once(lambda: key.words(query), ask, SearchResult)
        return found.model_copy(update={"query": query}) if found.cached else found

    async def _rendered(self, query: str) -> tuple[str, SearchResult]:
        result = await self.search(query)
        return render_search(result), result


class ImageSearch(LensTool):
    """Search by a picture. A provider writes `asearch`, which gets an upright RGB picture."""

    name: str = "image_search"
    description: str = "Search by a picture. Returns titles and addresses of pages that show the same thing."
    args_schema: Any = ImageSearchArgs
    k: int = Field(default=5, ge=1)
    """Number of results to return."""

    @abstractmethod
    async def asearch(self, image: Image.Image) -> SearchResult:
        """Search; raise `ToolFailure` (or anything) on failure."""

    async def search(self, image: Any) -> SearchResult:
        """Search outside LangChain: the picture passes the guard, the call is timed, and a failure is a result."""
        return await self._measure(self._checked(image), SearchResult(kind="image", query="image"))

    async def _checked(self, image: Any) -> SearchResult:
        picture = await guard.load_image(image)
        near = self._cache is not None and self._cache.settings.near_pictures

        async def ask() -> SearchResult:
            return _require_hits(await self.asearch(picture), "No indexed picture resembles this one.")

        return await self._once(lambda: key.picture(picture, near=near), ask, SearchResult)

    async def _rendered(self, image: Any) -> tuple[str, SearchResult]:
        result = await self.search(image)
        return render_search(result), result


class Locator(LensTool):
    """Find a region from an expression. A provider writes `alocate`, which gets an upright RGB picture."""

    name: str = "locate"
    description: str = "Find the part of a picture that an expression names. Returns boxes in pixels."
    args_schema: Any = LocateArgs

    @abstractmethod
    async def alocate(self, image: Image.Image, expression: str) -> LocateResult:
        """Locate; raise `ToolFailure` (or anything) on failure."""

    async def locate(self, image: Any, expression: str) -> LocateResult:
        """Locate outside LangChain: the picture passes the guard, the call is timed, and a failure is a result."""
        return await self._measure(
            self._checked(image, expression), LocateResult(expression=expression[:MAX_QUERY_CHARS])
        )

    async def _checked(self, image: Any, expression: str) -> LocateResult:
        expression = whole(expression.strip())
        if not expression:
            raise ToolFailure("bad_input", "The expression is empty; say which part of the picture to find.")
        if len(expression) > MAX_QUERY_CHARS:
            raise ToolFailure(
                "bad_input",
                f"The expression has {len(expression)} characters; use at most {MAX_QUERY_CHARS}.",
            )
        picture = await guard.load_image(image)

        async def ask() -> LocateResult:
            result = await self.alocate(picture, expression)
            if result.error is None and not result.regions:
                raise ToolFailure("empty", f"Nothing in the picture matches {expression!r}.")
            return result

        return await self._once(lambda: key.picture_and(picture, expression), ask, LocateResult)

    async def _rendered(self, image: Any, expression: str) -> tuple[str, LocateResult]:
        result = await self.locate(image, expression)
        return render_regions(result), result


def render_search(result: SearchResult) -> str:
    """A search result as text for any LangChain agent; what pages say is made harmless, the artifact keeps it verbatim."""
    if result.error is not None:
        return render_error(result.error)
    entries = []
    for rank, hit in enumerate(result.hits, start=1):
        score = "" if hit.score is None else f" ({hit.score:.2f})"
        snippet = f"\n{entry(hit.snippet, MAX_SHOWN_CHARS)}" if hit.snippet else ""
        entries.append(f"{rank}. {line(hit.title, MAX_TITLE_CHARS)}{score}\n{entry(hit.url, MAX_URL_CHARS)}{snippet}")
    return "\n".join(entries)


def render_regions(result: LocateResult) -> str:
    """A locator's result as text for any LangChain agent."""
    if result.error is not None:
        return render_error(result.error)
    return "\n".join(
        f"{rank}. {line(region.label, MAX_TITLE_CHARS) or 'region'} at {list(region.box.ltrb)} ({region.score:.2f})"
        for rank, region in enumerate(result.regions, start=1)
    )


def render_error(error: ToolError) -> str:
    """A failure as text for any LangChain agent: one line, which may quote what a server said."""
    return f"error ({error.reason}): {line(error.message, MAX_TITLE_CHARS)}"


def wait_for(call: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from synchronous code, also when the calling thread already runs an event loop. Threads that are late
    are not waited for."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return loops.run(call)
    outcome: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(loops.run(call))
        except BaseException as error:  # carried to the calling thread
            failure.append(error)

    # With the caller's context: the run's callbacks and question hold in the thread, too.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(target,))
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _require_hits(result: SearchResult, message: str) -> SearchResult:
    if result.error is None and not result.hits:
        raise ToolFailure("empty", message)
    return result
