"""A policy behind an OpenAI-compatible server: vLLM, SGLang, or a provider.

Invariants: text and pictures go out as standard chat content, and the turn that comes back is kept as the server wrote
it; what goes wrong outside this process is a `PolicyError` that names the address and the fix. The key is read from
the environment when a request is made and is stored nowhere.

Not covered: streaming of single tokens (an action is read from a whole turn), and function calling (actions are text).
"""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import Any

import httpx
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from agent.policy.errors import PolicyError
from tools.base import wait_for

ROLES = {"human": "user", "ai": "assistant", "system": "system"}
RETRIED = {429, 500, 502, 503, 504}
"""Answers of a server that may do better a moment later."""
LONGEST_WAIT = 30.0
"""Seconds; a server that asks for more patience than this has failed."""


class OpenAICompatiblePolicy(BaseChatModel):
    """Chat completions over HTTP."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")

    model: str
    """The model's name on the server."""
    base_url: str = "http://127.0.0.1:8000/v1"
    """Where the server is, `/v1` included."""
    api_key_env: str | None = None
    """The environment variable that holds the key. None: no key is sent."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """Longest turn: that of MMSearch-R1."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the most likely token."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds to wait for one turn."""
    retries: int = Field(default=2, ge=0)
    """Further tries after a busy server or a broken connection."""
    extra_body: dict[str, Any] = {}
    """Further fields of the request, such as vLLM's `{"top_k": 1}`."""
    _clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = PrivateAttr(
        default_factory=weakref.WeakKeyDictionary
    )

    @model_validator(mode="after")
    def _usable(self) -> OpenAICompatiblePolicy:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url {self.base_url!r} must start with http:// or https://")
        if self.api_key_env and not os.environ.get(self.api_key_env):
            raise ValueError(f"api_key_env: the environment variable {self.api_key_env!r} is not set; export your key")
        return self

    @property
    def _llm_type(self) -> str:
        return "lensgraph-openai-compatible"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "base_url": self.base_url, "temperature": self.temperature}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return wait_for(self._agenerate(messages, stop, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        body = {
            "model": self.model,
            "messages": [as_openai(message) for message in messages],
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            **({"stop": stop} if stop else {}),
            **self.extra_body,
            **kwargs,
        }
        return self._read(await self._post(body))

    async def _post(self, body: dict[str, Any]) -> httpx.Response:
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        key = os.environ.get(self.api_key_env or "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            try:
                response = await self._client().post(url, json=body, headers=headers)
            except httpx.TimeoutException as error:
                raise PolicyError(f"{url}: no turn within {self.timeout:g} s (policy.timeout)") from error
            except httpx.HTTPError as error:
                if last:
                    hint = "start a server there or set policy.base_url"
                    raise PolicyError(f"{url}: {type(error).__name__}: {_first_line(str(error))}; {hint}") from error
                await asyncio.sleep(2.0**attempt)
                continue
            if response.status_code not in RETRIED or last:
                return response
            wait = _retry_after(response, default=2.0**attempt)
            if wait > LONGEST_WAIT:
                return response
            await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _client(self) -> httpx.AsyncClient:
        """One connection pool an event loop: a pool cannot be shared between loops."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            limits = httpx.Limits(max_connections=256)
            self._clients[loop] = httpx.AsyncClient(timeout=self.timeout, limits=limits)
        return self._clients[loop]

    def _read(self, response: httpx.Response) -> ChatResult:
        url = str(response.url)
        if response.status_code >= 400:
            hints = {401: "; set policy.api_key_env", 403: "; set policy.api_key_env", 404: "; check policy.model"}
            said = _server_message(response)
            raise PolicyError(f"{url}: {response.status_code} {said}{hints.get(response.status_code, '')}")
        try:
            answer = response.json()
            choice = answer["choices"][0]
            said = choice["message"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise PolicyError(f"{url}: the answer is no chat completion ({_first_line(response.text)})") from error
        counted = answer.get("usage") or {}
        read, wrote = counted.get("prompt_tokens") or 0, counted.get("completion_tokens") or 0
        # vLLM renamed the field of its reasoning parsers; a thought is not part of the turn, so it is kept beside it.
        thought = said.get("reasoning") or said.get("reasoning_content")
        message = AIMessage(
            content=said.get("content") or "",
            additional_kwargs={"reasoning_content": thought} if thought else {},
            response_metadata={"model_name": self.model, "finish_reason": choice.get("finish_reason")},
            usage_metadata=UsageMetadata(input_tokens=read, output_tokens=wrote, total_tokens=read + wrote),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def as_openai(message: BaseMessage) -> dict[str, Any]:
    """A LangChain message as a chat-completions message; pictures as data URIs."""
    role = ROLES.get(message.type)
    if role is None:
        raise ValueError(f"a policy takes human, ai and system messages, not {message.type!r}")
    if isinstance(message.content, str):
        return {"role": role, "content": message.content}
    return {"role": role, "content": [_part(block) for block in message.content]}


def _part(block: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if block.get("type") == "image":
        uri = f"data:{block['mime_type']};base64,{block['base64']}"
        return {"type": "image_url", "image_url": {"url": uri}}
    return {"type": "text", "text": block["text"]}


def _server_message(response: httpx.Response) -> str:
    try:
        found = response.json()
    except ValueError:
        return _first_line(response.text)
    error = found.get("error", found) if isinstance(found, dict) else found
    return _first_line(str(error.get("message", error) if isinstance(error, dict) else error))


def _retry_after(response: httpx.Response, default: float) -> float:
    try:
        return max(0.0, float(response.headers.get("retry-after", default)))
    except ValueError:  # the header may also hold a date
        return default


def _first_line(text: str) -> str:
    return " ".join(text.split())[:200]
