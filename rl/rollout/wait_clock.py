"""Wall-clock seconds in which at least one episode waited for the policy, and for a tool.

Episodes run together, so the seconds of all their turns add up to far more than the step took. Here a second
counts once, however many episodes wait in it. Sampling and tools overlap, so the two do not add up to the
rollout's seconds either.
"""

from __future__ import annotations

import time
from typing import Any, Literal
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

Kind = Literal["policy", "tools"]


class WaitClock(BaseCallbackHandler):
    """A LangChain callback for all runs of one event loop. A model that a tool asks (for a summary, say) is
    the tool's time."""

    run_inline = True  # in the loop itself: a thread for each event would cost more than the event
    ignore_chain = True
    ignore_retriever = True

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"policy": 0.0, "tools": 0.0}
        """Seconds of waiting so far, for `policy` and for `tools`."""
        self._open: dict[Kind, set[UUID]] = {"policy": set(), "tools": set()}
        self._since: dict[Kind, float] = {"policy": 0.0, "tools": 0.0}

    def on_chat_model_start(self, *args: Any, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any) -> None:
        """An episode begins to wait for the policy, or a tool for a model of its own."""
        if parent_run_id not in self._open["tools"]:
            self._begin("policy", run_id)

    def on_llm_end(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        """The policy has answered."""
        self._end("policy", run_id)

    def on_llm_error(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        """The policy has failed."""
        self._end("policy", run_id)

    def on_tool_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        """An episode begins to wait for a tool."""
        self._begin("tools", run_id)

    def on_tool_end(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        """The tool has answered."""
        self._end("tools", run_id)

    def on_tool_error(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        """The tool has failed."""
        self._end("tools", run_id)

    def _begin(self, kind: Kind, run: UUID) -> None:
        if not self._open[kind]:
            self._since[kind] = time.perf_counter()
        self._open[kind].add(run)

    def _end(self, kind: Kind, run: UUID) -> None:
        if run not in self._open[kind]:
            return
        self._open[kind].remove(run)
        if not self._open[kind]:
            self.seconds[kind] += time.perf_counter() - self._since[kind]
