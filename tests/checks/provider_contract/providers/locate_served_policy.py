"""A vision-language model behind an OpenAI-compatible server, asked for boxes."""

from __future__ import annotations

from typing import Any

from provider_contract.provider import Provider
from provider_contract.providers.image_google_vision import PICTURE
from provider_contract.server import Answer, Request


def _said(content: Any) -> Answer:
    message = {"role": "assistant", "content": content}
    return Answer({"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", "message": message}]})


def _refuses(request: Request, key: str) -> Answer | None:
    if (request.method, request.path) != ("POST", "/v1/chat/completions"):
        return Answer({"detail": "Not Found"}, status=404)
    if key and request.headers.get("authorization") != f"Bearer {key}":
        return Answer({"error": "Unauthorized"}, status=401)  # vLLM with --api-key
    asked: Any = request.json
    try:
        image, text = asked["messages"][0]["content"]
        right = image["image_url"]["url"].startswith("data:image/") and "the flag" in text["text"] and asked["model"]
    except (TypeError, KeyError, IndexError, ValueError):
        right = False
    return None if right else Answer({"object": "error", "message": "bad request", "code": 400}, status=400)


PROVIDER = Provider(
    name="served_policy",
    kind="locate",
    documents="OpenAI's chat completions as vLLM serves them; Qwen2.5-VL's cookbook on 2D grounding",
    options=lambda url: {"base_url": f"{url}/v1", "model": "qwen"},
    ask=lambda _: {"image": PICTURE, "expression": "the flag"},
    works=lambda _: _said('```json\n[{"bbox_2d": [0, 0, 56, 56], "label": "flag"}]\n```'),
    empty=_said("[]"),
    refuses=_refuses,
    busy=Answer({"object": "error", "message": "too many requests", "code": 429}, status=429),
    broken=Answer("Internal Server Error", status=500),
    key_variable="LENSGRAPH_LOCATE_API_KEY",
    key_needed=False,
    malformed=(
        Answer("<html>proxy</html>"),
        Answer('{"choices": ['),
        Answer([]),
        Answer({"choices": []}),
        _said(None),
    ),
)
