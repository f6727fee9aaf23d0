"""Any vision-language model of the hub in this process, through transformers' own processor and chat template.

Invariants: a checkpoint is loaded with the classes that it names itself; pictures reach the model as its processor takes
them; a processor without a picture part is refused, because the model would then answer blind; a dialogue that is longer
than the model's context loses its oldest thumbnails, and the reply says which.

For asking, not for training: a model's own processor expands its pictures, so every turn renders the dialogue anew from
text. Checkpoints of a family (`lensgraph.agent.policy.families.table`) run in
`lensgraph.agent.policy.qwen.transformers_policy`, which keeps sampled ids. Not covered: batching (calls wait for each other).
"""

from __future__ import annotations

import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import torch
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from PIL import Image
from pydantic import AliasChoices, Field, PrivateAttr
from transformers import AutoModelForImageTextToText, StoppingCriteria, StoppingCriteriaList

from lensgraph.agent.chat import tool_calls
from lensgraph.agent.limits import context_problem
from lensgraph.agent.policy import pieces
from lensgraph.agent.policy.errors import ContextFull
from lensgraph.agent.policy.families.table import load_whole
from lensgraph.agent.policy.hub_processor import load_processor
from lensgraph.agent.policy.model_types import AsyncManager, Manager, Messages, Stop
from lensgraph.agent.policy.render import ROLES, picture_bytes
from lensgraph.agent.policy.sampled import GrowingText
from lensgraph.agent.policy.shorten import leave_out_oldest
from lensgraph.agent.policy.stops import cut, stopped

Tell = Callable[[list[int]], None]
"""Called with the ids of the turn so far after every token."""


class StopStrings(StoppingCriteria):
    """Ends a turn at its stop strings, and tells of its ids so far after every token. `tell` may raise to end it."""

    def __init__(self, tokenizer: Any, stops: Sequence[str], prompt: int, tell: Tell | None = None) -> None:
        self.tokenizer, self.stops, self.prompt, self.tell = tokenizer, stops, prompt, tell

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """True if the turn is done."""
        ids = input_ids[0, self.prompt :].tolist()
        if self.tell is not None:
            self.tell(ids)
        return torch.tensor([stopped(self.tokenizer, ids, self.stops)], device=input_ids.device)


class HubPolicy(BaseChatModel):
    """A vision-language checkpoint of the hub, on the GPU where there is one."""

    model: str
    """A checkpoint folder or a hub name."""
    max_new_tokens: int = Field(default=512, ge=1, validation_alias=AliasChoices("max_new_tokens", "max_tokens"))
    """Most tokens of one turn."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 decodes greedily."""
    stop: list[str] = []
    """Stop strings of every turn, besides the caller's. A closing tag stays in the turn; other texts are cut off."""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, `mps`; None takes CUDA where there is one."""

    _network: Any = PrivateAttr(default=None)
    _processor: Any = PrivateAttr(default=None)
    _lock: Any = PrivateAttr(default_factory=threading.RLock)

    @property
    def _llm_type(self) -> str:
        return "lensgraph-hub"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "temperature": self.temperature, "max_new_tokens": self.max_new_tokens}

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any) -> Runnable[Any, AIMessage]:
        """The policy with tools that its chat template offers it, in every form that LangChain takes.

        Raises:
            ValueError: the chat template offers none, or in a form whose calls are not read here; or a tool is demanded.
        """
        self.load()
        return self.bind(tools=tool_calls.offered(tools, tool_choice, self._offer), **kwargs)

    def _offer(self, tools: Sequence[dict[str, Any]]) -> str:
        chat = [{"role": "user", "content": [{"type": "text", "text": "d"}]}]
        return str(self._processor.apply_chat_template(chat, tools=list(tools), tokenize=False))

    def load(self) -> HubPolicy:
        """Load everything now rather than at the first question.

        Raises:
            ValueError: the processor lacks a part that a policy needs, or the weights are not those of the network.
            OSError: transformers found no such model.
        """
        with self._lock:
            if self._network is None:
                self._processor = load_processor(self.model)
                device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
                dtype = torch.float32 if device == "cpu" else torch.bfloat16
                network = load_whole(AutoModelForImageTextToText, self.model, dtype)
                self._network = network.to(device).eval()
        return self

    def _generate(
        self, messages: Messages, stop: Stop = None, run_manager: Manager = None, **kwargs: Any
    ) -> ChatResult:
        said = self._turn(messages, [*self.stop, *(stop or [])], kwargs.get("tools"))
        return ChatResult(generations=[ChatGeneration(message=said)])

    async def _agenerate(
        self, messages: Messages, stop: Stop = None, run_manager: AsyncManager = None, **kwargs: Any
    ) -> ChatResult:
        said = await self._aturn(messages, [*self.stop, *(stop or [])], kwargs.get("tools"))
        return ChatResult(generations=[ChatGeneration(message=said)])

    def _stream(
        self, messages: Messages, stop: Stop = None, run_manager: Manager = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        stops, tools = [*self.stop, *(stop or [])], kwargs.get("tools")
        if tools:  # half a call is none
            yield ChatGenerationChunk(message=tool_calls.as_chunk(self._turn(messages, stops, tools)))
        else:
            yield from pieces.stream(self._telling(messages, stops))

    async def _astream(
        self, messages: Messages, stop: Stop = None, run_manager: AsyncManager = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        stops, tools = [*self.stop, *(stop or [])], kwargs.get("tools")
        if tools:
            yield ChatGenerationChunk(message=tool_calls.as_chunk(await self._aturn(messages, stops, tools)))
            return
        async for chunk in pieces.astream(self._telling(messages, stops)):
            yield chunk

    def _telling(self, messages: list[BaseMessage], stops: list[str]) -> pieces.Work[ChatGenerationChunk]:
        """Work for `pieces` that samples a turn and emits its text as it comes."""

        def work(emit: Callable[[ChatGenerationChunk], None]) -> None:
            growing = GrowingText[list[int]](lambda ids: self._text_of(ids, stops), stops)

            def tell(ids: list[int]) -> None:
                if piece := growing.piece(ids):
                    emit(ChatGenerationChunk(message=AIMessageChunk(content=piece)))

            said = self._turn(messages, stops, None, tell)
            rest = growing.rest(said.response_metadata["token_ids"])
            emit(ChatGenerationChunk(message=tool_calls.as_chunk(said.model_copy(update={"content": rest}))))

        return work

    async def _aturn(
        self, messages: list[BaseMessage], stops: list[str], tools: list[dict[str, Any]] | None
    ) -> AIMessage:
        """`_turn`, in a thread. A caller that is cancelled stops the sampling at its next token."""

        def work(emit: Callable[[Any], None]) -> None:
            emit(self._turn(messages, stops, tools, emit))

        said = AIMessage("")
        async for said in pieces.astream(work):  # ids so far, and last the message
            pass
        return said

    def _text_of(self, ids: list[int], stops: list[str]) -> str:
        return cut(self._processor.tokenizer.decode(ids, skip_special_tokens=True), stops)

    def _turn(
        self,
        messages: list[BaseMessage],
        stops: list[str],
        tools: list[dict[str, Any]] | None,
        tell: Tell | None = None,
    ) -> AIMessage:
        """Sample one turn; with tools, the calls in it are read. `tell` gets its ids so far after every token."""
        self.load()
        processor, network = self._processor, self._network
        with self._lock, torch.inference_mode():
            inputs, left_out = self._fitting(messages, tools)
            inputs = inputs.to(network.device)
            for name, value in inputs.items():
                if torch.is_tensor(value) and value.is_floating_point():
                    inputs[name] = value.to(network.dtype)
            prompt = inputs["input_ids"].shape[1]
            ending = StopStrings(processor.tokenizer, stops, prompt, tell)
            sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
            if self.temperature > 0:
                sampling = {"do_sample": True, "temperature": self.temperature, "top_p": 1.0, "top_k": 0}
            out = network.generate(
                **inputs,
                **sampling,
                max_new_tokens=self.max_new_tokens,
                stopping_criteria=StoppingCriteriaList([ending]),
                output_logits=True,
                return_dict_in_generate=True,
            )
            ids = out.sequences[0, prompt:].tolist()
            scale = self.temperature or 1.0
            logprobs = [
                float(torch.log_softmax(step[0].float() / scale, -1)[token])
                for step, token in zip(out.logits, ids, strict=False)
            ]
        text = self._text_of(ids, stops)
        finished = len(ids) < self.max_new_tokens or stopped(processor.tokenizer, ids, stops)
        beside: dict[str, Any] = {
            "response_metadata": {
                "model_name": self.model,
                "finish_reason": "stop" if finished else "length",
                "token_ids": ids,
                "logprobs": logprobs,
                **({"left_out": left_out} if left_out else {}),
            },
            "usage_metadata": {"input_tokens": prompt, "output_tokens": len(ids), "total_tokens": prompt + len(ids)},
        }
        return tool_calls.as_message(text, **beside) if tools else AIMessage(content=text, **beside)

    def _fitting(self, messages: list[BaseMessage], tools: list[dict[str, Any]] | None) -> tuple[Any, list[str]]:
        """The network's inputs for the dialogue, and the ids of the thumbnails that had to be left out.

        Raises:
            ContextFull: it is too long without any thumbnail.
        """
        longest = getattr(self._network.config.get_text_config(), "max_position_embeddings", None)
        left_out: list[str] = []
        while True:
            inputs = self._processor.apply_chat_template(
                _as_chat(messages), tools=tools or None, add_generation_prompt=True, tokenize=True, return_dict=True,
                return_tensors="pt",
            )  # fmt: skip
            length = inputs["input_ids"].shape[1]
            if longest is None or (problem := context_problem(length, longest, room=1, policy=self.model)) is None:
                return inputs, left_out
            shorter = leave_out_oldest(messages, left_out)
            if shorter is None:
                raise ContextFull(problem, left_out)
            messages = shorter


def _as_chat(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    """LangChain messages in the form of transformers' chat templates; pictures as PIL images, calls as they were written."""
    chat = []
    for message in messages:
        spoken = isinstance(message, AIMessage)
        blocks = [tool_calls.as_text(message)] if spoken or isinstance(message.content, str) else message.content
        chat.append({"role": ROLES[message.type], "content": [_part(block) for block in blocks]})
    return chat


def _part(block: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if block.get("type") in ("image", "image_url"):
        picture = block.get("image") or Image.open(io.BytesIO(picture_bytes(block)))
        return {"type": "image", "image": picture.convert("RGB")}
    return {"type": "text", "text": block.get("text", "")}
