"""Jina Reader."""

from __future__ import annotations

from typing import Any

from provider_contract.provider import Provider
from provider_contract.server import Answer, Request

URL = "https://example.org/kenya"


def page(**data: Any) -> Answer:
    """A page as JSON mode gives it."""
    return Answer(
        {"code": 200, "status": 20000, "data": {"url": URL, "title": "Kenya", "usage": {"tokens": 17}, **data}}
    )


def error(code: int, status: int, name: str, said: str, **more: Any) -> Answer:
    """An error as the service words it."""
    record = {
        "data": None,
        "code": code,
        "name": name,
        "status": status,
        "message": said,
        "readableMessage": f"{name}: {said}",
    }
    return Answer({**record, **more}, status=code)


def _works(request: Request) -> Answer:
    return page(content="The national anthem of Kenya is Ee Mungu Nguvu Yetu.", description="", warning=None)


def _refuses(request: Request, key: str) -> Answer | None:
    if (request.method, request.path) != ("POST", "/") or request.headers.get("accept") != "application/json":
        return Answer("Title: Kenya\n\nURL Source: https://example.org/kenya\n\nMarkdown Content:\n")
    sent = request.headers.get("authorization")
    if sent is not None and sent != f"Bearer {key}":
        return error(401, 40103, "AuthenticationFailedError", "Invalid API key")
    if not isinstance(request.json, dict) or not str(request.json.get("url", "")).startswith("http"):
        return error(422, 42206, "ParamValidationError", "Invalid URL")
    return None


def _busy(seconds: float) -> Answer:
    # In the body only; the header is not documented.
    return error(429, 42903, "RateLimitTriggeredError", "Per IP rate limit exceeded", retryAfter=seconds)


PROVIDER = Provider(
    name="jina",
    kind="read_page",
    documents="github.com/jina-ai/reader README (JSON mode, POST, headers) and its OpenAPI document; errors as it reports them",
    options=lambda url: {"base_url": url},
    ask=lambda _: {"url": URL},
    works=_works,
    empty=page(content=""),
    refuses=_refuses,
    busy=error(429, 42903, "RateLimitTriggeredError", "Per IP rate limit exceeded"),
    busy_for=_busy,
    broken=error(503, 50301, "ServiceNodeResourceDrainError", "Try again later"),
    malformed=(
        Answer("<html>proxy</html>"),
        Answer('{"data": {'),
        Answer([]),
        Answer({"data": None}),
        page(content=None),
    ),
    key_variable="JINA_API_KEY",
    key_needed=False,
)
