"""`python -m lensgraph.rl servers` against a server of the embedded policy that speaks vLLM's wire format, and wrong ones.

`.ci/servers` runs the same command against vLLM, llama.cpp and `transformers serve`.
"""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from lensgraph.agent.config import PolicyConfig
from lensgraph.agent.policy import build
from lensgraph.rl.__main__ import main

CONTEXT = 4096
Change = Callable[[dict[str, Any], dict[str, Any]], None]
"""Changes a request before it is answered, and an answer before it is sent."""


def message(sent: dict[str, Any]) -> BaseMessage:
    if sent["role"] == "assistant":
        return AIMessage(sent["content"])
    if isinstance(sent["content"], str):
        return HumanMessage(sent["content"])
    return HumanMessage([
        part if part["type"] == "text"
        else {"type": "image", "mime_type": "image/png", "base64": part["image_url"]["url"].partition(",")[2]}
        for part in sent["content"]
    ])  # fmt: skip


class Served:
    """The embedded policy behind vLLM's chat completions; `change` sees every request and every answer."""

    def __init__(self, change: Change) -> None:
        policy, lock = build(PolicyConfig()), threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(200, {"data": [{"id": "pocket", "owned_by": "vllm"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                answer: dict[str, Any] = {}
                change(body, answer)
                messages = [message(one) for one in body["messages"]]
                with lock:
                    tokens = len(policy.renderer.render(messages).ids)  # type: ignore[attr-defined]
                    if tokens + body["max_tokens"] > CONTEXT:
                        self.reply(
                            400, {"error": {"message": f"This model's maximum context length is {CONTEXT} tokens."}}
                        )
                        return
                    turn = policy.invoke(messages)
                found = turn.response_metadata
                content = [{"token": "", "logprob": score} for score in found["logprobs"]]
                usage = turn.usage_metadata
                assert usage is not None
                answer |= {
                    "choices": [{
                        "message": {"content": turn.text}, "finish_reason": "stop", "token_ids": found["token_ids"],
                        "logprobs": {"content": content},
                    }],
                    "usage": {"prompt_tokens": usage["input_tokens"], "completion_tokens": usage["output_tokens"]},
                }  # fmt: skip
                change(body, answer)
                if body.get("stream"):
                    choice = answer["choices"][0]
                    choice["delta"] = choice.pop("message")
                    events = [answer, "[DONE]"]
                    lines = [e if isinstance(e, str) else json.dumps(e) for e in events]
                    self.send(200, "".join(f"data: {line}\n\n" for line in lines).encode())
                else:
                    self.reply(200, answer)

            def reply(self, status: int, answer: Any) -> None:
                self.send(status, json.dumps(answer).encode())

            def send(self, status: int, data: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def served() -> Iterator[Callable[[Change], str]]:
    started: list[Served] = []

    def start(change: Change) -> str:
        started.append(Served(change))
        return started[-1].url

    yield start
    for one in started:
        one.http.shutdown()
        one.http.server_close()


def faithful(body: dict[str, Any], answer: dict[str, Any]) -> None:
    pass


def drops_pictures(body: dict[str, Any], answer: dict[str, Any]) -> None:
    for one in body["messages"]:
        if isinstance(one["content"], list):
            one["content"] = [part for part in one["content"] if part["type"] == "text"]


def loses_an_id(body: dict[str, Any], answer: dict[str, Any]) -> None:
    if answer and len(body["messages"]) == 1:
        answer["choices"][0]["token_ids"].pop()
        answer["choices"][0]["logprobs"]["content"].pop()


def says_another_thing_in_a_stream(body: dict[str, Any], answer: dict[str, Any]) -> None:
    if answer and body.get("stream"):
        answer["choices"][0]["message"]["content"] += "!"


def figures(urls: list[str], folder: Path, *further: str) -> tuple[int, list[dict[str, str]]]:
    """The exit code, and what the command found, by server."""
    out = folder / "figures.json"
    code = main(["servers", *urls, "--limit", "2", "--concurrent", "2", "--json", str(out), *further])
    return code, json.loads(out.read_text("utf-8"))


def test_a_faithful_server_agrees_turn_by_turn(
    served: Callable[[Change], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, [right] = figures([served(faithful)], tmp_path, "--context", "0")
    assert (code, right["problems"], right["answers equal"]) == (0, "none", "2 of 2")
    for name in ("prompts equal", "ids complete", "ids equal", "streamed equal", "at once equal"):
        same, _, of = right[name].partition(" of ")
        assert same == of != "0"
    assert float(right["|Δ log p| mean, max"].split(",")[1]) < 1e-3
    assert "2 tasks of world/test" in capsys.readouterr().out


@pytest.mark.slow
def test_a_dialogue_that_outgrows_the_context_is_asked_too(served: Callable[[Change], str], tmp_path: Path) -> None:
    def has_no_limit(body: dict[str, Any], answer: dict[str, Any]) -> None:
        body["max_tokens"] = -1_000_000  # nothing is too long then
        body["messages"][-1]["content"] = [{"type": "text", "text": "x"}]

    code, [right, endless] = figures([served(faithful), served(has_no_limit)], tmp_path)
    assert (code, right["problems"]) == (1, "none")
    assert "a dialogue that is too long was taken whole" in endless["problems"]
    assert "a text that is longer than the context was answered" in endless["problems"]


@pytest.mark.slow
def test_wrong_servers_are_told_apart(served: Callable[[Change], str], tmp_path: Path) -> None:
    urls = [served(way) for way in (drops_pictures, loses_an_id, says_another_thing_in_a_stream)]
    code, [blind, short, odd] = figures(urls, tmp_path, "--context", "0")
    assert code == 1
    assert "differ in tokens" in blind["problems"]
    assert "some turns lack ids" in short["problems"]
    assert odd["problems"] == "a stream says something else"


def test_a_server_that_is_not_there_is_a_problem(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    given = ["servers", "http://127.0.0.1:9/v1", "--limit", "1", "--json", str(out)]
    assert main(given) == 1
    assert "1 questions without a turn: " in json.loads(out.read_text("utf-8"))[0]["problems"]


def test_a_policy_that_is_served_is_no_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["servers", "http://127.0.0.1:9/v1", "--set", "policy.kind=openai_compatible"]) == 2
    assert "give the policy in this process" in capsys.readouterr().err
