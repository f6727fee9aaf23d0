"""A policy behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, the server of transformers, or a provider.

Invariants: text and pictures go out as standard chat content, and the turn that comes back is kept as the server wrote
it, closed with the tag at which it stopped; what goes wrong outside this process is a `PolicyError` that names the address
and the fix. What may pass (a busy server, a broken connection, a turn that does not come within `timeout`, an answer that is
none) is tried again `retries` times, after the wait that the server asks for; no piece of a stream comes twice. A server that
does not listen yet gets `start_wait`. A request that does not fit the server's context is sent again without its oldest
thumbnails, and the reply says which. The key is read from the environment when a request is made, never shown, also where a
server repeats it, and goes to `base_url` only.

Not covered: function calling (actions are text), and addresses of pictures (they are sent as bytes).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ClassVar, Literal

import httpx
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import AliasChoices, ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from lensgraph.agent.policy import pieces
from lensgraph.agent.policy.errors import ContextFull, PolicyError
from lensgraph.agent.policy.server import wire
from lensgraph.agent.policy.server.wire import DoesNotFit, Passing, Server, Turn
from lensgraph.tools import retry
from lensgraph.tools.base import wait_for
from lensgraph.tools.runtime import loops
from lensgraph.tools.safety.redact import blot, shown, without_keys, without_logins

logger = logging.getLogger(__name__)

RETRIED = {408, 429, 500, 502, 503, 504}
"""Answers of a server that may do better a moment later."""
LONGEST_WAIT = 30.0
"""Seconds; a server that asks for more patience than this has failed."""
FIRST_WAIT = 1.0
"""Seconds before the second try where the server names no time; doubled for every further one."""
LOOK_AGAIN = 1.0
"""Seconds between two looks at a server that is starting."""
GRACE = 1.0
"""Seconds after httpx's own clock at which a request is given up whatever it is doing, such as reading endless headers."""
MAX_BODY = 32 * 1024 * 1024
"""Longest answer read: log-probabilities of the longest turn are a hundredth of it."""


class _OnLoop:
    """What belongs to one event loop: connections, the places for requests, and the first look while it lasts."""

    def __init__(self, timeout: float, concurrency: int) -> None:
        limits = httpx.Limits(max_connections=concurrency + 1, max_keepalive_connections=concurrency)
        self.client = httpx.AsyncClient(timeout=timeout, limits=limits, follow_redirects=False)
        self.places = asyncio.Semaphore(concurrency)
        self.look: asyncio.Task[Server] | None = None

    def looked(self, look: asyncio.Task[Server]) -> None:
        """The look has ended: whoever comes later makes a new one, unless it told what the server is."""
        self.look = None
        if not look.cancelled():
            look.exception()  # also read if nobody waits any more, or asyncio would complain


LOOKS = 2
"""So many looks at a server's list of models may fail before it is taken for one that has none."""


class OpenAICompatiblePolicy(BaseChatModel):
    """Chat completions over HTTP."""

    # Pydantic would show a key that stands beside what is wrong.
    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", hide_input_in_errors=True)

    takes_image_urls: ClassVar[bool] = True
    """Pictures come as `image_url` blocks, see `lensgraph.agent.nodes.materialise`."""

    model: str
    """The model's name on the server."""
    base_url: str = "http://127.0.0.1:8000/v1"
    """Where the server is, `/v1` included."""
    server: Literal["auto", "vllm", "sglang", "llama_cpp", "other"] = "auto"
    """What the server is, for the fields that are not OpenAI's. `auto`: asked for its list of models once. `other`: nothing
    but OpenAI's own fields is sent; right for the server of transformers and for providers."""
    api_key_env: str | None = None
    """The environment variable that holds the key. None: no key is sent, unless `api_key` is given."""
    api_key: SecretStr | None = None
    """The key itself, from a program; a configuration names its variable instead."""
    max_new_tokens: int = Field(default=2048, ge=1, validation_alias=AliasChoices("max_new_tokens", "max_tokens"))
    """Longest turn: that of MMSearch-R1."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the most likely token."""
    stop: list[str] = []
    """Where a turn shall end, besides what the caller names. A closing tag stays in the turn; other texts are cut off."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds to wait for one turn, at every try."""
    retries: int = Field(default=2, ge=0, validation_alias=AliasChoices("retries", "max_retries"))
    """Further tries after a busy server, a broken connection, no turn within `timeout`, or an answer that is none."""
    start_wait: float = Field(default=10.0, ge=0)
    """Seconds to wait for a server that refuses connections before its first answer, or says that it is loading."""
    concurrency: int = Field(default=64, ge=1)
    """Requests on their way at once, per event loop; further ones wait for a place."""
    token_ids: bool = True
    """Ask for the ids and log-probabilities of the sampled tokens where the server tells them in a standard answer (vLLM,
    llama.cpp). SGLang and the server of transformers are not asked: a rollout that learns needs vLLM or llama.cpp."""
    streaming: bool = False
    """Stream in `invoke` as well, for callbacks that want pieces."""
    extra_body: dict[str, Any] = {}
    """Further fields of the request, such as vLLM's `{"top_k": 1}`."""
    _loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _OnLoop] = PrivateAttr(
        default_factory=weakref.WeakKeyDictionary
    )
    _known: Server | None = PrivateAttr(default=None)
    _in_vain: int = PrivateAttr(default=0)
    _answered: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _usable(self) -> OpenAICompatiblePolicy:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url {shown((), self.base_url)} must start with http:// or https://")
        if self.api_key_env and not os.environ.get(self.api_key_env):
            named = shown(("api_key_env",), self.api_key_env)  # a key put here by mistake is not repeated
            raise ValueError(f"api_key_env: the environment variable {named} is not set; export your key")
        return self

    @property
    def _llm_type(self) -> str:
        return "lensgraph-openai-compatible"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "base_url": without_logins(self.base_url), "temperature": self.temperature}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What LangChain tells every tracer about the model: without a login in its address."""
        for name, value in super().__repr_args__():
            yield name, without_keys(value) if isinstance(value, str) else value

    # --- LangChain's four ways to ask

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        async def once() -> ChatResult:
            try:
                return await self._agenerate(messages, stop, **kwargs)
            finally:
                await self.aclose()  # this loop ends with the call

        return wait_for(once())

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        stops = [*self.stop, *(stop or [])]
        async with self._place():
            sent, left_out, tries = messages, list[str](), _Tries(self.retries)
            while True:
                body = await self._body(sent, stops, kwargs)
                try:
                    async with self._open("chat/completions", body, tries) as response:
                        turn = wire.read_answer(await self._read(response), str(response.url), self._key())
                    break
                except DoesNotFit as error:
                    sent = _smaller(sent, left_out, error)
                except Passing as error:
                    await tries.after(error)
        turn.text += wire.missing_stop(turn, stops)
        message = AIMessage(
            content=turn.text,
            additional_kwargs={"reasoning_content": turn.thought} if turn.thought else {},
            response_metadata=_metadata(body["model"], turn, left_out),
            usage_metadata=turn.usage,
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        def work(emit: Callable[[ChatGenerationChunk], None]) -> None:
            async def all_of_it() -> None:
                try:
                    async for chunk in self._astream(messages, stop, **kwargs):
                        emit(chunk)
                finally:
                    await self.aclose()

            loops.run(all_of_it())

        for chunk in pieces.stream(work):
            if run_manager:
                run_manager.on_llm_new_token(str(chunk.text), chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        stops = [*self.stop, *(stop or [])]
        async with self._place():
            sent, left_out, turn, tries = messages, list[str](), Turn(), _Tries(self.retries)
            while True:
                body = await self._body(sent, stops, kwargs)
                body |= {"stream": True, "stream_options": {"include_usage": True}}
                try:
                    async with self._open("chat/completions", body, tries) as response:
                        async for data in self._events(response):
                            text = wire.read_piece(turn, data, str(response.url), self._key())
                            if text:
                                chunk = ChatGenerationChunk(message=AIMessageChunk(content=text))
                                if run_manager:
                                    await run_manager.on_llm_new_token(text, chunk=chunk)
                                yield chunk
                    if turn.finish is None:
                        raise Passing(f"{self._url('chat/completions')}: the stream ended in the middle of the turn")
                    break
                except DoesNotFit as error:
                    sent = _smaller(sent, left_out, error)
                except Passing as error:
                    if turn.text:  # the reader has it already
                        raise
                    turn = Turn()
                    await tries.after(error)
        # What belongs to the turn as a whole comes once, at the end: LangChain adds the chunks up.
        last = AIMessageChunk(
            content=wire.missing_stop(turn, stops),
            additional_kwargs={"reasoning_content": turn.thought} if turn.thought else {},
            response_metadata=_metadata(body["model"], turn, left_out),
            usage_metadata=turn.usage,
            chunk_position="last",
        )
        chunk = ChatGenerationChunk(message=last)
        if run_manager:
            await run_manager.on_llm_new_token(str(last.content), chunk=chunk)
        yield chunk

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the next call opens new ones."""
        mine = self._loops.pop(asyncio.get_running_loop(), None)
        if mine is not None:
            await mine.client.aclose()

    # --- one request

    async def _body(self, messages: list[BaseMessage], stops: list[str], given: dict[str, Any]) -> dict[str, Any]:
        server = await self._server()
        return {
            "model": self.model,
            "messages": [wire.as_openai(message) for message in messages],
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            **({"stop": stops} if stops else {}),
            **(wire.KEEPS_STOP.get(server, {}) if wire.are_tags(stops) else {}),
            **(wire.SAYS_TOKENS.get(server, {}) if self.token_ids else {}),
            **self.extra_body,
            **given,
        }

    async def _server(self) -> Server:
        """What answers at `base_url`; asked once, by whoever comes first for all who wait, and waited for if it is starting."""
        if self.server != "auto":
            return self.server
        if self._known is not None:
            return self._known
        mine = self._mine()
        if mine.look is None:
            mine.look = asyncio.create_task(self._look())
            mine.look.add_done_callback(mine.looked)
        # Shielded: who gives up waiting leaves the look to the others.
        return await asyncio.shield(mine.look)

    async def _look(self) -> Server:
        """One look at the list of models, with its retries; its failure is that of all who wait for it."""
        tries = _Tries(self.retries)
        while True:
            try:
                async with self._open("models", None, tries) as response:
                    known, names = wire.served(await self._read(response))
                break
            except _Refused as error:  # no list of models, or not for us: the request itself will say what is wrong
                self._in_vain += 1
                # it may be a proxy before a server that is starting: the next turn asks again
                if error.passing and self._in_vain < LOOKS:
                    return "other"
                known, names = "other", list[str]()
                break
            except Passing as error:
                await tries.after(error)
        if known == "vllm" and names and self.model not in names:
            # vLLM would say 404; the names that are there help more
            there, where = blot(", ".join(names), self._key()), without_logins(self.base_url)
            logger.warning("%s serves %s, not %r (policy.model)", where, there, self.model)
        self._known = known
        return known

    @contextlib.asynccontextmanager
    async def _open(self, path: str, body: dict[str, Any] | None, tries: _Tries) -> AsyncIterator[httpx.Response]:
        """The server's answer with its body still to read; everything but a success is raised."""
        url, began = self._url(path), time.monotonic()
        while True:
            try:
                response = await self._send(url, body)
            except (httpx.TimeoutException, TimeoutError) as error:
                await tries.after(Passing(f"{url}: no turn within {self.timeout:g} s (policy.timeout)"), error)
                continue
            except httpx.HTTPError as error:
                starting = not self._answered and isinstance(error, httpx.ConnectError)
                if starting and await self._patient(url, began):
                    continue
                hint = "start a server there or set policy.base_url (`python -m lensgraph serve` starts vLLM)"
                said = wire.first_line(str(error), self._key()) or "no answer"
                broken = f"{url}: {type(error).__name__}: {said}; {hint}"
                # Neither is raised `from error`: it may quote what the server wrote.
                if starting:
                    raise PolicyError(broken) from None
                await tries.after(Passing(broken))
                continue
            self._answered = self._answered or response.status_code != 503
            if response.status_code < 300:
                try:
                    yield response
                finally:
                    await response.aclose()
                return
            try:
                refusal = await self._read(response)
            finally:
                await response.aclose()
            status = response.status_code
            starting = wire.is_loading(status, refusal) or (status == 503 and not self._answered)
            if starting and await self._patient(url, began):
                continue
            if wire.is_loading(status, refusal):
                raise PolicyError(
                    f"{url}: the server is still loading its model after {self.start_wait:g} s (policy.options.start_wait); wait"
                )
            if wire.does_not_fit(status, refusal):
                raise DoesNotFit(f"{url}: {status} {wire.server_message(refusal, self._key())}")
            hints = {401: "; set policy.api_key_env", 403: "; set policy.api_key_env", 404: "; check policy.model"}
            said = f"{url}: {status} {wire.server_message(refusal, self._key())}{hints.get(status, '')}"
            refused = _Refused(said, passing=status in RETRIED)
            wait = wire.retry_after(response.headers)
            if status not in RETRIED or (wait or 0.0) > LONGEST_WAIT:
                raise refused
            await tries.after(refused, wait=wait)

    async def _patient(self, url: str, began: float) -> bool:
        """Wait a little for a server that is starting; False when it has had its time."""
        waited = time.monotonic() - began
        if waited >= self.start_wait:
            return False
        if waited < LOOK_AGAIN:
            logger.warning("%s is not there yet; waiting up to %g s (policy.options.start_wait)", without_logins(url),
                           self.start_wait)  # fmt: skip
        await asyncio.sleep(min(LOOK_AGAIN, self.start_wait - waited))
        return True

    async def _send(self, url: str, body: dict[str, Any] | None) -> httpx.Response:
        client = self._mine().client
        secret = self._key()
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        request = client.build_request("GET" if body is None else "POST", url, json=body, headers=headers)
        async with asyncio.timeout(self.timeout + GRACE):
            return await client.send(request, stream=True)

    def _key(self) -> str:
        """The key in clear; empty if there is none."""
        return self.api_key.get_secret_value() if self.api_key else os.environ.get(self.api_key_env or "", "")

    async def _read(self, response: httpx.Response) -> bytes:
        """The body, which must come in time and be of a sensible size."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.timeout):
                async for part in response.aiter_bytes():
                    size += len(part)
                    if size > MAX_BODY:
                        raise PolicyError(
                            f"{response.url}: the answer is larger than {MAX_BODY:,} bytes; it is not read"
                        )
                    parts.append(part)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise Passing(f"{response.url}: no turn within {self.timeout:g} s (policy.timeout)") from error
        except httpx.HTTPError as error:
            raise Passing(f"{response.url}: the answer broke off ({type(error).__name__})") from None
        return b"".join(parts)

    async def _events(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The data of a stream's events. The clock runs while the server is waited for, not while the reader works."""
        lines, left = _lines(response), self.timeout
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(left):
                    line = await anext(lines)
            except StopAsyncIteration:
                return
            except (httpx.TimeoutException, TimeoutError) as error:
                raise Passing(f"{response.url}: no turn within {self.timeout:g} s (policy.timeout)") from error
            except httpx.HTTPError as error:
                raise Passing(f"{response.url}: the stream broke off ({type(error).__name__})") from None
            left -= time.monotonic() - began
            data = wire.event_data(line)
            if data is not None:
                yield data

    def _place(self) -> asyncio.Semaphore:
        return self._mine().places

    def _mine(self) -> _OnLoop:
        """Connections cannot be shared between event loops, so each has its own."""
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._loops[loop] = _OnLoop(self.timeout, self.concurrency)
        return self._loops[loop]

    def _url(self, path: str) -> str:
        return f"{self.base_url.rstrip('/')}/{path}"


class _Refused(PolicyError):
    """The server answered with a status that is no success."""

    def __init__(self, message: str, *, passing: bool) -> None:
        """`passing`: whether it may answer otherwise a moment later."""
        super().__init__(message)
        self.passing = passing


class _Tries:
    """How often one turn may still be asked for; shared by everything that can go wrong with it."""

    def __init__(self, retries: int) -> None:
        self.made, self.retries = 0, retries

    async def after(self, error: PolicyError, cause: BaseException | None = None, wait: float | None = None) -> None:
        """Wait before the next try: as long as the server asked, else longer every time. No try is left: raise for good."""
        if self.made >= self.retries:
            said = f"{error} (tried {self.made + 1} times)" if self.made else str(error)
            raise (
                _Refused(said, passing=error.passing) if isinstance(error, _Refused) else PolicyError(said)
            ) from cause
        await asyncio.sleep(retry.pause(self.made, FIRST_WAIT) if wait is None else wait)
        self.made += 1


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of a stream. httpx would also split at characters that are text inside JSON, such as U+2028."""
    rest = b""
    async for part in response.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > MAX_BODY:
            raise PolicyError(f"{response.url}: a line of the stream is larger than {MAX_BODY:,} bytes; it is not read")
        for line in lines:
            yield line
    if rest:
        yield rest


def _smaller(messages: list[BaseMessage], left_out: list[str], error: DoesNotFit) -> list[BaseMessage]:
    """The request without its oldest thumbnail, whose id goes to `left_out`.

    Raises:
        ContextFull: no thumbnail is left; the question, its pictures and the texts are never cut here.
    """
    where = wire.oldest_thumbnail(messages)
    if where is None:
        hint = "serve with a longer context (--max-model-len), or lower images.view_pixels or policy.max_new_tokens"
        raise ContextFull(f"{error}; nothing is left to leave out: {hint}", left_out) from error
    block = messages[where[0]].content[where[1]]
    left_out.append(str(block.get("id", "")) if isinstance(block, dict) else "")
    return wire.without_block(messages, where)


def _metadata(model: str, turn: Turn, left_out: list[str]) -> dict[str, Any]:
    return {
        "model_name": model,
        "finish_reason": turn.finish,
        **turn.tokens,
        **({"left_out": left_out} if left_out else {}),
    }
