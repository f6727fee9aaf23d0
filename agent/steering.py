"""A LangGraph `Command` as the input of a run: callers of the API may resume a run, or send it to a node with an update.

Invariants: a command writes the question, its pictures and the action, and nothing that limits are counted from; it brings
no state of its own (`Send`) and replaces none (`Overwrite`); it leads to one node that can work on what the thread holds.
The nodes count what was spent themselves (`nodes/spending.py`), so a command can only ask for what is left.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from langgraph.types import Command, Overwrite

from lensgraph.agent import actions, question, usage
from lensgraph.agent.actions import Action, Crop, OverLimit, SearchByImage, SearchByText
from lensgraph.agent.config import LimitsConfig
from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import ImageStore
from lensgraph.agent.state import AskInput, this_question

OVERWRITE = "__overwrite__"
"""The key by which LangGraph reads an `Overwrite` from JSON."""
WRITABLE = (*AskInput.__annotations__, "action")
"""Fields of the state that a command may write."""
FITTING: dict[str, tuple[type[Any], ...]] = {
    "text_search": (SearchByText, OverLimit),
    "image_search": (SearchByImage, OverLimit),
    "crop": (SearchByImage, Crop),
}
"""Node -> actions that it works on; any other node takes whatever the thread holds."""


def moves(given: Any) -> bool:
    """Whether an input is a command that does more than to resume."""
    return isinstance(given, Command) and bool(given.goto or given.update)


async def admit(
    command: Command[Any], values: Mapping[str, Any], nodes: Collection[str], store: ImageStore, limits: LimitsConfig
) -> Command[Any]:
    """The command with its pictures in the store. `values` is the state of its thread.

    Raises:
        BadInput: the command does what no caller may do, or what this thread cannot.
    """
    goto, update = _node(command.goto, nodes), _update(command.update)
    if not values.get("asked") and goto not in ("", "receive"):
        raise BadInput(f"Command(goto={goto!r}): there is no question in this thread yet; ask one first.")
    action = _action(update.get("action", values.get("action")), limits)
    if not _fits(action, goto):
        raise BadInput(f"Command(goto={goto!r}): the action of this thread is no work for it; give one in `update`.")
    if goto == "answer" and not usage.policy_turns(this_question(values)):  # type: ignore[arg-type]
        raise BadInput("Command(goto='answer'): the policy has said nothing yet; go to 'reason'.")
    asked = {key: value for key, value in update.items() if key != "action"}
    if asked:
        update = {**await question.deposit(asked, store, limits), **{k: v for k, v in update.items() if k == "action"}}
    return Command(goto=goto or (), update=update or None, resume=command.resume)


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
    texts = [value for key, value in record.items() if key in ("query", "region", "text")]
    if not all(isinstance(text, str) or text is None for text in texts):
        raise BadInput("Command(update=...): `action` holds something that is no text.")
    return action


__all__ = ["WRITABLE", "admit", "moves"]
