"""Settings and pictures for the agent's tests."""

import io
import json
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

from lensgraph.agent import shared

SETTINGS = {
    "policy": {
        "kind": "lensgraph.agent.policy.scripted:ScriptedPolicy",
        "options": {"turns": ["<img_search><img></img_search>", "<answer>1987</answer>"]},
    },
    "tools": {kind: {"use": f"lensgraph.agent.testing:Fixed{name}"} for kind, name in (
        ("text_search", "Text"), ("image_search", "Image"), ("locate", "Locator"),
    )},
}  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Path]:
    """A YAML file with a scripted policy (whole-picture search, then an answer) and fixed tools."""
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    yield path
    shared._built.clear()  # a fixed tool remembers what it was asked: the next test gets its own


@pytest.fixture
def picture_of_the_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """LangChain's suite for chat models fetches its picture from the network; here it is drawn."""
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), "red").save(buffer, "PNG")
    monkeypatch.setattr(httpx, "get", lambda *_, **__: SimpleNamespace(content=buffer.getvalue()))


@pytest.fixture
def benchmark() -> Callable[[Callable[[], Any]], Any]:
    """LangChain's suite times a constructor with a plugin that is off here; that it works is what is asked."""
    return lambda work: work()


Encode = Callable[..., bytes]


@pytest.fixture
def encoded() -> Encode:
    """Encodes a Pillow image: `encoded(image, "PNG", ...)`."""

    def encode(image: Image.Image, form: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture
def bomb() -> bytes:
    """A 30,000 x 30,000 PNG: a true header and no pixels, so that only a decoder that trusts it is hurt."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    start = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", start) + chunk(b"IEND", b"")


def texts(body: dict[str, Any]) -> str:
    """All texts of a request."""
    found = ""
    for message in body["messages"]:
        content = message["content"]
        found += content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return found


def pictures(body: dict[str, Any]) -> int:
    """Pictures of a request."""
    contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
    return sum(part["type"] == "image_url" for content in contents for part in content)


class ChatServer:
    """A server of chat completions on this machine that keeps to the wire format of one of the real ones.

    The formats were read in: vLLM `entrypoints/openai/chat_completion/protocol.py` (token_ids, stop_reason,
    include_stop_str_in_output, return_token_ids) and its messages about the context; SGLang
    `srt/entrypoints/openai/protocol.py` (matched_stop, no_stop_trim, flat errors) and `managers/tokenizer_manager.py`;
    llama.cpp `tools/server/README.md` and pull request 15780 (exceed_context_size_error, `Loading model`, ids in logprobs);
    transformers `cli/serving/chat_completion.py` and `utils.py` (unknown fields are 422, the stop string stays).
    """

    OWNERS = {"vllm": "vllm", "sglang": "sglang", "llama_cpp": "llamacpp", "transformers": "some-author"}
    OPENAI = {
        "tools",
        "tool_choice",
        "model",
        "messages",
        "max_tokens",
        "temperature",
        "stop",
        "stream",
        "stream_options",
        "logprobs",
    }
    END = 151645

    def __init__(self, kind: str, port: int = 0) -> None:
        self.kind = kind
        self.says: str | Callable[[dict[str, Any]], str] = "<reason>r</reason><answer>1987</answer> and more"
        self.loading = 0  # requests that find the model loading
        self.pictures_that_fit: int | None = None
        self.characters_that_fit: int | None = None  # of all texts together
        self.refuses: tuple[int, bytes] | None = None  # what to say of a request that does not fit, if not the usual
        self.refuses_to_count = False
        self.blind = False  # pictures are dropped without a word
        self.delay = 0.0
        self.held: threading.Event | None = None  # a stream waits for it in its middle
        self.cut = False  # a stream ends in its middle
        self.in_flight = self.most_in_flight = 0
        self.requests: list[dict[str, Any]] = []
        self.counted: list[dict[str, Any]] = []  # prompts of one token: the client counts them without their pictures
        self.headers: list[dict[str, str]] = []
        self.raw: list[bytes] = []  # bodies to send instead, with status 200
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if outer.kind == "llama_cpp" or not outer.load():
                    cards = [{"id": "m", "object": "model", "created": 1, "owned_by": outer.OWNERS[outer.kind]}]
                    self.reply(200, {"object": "list", "data": cards})
                else:
                    self.reply(*outer.loading_answer())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer.lock:
                    (outer.counted if body["max_tokens"] == 1 else outer.requests).append(body)
                    outer.headers.append(dict(self.headers))
                    outer.in_flight += 1
                    outer.most_in_flight = max(outer.most_in_flight, outer.in_flight)
                try:
                    time.sleep(outer.delay)
                    if outer.load():
                        self.reply(*outer.loading_answer())
                    elif outer.raw:
                        self.send(200, outer.raw.pop(0))
                    elif (refusal := outer.refusal(body)) is not None:
                        if outer.refuses is not None:
                            self.send(*outer.refuses)
                        else:
                            self.reply(*refusal)
                    elif body.get("stream"):
                        events = [json.dumps(one).encode() for one in outer.events(body)]
                        lines = [b"data: " + one + b"\n\n" for one in [*events, b"[DONE]"]]
                        middle = len(lines) // 2
                        if outer.held is None and not outer.cut:
                            self.send(200, b"".join(lines))
                            return
                        self.send(200, b"".join(lines[:middle]), longer=True)
                        if outer.held is not None:
                            outer.held.wait(20)
                        if not outer.cut:
                            self.wfile.write(b"".join(lines[middle:]))
                    else:
                        self.reply(200, outer.completion(body))
                finally:
                    with outer.lock:
                        outer.in_flight -= 1

            def reply(self, status: int, answer: Any) -> None:
                self.send(status, json.dumps(answer).encode())

            def send(self, status: int, data: bytes, *, longer: bool = False) -> None:
                self.send_response(status)
                if not longer:
                    self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def load(self) -> bool:
        with self.lock:
            self.loading -= 1
            return self.loading >= 0

    def loading_answer(self) -> tuple[int, Any]:
        if self.kind == "llama_cpp":
            return 503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
        return 503, {"error": {"message": "service unavailable", "code": 503}}  # a proxy before a server that starts

    def refusal(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        if self.refuses_to_count and body["max_tokens"] == 1:
            return 400, {"detail": "max_tokens is too small"}
        unknown = sorted(set(body) - self.OPENAI)
        if self.kind == "transformers" and unknown:
            return 422, {"detail": f"Unexpected fields in the request: {set(unknown)}"}
        fits = self.pictures_that_fit is None or pictures(body) <= self.pictures_that_fit
        if fits and (self.characters_that_fit is None or len(texts(body)) <= self.characters_that_fit):
            return None
        return {
            "vllm": (400, {"error": {
                "message": "This model's maximum context length is 4096 tokens. However, you requested 2048 output tokens "
                "and your prompt contains 9000 input tokens, for a total of 11048 tokens. Please reduce the length of the "
                "input prompt or the number of requested output tokens. (parameter=input_tokens, value=9000)",
                "type": "BadRequestError", "param": "input_tokens", "code": 400}}),
            "sglang": (400, {
                "object": "error", "type": "BadRequest", "param": None, "code": 400,
                "message": "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested "
                "a total of 11048 tokens: 9000 tokens from the input messages and 2048 tokens for the completion."}),
            "llama_cpp": (400, {"error": {
                "code": 400, "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 4096}}),
            "transformers": (500, {"detail": "Internal Server Error"}),
        }[self.kind]  # fmt: skip

    def turn(self, body: dict[str, Any]) -> tuple[str, str | None]:
        """The text as this server leaves it, and the stop string that ended it."""
        text = self.says(body) if callable(self.says) else self.says
        stops = body.get("stop") or []
        found = sorted((text.index(stop), stop) for stop in stops if stop in text)
        if not found:
            return text, None
        place, stop = found[0]
        kept = {
            "vllm": body.get("include_stop_str_in_output"), "sglang": body.get("no_stop_trim"),
            "llama_cpp": False, "transformers": True,
        }[self.kind]  # fmt: skip
        return text[: place + (len(stop) if kept else 0)], stop

    def tokens(self, text: str, body: dict[str, Any], end: bool) -> dict[str, Any]:
        """A token a character, as this server tells them."""
        ids = [ord(letter) for letter in text] + [self.END] * end
        if self.kind == "transformers" or not body.get("logprobs"):
            return {}
        content = [{"token": chr(i), "logprob": -0.5, "bytes": [], "top_logprobs": []} for i in ids]
        if self.kind == "llama_cpp":
            content = [{"id": i, **one} for i, one in zip(ids, content, strict=True)]
        found: dict[str, Any] = {"logprobs": {"content": content}}
        return {**found, "token_ids": ids} if self.kind == "vllm" and body.get("return_token_ids") else found

    def ending(self, stop: str | None) -> dict[str, Any]:
        matched = {"vllm": {"stop_reason": stop}, "sglang": {"matched_stop": stop or self.END}}.get(self.kind, {})
        return {"finish_reason": "stop", **matched}

    def usage(self, text: str, body: dict[str, Any], stop: str | None) -> dict[str, int]:
        """Tokens as the real servers count them: a picture in the prompt, and the end of the turn or the trimmed stop string."""
        read = 7 if self.blind else 7 + 20 * pictures(body)
        wrote = len(text) + (1 if stop is None or self.kind == "llama_cpp" else 0)
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}

    def called(self, text: str, body: dict[str, Any]) -> tuple[str | None, list[dict[str, Any]]]:
        """The content and the calls that vLLM's parser for Hermes makes of a text, where tools are offered."""
        calls = re.findall(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL) if body.get("tools") else []
        if not calls:
            return text, []
        found = [json.loads(payload) for payload in calls]
        return text[: text.index("<tool_call>")] or None, [
            {"id": f"chatcmpl-tool-{len(self.requests)}{n}", "type": "function", "function": {
                "name": one["name"], "arguments": json.dumps(one["arguments"], ensure_ascii=False),
            }}
            for n, one in enumerate(found)
        ]  # fmt: skip

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        text, stop = self.turn(body)
        content, calls = self.called(text, body)
        choice = {
            "index": 0, "message": {"role": "assistant", "content": content, "tool_calls": calls}, **self.ending(stop),
            **self.tokens(text, body, end=stop is None),
        }  # fmt: skip
        if calls:
            choice["finish_reason"] = "tool_calls"
        return {"object": "chat.completion", "model": "m", "choices": [choice], "usage": self.usage(text, body, stop)}

    def events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        text, stop = self.turn(body)
        content, calls = self.called(text, body)
        pieces = [text[i : i + 5] for i in range(0, len(text), 5)]
        yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            said = {"content": piece} if not calls or len("".join(pieces[: number + 1])) <= len(content or "") else {}
            ended = last and stop is None and self.kind != "llama_cpp"  # it leaves the end of the turn out of a stream
            delta = {"index": 0, "delta": said, **self.tokens(piece, body, end=ended)}
            yield {"object": "chat.completion.chunk", "choices": [delta]}
        if calls:
            rest = (content or "")[len(content or "") // 5 * 5 :]
            yield {"choices": [{"index": 0, "delta": {"content": rest}}]}
        for number, one in enumerate(calls):
            head = {**one, "index": number, "function": {**one["function"], "arguments": ""}}
            yield {"choices": [{"index": 0, "delta": {"tool_calls": [head]}}]}
            for letter in one["function"]["arguments"]:
                part = {"index": number, "function": {"arguments": letter}}
                yield {"choices": [{"index": 0, "delta": {"tool_calls": [part]}}]}
        final = {"choices": [{"index": 0, "delta": {}, **self.ending(stop)}]}
        if self.kind == "transformers":
            yield {**final, "usage": self.usage(text, body, stop)}
            return
        yield final
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {"choices": [], "usage": self.usage(text, body, stop)}


@pytest.fixture
def chat_server() -> Iterator[Callable[..., ChatServer]]:
    """Starts servers: `chat_server("vllm")`, `sglang`, `llama_cpp` or `transformers`."""
    started: list[ChatServer] = []

    def start(kind: str, port: int = 0) -> ChatServer:
        started.append(ChatServer(kind, port))
        return started[-1]

    yield start
    for one in started:
        one.close()
