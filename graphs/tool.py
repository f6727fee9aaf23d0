"""The graph as one tool of another agent: `as_tool()` for `langchain.agents.create_agent`, LangGraph's ToolNode or any program.

Invariants: a model's text can name no file of this machine unless a folder was opened to it; a question that cannot be
asked is reported to the model in one line, and a graph that finds no answer says why, so the calling agent goes on.
"""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun
from langchain_core.tools import BaseTool, ToolException
from langgraph.prebuilt import InjectedState
from pydantic import BaseModel, Field, SkipValidation

from lensgraph.agent import chat
from lensgraph.agent.context import Context
from lensgraph.agent.errors import UserError
from lensgraph.agent.images import names_file, read_named
from lensgraph.graphs import search_agent
from lensgraph.graphs.asking import AskGraph, finished
from lensgraph.tools.guard import Refused, in_time
from lensgraph.tools.safety.signals import steers

ANSWER_KEYS = ("answer", "sources", "usage", "stop_reason")
"""Keys of the graph's output that the artifact holds."""


class AskArgs(BaseModel):
    """Arguments that a model gives to ask about a picture."""

    question: str = Field(description="The question about the picture, complete in itself.")
    image: str | None = Field(
        default=None,
        description="The picture: an http(s) address, a data URI, or the path of a file that is open to you. "
        "Leave it out for the latest picture of the chat.",
    )
    state: Annotated[SkipValidation[Any], InjectedState] = None
    """State of the calling agent. LangGraph fills it in, and no model sees it."""


class AskTool(BaseTool):
    """A question about a picture, answered with its sources. The artifact holds answer, sources, usage and stop_reason."""

    name: str = "ask_about_picture"
    description: str = (
        "Answer a question about a picture. Looks closer at parts of it and searches the web by picture and by words "
        "where that is needed; returns the answer and its sources."
    )
    args_schema: Any = AskArgs
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: Any = True
    """A question that cannot be asked is an observation for the agent, not a crash."""
    graph: Any = None
    """Compiled graph that answers."""
    context: SkipValidation[Context] = Field(default_factory=Context)
    """Context of the graph's runs."""
    files: bool | str | Path = False
    """Paths that the model may name: none (False), those below a folder, or all (True)."""

    async def _arun(
        self,
        question: str,
        image: str | None = None,
        state: Any = None,
        run_manager: AsyncCallbackManagerForToolRun | None = None,
    ) -> tuple[str, dict[str, Any]]:
        config: Any = {"callbacks": run_manager.get_child()} if run_manager else None
        try:
            given = await in_time(lambda: self._input(question, image, state))
            return _told(await self.graph.ainvoke(given, config, context=self.context))
        except (UserError, Refused) as error:
            if steers(error):
                raise
            raise ToolException(f"error: {error}") from error

    def _run(
        self,
        question: str,
        image: str | None = None,
        state: Any = None,
        run_manager: CallbackManagerForToolRun | None = None,
    ) -> tuple[str, dict[str, Any]]:
        config: Any = {"callbacks": run_manager.get_child()} if run_manager else None
        try:
            given = self._input(question, image, state)
            # Outside of the caller's run: its checkpointer, if it has one, need not be asynchronous as the nodes are.
            run = contextvars.Context().run
            return _told(run(lambda: self.graph.invoke(given, config, context=self.context)))
        except (UserError, Refused) as error:
            raise ToolException(f"error: {error}") from error

    def _input(self, question: str, image: str | None, state: Any) -> dict[str, Any]:
        pictures = [image] if image else _latest_pictures(state)
        return {"question": question, "images": [self._permitted(picture) for picture in pictures]}

    def _permitted(self, picture: Any) -> Any:
        """A file's content, if the model may name that file; any other picture as it is. Chats hold text, never a `Path`."""
        return read_named(picture, self.files) if names_file(picture) else picture


def _latest_pictures(state: Any) -> list[Any]:
    """Pictures of the latest message that holds any."""
    messages = state.get("messages") if isinstance(state, dict) else getattr(state, "messages", None)
    return chat.latest_pictures(chat.as_messages(messages))


def as_text(result: Mapping[str, Any]) -> str:
    """Text for a model: the answer, or why there is none, and the numbered sources."""
    shown = str(result["messages"][-1].content)
    sources = [f"{n}. {source['title']} {source['url']}".rstrip() for n, source in enumerate(result["sources"], 1)]
    return "\n".join([shown, *(["Sources:", *sources] if sources else [])])


def _told(result: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    result = finished(result)
    return as_text(result), {key: result.get(key) for key in ANSWER_KEYS}


def as_tool(
    graph: AskGraph | None = None,
    *,
    context: Context | None = None,
    files: bool | str | Path = False,
    name: str | None = None,
    description: str | None = None,
) -> AskTool:
    """The graph (the search agent, if none is given) as a LangChain tool.

    `context` is passed to the graph's runs; `files` is a folder below which the calling model may name pictures. Data URIs,
    http(s) addresses (through the guard) and the pictures of the chat can always be asked about.
    """
    fields: dict[str, Any] = {"graph": graph or search_agent.graph, "context": context or Context(), "files": files}
    if name is not None:
        fields["name"] = name
    if description is not None:
        fields["description"] = description
    return AskTool(**fields)


__all__ = ["AskArgs", "AskTool", "as_text", "as_tool"]
