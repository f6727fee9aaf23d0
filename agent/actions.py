"""The actions: everything that a policy can decide in one turn.

A dialect reads a turn and returns exactly one of these; the graph acts on the value and never looks at the text again.
To add one, follow `agent/howto/action.md`; `tests/agent/test_actions.py` fails for a place that is missing.

Invariant: `load_action(dump_action(action)) == action`, so that an action survives a checkpoint as plain JSON.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lensgraph.agent.limits import StopReason


@dataclass(frozen=True)
class Answer:
    """The policy answers. Ends the episode."""

    text: str
    """The answer as written, stripped. An empty string is a real, wrong answer."""


@dataclass(frozen=True)
class SearchByImage:
    """Search the web by image."""

    region: str | None = None
    """The part of the picture to search with, in the policy's words; None: the whole picture."""


@dataclass(frozen=True)
class SearchByText:
    """Search the web by text."""

    query: str
    """The query as the dialect defines it (MMSearch-R1 keeps its spaces)."""


@dataclass(frozen=True)
class Crop:
    """Look closer at a part of the picture, without searching."""

    region: str
    """The part of the picture, in the policy's words."""


@dataclass(frozen=True)
class GiveUp:
    """The policy says that it cannot answer. Ends the episode."""


@dataclass(frozen=True)
class OverLimit:
    """A well-formed search that the limits forbid: no tool runs."""

    wanted: SearchByImage | SearchByText | Crop
    """The tool call that the policy asked for."""
    stop: StopReason
    """The limit, and the stop reason if the dialect ends the episode on it."""


@dataclass(frozen=True)
class Malformed:
    """The turn cannot be read as an action. Ends the episode: there is no repair turn."""

    reason: str
    """The fault in the turn, for the trajectory and for people."""


Action = Answer | SearchByImage | SearchByText | Crop | GiveUp | OverLimit | Malformed
KINDS: dict[str, type[Any]] = {
    "answer": Answer,
    "image_search": SearchByImage,
    "text_search": SearchByText,
    "crop": Crop,
    "give_up": GiveUp,
    "over_limit": OverLimit,
    "malformed": Malformed,
}
"""The names of the actions in records and trajectories."""
_NAMES = {cls: name for name, cls in KINDS.items()}


def kind(action: Action) -> str:
    """The action's name in a record, such as `image_search`."""
    return _NAMES[type(action)]


def dump_action(action: Action) -> dict[str, Any]:
    """The action as plain JSON: its kind and its fields."""
    if isinstance(action, OverLimit):
        return {"kind": "over_limit", "wanted": dump_action(action.wanted), "stop": str(action.stop)}
    return {"kind": kind(action), **asdict(action)}


def load_action(record: dict[str, Any]) -> Action:
    """The action that `dump` wrote.

    Raises:
        ValueError: an over-limit action that wraps no tool call.
        KeyError: an unknown kind.
    """
    fields = {key: value for key, value in record.items() if key != "kind"}
    if record["kind"] == "over_limit":
        wanted = load_action(fields["wanted"])
        if not isinstance(wanted, SearchByImage | SearchByText | Crop):
            raise ValueError(f"an over-limit action wraps a tool call, not {record!r}")
        return OverLimit(wanted, StopReason(fields["stop"]))
    action: Action = KINDS[record["kind"]](**fields)
    return action
