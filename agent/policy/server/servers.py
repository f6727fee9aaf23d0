"""The servers that speak OpenAI's chat completions, how to recognise each, and the fields that only some of them take.

Checked against vLLM (`entrypoints/openai/chat_completion/protocol.py`), SGLang (`srt/entrypoints/openai/protocol.py`),
llama.cpp (`tools/server/README.md`) and the server of transformers (`cli/serving/chat_completion.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from lensgraph.agent.policy.stops import CLOSING_TAG, are_closing_tags
from lensgraph.tools.safety.outside_json import read_json

Server = Literal["vllm", "sglang", "llama_cpp", "other"]
"""`other` gets nothing but OpenAI's own fields: right for the server of transformers, which refuses unknown ones."""
OWNERS: dict[str, Server] = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama_cpp"}
"""`owned_by` in a server's list of models -> the server."""
KEEPS_STOP: dict[Server, dict[str, Any]] = {
    "vllm": {"include_stop_str_in_output": True},
    "sglang": {"no_stop_trim": True},
    # llama.cpp always trims the stop string; the server of transformers never does.
}
"""Fields that make a server keep the stop string at which a turn ended."""
TELLS_TOKENS: dict[Server, dict[str, Any]] = {
    "vllm": {"return_token_ids": True, "logprobs": True},
    "llama_cpp": {"logprobs": True},  # its log-probabilities name the id of each token
}
"""Fields that make a server tell the sampled token ids and their log-probabilities."""


REFUSES_PICTURES: frozenset[Server] = frozenset({"vllm", "llama_cpp"})
"""Servers that refuse a picture that their model cannot see. SGLang was not asked; the server of transformers drops it."""
TELL_STOP: frozenset[Server] = frozenset({"vllm", "sglang"})
"""Servers that tell the stop string at which a turn ended."""


def told_stops(server: Server, stops: Sequence[str]) -> list[str]:
    """The stop strings that the server is told. One that trims them and does not say which it met is told the closing tags
    alone where there are both kinds, or a tag would be put back onto a turn that another text ended; the client cuts at the
    others."""
    tags = [stop for stop in stops if CLOSING_TAG.fullmatch(stop)]
    return tags if tags and server not in TELL_STOP else list(stops)


def sampling_fields(server: Server, stops: Sequence[str], *, token_ids: bool) -> dict[str, Any]:
    """The stop strings, and the fields of this server that keep closing tags and tell token ids."""
    told = told_stops(server, stops)
    return {
        **({"stop": told} if told else {}),
        **(KEEPS_STOP.get(server, {}) if are_closing_tags(stops) else {}),
        **(TELLS_TOKENS.get(server, {}) if token_ids else {}),
    }


def read_models(body: bytes) -> tuple[Server, list[str]]:
    """The server and the names of its models, read from its list of models; `other` if the list cannot be read."""
    try:
        cards = read_json(body)["data"]
        names = [str(card["id"]) for card in cards]
        owners = {str(card.get("owned_by")) for card in cards}
    except (ValueError, KeyError, TypeError, AttributeError):
        return "other", []
    return next((OWNERS[owner] for owner in owners if owner in OWNERS), "other"), names
