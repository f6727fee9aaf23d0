"""Make each search of a thread once, also when the process is killed while it runs or after it.

LangGraph runs the interrupted node of a killed process again, and that of a tool which interrupts. So a call that may cost
money is announced in a file before it is sent, and its result is written down before the node goes on; the node that runs
again finds the result. A call that was sent and has no result, or a damaged one, may have been paid for: it is not sent
again, and the policy is told that it failed. A tool that costs nothing says that it is `repeatable`, and is asked again; so is
one that interrupted to ask a person, because it waits for the answer.

Invariants: a record belongs to one asking of one question, so an earlier conversation's result is never found; two
processes that resume the same thread at once make one call, because the file is locked while it is in flight; a search is
sent only when its announcement is on the disk, and only beside the picture of its question, so that a folder which was
lost with its records pays for nothing twice. The records lie beside the pictures (`images.folder`); without that folder no
other process can go on in the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic

from filelock import FileLock, Timeout
from langgraph.errors import GraphInterrupt
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from lensgraph.agent.context import Context
from lensgraph.agent.errors import keeping
from lensgraph.agent.images import SETTING, ImageStore
from lensgraph.agent.nodes.call_tool import R
from lensgraph.agent.state import AgentState
from lensgraph.tools.base import LensTool
from lensgraph.tools.results import ToolError
from lensgraph.tools.runtime.whole_files import write_whole
from lensgraph.tools.safety.one_line import one_line
from lensgraph.tools.safety.signals import steers

logger = logging.getLogger(__name__)

WAIT_SECONDS = 900.0
"""Longest wait for another process that makes the same search; far above any tool's timeout."""
FOLDER = "searches"
"""Name of the folder, below that of the pictures."""
KEPT_SECONDS = 30 * 24 * 3600
"""Age after which a record is deleted: nobody resumes a question that was asked a month ago."""
SWEEP_SECONDS = 24 * 3600
"""Time between two deletions of old records."""
CUT_OFF = (
    "this search was cut off when the program was stopped, and is not sent a second time because it may have been paid "
    "for; ask in other words, or answer with what you know"
)
"""The error that the policy is told about a call that was in flight when the process died."""
DAMAGED = (
    "the record of this search is damaged, and it is not sent a second time because it may have been paid for; ask in "
    "other words, or answer with what you know"
)
"""The error that the policy is told about a call whose result cannot be read any more."""


async def once(
    make: Callable[[], Awaitable[R]],
    failed: R,
    what: str,
    tool: LensTool,
    state: AgentState,
    store: ImageStore,
    runtime: Runtime[Context],
) -> R:
    """The result of `make()`, or of the same call in an earlier process or run of the node.

    `what` is the query or the picture's id; `failed` is the result to fill in if the call was cut off.

    Raises:
        StorageError: the search cannot be announced, so it was not sent.
        BadInput: the pictures of the thread are lost, and its records with them.
    """
    info = runtime.execution_info
    if store.folder is None or info is None or not info.thread_id:
        return await make()
    # The namespace without the ids of tasks: they change when an unsaved step is run again.
    place = [part.partition(":")[0] for part in info.checkpoint_ns.split("|")]
    asking = [info.thread_id, place, state["started"], len(state.get("steps") or []), tool.name, what]
    name = hashlib.sha256(json.dumps(asking).encode()).hexdigest()
    for picture in state.get("pictures") or []:
        await asyncio.to_thread(store.secure, picture["id"])
    record = _CallRecord(store.folder / FOLDER, name, failed)
    with keeping(store.folder, SETTING):
        lock = await asyncio.to_thread(record.lock)
    try:
        with keeping(store.folder, SETTING):
            known = await asyncio.to_thread(record.read_or_announce, repeatable=tool.repeatable)
        if known is not None:
            with keeping(store.folder, SETTING):
                answered = await asyncio.to_thread(record.answered)
            for _ in answered:
                interrupt(CUT_OFF)  # LangGraph counts: the next call that interrupts would be given this one's answer
            return known
        try:
            result = await make()
        except Exception as error:
            if steers(error):  # it asks a person: nothing was cut off
                with keeping(store.folder, SETTING):
                    await asyncio.to_thread(record.withdraw, error)
            raise
        await asyncio.to_thread(record.write, result)
    finally:
        lock.release()
    return result


class _CallRecord(Generic[R]):
    """Four files of one call: its lock, that it was sent, its result, and the ids of its interrupts."""

    def __init__(self, folder: Path, name: str, failed: R) -> None:
        self.folder = folder
        self.failed: R = failed
        kinds = ("sent", "json", "lock", "asked")
        self.sent, self.result, self.locked, self.asked = (folder / f"{name}.{kind}" for kind in kinds)

    def lock(self) -> FileLock:
        """Wait until no other process is making this search. The kernel frees the lock of a process that dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _sweep(self.folder)
        lock = FileLock(self.locked, thread_local=False)
        lock.acquire(timeout=WAIT_SECONDS)
        return lock

    def read_or_announce(self, *, repeatable: bool) -> R | None:
        """The result of an earlier attempt. None: there was none; the search may be made and counts as sent from now on."""
        lost = CUT_OFF if self.sent.exists() else None
        try:
            return type(self.failed).model_validate_json(self.result.read_bytes())
        except FileNotFoundError:
            pass
        except ValueError:  # empty, cut off or overwritten
            lost = DAMAGED
        if lost is not None and not repeatable:
            return self.failed.model_copy(update={"error": ToolError(reason="unavailable", message=lost)})
        write_whole(self.sent, b"")
        return None

    def withdraw(self, error: Exception) -> None:
        """Write down that the call waits for a person, and does not count as sent."""
        if isinstance(error, GraphInterrupt):
            write_whole(self.asked, "\n".join({*self.answered(), *(one.id for one in error.args[0])}).encode())
        self.sent.unlink(missing_ok=True)

    def answered(self) -> list[str]:
        """The ids of the interrupts of this call."""
        return self.asked.read_text(errors="replace").split() if self.asked.exists() else []

    def write(self, result: R) -> None:
        """Keep the result, failures too: a node that runs again tells the policy what it would have been told.

        A result that cannot be kept is still told now; if the process then dies, the search counts as cut off."""
        try:
            write_whole(self.result, result.model_dump_json().encode())
            self.sent.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s: a search that was made cannot be recorded (%s)", self.folder, one_line(error))


_swept: dict[Path, float] = {}
"""Folder -> the time of `time.monotonic` at which this process deleted old records there."""


def _sweep(folder: Path) -> None:
    """Delete old records, once a day. One that is in use stays, however old the clock says it is."""
    now = time.monotonic()
    if now - _swept.get(folder, -SWEEP_SECONDS) < SWEEP_SECONDS:
        return
    _swept[folder] = now
    oldest = time.time() - KEPT_SECONDS
    for path in list(folder.iterdir()):
        locked = path.with_suffix(".lock")
        try:
            if path.stat().st_mtime < oldest:
                with FileLock(locked, timeout=0) if locked.exists() else contextlib.nullcontext():
                    path.unlink()
        except (FileNotFoundError, Timeout):  # another process sweeps too, or makes this search
            continue
