"""The servers that speak OpenAI's chat completions, how to recognise each, and the fields that only some of them take.

Checked against vLLM (`entrypoints/openai/chat_completion/protocol.py`), SGLang (`srt/entrypoints/openai/protocol.py`),
llama.cpp (`tools/server/README.md`) and the server of transformers (`cli/serving/chat_completion.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from lensgraph.agent.policy.stops import are_closing_tags
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


def sampling_fields(server: Server, stops: Sequence[str], *, token_ids: bool) -> dict[str, Any]:
    """The stop strings, and the fields of this server that keep closing tags and tell token ids."""
    return {
        **({"stop": list(stops)} if stops else {}),
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
