"""Configuration names the chat model that sums up pages; the question of the run reaches it; the policy itself can do it."""

from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from PIL import Image

from lensgraph.agent import config, testing
from lensgraph.agent.context import Backends, Context
from lensgraph.agent.policy.scripted import ScriptedPolicy
from lensgraph.graphs import search_agent
from lensgraph.tools.pages.base import PageReader
from lensgraph.tools.results import Page


class OnePage(PageReader):
    """Reads the same page everywhere."""

    async def aread(self, url: str) -> Page:
        return Page(url=url, title="Kestrel Point Light", text="The lamp was automated in 1987.")


def written(summarise: str, *more: str) -> Any:
    """The summarising model of a configuration."""
    settings = [
        "tools.text_search.use=lensgraph.agent.testing:FixedText",
        f"tools.text_search.read.reader={__name__}:OnePage",
        f"tools.text_search.read.summarise={summarise}",
        "tools.cache.mode='off'",
        *more,
    ]
    backends = Backends(Context(config=config.load_config(overrides=settings, environ={})))
    return backends.build_tool("text_search")


def test_any_model_that_could_be_a_policy_can_write() -> None:
    tool = written(
        "{model: {kind: 'openai_compatible', model: small, base_url: 'http://127.0.0.1:9/v1'}, sentences: 12}"
    )
    assert isinstance(tool.summariser.model, BaseChatModel)
    assert tool.summariser.model.base_url == "http://127.0.0.1:9/v1"
    assert tool.summariser.sentences == 12


def test_the_policy_itself_can_write() -> None:
    own = ["policy.model=seven", "policy.kind=openai_compatible"]
    tool = written("{model: policy}", *own)
    backends = Backends(Context(config=config.load_config(overrides=own, environ={})))
    assert tool.summariser.model is backends.build_policy()
    other = written("{model: policy}", "policy.model=eight", "policy.kind=openai_compatible")
    assert other.summariser.model.model == "eight"


@pytest.mark.parametrize(
    ("summarise", "words"),
    [
        ("{model: gpt}", "tools.text_search.read.summarise.model='gpt': write `policy`, or the keys of a policy"),
        (
            "{model: {name: gpt}}",
            "model.name: unknown key; Valid keys of tools.text_search.read.summarise.model: model, kind, ",
        ),
        ("{model: {model: x, kind: openai}}", "unknown kind 'openai'"),
        ("{model: {model: x, temperature: -1}}", "model.temperature=-1: "),
        ("{model: {1: x}}", "tools.text_search.read.summarise.model: "),
        ("{model: {model: x, timeout: {inner: no}}}", "model.timeout={inner: ...}: "),
        ("{model: {model: x, timeout: {secret: no}}}", "timeout.secret: a key is no setting"),
        ("{sentences: 3}", "model is missing"),
        ("{model: policy, sentences: 0}", "sentences=0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(summarise: str, words: str) -> None:
    with pytest.raises(config.ConfigError) as caught:
        written(summarise, "policy.model=seven", "policy.kind=openai_compatible")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_in_a_run_the_summary_is_made_for_the_users_question(tmp_path: Path) -> None:
    tool = written("{model: policy}", "policy.model=seven", "policy.kind=openai_compatible")
    writer = ScriptedPolicy(lambda messages: "It was automated in 1987, says the page.")
    tool = tool.model_copy(update={"summariser": tool.summariser.model_copy(update={"model": writer})})
    turns = ["<reason>r</reason><text_search>lighthouse lamp</text_search>", "<reason>r</reason><answer>1987</answer>"]
    context = testing.context(turns, "mmsearch_r1", text_search=tool)
    given = {"question": "When was this lamp automated?", "images": [Image.new("RGB", (64, 48))]}
    state = await search_agent.graph.ainvoke(given, context=context)
    hits = [hit for step in state["steps"] for hit in step.get("hits") or []]
    assert [hit["snippet"] for hit in hits] == ["It was automated in 1987, says the page."]
    shown = str(writer.seen[0][1].content)
    assert shown.startswith("Question: When was this lamp automated?\nSearch query: lighthouse lamp\n")
