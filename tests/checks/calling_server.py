"""A server whose model calls tools, on the wire of OpenAI's chat completions or Anthropic's messages.

It refuses what the real ones refuse. Read in OpenAI's API reference (a call without its answer), vLLM's `chat_utils.py`
(arguments in the history are parsed; a tool's message is text), DeepSeek's guide to thinking (reasoning comes back with calls)
and Anthropic's guides to tool use and thinking (every `tool_use` has its `tool_result` in the next message, whose results come
first; thinking comes back unchanged).
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

THOUGHT, SIGNATURE = "Which tower is it?", "c2lnbmVk"


def said(*calls: tuple[str, Any], text: str = "", thought: str = "") -> dict[str, Any]:
    """A turn: calls as (name, arguments), where arguments that are a text are sent as they are."""
    return {"calls": list(calls), "text": text, "thought": thought}


class CallingServer:
    """Serves a script of turns; the number of the model's turns in the request chooses the next one."""

    def __init__(self, script: list[dict[str, Any]]) -> None:
        self.script = script
        self.thought_field = "reasoning_content"
        self.wire = "openai"
        """The form of calls in a stream: `openai`; `no_index`, as Gemini's; `one_index`, as Ollama's (whole calls, index 0)."""
        self.ids = True
        """Calls have ids."""
        self.finish: str | None = None
        self.requests: list[dict[str, Any]] = []
        self.pictures = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send(200, {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "somebody"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                parts = [
                    part for message in body["messages"] for part in message["content"] or [] if isinstance(part, dict)
                ]
                outer.pictures = sum(part["type"] == "image_url" for part in parts)
                if body.get("max_tokens") != 1:  # which only counts the tokens of a prompt
                    outer.requests.append(body)
                anthropic = self.path.endswith("/messages")
                problem = outer.anthropic_problem(body) if anthropic else outer.openai_problem(body)
                if problem:
                    self.send(400, {"type": "error", "error": {"type": "invalid_request_error", "message": problem}})
                    return
                turn = outer.script[sum(message["role"] == "assistant" for message in body["messages"])]
                if anthropic:
                    self.send(200, outer.anthropic(turn))
                elif body.get("stream"):
                    self.events(outer.openai_events(turn))
                else:
                    self.send(200, outer.openai(turn))

            def send(self, status: int, answer: Any) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def events(self, events: Iterator[dict[str, Any]]) -> None:
                lines = [b"data: " + json.dumps(event).encode() for event in events]
                data = b"\n\n".join([*lines, b"data: [DONE]", b""])
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.root = f"http://127.0.0.1:{self.http.server_port}"
        self.url = f"{self.root}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self.http.shutdown()
        self.http.server_close()

    # --- OpenAI

    def openai_problem(self, body: dict[str, Any]) -> str | None:
        """The reason to refuse a request; None: there is none."""
        waiting: list[str] = []
        for message in body["messages"]:
            if message["role"] == "tool":
                if message["tool_call_id"] not in waiting:
                    return "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
                if not isinstance(message["content"], str):
                    return "a tool message holds something that is no text"
                waiting.remove(message["tool_call_id"])
                continue
            if waiting:
                return f"An assistant message with 'tool_calls' must be followed by tool messages. Missing: {waiting}"
            for call in message.get("tool_calls") or []:
                try:
                    json.loads(call["function"]["arguments"])
                except ValueError:
                    return "the arguments of a call are no JSON"
                waiting.append(call["id"])
            turn = self.script[
                sum(m["role"] == "assistant" for m in body["messages"][: body["messages"].index(message)])
            ]
            if message["role"] == "assistant" and turn["thought"] != message.get(self.thought_field, ""):
                return "The `reasoning_content` in the thinking mode must be passed back to the API."
        names = [tool["function"]["name"] for tool in body.get("tools") or []]
        if waiting or names != ["image_search", "text_search", "crop", "answer"]:
            return f"missing: {waiting}; tools: {names}"
        return None

    def _calls(self, turn: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                **({"id": f"call_{name}_{number}"} if self.ids else {}), "type": "function",
                "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
            }
            for number, (name, given) in enumerate(turn["calls"])
        ]  # fmt: skip

    def _finish(self, turn: dict[str, Any]) -> str:
        return self.finish or ("tool_calls" if turn["calls"] else "stop")

    def _usage(self) -> dict[str, int]:
        prompt = 50 + self.pictures
        return {"prompt_tokens": prompt, "completion_tokens": 9, "total_tokens": prompt + 9}

    def openai(self, turn: dict[str, Any]) -> dict[str, Any]:
        """A whole completion. A turn that only calls has no content."""
        message = {"role": "assistant", "content": turn["text"] or None, "refusal": None}
        if turn["thought"]:
            message[self.thought_field] = turn["thought"]
        if turn["calls"]:
            message["tool_calls"] = self._calls(turn)
        usage = self._usage()
        choice = {"index": 0, "message": message, "finish_reason": self._finish(turn), "logprobs": None}
        return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}

    def openai_events(self, turn: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The same as a stream, arguments in pieces of three characters."""
        frame = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        for delta in ({"role": "assistant", "content": None}, *self._deltas(turn)):
            yield {**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield {**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": self._finish(turn)}]}
        yield {**frame, "choices": [], "usage": self._usage()}

    def _deltas(self, turn: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from ({self.thought_field: word} for word in turn["thought"].partition(" ") if word)
        yield from ({"content": word} for word in turn["text"].partition(" ") if word)
        for index, call in enumerate(self._calls(turn)):
            arguments = call["function"]["arguments"]
            if self.wire != "openai":
                yield {"tool_calls": [{**({"index": 0} if self.wire == "one_index" else {}), **call}]}
                continue
            yield {"tool_calls": [{**call, "index": index, "function": {**call["function"], "arguments": ""}}]}
            for start in range(0, len(arguments), 3):
                yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[start : start + 3]}}]}

    # --- Anthropic

    def anthropic_problem(self, body: dict[str, Any]) -> str | None:
        """The reason to refuse a request; None: there is none."""
        waiting: list[str] = []
        for message in body["messages"]:
            blocks = [{"type": "text"}] if isinstance(message["content"], str) else message["content"]
            kinds = [block["type"] for block in blocks]
            found = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
            if sorted(found) != sorted(waiting):
                return f"`tool_use` ids were found without `tool_result` blocks immediately after: {waiting}"
            if "tool_result" in kinds and kinds != sorted(kinds, key=lambda kind: kind != "tool_result"):
                return "tool_result blocks must come first in the content array"
            if any(block["type"] == "text" and block.get("text") == "" for block in blocks):
                return "text content blocks must be non-empty"
            waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
            thinking = [(block["thinking"], block["signature"]) for block in blocks if block["type"] == "thinking"]
            if waiting and (kinds[0] != "thinking" or thinking != [(THOUGHT, SIGNATURE)]):
                return "Expected `thinking`, but found `tool_use`, or the thinking was changed"
        names = [tool["name"] for tool in body.get("tools") or []]
        if waiting or names != ["image_search", "text_search", "crop", "answer"]:
            return f"missing: {waiting}; tools: {names}"
        return None

    def anthropic(self, turn: dict[str, Any]) -> dict[str, Any]:
        """A message with its blocks."""
        blocks: list[dict[str, Any]] = []
        if turn["calls"]:
            blocks.append({"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE})
        if turn["text"]:
            blocks.append({"type": "text", "text": turn["text"]})
        blocks += [
            {"type": "tool_use", "id": f"toolu_{name}_{number}", "name": name, "input": given}
            for number, (name, given) in enumerate(turn["calls"])
        ]
        reason = "tool_use" if turn["calls"] else "end_turn"
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": blocks,
            "stop_reason": reason, "stop_sequence": None, "usage": {"input_tokens": 50, "output_tokens": 9},
        }  # fmt: skip
