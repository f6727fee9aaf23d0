"""A search that waits for a person is asked of the client's person, in both eras of the protocol."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult, InputRequiredResult

from lensgraph.agent import testing
from lensgraph.agent.testing import FixedImage, FixedLocator, FixedText
from lensgraph.graphs import search_agent
from lensgraph.graphs.program.mcp_server import ask_server
from lensgraph.graphs.program.mcp_server.ask_server import AskServer
from lensgraph.tools.results import SearchResult

from .conftest import over_http

TEXT = ["<text_search>lights</text_search>", "<answer>1987</answer>"]
IMAGE = ["<img_search>the tower</img_search>", "<answer>1987</answer>"]
MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])
Given = dict[str, Any] | str


class Person:
    """Answers the forms in order, and remembers them. A word is an action without content."""

    def __init__(self, *answers: Given) -> None:
        self.answers, self.forms = list(answers), list[Any]()

    async def __call__(self, context: Any, form: Any) -> ElicitResult:
        self.forms.append(form)
        given = self.answers.pop(0)
        if isinstance(given, str):
            return ElicitResult(action=given)  # type: ignore[arg-type]
        return ElicitResult(action="accept", content=given)


def asking(person: Person | None, turns: Any, *, mode: Any = "auto", threads: bool = False, **tools: Any) -> Client:
    context = testing.context(turns, approve=["text_search", "image_search", "crop"], **tools)
    server = AskServer(search_agent.build(InMemorySaver()), context, threads=threads)
    return Client(server, mode=mode, elicitation_callback=person)


@MODES
async def test_a_person_approves_edits_and_rejects(mode: Any, uri: str) -> None:
    turns = [TEXT[0].replace("lights", word) for word in ("one", "two", "three")] + [TEXT[1]]
    text = FixedText()
    person = Person(
        {"decision": "approve", "query": "one"},
        {"decision": "edit", "query": "kestrel"},
        {"decision": "reject", "message": "private"},
    )
    async with asking(person, turns, mode=mode, text_search=text) as client:
        result = await client.call_tool("ask", {"question": "When?", "image": uri})
        (episode,) = (await client.read_resource(result.structured_content["episode"])).contents
    assert text.asked == ["one", "kestrel"]
    assert result.structured_content["answer"] == "1987" and "thread" not in result.structured_content
    assert "a person rejected this: private" in episode.text
    schema = person.forms[0].requested_schema
    assert (list(schema["properties"]), schema["required"]) == (["decision", "query", "message"], ["decision"])
    assert schema["properties"]["decision"]["enum"] == ["approve", "edit", "reject"]
    assert person.forms[0].message == "Search by text: one\nFor: When?"


@MODES
async def test_a_region_is_edited_in_words_or_as_a_box(mode: Any, uri: str) -> None:
    locate, images = FixedLocator(), FixedImage()
    turns = [IMAGE[0], IMAGE[0], IMAGE[1]]
    person = Person(
        {"decision": "edit", "region": "the door"},
        {"decision": "approve"},
        {"decision": "edit", "region": "the tower", "box": "0, 0, 10, 20"},
        {"decision": "approve"},
    )
    async with asking(person, turns, mode=mode, locate=locate, image_search=images) as client:
        result = await client.call_tool("ask", {"question": "When?", "image": uri})
    assert result.structured_content["answer"] == "1987"
    assert locate.asked == ["the door"]
    assert images.asked == [(16, 16), (10, 20)]


@MODES
async def test_an_answer_that_cannot_be_used_is_asked_for_again(mode: Any, uri: str) -> None:
    wrong = [{"decision": "edit", "box": "left"}, {"decision": "edit", "box": "0, 0, 900, 900"}]
    person = Person(*wrong, {"decision": "approve"}, {"decision": "approve"})
    async with asking(person, IMAGE, mode=mode) as client:
        result = await client.call_tool("ask", {"question": "When?", "image": uri})
    assert result.structured_content["answer"] == "1987"
    assert "box='left': give left, top, right, bottom" in person.forms[1].message
    assert "within the 64x48 pixels" in person.forms[2].message


async def test_a_person_who_is_never_understood_ends_the_question(uri: str) -> None:
    person = Person(*[{"decision": "perhaps"}] * 3)
    async with asking(person, TEXT, mode="legacy") as client:
        result = await client.call_tool("ask", {"question": "When?", "image": uri})
    assert result.is_error and len(result.content[0].text.splitlines()) == 1


@MODES
@pytest.mark.parametrize(("answer", "asked"), [("decline", True), ("cancel", False)])
async def test_a_form_that_is_declined_is_a_rejection_and_one_that_is_closed_ends_the_question(
    answer: str, asked: bool, mode: Any, uri: str
) -> None:
    text = FixedText()
    async with asking(Person(answer), TEXT, mode=mode, text_search=text) as client:
        result = await client.call_tool("ask", {"question": "When?", "image": uri})
    assert text.asked == []
    assert result.is_error is not asked
    assert result.content[0].text == "1987" if asked else "was cancelled" in result.content[0].text


@MODES
async def test_a_client_that_can_ask_nobody_is_refused_before_anything_runs(mode: Any, uri: str) -> None:
    context = testing.context(lambda messages: pytest.fail("the policy was asked"), approve=["crop"])
    async with Client(AskServer(search_agent.build(InMemorySaver()), context), mode=mode) as client:
        with pytest.raises(MCPError, match="it declares no elicitation") as caught:
            await client.call_tool("ask", {"question": "When?", "image": uri})
    assert caught.value.code == -32021 and "\n" not in caught.value.message


@MODES
async def test_a_thread_goes_on_after_a_person_was_asked(mode: Any, uri: str) -> None:
    person = Person({"decision": "approve"}, {"decision": "approve"})
    turns: Callable[[Any], str] = lambda messages: TEXT["<information>" in messages[-1].text]  # noqa: E731
    async with asking(person, turns, mode=mode, threads=True) as client:
        first = (await client.call_tool("ask", {"question": "When?", "image": uri})).structured_content
        follow_up = {"question": "And now?", "thread": first["thread"]}
        second = (await client.call_tool("ask", follow_up)).structured_content
    assert (second["answer"], second["thread"]) == ("1987", first["thread"])
    assert len(person.forms) == 2


async def test_an_answer_counts_once_and_its_run_cannot_be_named_by_a_client(uri: str) -> None:
    """Since 2026-07-28 the client sends back what names the run, sealed."""
    text = FixedText()
    asked = {"question": "When?", "image": uri}
    answer = {"decision": ElicitResult(action="accept", content={"decision": "approve"})}
    async with asking(Person(), TEXT, text_search=text) as client:
        call = client.session.call_tool
        form = await call("ask", asked, allow_input_required=True)
        assert isinstance(form, InputRequiredResult) and form.request_state
        done = await call("ask", asked, input_responses=answer, request_state=form.request_state)
        assert done.structured_content["answer"] == "1987"
        again = await call("ask", asked, input_responses=answer, request_state=form.request_state)
        assert again.is_error and "No search waits for this answer" in again.content[0].text
        with pytest.raises(MCPError):
            await call("ask", asked, input_responses=answer, request_state="0" * 32)
    assert text.asked == ["lights"]


async def test_an_answer_that_is_sent_twice_at_once_searches_once(uri: str) -> None:
    class Slow(FixedText):
        async def asearch(self, query: str) -> SearchResult:
            await asyncio.sleep(0.2)
            return await super().asearch(query)

    text = Slow()
    asked = {"question": "When?", "image": uri}
    answer = {"decision": ElicitResult(action="accept", content={"decision": "approve"})}
    async with asking(Person(), TEXT, text_search=text) as client:
        call = client.session.call_tool
        form = await call("ask", asked, allow_input_required=True)
        both = [call("ask", asked, input_responses=answer, request_state=form.request_state) for _ in range(2)]
        results = await asyncio.gather(*both)
        unanswered = await call("ask", asked, request_state=form.request_state)
    assert sorted(result.is_error for result in results) == [False, True]
    assert unanswered.is_error and "No search waits" in unanswered.content[0].text
    assert text.asked == ["lights"]


async def test_the_oldest_question_that_waits_is_forgotten_first(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_server, "MOST_WAITING", 1)
    asked = {"question": "When?", "image": uri}
    answer = {"decision": ElicitResult(action="accept", content={"decision": "approve"})}
    async with asking(Person(), TEXT) as client:
        call = client.session.call_tool
        first, second = [await call("ask", asked, allow_input_required=True) for _ in range(2)]
        gone = await call("ask", asked, input_responses=answer, request_state=first.request_state)
        done = await call("ask", asked, input_responses=answer, request_state=second.request_state)
    assert gone.is_error and "No search waits" in gone.content[0].text
    assert done.structured_content["answer"] == "1987"


@MODES
async def test_the_program_asks_over_http(mode: Any, uri: str) -> None:
    person = Person({"decision": "reject"})
    async with over_http(mode, settings=["approve=[text_search]"], person=person) as client:
        result = await client.call_tool("ask", {"question": "Use the tool.", "image": uri})
    assert result.structured_content["answer"] == "1987"
    assert "Use the tool" in person.forms[0].message
