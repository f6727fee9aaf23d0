"""Any LangChain search tool, retriever or vector store behind the interface of this package.

Invariant: whatever the foreign object returns or raises, a `SearchResult` comes out. From a tool are read: a `SearchResult`
artifact, lists of records, `{"results": [...]}`, JSON text, and plain text as one hit. From a retriever: its documents, with
`page_content` as the snippet and title, address and score from the `metadata`. A locator cannot be adapted: there is no
common way to return boxes.
"""

from __future__ import annotations

import base64
import inspect
import io
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool
from langchain_core.vectorstores import VectorStore
from PIL import Image
from pydantic import InstanceOf

from lensgraph.tools.base import ImageSearch, LensTool, TextSearch
from lensgraph.tools.results import Hit, SearchResult, ToolFailure
from lensgraph.tools.runtime.untraced import untraced
from lensgraph.tools.safety.outside_json import read_json
from lensgraph.tools.safety.redact import without_keys

_TITLES = ("title", "name", "source")
_URLS = ("url", "link", "href", "page_url")
_SNIPPETS = ("snippet", "content", "body", "description", "text", "summary")
_LISTS = ("results", "items", "hits", "visual_matches", "organic_results", "data")
_COUNTS = ("k", "top_k", "top_k_results")
"""Names by which retrievers call the number of documents that they return."""


class ForeignTextSearch(TextSearch):
    """A foreign LangChain tool as a text search."""

    tool: BaseTool
    """The tool that does the work."""
    argument: str
    """The foreign tool's argument that takes the query."""

    async def asearch(self, query: str) -> SearchResult:
        """Call the foreign tool and read what it returns."""
        hits = await _call(self.tool, {self.argument: query})
        return SearchResult(kind="text", query=query, hits=hits[: self.k])


class ForeignImageSearch(ImageSearch):
    """A foreign LangChain tool as an image search; it is given a PNG data URI."""

    tool: BaseTool
    """The tool that does the work."""
    argument: str
    """The foreign tool's argument that takes the picture."""

    async def asearch(self, image: Image.Image) -> SearchResult:
        """Call the foreign tool with a data URI and read what it returns."""
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        with untraced():
            hits = await _call(self.tool, {self.argument: uri})
        return SearchResult(kind="image", query=f"image {image.width}x{image.height}", hits=hits[: self.k])


class ForeignRetriever(TextSearch):
    """A foreign LangChain retriever as a text search."""

    retriever: InstanceOf[BaseRetriever]
    """The retriever that does the work."""

    async def asearch(self, query: str) -> SearchResult:
        """Call the foreign retriever and read its documents."""
        documents = await self.retriever.ainvoke(query)
        hits = [_document_hit(document, self.retriever.get_name()) for document in documents[: self.k]]
        return SearchResult(kind="text", query=query, hits=hits)


def is_foreign(provider: Any) -> bool:
    """Whether this can become a tool: a LangChain tool, retriever or vector store, the class of one of the first two, or a
    function that needs no argument (and is to give one of the three)."""
    if isinstance(provider, type):
        return issubclass(provider, BaseTool | BaseRetriever) and not inspect.isabstract(provider)
    if inspect.isfunction(provider):
        parameters = inspect.signature(provider).parameters.values()
        return all(
            one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters
        )
    return isinstance(provider, BaseTool | BaseRetriever | VectorStore)


def _count(retriever: BaseRetriever) -> int:
    """The number of documents that a retriever is set to return; that of our own searches if it does not say."""
    settings = {**dict(retriever), **(getattr(retriever, "search_kwargs", None) or {})}
    default: int = TextSearch.model_fields["k"].default
    return next((n for n in map(settings.get, _COUNTS) if isinstance(n, int) and n > 0), default)


def adapt(kind: str, tool: Any) -> LensTool:
    """Wrap a foreign tool, retriever or vector store.

    Raises:
        ValueError: it is none of these, or cannot serve this kind.
    """
    if isinstance(tool, VectorStore):
        tool = tool.as_retriever()
    if isinstance(tool, BaseRetriever):
        if kind != "text_search":
            raise ValueError(f"{tool.get_name()} is a retriever, which searches by words only; use it as text_search.")
        return ForeignRetriever(retriever=tool, k=_count(tool))
    if not isinstance(tool, BaseTool):
        raise ValueError(f"an object of class {type(tool).__name__} is no LangChain tool, retriever or vector store.")
    # A tool that turns its own errors into text would pass them off as results.
    tool = tool.model_copy(update={"handle_tool_error": False, "handle_validation_error": False})
    if kind == "text_search":
        argument = _argument(tool, ("query", "q", "search_query", "input", "text", "__arg1"))
        return ForeignTextSearch(tool=tool, argument=argument)
    if kind == "image_search":
        argument = _argument(tool, ("image", "picture", "image_url", "url", "image_path", "__arg1"))
        return ForeignImageSearch(tool=tool, argument=argument)
    if kind == "read_page":
        raise ValueError(
            f"{tool.name!r} is a foreign tool; subclass lensgraph.tools.pages.base.PageReader and call it there."
        )
    raise ValueError(
        f"{tool.name!r} is a foreign tool, and boxes have no common form; subclass lensgraph.tools.base.Locator."
    )


def _argument(tool: BaseTool, preferred: tuple[str, ...]) -> str:
    schema = tool.get_input_jsonschema()
    properties: dict[str, Any] = schema.get("properties", {})
    for name in preferred:
        if name in properties:
            return name
    required = schema.get("required", [])
    if len(required) == 1:
        return str(required[0])
    raise ValueError(f"{tool.name!r} takes {sorted(properties)}; one argument must be called {preferred[0]!r}.")


async def _call(tool: BaseTool, arguments: dict[str, Any]) -> list[Hit]:
    if tool.response_format == "content":
        # Called plainly, a tool gives the object it made; as a tool call it would be turned into text.
        return read_hits(await tool.ainvoke(arguments), tool.name)
    message = await tool.ainvoke({"type": "tool_call", "id": "foreign", "name": tool.name, "args": arguments})
    assert isinstance(message, ToolMessage)
    if message.status == "error":
        raise ToolFailure("unavailable", f"{tool.name}: {without_keys(str(message.content))[:200]}")
    artifact = message.artifact
    if isinstance(artifact, SearchResult):
        return list(artifact.hits)
    if isinstance(artifact, dict | list) and artifact:
        hits = read_hits(artifact, tool.name)
        if hits:
            return hits
    return read_hits(message.content, tool.name)


def read_hits(found: Any, source: str) -> list[Hit]:
    """Hits from whatever a search tool returns; [] when there is nothing to read."""
    if isinstance(found, str):
        text = found.strip()
        if text[:1] in ("{", "["):
            try:
                return read_hits(read_json(text), source)
            except ValueError:
                pass  # text that merely starts with a bracket
        return [Hit(title=source, url="", snippet=text)] if text else []
    if isinstance(found, dict):
        if found.get("error"):
            raise ToolFailure("unavailable", f"{source}: {without_keys(str(found['error']))[:200]}")
        for key in _LISTS:
            if isinstance(found.get(key), list):
                return read_hits(found[key], source)
        return [_hit(found, source)]
    if isinstance(found, list):
        blocks = [item.get("text", "") for item in found if isinstance(item, dict) and item.get("type") == "text"]
        if blocks:
            return read_hits("\n".join(blocks), source)
        return [_hit(item, source) for item in found if isinstance(item, dict)]
    raise ToolFailure("malformed", f"{source}: returned a {type(found).__name__}, which is no search result.")


def _document_hit(document: Document, source: str) -> Hit:
    record = {**document.metadata, "snippet": document.page_content}
    if not any(record.get(name) for name in _URLS):
        record["url"] = record.get("source")
    return _hit(record, source)


def _hit(record: dict[str, Any], source: str) -> Hit:
    def first(keys: tuple[str, ...]) -> str:
        return next((str(record[key]) for key in keys if record.get(key)), "")

    score = record.get("score")
    return Hit(
        title=first(_TITLES) or first(_URLS) or source,
        url=first(_URLS),
        snippet=first(_SNIPPETS),
        score=float(score) if isinstance(score, int | float) else None,
    )
