"""An httpx transport that connects only to addresses the guard has checked.

Invariant: the name in the URL is resolved here, checked here, and the request leaves for that literal
address; TLS still verifies the certificate against the name. Redirects come back through this transport,
so each is checked too.
"""

from __future__ import annotations

import functools
import ssl

import httpx

from lensgraph.tools.guard.addresses import FetchPolicy, Refused, resolve


@functools.cache
def _tls() -> ssl.SSLContext:
    """The TLS context, made once: reading the certificates takes longer than a request to a near server."""
    return httpx.create_ssl_context(trust_env=False)


class CheckedTransport(httpx.AsyncBaseTransport):
    """Resolves, checks and pins the address; httpx does the rest."""

    def __init__(self, policy: FetchPolicy) -> None:
        self.policy = policy
        self._inner = httpx.AsyncHTTPTransport(retries=0, verify=_tls())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to a checked address, or raise `Refused`."""
        url = request.url
        shown = str(url.copy_with(username=None, password=None))[:200]
        if url.scheme not in self.policy.schemes:
            raise Refused(f"{shown}: scheme {url.scheme!r} is not fetched; give http:// or https://.", "refused")
        if url.userinfo:
            raise Refused(f"{shown}: an address with a user name is not fetched; remove it.", "refused")
        port = url.port or (443 if url.scheme == "https" else 80)
        if port not in self.policy.ports:
            raise Refused(f"{shown}: port {port} is not fetched; allowed are {sorted(self.policy.ports)}.", "refused")
        name = url.raw_host.decode("ascii")  # as it goes over the wire, also where it is written in another script
        address = await resolve(name, port, self.policy)
        pinned = httpx.Request(
            request.method,
            url.copy_with(host=address),
            headers=request.headers,  # keeps the Host header of the name
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": name},
        )
        return await self._inner.handle_async_request(pinned)

    async def aclose(self) -> None:
        """Close pooled connections."""
        await self._inner.aclose()
