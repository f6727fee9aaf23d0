"""An application of its own: asks about pictures with its own text search, and offers that to another agent."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.checkpoint.memory import InMemorySaver

import lensgraph
from lensgraph import Config, Context, as_tool, load_config, search_agent
from lensgraph.agent.errors import UserError
from lensgraph.tools.base import TextSearch
from lensgraph.tools.results import Hit, SearchResult


class Handbook(TextSearch):
    """Searches the pages of a handbook."""

    pages: dict[str, str] = {}

    async def asearch(self, query: str) -> SearchResult:
        """Every page that holds a word of the query."""
        words = query.lower().split()
        found = [title for title, text in self.pages.items() if any(word in text.lower() for word in words)]
        hits = [Hit(title=title, url=f"handbook:{title}", snippet=self.pages[title]) for title in found[: self.k]]
        return SearchResult(kind="text", query=query, hits=hits)


def context(turns: int) -> Context:
    """The options of a run: the shipped policy, at most `turns` turns, the handbook instead of the web."""
    config: Config = load_config(overrides=[f"limits.turns={turns}"])
    return Context(config=config, text_search=Handbook(pages={"Kenya": "The capital of Kenya is Nairobi."}))


async def nodes(question: str, picture: Path) -> list[str]:
    """The nodes that a run visits, in order."""
    given = {"question": question, "images": [picture]}
    updates = search_agent.graph.astream(given, context=context(3), stream_mode="updates")
    return [str(node) async for update in updates for node in update]


def answer(question: str, picture: Path) -> str | None:
    """The answer, or None."""
    graph = lensgraph.search_agent.build(InMemorySaver())
    thread: RunnableConfig = {"configurable": {"thread_id": "1"}}
    result = graph.invoke({"question": question, "images": [picture]}, thread, context=context(3))
    found: str | None = result["answer"]
    return found


if __name__ == "__main__":
    tool: BaseTool = as_tool(search_agent.graph, context=context(3), files=Path(sys.argv[2]).parent)
    try:
        print(tool.name, answer(sys.argv[1], Path(sys.argv[2])))
        print(*asyncio.run(nodes(sys.argv[1], Path(sys.argv[2]))))
    except UserError as error:
        sys.exit(str(error))
