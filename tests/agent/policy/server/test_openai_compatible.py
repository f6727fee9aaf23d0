"""The HTTP policy, against a small server on this machine that answers as a script says."""

import email.utils
import json
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.config import ConfigError, PolicyConfig
from lensgraph.agent.policy import PolicyError, build
from lensgraph.agent.policy.server import tries as policy_retry
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import search_agent
from lensgraph.tools import retry


class Server:
    """Plays `answers`, a list of (status, headers, body), `hangs` (no answer) or `cut` (half of one); remembers the requests."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], Any] | str] = []
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if body["max_tokens"] == 1:  # the client counts a prompt without its pictures
                    played: Any = (200, {}, {"choices": [{"message": {}}], "usage": {"prompt_tokens": 5}})
                else:
                    outer.requests.append((dict(self.headers), body))
                    played = outer.answers.pop(0)
                if played == "hangs":
                    time.sleep(3.0)
                    return
                if isinstance(played, str):
                    played = (200, {"content-length": "9"}, b"{")
                    self.close_connection = True
                status, headers, answer = played
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def says(self, text: str, **message: Any) -> None:
        body = {
            "choices": [{"message": {"content": text, **message}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        }
        self.answers.append((200, {}, body))


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def policy(server: Server, **fields: Any) -> Any:
    return build(PolicyConfig(kind="openai_compatible", model="m", base_url=server.url, **fields))


async def test_text_and_pictures_are_sent_and_the_turn_comes_back_whole(server: Server) -> None:
    server.says("<answer>x</answer>\n", reasoning="because")
    picture = {"type": "image", "id": "a", "base64": "QUJD", "mime_type": "image/png"}
    messages = [HumanMessage([picture, {"type": "text", "text": "what?"}]), AIMessage("hm"), HumanMessage("go on")]
    reply = await policy(server, max_new_tokens=9).ainvoke(messages, stop=["</answer>"])
    headers, body = server.requests[0]
    assert body["messages"][0]["content"][0]["image_url"]["url"] == "data:image/png;base64,QUJD"
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
    assert (body["model"], body["max_tokens"], body["temperature"], body["stop"]) == ("m", 9, 0.0, ["</answer>"])
    assert "Authorization" not in headers
    assert reply.content == "<answer>x</answer>\n"
    assert reply.usage_metadata == {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    assert reply.additional_kwargs == {"reasoning_content": "because"}


async def test_a_graph_runs_on_a_server_and_records_tokens_and_thoughts(server: Server) -> None:
    server.says("<text_search>kestrel</text_search>", reasoning_content="a lighthouse")
    server.says("<reason>The page says so.</reason><answer>1987</answer>")
    context = testing.context([], policy=policy(server))
    given = {"question": "When?", "images": [Image.new("RGB", (30, 30))]}
    state = await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    assert (state["answer"], state["usage"]["tokens"]) == ("1987", {"in": 14, "out": 6})
    thoughts = [step["thought"] for step in state["steps"] if step["node"] == "reason"]
    assert thoughts == ["a lighthouse", "The page says so."]


def test_the_synchronous_call_works_too(server: Server) -> None:
    server.says("hello")
    assert policy(server).invoke("hi").content == "hello"


async def test_the_key_is_read_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    server.says("x")
    made = policy(server, api_key_env="SOME_KEY")
    await made.ainvoke("hi")
    assert server.requests[0][0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(made)


def test_a_missing_key_is_a_setting_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ConfigError, match="'SOME_KEY' is not set; export your key"):
        build(PolicyConfig(kind="openai_compatible", model="m", api_key_env="SOME_KEY"))


async def test_a_busy_server_is_asked_again_after_the_time_it_names(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_retry, "FIRST_WAIT", 60.0)  # what it would wait if it did not read the header
    server.answers.append((429, {"retry-after": "0.5"}, {"error": {"message": "slow down"}}))
    server.answers.append((503, {"retry-after": "0.5"}, {}))
    server.says("x")
    one = policy(server, options={"server": "other"})
    began = time.monotonic()
    assert (await one.ainvoke("hi")).content == "x"
    assert 1.0 <= time.monotonic() - began < 30
    assert len(server.requests) == 3


@pytest.mark.parametrize(("offset", "wanted"), [(-60, 0.0), (20, 20.0)])
def test_a_time_to_wait_may_be_a_date(offset: float, wanted: float) -> None:
    date = email.utils.formatdate(time.time() + offset, usegmt=True)
    assert retry.retry_after({"retry-after": date}) == pytest.approx(wanted, abs=2)
    assert retry.retry_after({"retry-after": "soon"}) is retry.retry_after({}) is None


@pytest.mark.parametrize(
    "first", [(500, {}, {}), (504, {}, b""), (200, {}, b"<html>"), (200, {}, {"choices": 7}), "hangs", "cut"]
)
@pytest.mark.parametrize("streams", [False, True])
async def test_what_may_pass_is_tried_again(
    server: Server, monkeypatch: pytest.MonkeyPatch, first: Any, streams: bool
) -> None:
    """An error of the server, garbage with status 200, no answer in time, an answer that breaks off: the turn still comes."""
    monkeypatch.setattr(policy_retry, "FIRST_WAIT", 0.01)
    server.answers.append(first)
    one = policy(server, timeout=1.0 if first == "hangs" else 20.0, options={"server": "other"})
    if streams:
        event = {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}
        server.answers.append((200, {}, f"data: {json.dumps(event)}\n\n".encode()))
        assert "".join([str(piece.content) async for piece in one.astream("hi")]) == "x"
    else:
        server.says("x")
        assert (await one.ainvoke("hi")).content == "x"
    assert len(server.requests) == 2


async def test_a_turn_that_never_comes_is_given_up_after_the_last_try(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_retry, "FIRST_WAIT", 0.01)
    server.answers += ["hangs", (500, {}, {"error": {"message": "oh"}}), (200, {}, b"<html>")]
    with pytest.raises(PolicyError, match=r"no chat completion \(<html>\) \(tried 3 times\)$"):
        await policy(server, timeout=1.0, options={"server": "other"}).ainvoke("hi")
    assert len(server.requests) == 3
    server.answers += ["hangs"] * 2
    with pytest.raises(PolicyError, match=r"no turn within 1 s \(policy.timeout\) \(tried 2 times\)$"):
        await policy(server, timeout=1.0, retries=1, options={"server": "other"}).ainvoke("hi")


async def test_no_piece_of_a_stream_comes_twice(server: Server) -> None:
    """A stream that breaks off behind its first piece is not begun again: the reader has that piece."""
    event = {"choices": [{"delta": {"content": "x"}}]}
    server.answers.append((200, {}, f"data: {json.dumps(event)}\n\n".encode()))
    stream = policy(server, options={"server": "other"}).astream("hi")
    assert (await anext(stream)).content == "x"
    with pytest.raises(PolicyError, match="ended in the middle of the turn"):
        await anext(stream)
    assert len(server.requests) == 1


async def test_a_server_that_asks_for_too_much_patience_has_failed(server: Server) -> None:
    server.answers.append((429, {"retry-after": "3600"}, {"error": {"message": "slow down"}}))
    with pytest.raises(PolicyError, match="429 slow down$"):
        await policy(server, options={"server": "other"}).ainvoke("hi")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, {"error": {"message": "bad key"}}, "401 bad key; set policy.api_key_env"),
        (404, {"message": "no model m"}, "404 no model m; check policy.model"),
        (400, b"plain words\nand more", "400 plain words and more"),
        # vLLM 0.32
        (
            400,
            {
                "error": {
                    "message": "max_tokens=5000 cannot be greater than max_model_len=4096. Please request fewer output "
                    "tokens. (parameter=max_tokens, value=5000)",
                    "type": "BadRequestError",
                    "param": "max_tokens",
                }
            },
            "value=5000); lower policy.max_new_tokens, or serve with a longer context",
        ),
        (200, b"<html>", "no chat completion"),
        (200, {"choices": []}, "no chat completion"),
    ],
)
async def test_a_refusal_is_one_line(server: Server, status: int, body: Any, message: str) -> None:
    server.answers.append((status, {}, body))
    with pytest.raises(PolicyError) as caught:
        await policy(server, retries=0).ainvoke("hi")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("written", [r"sk-some/ke+y", r"sk-some\/ke+y", r"sk-some\u002Fke\u002by", "sk-some%2Fke%2By"])
@pytest.mark.parametrize(
    ("status", "streamed", "body"),
    [
        (401, False, '{"error": {"message": "Incorrect API key provided: Bearer KEY"}}'),
        (400, False, '{"message": "maximum context length; you are KEY"}'),
        (400, False, '{"detail": {"KEY": ["KEY"]}}'),
        (400, False, "plain words " + "x" * 175 + " KEY"),
        (200, False, "<html>KEY"),
        (200, False, '{"error": "KEY"}'),
        (200, False, '{"choices": [{"message": "KEY"}]}'),
        (200, True, 'data: {"error": {"message": "no more for KEY"}}\n\n'),
        (200, True, "data: KEY\n\n"),
    ],
)
async def test_a_key_that_the_server_repeats_is_not_given_out(
    server: Server, monkeypatch: pytest.MonkeyPatch, status: int, streamed: bool, body: str, written: str
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-some/ke+y")
    server.answers.append((status, {}, body.replace("KEY", written).encode()))
    made = policy(server, api_key_env="SOME_KEY", retries=0)

    async def ask() -> None:
        if streamed:
            _ = [piece async for piece in made.astream("hi")]
        else:
            await made.ainvoke("hi")

    with pytest.raises(PolicyError) as caught:
        await ask()
    assert "sk-some" not in "".join(traceback.format_exception(caught.value))


async def test_a_server_that_is_not_there_ends_the_episode_and_not_the_program(server: Server) -> None:
    server.http.shutdown()
    server.http.server_close()
    context = testing.context([], policy=policy(server, retries=0, options={"start_wait": 0}))
    given = {"question": "When?", "images": [Image.new("RGB", (30, 30))]}
    result = await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    assert (result["stop_reason"], result["answer"]) == ("policy_failed", None)
    assert "start a server there or set policy.base_url" in result["steps"][0]["error"]


def test_a_key_in_place_of_its_variable_s_name_is_not_repeated() -> None:
    key = "sk-proj-0Aq9vB7xK2mW8tR4yL6nD1cF3hJ5"
    with pytest.raises(ConfigError, match="api_key_env") as caught:
        build(PolicyConfig(kind="openai_compatible", model="m", api_key_env=key))
    assert key not in str(caught.value)


@pytest.mark.parametrize("place", ["http:nowhere", "https://[", "//", "http://a:99999999/", "/elsewhere"])
async def test_a_redirect_to_no_address_is_a_failure_of_the_server(server: Server, place: str) -> None:
    """httpx reads the address of every redirect, also of those that it does not follow."""
    server.answers = [(302, {"Location": place}, b"")]
    policy = build(PolicyConfig(kind="openai_compatible", model="m", base_url=server.url, retries=0))
    context = testing.context([], policy=policy)
    state = await search_agent.graph.ainvoke({"question": "?", "images": [Image.new("RGB", (9, 9))]}, context=context)
    assert state["stop_reason"] == "policy_failed"
    assert server.url in state["steps"][-1]["error"]
