"""Start the server on a transport, and let in over HTTP whoever holds the token.

Invariants: HTTP listens on this machine only and refuses foreign `Host` and `Origin` headers; with a token, no request
without it is read; the token is compared in constant time and stands in no message. Wrong settings are reported before the
server starts.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import socket
from contextlib import AsyncExitStack
from typing import Any

from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl

from lensgraph.agent.config import Config
from lensgraph.agent.context import Backends, Context, backends_of
from lensgraph.agent.errors import UserError
from lensgraph.agent.savers import saver
from lensgraph.graphs import table
from lensgraph.graphs.program.mcp_server.ask_server import AskServer
from lensgraph.tools import guard
from lensgraph.tools.safety.redact import without_logins

HOST = "127.0.0.1"
MAX_BODY_BYTES = guard.MAX_FETCH_BYTES * 4 // 3 + 65_536
"""Largest HTTP request: a picture of the largest size that would be fetched, as a data URI."""
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""Form of a bearer token (RFC 6750, section 2.1)."""


class OneToken(TokenVerifier):
    """Knows one token; whoever holds it is one caller."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Access for the token, None for any other."""
        same = hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)
        return AccessToken(token=token, client_id="holder", scopes=[]) if same else None


def token_of(variable: str) -> str:
    """The token that an environment variable holds.

    Raises:
        UserError: it is not set, empty, or no token.
    """
    token = os.environ.get(variable, "").strip()
    if not token:
        state = "is empty" if variable in os.environ else "is not set"
        raise UserError(f"--token-env {variable[:60]}: the variable {state}; put the token into it")
    if not TOKEN.fullmatch(token):
        raise UserError(
            f"--token-env {variable[:60]}: its value is no bearer token; use letters, digits and . _ ~ + / -"
        )
    return token


def run(config: Config, *, port: int | None, pictures: str | None, threads: str | None, token: str | None) -> None:
    """Serve until stopped: over stdio, or on `port` of this machine."""
    asyncio.run(serve(config, port=port, pictures=pictures, threads=threads, token=token))


async def serve(
    config: Config, *, port: int | None, pictures: str | None, threads: str | None, token: str | None = None
) -> None:
    """Load policy and tools, then serve."""
    if port is not None:
        _check_free(port)
    if threads not in (None, "memory") and config.images.folder is None:
        raise UserError(
            f"--threads {without_logins(threads)[:60]}: threads that outlive the server need images.folder, because their "
            "pictures must outlive it, too; add images.folder=FOLDER"
        )
    context = Context(config=config)
    open_world = await _load(await backends_of(context), config)
    async with AsyncExitStack() as stack:
        kept = threads or ("memory" if config.approve else None)  # a question that waits for a person needs a thread
        checkpoints = await stack.enter_async_context(saver(kept)) if kept else None
        opened = config.images.local_files if isinstance(config.images.local_files, str) else False
        server = AskServer(
            table.build(config.graph, checkpoints), context, pictures=pictures or opened, threads=threads is not None,
            open_world=open_world, listed=port is None or token is not None, **_access(token, port),
        )  # fmt: skip
        if port is None:
            await server.run_stdio_async()
        else:
            await server.run_streamable_http_async(host=HOST, port=port, max_request_body_size=MAX_BODY_BYTES)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does, for its own last run
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"--http {port}: cannot listen there ({error.strerror}); give another port") from error


def _access(token: str | None, port: int | None) -> dict[str, Any]:
    """The SDK's own check of bearer tokens. It names an issuer, which nobody is sent to: the operator hands the token out."""
    if token is None:
        return {}
    issuer = AnyHttpUrl(f"http://{HOST}:{port}")
    return {"verifier": OneToken(token), "auth": AuthSettings(issuer_url=issuer, resource_server_url=None)}


async def _load(backends: Backends, config: Config) -> bool:
    """Build policy and tools, because a server that cannot answer should not start; True: a search reaches the web."""
    await backends.policy()
    tools = {kind: await backends.tool(kind) for kind in table.tools_of(config.graph)}
    return any(not tool.on_this_machine for kind, tool in tools.items() if kind != "locate")
