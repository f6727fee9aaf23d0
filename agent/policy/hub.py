"""Any vision-language model of the hub in this process, through transformers' own processor and chat template.

Invariants: a checkpoint is loaded with the classes that it names itself; pictures reach the model as its processor wants
them; a processor without a picture part is refused, because the model would then answer blind; a dialogue that is longer
than the model's context loses its oldest thumbnails, and the reply says which.

For asking, not for training: a model's own processor expands its pictures, so a dialogue is rendered anew from text at
every turn. Qwen2.5-VL checkpoints are `lensgraph.agent.policy.qwen.transformers`, which keeps sampled ids. Not covered: batching (calls
wait for each other), and streaming of single tokens (a stream brings the turn in one piece).
"""

from __future__ import annotations

import asyncio
import inspect
import io
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, ClassVar

import torch
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from PIL import Image
from pydantic import AliasChoices, Field, PrivateAttr
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from lensgraph.agent.limits import context_problem
from lensgraph.agent.policy.errors import ContextFull
from lensgraph.agent.policy.render import ROLES, picture_bytes
from lensgraph.agent.policy.sampled import stopped
from lensgraph.agent.policy.server.wire import are_tags, oldest_thumbnail, without_block


class StopStrings(StoppingCriteria):
    """Ends each row of a batch at its own stop strings, and remembers after how many sampled tokens it did."""

    def __init__(self, tokenizer: Any, stops: Sequence[Sequence[str]], prompt: int) -> None:
        self.tokenizer, self.stops, self.prompt = tokenizer, stops, prompt
        self.lengths: dict[int, int] = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """True for the rows that are done."""
        for row, stops in enumerate(self.stops):
            if stops and row not in self.lengths:
                ids = input_ids[row, self.prompt :].tolist()
                if stopped(self.tokenizer, ids, stops):
                    self.lengths[row] = len(ids)
        return torch.tensor([row in self.lengths for row in range(len(self.stops))], device=input_ids.device)


class HubPolicy(BaseChatModel):
    """A vision-language checkpoint, on the best device there is."""

    takes_image_urls: ClassVar[bool] = True
    """Pictures come as `image_url` blocks, see `lensgraph.agent.nodes.materialise`."""
    model: str
    """A checkpoint folder or a hub name."""
    max_new_tokens: int = Field(default=512, ge=1, validation_alias=AliasChoices("max_new_tokens", "max_tokens"))
    """Most tokens of one turn."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 decodes greedily."""
    stop: list[str] = []
    """Where a turn shall end, besides what the caller names. A closing tag stays in the turn; other texts are cut off."""
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

    def load(self) -> HubPolicy:
        """Load everything now rather than at the first question."""
        with self._lock:
            if self._network is None:
                self._processor = load_processor(self.model)
                device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
                dtype = torch.float32 if device == "cpu" else torch.bfloat16
                network = AutoModelForImageTextToText.from_pretrained(self.model, dtype=dtype)
                self._network = network.to(device).eval()
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        text, beside = self._turn(messages, [*self.stop, *(stop or [])])
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=text, **beside))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await asyncio.to_thread(self._generate, messages, stop)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        text, beside = self._turn(messages, [*self.stop, *(stop or [])])
        yield ChatGenerationChunk(message=AIMessageChunk(content=text, chunk_position="last", **beside))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        text, beside = await asyncio.to_thread(self._turn, messages, [*self.stop, *(stop or [])])
        yield ChatGenerationChunk(message=AIMessageChunk(content=text, chunk_position="last", **beside))

    def _turn(self, messages: list[BaseMessage], stops: list[str]) -> tuple[str, dict[str, Any]]:
        """Sample one turn: its text, and what travels beside it in the message."""
        self.load()
        processor, network = self._processor, self._network
        with self._lock, torch.inference_mode():
            inputs, left_out = self._fitting(messages)
            inputs = inputs.to(network.device)
            for name, value in inputs.items():
                if torch.is_tensor(value) and value.is_floating_point():
                    inputs[name] = value.to(network.dtype)
            prompt = inputs["input_ids"].shape[1]
            ending = StopStrings(processor.tokenizer, [stops], prompt)
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
        text: str = processor.tokenizer.decode(ids, skip_special_tokens=True)
        places = [text.find(one) for one in stops if one in text and not are_tags([one])]
        cut = len(ids) >= self.max_new_tokens and not stopped(processor.tokenizer, ids, stops)
        return text[: min(places)] if places else text, {
            "response_metadata": {
                "model_name": self.model,
                "finish_reason": "length" if cut else "stop",
                "token_ids": ids,
                "logprobs": logprobs,
                **({"left_out": left_out} if left_out else {}),
            },
            "usage_metadata": {"input_tokens": prompt, "output_tokens": len(ids), "total_tokens": prompt + len(ids)},
        }

    def _fitting(self, messages: list[BaseMessage]) -> tuple[Any, list[str]]:
        """The dialogue as the network takes it, without the oldest thumbnails if it is too long, and their ids.

        Raises:
            ContextFull: it is too long without any thumbnail.
        """
        longest = getattr(self._network.config.get_text_config(), "max_position_embeddings", None)
        left_out: list[str] = []
        while True:
            inputs = self._processor.apply_chat_template(
                _as_chat(messages), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
            length = inputs["input_ids"].shape[1]
            if longest is None or (problem := context_problem(length, longest, room=1, policy=self.model)) is None:
                return inputs, left_out
            where = oldest_thumbnail(messages)
            if where is None:
                raise ContextFull(problem, left_out)
            block = messages[where[0]].content[where[1]]
            left_out.append(str(block.get("id", "")) if isinstance(block, dict) else "")
            messages = without_block(messages, where)


def is_qwen(model: str) -> bool:
    """Whether a checkpoint is of the architecture that `lensgraph.agent.policy.qwen.transformers` samples token by token.

    Raises:
        OSError: transformers found no such model.
    """
    return bool(AutoConfig.from_pretrained(model).model_type == "qwen2_5_vl")


def load_processor(model: str) -> Any:
    """The processor that a checkpoint names, without its video part where that cannot be had.

    Raises:
        ValueError: it has no part for pictures, or no chat template.
        OSError: transformers found no such model.
    """
    try:
        processor = AutoProcessor.from_pretrained(model)
    except ImportError:  # every video processor needs torchvision; pictures do without
        processor = _without_video(model)
    if getattr(processor, "image_processor", None) is None:
        raise ValueError(f"{model}: its processor takes no pictures; use a vision-language checkpoint")
    if getattr(processor, "chat_template", None) is None:
        processor.chat_template = processor.tokenizer.chat_template
    if processor.chat_template is None:
        raise ValueError(
            f"{model}: no chat template in the processor or the tokenizer; use an instruction-tuned checkpoint"
        )
    return processor


class _NoVideo:
    """Stands where a processor keeps its video part: some read its settings even when there is only a picture."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def _without_video(model: str) -> Any:
    """The processor class of a checkpoint, put together from its parts but the one for video."""
    processor_class = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(model))]

    def check(self: Any, name: str, argument: Any) -> Any:
        return None if isinstance(argument, _NoVideo) else original(self, name, argument)

    original = processor_class.check_argument_for_proper_class
    pictures_only = type(processor_class.__name__, (processor_class,), {"check_argument_for_proper_class": check})
    stored, _ = processor_class.get_processor_dict(model)
    takes = set(inspect.signature(processor_class.__init__).parameters) - set(processor_class.get_attributes())
    return pictures_only(
        image_processor=AutoImageProcessor.from_pretrained(model),
        tokenizer=AutoTokenizer.from_pretrained(model),
        video_processor=_NoVideo(),
        **{key: value for key, value in stored.items() if key in takes},
    )


def _as_chat(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    """LangChain messages as transformers' chat templates take them; pictures as PIL images."""
    chat = []
    for message in messages:
        blocks = [message.content] if isinstance(message.content, str) else message.content
        chat.append({"role": ROLES[message.type], "content": [_part(block) for block in blocks]})
    return chat


def _part(block: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if block.get("type") in ("image", "image_url"):
        picture = block.get("image") or Image.open(io.BytesIO(picture_bytes(block)))
        return {"type": "image", "image": picture.convert("RGB")}
    return {"type": "text", "text": block.get("text", "")}
