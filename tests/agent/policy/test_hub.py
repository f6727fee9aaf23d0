"""Any vision-language model of the hub that is of no family: a tiny random LLaVA, made from its configuration.

The families have tests of their own (`families/test_families.py`); Qwen2-VL stands here for a template that offers tools.
"""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from lensgraph.agent import testing
from lensgraph.agent.chat import tool_calls
from lensgraph.agent.config import ConfigError, PolicyConfig
from lensgraph.agent.dialects.table import build as build_dialect
from lensgraph.agent.policy import build
from lensgraph.agent.policy.errors import ContextFull
from lensgraph.agent.policy.hub import HubPolicy, StopStrings
from lensgraph.agent.policy.render import IMAGE_PAD, VIDEO_PAD, VISION_END, VISION_START
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import direct

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{% for b in m.content %}{% if b.type == 'image' %}PICTURE{% else %}{{ b.text }}"
    "{% endif %}{% endfor %}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def tokenizer(folder: Path, picture: str, special: list[str]) -> PreTrainedTokenizerFast:
    """Bytes, and the special tokens of an architecture."""
    words = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=words, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = ByteLevel()
    found = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<eos>", pad_token="<pad>", bos_token="<bos>", unk_token="<unk>",
        additional_special_tokens=special, chat_template=TEMPLATE.replace("PICTURE", picture),
    )  # fmt: skip
    found.save_pretrained(folder)
    return found


TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "vocab_size": 320, "max_position_embeddings": 4096,
}  # fmt: skip


def llava(folder: Path) -> Any:
    words = tokenizer(folder, "<image>", ["<image>"])
    vision = {
        "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "projection_dim": 32,
    }  # fmt: skip
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    LlavaProcessor(
        image_processor=pictures, tokenizer=words, patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=words.chat_template,
    ).save_pretrained(folder)  # fmt: skip
    return LlavaConfig(
        vision_config=vision, text_config={"model_type": "llama", **TEXT},
        image_token_index=words.convert_tokens_to_ids("<image>"), image_token_id=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip


def qwen2_vl(folder: Path) -> Any:
    words = tokenizer(
        folder, f"{VISION_START}{IMAGE_PAD}{VISION_END}", [IMAGE_PAD, VIDEO_PAD, VISION_START, VISION_END]
    )
    Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=56 * 56).save_pretrained(folder)
    number = words.convert_tokens_to_ids
    return Qwen2VLConfig(
        text_config={
            **TEXT, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0},
        },
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
        image_token_id=number(IMAGE_PAD), video_token_id=number(VIDEO_PAD),
        vision_start_token_id=number(VISION_START), vision_end_token_id=number(VISION_END),
    )  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder with a tiny random LLaVA, its tokenizer and its image processor."""
    config = llava(tmp_path)
    torch.manual_seed(0)  # some random weights say only special tokens, which are no text
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path)
    return tmp_path


async def test_a_model_of_the_hub_answers_about_a_picture(checkpoint: Path) -> None:
    """Through the configuration and a graph; and its answer depends on the picture."""
    config = PolicyConfig(kind="transformers", model=str(checkpoint), max_new_tokens=6)
    policy = build(config)
    assert isinstance(policy, HubPolicy)
    given = {"question": "What is it?", "images": [Image.new("RGB", (40, 30), "red")]}
    context = testing.context([], policy=policy, lenient=True)
    state = await direct.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    reply = next(m for m in state["dialogue"] if isinstance(m, AIMessage))
    assert reply.usage_metadata and reply.usage_metadata["output_tokens"] <= 6
    assert len(reply.response_metadata["token_ids"]) == len(reply.response_metadata["logprobs"])
    seen = [await policy.ainvoke([question(Image.new("RGB", (40, 30), colour))]) for colour in ("red", "red", "blue")]
    first = [reply.response_metadata["logprobs"][0] for reply in seen]
    assert first[0] == first[1] != first[2]
    streamed = list(policy.stream([question(Image.new("RGB", (40, 30), "red"))]))
    assert "".join(chunk.content for chunk in streamed) == seen[0].content
    assert len([chunk for chunk in streamed if chunk.content]) > 1, "a token at a time"
    assert streamed[-1].chunk_position == "last"
    assert streamed[-1].response_metadata["token_ids"] == seen[0].response_metadata["token_ids"]


async def test_a_caller_that_is_cancelled_stops_the_sampling_at_its_next_token(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def slowly(self: StopStrings, ids: Any, scores: Any, **kwargs: Any) -> Any:
        steps.append(len(steps))
        time.sleep(0.02)
        return original(self, ids, scores, **kwargs)

    original = StopStrings.__call__
    monkeypatch.setattr(StopStrings, "__call__", slowly)
    policy = HubPolicy(model=str(tiny), max_new_tokens=500, temperature=50.0).load()
    turn = asyncio.create_task(policy.ainvoke([question(Image.new("RGB", (28, 28)))]))
    while len(steps) < 3:  # noqa: ASYNC110 - another thread counts
        await asyncio.sleep(0.01)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    with policy._lock:  # free once the turn has ended
        assert len(steps) < 20


def question(picture: Image.Image) -> HumanMessage:
    return HumanMessage([{"type": "image", "image": picture}, {"type": "text", "text": "What is it?"}])


async def test_a_dialogue_over_the_models_context_ends_with_a_reason(tiny: Path) -> None:
    """4,096 positions, a byte a token; thumbnails go first, and the trajectory says so."""
    thumbnails = [
        {"type": "image", "image": Image.new("RGB", (28, 28), shade), "id": shade, "thumbnail": True}
        for shade in ("red", "lime")
    ]
    policy = HubPolicy(model=str(tiny), max_new_tokens=2)
    messages = [question(Image.new("RGB", (28, 28))), HumanMessage([*thumbnails, {"type": "text", "text": "x" * 4096}])]
    with pytest.raises(ContextFull, match=r"is over the 4096 of .*; ask a shorter question") as caught:
        await policy.ainvoke(messages)
    assert caught.value.left_out == ["red", "lime"]
    fits = [messages[0], HumanMessage([*thumbnails, {"type": "text", "text": "x" * 100}])]
    assert "left_out" not in (await policy.ainvoke(fits)).response_metadata
    context = testing.context([], policy=policy, lenient=True)
    state = await direct.graph.ainvoke(
        {"question": "x" * 5000, "images": [Image.new("RGB", (28, 28))]}, context=context
    )
    assert (state["stop_reason"], state["answer"]) == ("token_limit", None)


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_template_that_offers_tools_is_given_them_and_the_calls_are_read(
    streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qwen3-VL's chat template, as TRL ships it."""
    trl = pytest.importorskip("trl")
    config = qwen2_vl(tmp_path)
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path)
    policy, offered = HubPolicy(model=str(tmp_path), max_new_tokens=64).load(), build_dialect("tools").tools
    with pytest.raises(ValueError, match="does not offer tools"):
        policy.bind_tools(offered)
    processor = policy._processor
    processor.chat_template = (Path(trl.__file__).parent / "chat_templates/qwen3_vl.jinja").read_text("utf-8")
    with pytest.raises(ValueError, match="chooses itself"):
        policy.bind_tools(offered, tool_choice="any")
    said = 'I look. <tool_call>\n{"name": "crop", "arguments": {"region": "it"}}\n</tool_call>'
    ids, read = processor.tokenizer(said)["input_ids"], []

    def generate(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        read.append(processor.tokenizer.decode(input_ids[0]))
        logits = tuple(torch.zeros(1, 320) for _ in ids)
        return SimpleNamespace(sequences=torch.cat([input_ids, torch.tensor([ids])], 1), logits=logits)

    monkeypatch.setattr(policy._network, "generate", generate)
    before = tool_calls.as_message(said.replace("crop", "text_search"))
    seen = HumanMessage([{"type": "image", "image": Image.new("RGB", (28, 28))}])
    dialogue = [question(Image.new("RGB", (28, 28))), before, ToolMessage("1. Kestrel", tool_call_id="1"), seen]
    bound = policy.bind_tools(offered)
    if streaming:
        [reply] = [piece async for piece in bound.astream(dialogue)]
    else:
        reply = await bound.ainvoke(dialogue)
    assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("crop", {"region": "it"})]
    assert (reply.content, reply.response_metadata["token_ids"]) == ("I look.", ids)
    assert '"name": "image_search"' in read[0] and "<tool_response>\n1. Kestrel\n</tool_response>" in read[0]
    assert read[0].count(IMAGE_PAD) == 2 and "text_search" in read[0].partition("</tools>")[2]
    assert not (await policy.ainvoke(dialogue[:1])).tool_calls  # without tools, text is text


def test_a_language_model_without_eyes_is_refused(tmp_path: Path) -> None:
    tokenizer(tmp_path, "", [])
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConfigError, match="its processor takes no pictures; use a vision-language checkpoint"):
        build(PolicyConfig(kind="transformers", model=str(tmp_path)))


# --- LangChain's own suites


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA, made once."""
    folder = tmp_path_factory.mktemp("tiny")
    AutoModelForImageTextToText.from_config(llava(folder)).save_pretrained(folder)
    return folder


@pytest.mark.usefixtures("picture_of_the_suite")
class Hub:
    """This policy claims pictures, usage whole and streamed; the rest as in `test_conformance.py`."""

    chat_model_class = HubPolicy
    chat_model_params = {"model": "made below", "max_new_tokens": 8}
    supports_image_inputs = True
    returns_usage_metadata = True
    has_tool_calling = False
    has_tool_choice = False
    has_structured_output = False

    @pytest.fixture(autouse=True)
    def _made(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "chat_model_params", {**self.chat_model_params, "model": str(tiny)})


class TestHubUnit(Hub, ChatModelUnitTests):
    standard_chat_model_params = {"temperature": 0.0, "max_tokens": 8}


class TestHub(Hub, ChatModelIntegrationTests):
    pass
