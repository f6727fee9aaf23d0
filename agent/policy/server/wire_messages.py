"""LangChain messages as chat-completions messages. Pictures travel as data URIs, never as addresses.

A turn that called tools goes back as it was: its calls with their arguments as the server wrote them, and its reasoning
under the server's own name, which DeepSeek demands and templates with interleaved thinking need.
"""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from lensgraph.agent.chat import tool_calls
from lensgraph.agent.policy.server.completion import THOUGHT_FIELD

ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
"""Type of a LangChain message -> its role on the wire."""


def as_openai(message: BaseMessage, *, tools: bool = False) -> dict[str, Any]:
    """One message for the request; `tools`: the request offers tools, so reasoning goes back as well.

    Raises:
        ValueError: a message of another type, a picture without bytes, or a block that is neither text nor picture.
    """
    role = ROLES.get(message.type)
    if role is None:
        raise ValueError(f"a policy takes human, ai, system and tool messages, not {message.type!r}")
    if isinstance(message, ToolMessage):
        return {"role": role, "tool_call_id": message.tool_call_id, "content": str(message.text)}
    if isinstance(message, AIMessage):
        return _turn(message, reasoning=tools)
    if isinstance(message.content, str):
        return {"role": role, "content": message.content}
    if role != "user":  # not every server takes a list of parts from another role
        return {"role": role, "content": str(message.text)}
    return {"role": role, "content": [_part(block) for block in message.content]}


def _turn(message: AIMessage, *, reasoning: bool) -> dict[str, Any]:
    thought = message.additional_kwargs.get("reasoning_content") if reasoning else None
    calls = [call.sent() for call in tool_calls.tool_uses(message)]
    return {
        "role": "assistant",
        "content": str(message.text) or (None if calls else ""),
        **({str(message.response_metadata.get(THOUGHT_FIELD, "reasoning_content")): thought} if thought else {}),
        **({"tool_calls": calls} if calls else {}),
    }


def _part(block: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    kind = block.get("type")
    if kind == "image" and "base64" in block:
        uri = f"data:{block.get('mime_type') or 'image/png'};base64,{block['base64']}"
        return {"type": "image_url", "image_url": {"url": uri}}
    if kind == "image_url":
        given = block.get("image_url")
        uri = str(given.get("url", "") if isinstance(given, dict) else given)
        if uri.startswith("data:"):
            return {"type": "image_url", "image_url": {"url": uri}}
    if kind in ("image", "image_url"):
        # The server would fetch an address past the guard of this package.
        raise ValueError(f"a picture goes to the policy as bytes; this block holds {sorted(block)} and no base64 data")
    if kind != "text":
        raise ValueError(f"content block of type {kind!r}; the policy takes 'text' and 'image'")
    return {"type": "text", "text": block["text"]}
