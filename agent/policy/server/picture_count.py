"""Check that a server's prompt holds the pictures that it was sent.

The server of transformers drops them without a word where AutoProcessor does not know the checkpoint's processor, and
answers blind. Servers count the tokens of the prompt, and every picture is at least one. So the first turn with pictures is
counted once more without them: one further request of one token for each policy. vLLM and llama.cpp are not asked: they
refuse a picture that their model cannot see.

Not covered: turns that are under way while the first is counted, and a server that does not count.
"""

from __future__ import annotations

import contextlib
from typing import Any

from langchain_core.messages.ai import UsageMetadata

from lensgraph.agent.policy.errors import PolicyError
from lensgraph.agent.policy.server.completion import read_answer
from lensgraph.agent.policy.server.connection import Connection
from lensgraph.agent.policy.server.servers import REFUSES_PICTURES, Server
from lensgraph.agent.policy.server.tries import Tries


class PictureCount:
    """Counts the tokens of one prompt with its pictures and without, and remembers what came of it."""

    def __init__(self, connection: Connection, path: str) -> None:
        self._connection, self._path = connection, path
        self._counted, self._blind = False, ""

    async def check(self, server: Server, body: dict[str, Any], usage: UsageMetadata | None) -> None:
        """Refuse a server that did not show the pictures of this request to its model; `usage` is that of its turn.

        Raises:
            PolicyError: the prompt is too short to hold them.
        """
        sent = sum(part["type"] == "image_url" for part in _parts(body))
        if not sent or usage is None or not usage["input_tokens"]:
            return
        if not self._counted and server not in REFUSES_PICTURES:
            self._counted = True
            without = await self._tokens_without(body)
            if without is not None and usage["input_tokens"] - without < sent:
                self._blind = f"{usage['input_tokens']} tokens with its pictures ({sent}) and {without} without"
        elif usage["input_tokens"] < sent:
            self._blind = f"{usage['input_tokens']} tokens and {sent} pictures"
        if self._blind:
            raise PolicyError(
                f"{self._connection.url(self._path)}: the model does not see the pictures: a prompt had {self._blind}; serve "
                "a vision-language checkpoint whose processor the server can load (`transformers serve`: with torchvision); "
                "policy.options.counts_pictures=false for a server that counts no tokens for pictures"
            )

    async def _tokens_without(self, body: dict[str, Any]) -> int | None:
        """Tokens of the same prompt without its pictures. None: the server does not tell."""
        messages = [{**message, "content": _without(message["content"])} for message in body["messages"]]
        asked = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
        asked |= {"messages": messages, "max_tokens": 1}
        with contextlib.suppress(PolicyError):
            async with self._connection.open(self._path, asked, Tries(0)) as response:
                answer = await self._connection.read(response)
            usage = read_answer(answer, str(response.url), self._connection.key()).usage
            return usage["input_tokens"] or None if usage else None
        return None


def _parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    contents = [message["content"] for message in body["messages"]]
    return [part for content in contents if isinstance(content, list) for part in content]


def _without(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [part for part in content if part["type"] != "image_url"] or [{"type": "text", "text": " "}]
