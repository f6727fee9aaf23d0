"""A policy behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, the server of transformers, or a provider.

Invariants: text and pictures go out as standard chat content, and the turn that comes back is kept as the server wrote
it, closed with the tag at which it stopped. What goes wrong outside this process is a `PolicyError` that names the address
and the fix. A failure that may pass (a busy server, a broken connection, no turn within `timeout`, an answer that is no chat
completion) is tried again `retries` times, after the wait that the server asks for; no piece of a stream comes twice. A
server that does not listen yet gets `start_wait`. A request that does not fit the server's context is sent again without its
oldest thumbnails, and the reply says which. The key is read from the environment when a request is made, is sent to
`base_url` only, and is never shown, also where a server repeats it. A server that is sent pictures and does not show them
to its model is refused (`picture_count.py`).

Not covered: addresses of pictures (they are sent as bytes), and streaming of a call's arguments (a call comes whole, with the
last piece of a stream).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import AliasChoices, ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from lensgraph.agent.policy import pieces
from lensgraph.agent.policy.errors import ContextFull
from lensgraph.agent.policy.model_types import AsyncManager, Manager, Messages, Stop
from lensgraph.agent.policy.sampled import GrowingText
from lensgraph.agent.policy.server.completion import Completion, read_answer, read_event
from lensgraph.agent.policy.server.connection import Connection, Endpoint
from lensgraph.agent.policy.server.detect import Detector
from lensgraph.agent.policy.server.picture_count import PictureCount
from lensgraph.agent.policy.server.refusals import TooLong, Transient
from lensgraph.agent.policy.server.servers import Server, sampling_fields
from lensgraph.agent.policy.server.tries import Tries
from lensgraph.agent.policy.server.wire_messages import as_openai
from lensgraph.agent.policy.shorten import leave_out_oldest
from lensgraph.agent.policy.stops import CLOSING_TAG, cut
from lensgraph.tools.base import wait_for
from lensgraph.tools.runtime import loops
from lensgraph.tools.safety.redact import shown, without_keys, without_logins

PATH = "chat/completions"
"""Path below `base_url` at which a turn is asked for."""


class OpenAICompatiblePolicy(BaseChatModel):
    """Chat completions over HTTP."""

    # Pydantic's messages would show the whole input, and a key in it.
    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", hide_input_in_errors=True)

    model: str
    """The model's name on the server."""
    base_url: str = "http://127.0.0.1:8000/v1"
    """Address of the server, `/v1` included."""
    server: Literal["auto", "vllm", "sglang", "llama_cpp", "other"] = "auto"
    """The kind of server, for the fields that are not OpenAI's. `auto`: read from its list of models, once. `other`: nothing
    but OpenAI's own fields is sent; right for the server of transformers and for providers."""
    api_key_env: str | None = None
    """The environment variable that holds the key. None: no key is sent, unless `api_key` is given."""
    api_key: SecretStr | None = None
    """The key itself, from a program; a configuration names its variable instead."""
    max_new_tokens: int = Field(default=2048, ge=1, validation_alias=AliasChoices("max_new_tokens", "max_tokens"))
    """Most tokens of one turn; the default is MMSearch-R1's."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the most likely token."""
    stop: list[str] = []
    """Stop strings of every turn, besides the caller's. A closing tag stays in the turn; other texts are cut off."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds to wait for one turn, at every try."""
    retries: int = Field(default=2, ge=0, validation_alias=AliasChoices("retries", "max_retries"))
    """Further tries after a busy server, a broken connection, no turn within `timeout`, or an answer that is no chat
    completion."""
    start_wait: float = Field(default=10.0, ge=0)
    """Seconds to wait for a server that refuses connections before its first answer, or says that it is loading."""
    concurrency: int = Field(default=64, ge=1)
    """Most requests at once, per event loop; further ones wait."""
    token_ids: bool = True
    """Ask for the ids and log-probabilities of the sampled tokens where the server tells them in a standard answer (vLLM,
    llama.cpp). SGLang and the server of transformers are not asked: a rollout that learns needs vLLM or llama.cpp."""
    counts_pictures: bool = True
    """Refuse a server whose count of prompt tokens says that its model does not see the pictures (`picture_count.py`).
    False: this server counts no tokens for a picture."""
    streaming: bool = False
    """Stream in `invoke` as well, for callbacks that want tokens."""
    extra_body: dict[str, Any] = {}
    """Further fields of the request, such as vLLM's `{"top_k": 1}`."""
    _connection: Connection = PrivateAttr()
    _detector: Detector = PrivateAttr()
    _pictures: PictureCount = PrivateAttr()

    @model_validator(mode="after")
    def _usable(self) -> OpenAICompatiblePolicy:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url {shown((), self.base_url)} must start with http:// or https://")
        if self.api_key_env and not os.environ.get(self.api_key_env):
            named = shown(("api_key_env",), self.api_key_env)  # a key put here by mistake is not repeated
            raise ValueError(f"api_key_env: the environment variable {named} is not set; export your key")
        return self

    def model_post_init(self, context: Any) -> None:
        """Prepare the connection; nothing is sent yet."""
        super().model_post_init(context)
        fields = ("base_url", "api_key_env", "api_key", "timeout", "start_wait", "concurrency")
        self._connection = Connection(Endpoint(**{name: getattr(self, name) for name in fields}))
        self._detector = Detector(self._connection, self.model, self.retries)
        self._pictures = PictureCount(self._connection, PATH)

    @property
    def _llm_type(self) -> str:
        return "lensgraph-openai-compatible"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "base_url": without_logins(self.base_url), "temperature": self.temperature}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """The fields that LangChain shows to every tracer, without keys and logins."""
        for name, value in super().__repr_args__():
            yield name, without_keys(value) if isinstance(value, str) else value

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | dict[str, Any] | bool | None = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        """The policy with tools that it may call, in every form that LangChain takes. `tool_choice`: `auto`, `none`,
        `required` (also `any` or True), or the name of the tool that it has to call."""
        offered = [convert_to_openai_tool(tool) for tool in tools]
        if tool_choice in (True, "any"):
            tool_choice = "required"
        elif isinstance(tool_choice, str) and tool_choice not in ("auto", "none", "required"):
            tool_choice = {"type": "function", "function": {"name": tool_choice}}
        return self.bind(tools=offered, **({"tool_choice": tool_choice} if tool_choice else {}), **kwargs)

    def _generate(
        self, messages: Messages, stop: Stop = None, run_manager: Manager = None, **kwargs: Any
    ) -> ChatResult:
        async def once() -> ChatResult:
            try:
                return await self._agenerate(messages, stop, **kwargs)
            finally:
                await self.aclose()  # this loop ends with the call

        return wait_for(once())

    async def _agenerate(
        self, messages: Messages, stop: Stop = None, run_manager: AsyncManager = None, **kwargs: Any
    ) -> ChatResult:
        stops = [*self.stop, *(stop or [])]
        async with self._connection.slots:
            sent, left_out, tries = messages, list[str](), Tries(self.retries)
            server = await self._kind()
            while True:
                body = self._body(server, sent, stops, kwargs)
                try:
                    async with self._connection.open(PATH, body, tries) as response:
                        answer = await self._connection.read(response)
                        turn = read_answer(answer, str(response.url), self._connection.key())
                    if self.counts_pictures:
                        await self._pictures.check(server, body, turn.usage)
                    break
                except TooLong as error:
                    sent = _shorter(sent, left_out, error)
                except Transient as error:
                    await tries.after(error)
        text = turn.cut(stops) + turn.missing_stop(stops)
        message = AIMessage(content=text, **turn.beside_text(body["model"], left_out))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: Messages, stop: Stop = None, run_manager: Manager = None, **kwargs: Any
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
        self, messages: Messages, stop: Stop = None, run_manager: AsyncManager = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        stops = [*self.stop, *(stop or [])]
        connection = self._connection
        texts = [stop for stop in stops if not CLOSING_TAG.fullmatch(stop)]
        growing = GrowingText[Completion](lambda so_far: cut(so_far.text, texts), texts) if texts else None
        async with connection.slots:
            sent, left_out, turn, tries = messages, list[str](), Completion(), Tries(self.retries)
            server = await self._kind()
            while True:
                body = self._body(server, sent, stops, kwargs)
                body |= {"stream": True, "stream_options": {"include_usage": True}}
                try:
                    async with connection.open(PATH, body, tries) as response:
                        where, key = str(response.url), connection.key()
                        async for data in connection.events(response):
                            text = read_event(turn, data, where, key)
                            if text and growing is not None:
                                text = growing.piece(turn)
                            news = turn.news()
                            if text or news:
                                yield await _told(AIMessageChunk(content=text, **news), run_manager)
                    if turn.finish is None:
                        raise Transient(f"{connection.url(PATH)}: the stream ended in the middle of the turn")
                    if self.counts_pictures:
                        await self._pictures.check(server, body, turn.usage)
                    break
                except TooLong as error:
                    sent = _shorter(sent, left_out, error)
                except Transient as error:
                    if turn.text or turn.thought or turn.calls:  # the reader has it already
                        raise
                    turn = Completion()
                    await tries.after(error)
        # LangChain adds the chunks up, so what belongs to the whole turn comes once, with the last one.
        turn.cut(stops)
        rest = growing.rest(turn) if growing is not None else ""
        beside = turn.beside_text(body["model"], left_out, streamed=True)
        yield await _told(
            AIMessageChunk(content=rest + turn.missing_stop(stops), chunk_position="last", **beside), run_manager
        )

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the next call opens new ones."""
        await self._connection.aclose()

    async def _kind(self) -> Server:
        return await self._detector.server() if self.server == "auto" else self.server

    def _body(
        self, server: Server, messages: list[BaseMessage], stops: list[str], given: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [as_openai(message, tools=bool(given.get("tools"))) for message in messages],
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            **sampling_fields(server, stops, token_ids=self.token_ids),
            **self.extra_body,
            **given,
        }


async def _told(message: AIMessageChunk, run_manager: AsyncCallbackManagerForLLMRun | None) -> ChatGenerationChunk:
    """The chunk, after LangChain's callbacks were told of it."""
    chunk = ChatGenerationChunk(message=message)
    if run_manager:
        await run_manager.on_llm_new_token(str(message.content), chunk=chunk)
    return chunk


def _shorter(messages: list[BaseMessage], left_out: list[str], error: TooLong) -> list[BaseMessage]:
    """The request without its oldest thumbnail, whose id is appended to `left_out`.

    Raises:
        ContextFull: no thumbnail is left.
    """
    shorter = leave_out_oldest(messages, left_out)
    if shorter is None:
        hint = "serve with a longer context (--max-model-len), or lower images.view_pixels or policy.max_new_tokens"
        raise ContextFull(f"{error}; nothing is left to leave out: {hint}", left_out) from error
    return shorter
