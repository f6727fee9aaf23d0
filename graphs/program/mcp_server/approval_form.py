"""A search that waits for a person (`approve`), asked of the client's person in a form (elicitation).

Until revision 2025-11-25 the server asks while the call goes on; since 2026-07-28 the call ends with the form, and the client
makes it again with the answer and with what names the waiting run.

Invariant: a client that cannot ask anybody is refused before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.types import Command
from mcp.server.mcpserver import Context as Call
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    ClientCapabilities,
    ElicitationCapability,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    FormElicitationCapability,
    InputRequiredResult,
    MissingRequiredClientCapabilityErrorData,
)
from mcp_types.version import is_version_at_least

from lensgraph.agent.approval import ApprovalRequest
from lensgraph.agent.errors import BadInput, UserError
from lensgraph.graphs.asking import INTERRUPTS, finished
from lensgraph.tools.safety.escape import line

KEY = "decision"
"""Name of the form, and of its first field."""
REASON = "message"
SHOWN_CHARS = 400
"""Longest line of a form: it quotes the policy and the client."""
ANSWERED_BY_RETRY = "2026-07-28"
"""First revision in which a client answers by making the call again."""
REQUIRED = ClientCapabilities(elicitation=ElicitationCapability(form=FormElicitationCapability()))
FIELDS = {
    "query": "With edit: the words to search for instead.",
    "region": "With edit: the part of the picture to use instead, in words.",
    "box": "With edit: that part as left, top, right, bottom in pixels.",
    REASON: "With reject: the reason, which the policy is told.",
}
"""Fields of the form besides the decision; an approval's arguments choose among them."""


def check_client(call: Call[Any, Any]) -> None:
    """Refuse a client that did not say that it can show forms.

    Raises:
        MCPError: what the protocol demands for a missing capability.
    """
    able = call.client_capabilities.elicitation if call.client_capabilities else None
    if able is None or (able.form is None and able.url is not None):
        needed = MissingRequiredClientCapabilityErrorData(required_capabilities=REQUIRED)
        raise MCPError(
            code=MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="Searches wait for a person here (approve), and this client can ask nobody: it declares no elicitation.",
            data=needed.model_dump(by_alias=True, mode="json", exclude_none=True),
        )


def waiting_in(state: Mapping[str, Any]) -> ApprovalRequest | None:
    """The search that a run waits with; None: the run has ended.

    Raises:
        UserError: it waits for something else, which a tool of somebody's own asks, or does not wait any more.
    """
    if INTERRUPTS not in state:
        return None
    if not state[INTERRUPTS]:
        raise UserError("No search waits for this answer any more; ask the question again.")
    asked = state[INTERRUPTS][0].value
    if not (isinstance(asked, Mapping) and "action_requests" in asked):
        finished(state)
    return asked  # type: ignore[no-any-return]


def answered(call: Call[Any, Any]) -> ElicitResult | None:
    """The person's answer, with which a client makes a call again; None: it is made for the first time."""
    given = (call.input_responses or {}).get(KEY)
    return given if isinstance(given, ElicitResult) else None


async def ask(
    call: Call[Any, Any], asked: ApprovalRequest, thread: str, note: str
) -> ElicitResult | InputRequiredResult:
    """The person's answer; or the end of this call, with the form. `note`: why the answer before could not be used."""
    form = _form(asked, note)
    if is_version_at_least(call.protocol_version or "", ANSWERED_BY_RETRY):
        return InputRequiredResult(input_requests={KEY: ElicitRequest(params=form)}, request_state=thread)
    return await call.session.elicit_form(form.message, form.requested_schema, call.request_id)


def resume(answer: ElicitResult, asked: ApprovalRequest) -> Command[Any]:
    """The command that lets the run go on. A form that was declined is a rejection.

    Raises:
        UserError: the person closed the form.
        BadInput: a box that is none.
    """
    if answer.action == "cancel":
        raise UserError("The question was cancelled: the form about a search was closed without a decision.")
    content = {name: value for name, value in (answer.content or {}).items() if value not in (None, "")}
    if answer.action == "decline":
        content = {KEY: "reject"}
    kind = content.pop(KEY, None)
    if kind != "edit":
        return Command(resume={"type": kind, **{k: v for k, v in content.items() if k == REASON and kind == "reject"}})
    (action,) = asked["action_requests"]
    args: dict[str, Any] = {name: content[name] for name in action["args"] if name in content}
    if "box" in args:
        args["box"] = _box(str(args["box"]))
    return Command(resume={"type": "edit", "edited_action": {"name": action["name"], "args": args}})


def _box(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise BadInput(
            f"box={text[:60]!r}: give left, top, right, bottom in pixels, such as 10, 20, 110, 80."
        ) from None


def _form(asked: ApprovalRequest, note: str) -> ElicitRequestFormParams:
    (action,), (review,) = asked["action_requests"], asked["review_configs"]
    fields: dict[str, Any] = {
        KEY: {"type": "string", "enum": list(review["allowed_decisions"]), "description": "May this be done?"}
    }
    for name, told in FIELDS.items():
        if name in action["args"] or name == REASON:
            now = action["args"].get(name)
            fields[name] = {"type": "string", "description": told} | ({"default": now} if isinstance(now, str) else {})
    message = "\n".join(
        line(text, SHOWN_CHARS) for text in (note, action["description"], f"For: {asked['question']}") if text
    )
    schema = {"type": "object", "properties": fields, "required": [KEY]}
    return ElicitRequestFormParams(message=message, requested_schema=schema)
