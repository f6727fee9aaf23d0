"""The MCP server of a graph: the tool `ask`, finished questions as resources, and a prompt.

Invariants: a caller sets a question, a picture and a thread, and nothing else; a thread is named by an identifier that nobody
can guess; an error is one line that tells nothing of this machine's folders.
"""

from __future__ import annotations

import asyncio
import difflib
import importlib.metadata
import itertools
import re
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context as Call
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, InputRequiredResult, Resource, ResourceTemplate, TextContent, ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lensgraph.agent.context import Context, backends_of
from lensgraph.agent.errors import BadInput, UserError
from lensgraph.agent.limits import StopReason
from lensgraph.agent.state import Source, Usage
from lensgraph.graphs.asking import INTERRUPTS
from lensgraph.graphs.program.mcp_server import approval_form, watched_run
from lensgraph.graphs.program.mcp_server.episode_shelf import JSON_TYPE, TEMPLATES, EpisodeShelf
from lensgraph.graphs.program.mcp_server.given_picture import Given, picture_of
from lensgraph.graphs.tool import ANSWER_KEYS, as_text
from lensgraph.tools import guard
from lensgraph.tools.safety.escape import line
from lensgraph.tools.safety.one_line import first_problem
from lensgraph.tools.safety.redact import without_paths

if TYPE_CHECKING:
    from lensgraph.graphs.table import Graph

THREAD = re.compile(r"[0-9a-f]{32}")
INSTRUCTIONS = (
    "Answers questions about a picture, searching the web by picture and by words where that is needed. "
    "`ask` reports progress; its result names an episode, a resource with every step."
)
FAILED = (StopReason.NO_PICTURE, StopReason.POLICY_FAILED)
"""Endings that are an error of the call: the question could not be asked. With another ending there was none to be found."""
MOST_WAITING = 256
"""Questions that may wait for a person at a time, where the server keeps no threads. One has some 100 kB."""
MOST_WRONG = 3
"""Answers of a person that may be unusable, one after the other or not, before the question ends."""
ERROR_CHARS = 400
"""Longest error."""

Question = Annotated[str, Field(description="The question about the picture, complete in itself.")]
Image = Annotated[
    Given | None,
    Field(
        description="The picture: an http(s) address, a data URI, base64, a path in the folder that the server opened, or the "
        "address of a picture that an episode of this server names. Also image content, an embedded resource, or a link to one."
    ),
]
Thread = Annotated[
    str | None,
    Field(description="From an earlier answer: ask again about the same picture. Leave it out to start anew."),
]


class AskResult(BaseModel):
    """The structured result of `ask`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    answer: str | None
    """The answer, or null; then `stop_reason` says why."""
    sources: list[Source]
    """Pages that the policy was shown."""
    usage: Usage
    """Turns, searches, seconds, price and tokens."""
    stop_reason: str
    """`answered`, or the reason for no answer."""
    episode: str
    """Address of the resource that holds every step."""
    thread: str | None = None
    """Identifier for a follow-up question, if the server keeps threads."""


class AskServer(MCPServer[Any]):
    """Serves one graph under one context."""

    def __init__(
        self,
        graph: Graph,
        context: Context,
        *,
        pictures: bool | str = False,
        threads: bool = False,
        open_world: bool = True,
        listed: bool = True,
        verifier: TokenVerifier | None = None,
        auth: AuthSettings | None = None,
    ) -> None:
        """`pictures` is the folder below which clients may name files. `threads`: the graph's checkpointer keeps conversations.
        `open_world`: its tools reach the web. `listed`: every caller may know what any other asked, so episodes are listed."""
        self.graph, self.ask_context, self.pictures, self.listed = graph, context, pictures, listed
        self.episodes = EpisodeShelf()
        self._passing: deque[str] = deque()
        self._going_on: set[str | None] = set()
        annotations = ToolAnnotations(
            title="Ask about a picture", read_only_hint=True, destructive_hint=False, idempotent_hint=not threads,
            open_world_hint=open_world,
        )  # fmt: skip
        tool = Tool.from_function(
            self._ask_in_thread if threads else self._ask_once,
            name="ask", title=annotations.title, annotations=annotations,
        )  # fmt: skip
        tool.parameters |= {"title": "ask", "additionalProperties": False}  # `call_tool` says which argument is meant
        super().__init__(
            "lensgraph", title="LensGraph", instructions=INSTRUCTIONS, version=importlib.metadata.version("lensgraph"),
            tools=[tool], token_verifier=verifier, auth=auth,
        )  # fmt: skip
        self.prompt(name="ask_about_picture", title="Ask about a picture")(_prompt)

    async def _ask_once(
        self, call: Call[Any, Any], question: Question, image: Image = None
    ) -> Annotated[CallToolResult, AskResult] | InputRequiredResult:
        """Answer a question about a picture, with its sources."""
        return await self._answer(call, question, image, None)

    async def _ask_in_thread(
        self, call: Call[Any, Any], question: Question, image: Image = None, thread: Thread = None
    ) -> Annotated[CallToolResult, AskResult] | InputRequiredResult:
        """Answer a question about a picture, with its sources; the result names the thread for a follow-up question."""
        if thread is not None and not await self._known(thread):
            raise ToolError(f"there is no thread {thread[:40]!r}; leave it out to start a new one")
        return await self._answer(call, question, image, thread or call.request_state or uuid.uuid4().hex)

    async def _known(self, thread: str) -> bool:
        where: Any = {"configurable": {"thread_id": thread}}
        return THREAD.fullmatch(thread) is not None and bool((await self.graph.aget_state(where)).values)

    async def _answer(
        self, call: Call[Any, Any], question: str, image: Any, thread: str | None
    ) -> CallToolResult | InputRequiredResult:
        try:
            with self._alone(call.request_state):
                state = await self._answered(call, question, image, thread)
        except (UserError, guard.Refused) as error:
            raise ToolError(str(error)) from error
        if isinstance(state, InputRequiredResult):
            return state
        beside = {"episode": self.episodes.keep(state)} | ({"thread": thread} if thread else {})
        if self.listed:
            await call.notify_resources_changed()
        failed = state["stop_reason"] in FAILED
        told = str(state["messages"][-1].content) if failed else as_text(state)
        return CallToolResult(
            content=[TextContent(type="text", text=told)],
            structured_content={key: state.get(key) for key in ANSWER_KEYS} | beside,
            is_error=failed,
        )

    async def _answered(
        self, call: Call[Any, Any], question: str, image: Any, thread: str | None
    ) -> dict[str, Any] | InputRequiredResult:
        """The last state of the question's run, or the form with which it waits for a person."""
        begun = itertools.count(1)

        async def run(given: Any) -> dict[str, Any]:
            async def tell(doing: str) -> None:
                await call.report_progress(next(begun), message=doing)

            config = {"configurable": {"thread_id": thread}} if thread else None
            return await watched_run.to_its_end(watched_run.run(self.graph, given, config, self.ask_context, tell))

        if (await backends_of(self.ask_context)).approve:
            approval_form.check_client(call)
            thread = call.request_state or thread or await self._passing_thread()
        answer, note, wrong = approval_form.answered(call), "", 0
        if call.request_state is not None:  # the person was asked by an earlier call
            state = {INTERRUPTS: (await self.graph.aget_state({"configurable": {"thread_id": thread}})).interrupts}
        else:
            images = [] if image is None else [await picture_of(image, self.pictures, self.episodes)]
            state = await run({"question": question, "images": images})
        while (asked := approval_form.waiting_in(state)) is not None:
            found = answer or await approval_form.ask(call, asked, str(thread), note)
            if isinstance(found, InputRequiredResult):
                return found
            answer, note = None, ""
            try:
                state = await run(approval_form.resume(found, asked))
            except BadInput as error:  # the run still waits, and the person is told why
                note, wrong = str(error), wrong + 1
                if wrong == MOST_WRONG:
                    raise
        return state

    @contextmanager
    def _alone(self, waiting: str | None) -> Iterator[None]:
        """Let one call at a time go on with a run that waits: two at once would make its search twice."""
        if waiting in self._going_on:
            raise UserError("This search goes on already, with an earlier answer; wait for its result.")
        self._going_on |= {waiting} - {None}
        try:
            yield
        finally:
            self._going_on.discard(waiting)

    async def _passing_thread(self) -> str:
        """A thread for one question that may wait for a person, where the server keeps none; the oldest one is forgotten."""
        self._passing.append(thread := uuid.uuid4().hex)
        if len(self._passing) > MOST_WAITING and isinstance(self.graph.checkpointer, BaseCheckpointSaver):
            await self.graph.checkpointer.adelete_thread(self._passing.popleft())
        return thread

    # --- what the SDK's server does, with errors of one line and resources of its own

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Call[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool.

        Raises:
            ToolError: the arguments or the question cannot be used; the message is one line without paths of this machine.
        """
        try:
            await self._check_names(name, arguments)
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError:
            raise  # it tells the client nothing but the tool's name
        except ToolError as error:
            cause = error.__cause__
            text = first_problem(cause) if isinstance(cause, ValidationError) else str(cause or error)
            raise ToolError(line(without_paths(text, str(arguments.get("image"))), ERROR_CHARS)) from cause

    async def _check_names(self, name: str, arguments: dict[str, Any]) -> None:
        """Refuse an argument that does not exist: it would be dropped, and a question answered without its picture."""
        tool = next((tool for tool in await self.list_tools() if tool.name == name), None)
        valid = list((tool.input_schema if tool else {}).get("properties", arguments))
        for unknown in arguments.keys() - set(valid):
            alike = difflib.get_close_matches(unknown, valid, n=1) or [n for n in valid if n == "image"]
            raise ToolError(
                f"unknown argument {unknown[:40]!r}; did you mean `{''.join(alike)}`? (valid: {', '.join(valid)})"
            )

    async def list_resources(self) -> list[Resource]:
        """The finished questions and their pictures, where all callers are one."""
        return [*await super().list_resources(), *(self.episodes.resources() if self.listed else [])]

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """The forms of addresses of questions and pictures."""
        return [*await super().list_resource_templates(), *TEMPLATES]

    async def read_resource(
        self, uri: Any, context: Call[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """An episode as JSON, a picture as its bytes, or a resource that a program added.

        Raises:
            ResourceNotFoundError: there is none at this address, or not any more.
        """
        if (text := self.episodes.text(str(uri))) is not None:
            return [ReadResourceContents(text, JSON_TYPE)]
        if (picture := self.episodes.picture(str(uri))) is None:
            return await super().read_resource(uri, context)
        store = (await backends_of(self.ask_context)).store
        try:
            return [ReadResourceContents(await asyncio.to_thread(store.bytes, picture["id"]), picture["mime_type"])]
        except UserError as error:
            raise ResourceNotFoundError(without_paths(str(error))) from error


def _prompt(
    question: Annotated[str, Field(description="The question about the picture.")],
    image: Annotated[
        str, Field(description="The picture: an address, or a path in the folder that the server opened.")
    ],
) -> str:
    """Ask about a picture, and be told where the answer comes from."""
    return (
        f"Call the tool `ask` of the server `lensgraph` with question={question!r} and image={image!r}. Then give its answer in "
        "a sentence and name the sources that it lists. If it has no answer, say why (`stop_reason`); do not guess."
    )
