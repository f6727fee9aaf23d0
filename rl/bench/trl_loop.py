"""TRL's own tool loop with this package's policy, dialect, tools and pictures, to compare the graph's rollout with.

The loop is step-synchronous: all episodes of a batch take a turn together, then their tools run, then all take
the next turn. It cannot run a graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import HumanMessage
from transformers import ProcessorMixin
from trl import GRPOConfig, GRPOTrainer

from lensgraph.agent.actions import SearchByImage, SearchByText
from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.images import ImageStore
from lensgraph.rl.pocket.pocket_network import TEMPLATE
from lensgraph.rl.tasks import Task
from lensgraph.tools.base import ImageSearch, LensTool, TextSearch
from lensgraph.tools.base import Locator as LocatorTool

TOOL_TEMPLATE = TEMPLATE.replace(
    "{{ '<|im_start|>' + message['role'] + '\\n' }}",
    "{{ '<|im_start|>' + ('user' if message['role'] == 'tool' else message['role']) + '\\n' }}"
    "{% if message['tool_calls'] and message['content'] in ('', [{'type': 'text', 'text': ''}]) %}"
    "{{ message['tool_calls'] | tojson }}{% endif %}",
)
"""The pocket policy's chat template, with results as user turns, and a tool call as the text of its turn."""


class Environment:
    """One episode's tools in TRL's form: its public methods are the tools, and `reset` takes the row."""

    def __init__(self, tasks: Mapping[str, Task], tools: Mapping[str, LensTool], dialect: Dialect) -> None:
        self._tasks, self._tools, self._dialect = tasks, tools, dialect

    def reset(self, task: str, **row: Any) -> list[dict[str, Any]]:
        """Begin a task; returns the policy's first message."""
        self._task = self._tasks[task]
        self._store = ImageStore()
        [picture] = self._task.pictures()
        self._picture = self._store.add_image(picture)
        [opening] = self._dialect.first(self._task.question, [self._picture["id"]])
        assert isinstance(opening, HumanMessage)
        return self._blocks(opening)

    async def image_search(self, region: str) -> list[dict[str, Any]]:
        """Search with the picture or a region of it.

        Args:
            region: What to cut out; empty for the whole picture.
        """
        image, crop = self._store.open(self._picture["id"]), None
        if region:
            locator = self._tools["locate"]
            assert isinstance(locator, LocatorTool)
            located = await locator.locate(image, region)
            if located.error is not None:
                return self._blocks(self._dialect.observe_failure("crop", located.error, question=self._task.question))
            crop = self._store.crop(self._picture, located.regions[0].box)
            image = self._store.open(crop["id"])
        search = self._tools["image_search"]
        assert isinstance(search, ImageSearch)
        result = await search.search(image)
        if result.error is not None:
            return self._blocks(self._dialect.observe_failure("image", result.error, question=self._task.question))
        result = result.model_copy(update={"hits": result.hits[: self._dialect.image_hits]})
        return self._blocks(self._dialect.observe_image(result, question=self._task.question, crop=crop))

    async def text_search(self, query: str) -> list[dict[str, Any]]:
        """Search pages.

        Args:
            query: The words.
        """
        search = self._tools["text_search"]
        assert isinstance(search, TextSearch)
        result = await search.search(query)
        if result.error is not None:
            return self._blocks(self._dialect.observe_failure("text", result.error, question=self._task.question))
        result = result.model_copy(update={"hits": result.hits[: self._dialect.text_hits]})
        return self._blocks(self._dialect.observe_text(result, question=self._task.question))

    def _blocks(self, message: HumanMessage) -> list[dict[str, Any]]:
        if isinstance(message.content, str):
            return [{"type": "text", "text": message.content}]
        return [
            {"type": "image", "image": self._store.open(block["id"])}
            if isinstance(block, dict) and block["type"] == "image"
            else {"type": "text", "text": block if isinstance(block, str) else block["text"]}
            for block in message.content
        ]


class AsTensors:
    """An image processor that always returns tensors, as torchvision's do and TRL's loop expects."""

    def __init__(self, stock: Any) -> None:
        self.stock = stock

    def __call__(self, images: Any, **options: Any) -> Any:
        return self.stock(images=images, **{**options, "return_tensors": "pt"})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stock, name)


def read_turns_as_tool_calls(tokenizer: Any, dialect: Dialect) -> None:
    """Make a tokenizer parse a turn of the dialect into TRL's tool calls."""

    def parse(ids: Sequence[int], **rest: Any) -> dict[str, Any]:
        text = tokenizer.decode(ids).removesuffix(tokenizer.eos_token)
        action = dialect.read(text)
        turn: dict[str, Any] = {"role": "assistant", "content": text}
        if isinstance(action, SearchByText):
            turn["tool_calls"] = [_call("text_search", query=action.query)]
        elif isinstance(action, SearchByImage):
            turn["tool_calls"] = [_call("image_search", region=action.region or "")]
        return turn

    tokenizer.parse_response = parse
    tokenizer.response_template = {"type": "object"}  # TRL only checks that there is one


def _call(name: str, **arguments: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


class TRLLoop(GRPOTrainer):
    """TRL's trainer, unmodified, with a constructor for these tasks and tools."""

    @classmethod
    def build(
        cls,
        network: Any,
        processor: ProcessorMixin,
        tasks: Sequence[Task],
        tools: Mapping[str, LensTool],
        dialect: Dialect,
        arguments: GRPOConfig,
    ) -> TRLLoop:
        """The trainer for these tasks; its rewards are not used."""
        from datasets import Dataset

        read_turns_as_tool_calls(processor.tokenizer, dialect)  # type: ignore[attr-defined]
        processor.chat_template = TOOL_TEMPLATE  # type: ignore[attr-defined]
        processor.image_processor = AsTensors(processor.image_processor)  # type: ignore[attr-defined]
        by_id = {task.id: task for task in tasks}
        return cls(
            model=network,
            args=arguments,
            reward_funcs=[lambda completions, **rest: [float(len(completion)) for completion in completions]],
            train_dataset=Dataset.from_list([row(task) for task in tasks]),
            processing_class=processor,
            environment_factory=lambda: Environment(by_id, tools, dialect),
        )


def row(task: Task) -> dict[str, Any]:
    """A task as a row of TRL's data set; the environment makes the prompt."""
    return {"prompt": [{"role": "user", "content": []}], "task": task.id}
