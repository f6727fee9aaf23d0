"""The graph as a server of the Model Context Protocol, over stdio or HTTP: `python -m lensgraph mcp [--http PORT]`.

Invariants: a client names no file of this machine unless a folder was opened to it; addresses pass the guard; HTTP listens on
this machine only, because the protocol's server does not authenticate anybody (put a proxy that does in front); a thread
is named by an identifier that nobody can guess. Wrong settings are reported before the server starts.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import re
import uuid
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from lensgraph.agent.config import Config
from lensgraph.agent.context import Backends, Context, backends_of
from lensgraph.agent.errors import UserError
from lensgraph.agent.images import names_file, read_named
from lensgraph.agent.savers import saver
from lensgraph.graphs import table
from lensgraph.graphs.asking import finished
from lensgraph.graphs.tool import ANSWER_KEYS, as_text
from lensgraph.tools import guard
from lensgraph.tools.safety.redact import without_logins

if TYPE_CHECKING:
    from lensgraph.graphs.table import Graph

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp_types import CallToolResult, TextContent
except ImportError:  # the `mcp` extra is not installed; `run` says so
    MCPServer = None  # type: ignore[assignment, misc]

HOST = "127.0.0.1"
MAX_BODY_BYTES = guard.MAX_FETCH_BYTES * 4 // 3 + 65_536
"""Largest HTTP request: a picture of the largest size that would be fetched, as a data URI."""
THREAD = re.compile(r"[0-9a-f]{32}")
INSTRUCTIONS = "Answers questions about a picture, searching the web by picture and by words where that is needed."

Question = Annotated[str, Field(description="The question about the picture.")]
Image = Annotated[
    str | None,
    Field(description="The picture: an http(s) address, a data URI, or a path in the folder that the server opened."),
]
Thread = Annotated[
    str | None,
    Field(description="From an earlier answer: ask again about the same picture. Leave it out to start anew."),
]


class AskResult(TypedDict, total=False):
    """The structured result of `ask`."""

    answer: str | None
    """The answer, or None; then `stop_reason` says why."""
    sources: list[dict[str, Any]]
    """Pages that the policy was shown: title, url, turn."""
    usage: dict[str, Any]
    """Turns, searches, seconds, price and tokens."""
    stop_reason: str
    """`answered`, or the reason for no answer."""
    thread: str
    """Identifier for a follow-up question, if the server keeps threads."""


def server(graph: Graph, context: Context, *, files: bool | str, threads: bool) -> Any:
    """An MCP server with the one tool `ask`. With `threads`, the graph's checkpointer keeps the conversations."""
    if MCPServer is None:
        raise UserError("the MCP server needs a package: pip install '.[mcp]' in a clone of LensGraph")
    made = MCPServer("lensgraph", instructions=INSTRUCTIONS, version=importlib.metadata.version("lensgraph"))

    async def answer(question: str, image: str | None, thread: str | None) -> CallToolResult:
        config: Any = {"configurable": {"thread_id": thread}} if thread else None
        try:
            images: list[str | bytes] = [image] if image else []
            if image and names_file(image):
                images = [await guard.in_time(lambda: read_named(image, files))]
            result = finished(await graph.ainvoke({"question": question, "images": images}, config, context=context))
        except (UserError, guard.Refused) as error:
            raise ToolError(str(error)) from error
        structured = {key: result.get(key) for key in ANSWER_KEYS} | ({"thread": thread} if thread else {})
        return CallToolResult(content=[TextContent(type="text", text=as_text(result))], structured_content=structured)

    if threads:

        @made.tool()
        async def ask(
            question: Question, image: Image = None, thread: Thread = None
        ) -> Annotated[CallToolResult, AskResult]:
            """Answer a question about a picture; the result names the thread for a follow-up question."""
            known = thread is None or (
                THREAD.fullmatch(thread) and (await graph.aget_state({"configurable": {"thread_id": thread}})).values
            )
            if not known:
                raise ToolError(f"there is no thread {str(thread)[:40]!r}; leave it out to start a new one")
            return await answer(question, image, thread or uuid.uuid4().hex)

    else:

        @made.tool(name="ask")
        async def ask_once(question: Question, image: Image = None) -> Annotated[CallToolResult, AskResult]:
            """Answer a question about a picture."""
            return await answer(question, image, None)

    return made


def run(config: Config, *, port: int | None, files: str | None, threads: str | None) -> None:
    """Serve until stopped: over stdio, or on `port` of this machine."""
    asyncio.run(serve(config, port=port, files=files, threads=threads))


async def serve(config: Config, *, port: int | None, files: str | None, threads: str | None) -> None:
    """Load policy and tools, then serve."""
    if threads not in (None, "memory") and config.images.folder is None:
        raise UserError(
            f"--threads {without_logins(threads)[:60]}: threads that outlive the server need images.folder, because their "
            "pictures must outlive it, too; add images.folder=FOLDER"
        )
    context = Context(config=config)
    await _load(await backends_of(context), config)
    async with AsyncExitStack() as stack:
        checkpoints = await stack.enter_async_context(saver(threads)) if threads else None
        opened = files or (config.images.local_files if isinstance(config.images.local_files, str) else False)
        made = server(table.build(config.graph, checkpoints), context, files=opened, threads=threads is not None)
        if port is None:
            await made.run_stdio_async()
        else:
            await made.run_streamable_http_async(host=HOST, port=port, max_request_body_size=MAX_BODY_BYTES)


async def _load(backends: Backends, config: Config) -> None:
    """Build policy and tools: a server that cannot answer should not start."""
    await backends.policy()
    for kind in table.tools_of(config.graph):
        await backends.tool(kind)
