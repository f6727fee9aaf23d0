"""A LangGraph `Command` as the input of a run, and `update_state`: callers of the API may resume a run, send it to a node, or
write into its thread.

Invariants: either writes the question, its pictures and the action, and nothing that limits are counted from; it brings
no state of its own (`Send`) and replaces none (`Overwrite`); it leads to one node that can work on what the thread holds.
The nodes count what was spent themselves (`nodes/spending.py`), so a command can only ask for what is left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from langgraph.constants import END, START
from langgraph.types import Command, Overwrite, StateSnapshot, StateUpdate

from lensgraph.agent import actions, question, usage
from lensgraph.agent.actions import Action, Crop, OverLimit, SearchByImage, SearchByText
from lensgraph.agent.config import LimitsConfig
from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import ImageStore
from lensgraph.agent.state import AskInput, this_question

OVERWRITE = "__overwrite__"
"""The key by which LangGraph reads an `Overwrite` from JSON."""
COPY, INPUT = "__copy__", "__input__"
"""The nodes by which LangGraph reads a request to copy a checkpoint, and an update that is an input."""
INTERRUPT_ID = re.compile(r"[0-9a-f]{32}")
"""LangGraph's ids of interrupts: a resume value with such keys answers several."""
WRITABLE = (*AskInput.__annotations__, "action")
"""Fields of the state that a command may write."""
FITTING: dict[str, tuple[type[Any], ...]] = {
    "text_search": (SearchByText, OverLimit),
    "image_search": (SearchByImage, OverLimit),
    "crop": (SearchByImage, Crop),
}
"""Node -> actions that it works on; any other node takes whatever the thread holds."""


async def admit(
    command: Command[Any], thread: StateSnapshot, nodes: Collection[str], store: ImageStore, limits: LimitsConfig
) -> Command[Any]:
    """The command with its pictures in the store. `thread` is the state that it is sent to.

    Raises:
        BadInput: the command does what no caller may do, or what this thread cannot.
    """
    values = thread.values
    goto, update = _node(command.goto, nodes), _update(command.update)
    if not values.get("asked") and goto not in ("", "receive"):
        raise BadInput(f"Command(goto={goto!r}): there is no question in this thread yet; ask one first.")
    if not _fits(_action(update.get("action", values.get("action")), limits), goto):
        raise BadInput(f"Command(goto={goto!r}): the action of this thread is no work for it; give one in `update`.")
    if goto == "answer" and not usage.policy_turns(this_question(values)):  # type: ignore[arg-type]
        raise BadInput("Command(goto='answer'): the policy has said nothing yet; go to 'reason'.")
    update = await _stored(update, store, limits)
    return Command(goto=goto or (), update=update or None, resume=command.resume)


async def admit_update(
    update: StateUpdate,
    *,
    thread: StateSnapshot,
    nodes: Collection[str],
    quiet: str | None,
    store: ImageStore,
    limits: LimitsConfig,
) -> StateUpdate:
    """The update that `update_state` is to write, by the rules for a command; a command is one, too.

    LangGraph writes as if a node had ended, and which node comes next is said by our nodes themselves; so an update would end a
    run that waits. Here it also says again for which node the run waits. An update as the input (`__start__`) asks a
    question. `quiet` is a node that leads nowhere by itself, for an update that names none.

    Raises:
        BadInput: it writes what no caller may write, or would end the run.
    """
    values, node = update.values, update.as_node
    if values is None and node in (END, COPY):  # LangGraph's words for ending a run, and for a copy of a checkpoint
        return update
    moves = isinstance(values, Command)
    if not moves and (node in (START, INPUT) or (node is None and not thread.values)):
        asked = await question.deposit(values, store, limits)
        if not isinstance(asked, dict) or not asked.get("messages"):
            raise BadInput("update_state: an update as the input asks a question; give `question` or `messages`.")
        return update._replace(values=asked, as_node=START)
    if node is not None and node not in nodes:
        raise BadInput(f"update_state(as_node={str(node)[:60]!r}): there is no such node; leave as_node out.")
    given: Any = values if moves else Command(update=values)
    command = await admit(given, thread, nodes, store, limits)
    waiting = [str(command.goto)] if command.goto else list(thread.next)
    if node in waiting:
        raise BadInput(
            f"update_state(as_node={node!r}): the run waits for {node}, and would end in its place; leave as_node out."
        )
    fields = dict(command.update or {})
    if waiting != ["receive"] and {"question", "images"} & dict(given.update or {}).keys():
        raise BadInput("update_state: a question is asked as the input of a run, or with as_node='__start__'.")
    action = _action(fields.get("action", thread.values.get("action")), limits)
    if misfit := next((name for name in waiting if not _fits(action, name)), None):
        raise BadInput(f"update_state: the run waits for {misfit}, and this action is no work for it.")
    onwards: Any = Command(goto=waiting, update=fields)  # a node's way to say what comes next
    return update._replace(values=onwards, as_node=node or quiet)


def check_resume(command: Command[Any], thread: StateSnapshot) -> None:
    """Hold the resume value of a command against what waits in the thread.

    Raises:
        BadInput: it would reach nobody, and LangGraph would pass it over.
    """
    value, waiting = command.resume, [one.id for one in thread.interrupts]
    if value is None:
        if not command.goto and not command.update:
            raise BadInput(
                "Command(): holds nothing; answer with resume=..., or send None to go on with a run that was cut off."
            )
        return
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise BadInput("Command(resume=...): the keys of an object must be texts.")
    try:
        json.dumps(value, default=str)
    except (RecursionError, ValueError) as error:
        raise BadInput("Command(resume=...): the value is nested too deeply.") from error
    if not thread.next:
        raise BadInput("Command(resume=...): nothing waits for an answer in this thread.")
    by_id = isinstance(value, dict) and all(INTERRUPT_ID.fullmatch(key) for key in value)
    if by_id and not (value and set(value) <= set(waiting)):
        raise BadInput(
            f"Command(resume=...): answer the interrupt that waits: {', '.join(waiting) or 'there is none'}."
        )


async def _stored(update: dict[str, Any], store: ImageStore, limits: LimitsConfig) -> dict[str, Any]:
    """The fields of an update with their pictures in the store."""
    asked = {key: value for key, value in update.items() if key != "action"}
    if not asked:
        return update
    return {**await question.deposit(asked, store, limits), **{k: v for k, v in update.items() if k == "action"}}


def _fits(action: Action | None, node: str) -> bool:
    """Whether a node can work on an action."""
    if node not in FITTING:
        return True
    return isinstance(action, FITTING[node]) and (node != "crop" or bool(getattr(action, "region", None)))


def _node(goto: Any, nodes: Collection[str]) -> str:
    """The one node that a command leads to; empty if it leads to none."""
    named = list(goto) if isinstance(goto, list | tuple) else [goto] if goto else []
    if not named:
        return ""
    if len(named) > 1 or not isinstance(named[0], str) or named[0] not in nodes:
        raise BadInput(f"Command(goto=...): give the name of one node; there are {', '.join(sorted(nodes))}.")
    return named[0]


def _update(update: Any) -> dict[str, Any]:
    """The fields that a command writes."""
    try:
        fields = dict(update or {})
    except (TypeError, ValueError) as error:
        raise BadInput("Command(update=...): give a dictionary.") from error
    for name, value in fields.items():
        if isinstance(value, Overwrite) or (isinstance(value, dict) and OVERWRITE in value):
            raise BadInput(f"Command(update=...): {str(name)[:60]!r} may be added to and not replaced.")
        if name not in WRITABLE:
            raise BadInput(
                f"Command(update=...): {str(name)[:60]!r} is not a caller's; it may write {', '.join(WRITABLE)}."
            )
    return fields


def _action(record: Any, limits: LimitsConfig) -> Action | None:
    if record is None:
        return None
    try:
        action = actions.load_action(record)
        longest = len(json.dumps(record))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadInput("Command(update=...): `action` is none; see `lensgraph.agent.actions`.") from error
    if longest > limits.question_chars:
        raise BadInput(
            f"Command(update=...): `action` is longer than {limits.question_chars:,} characters; shorten it."
        )
    texts = {key: value for key, value in record.items() if key in ("query", "region", "text")}
    if not all(isinstance(text, str) or (text is None and key == "region") for key, text in texts.items()):
        raise BadInput("Command(update=...): `action` holds something that is no text.")
    return action


__all__ = ["WRITABLE", "admit", "admit_update", "check_resume"]
