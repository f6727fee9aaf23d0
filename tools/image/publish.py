"""A public address for a picture, for services that take nothing else. Off unless it is configured.

Invariants: a picture goes only to storage that the user names and holds keys for, never to an anonymous host; its name there
cannot be guessed; the address stops working by itself. A publisher is a context manager, so that it can take the picture
back when the search is over.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import os
import ssl
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from lensgraph.tools.image.encode import jpeg
from lensgraph.tools.image.sigv4 import presigned
from lensgraph.tools.results import Reason, ToolFailure
from lensgraph.tools.retry import TRIED_AGAIN, pause, retry_after

PUBLISHERS = {"s3": "lensgraph.tools.image.publish:S3Publisher"}
"""Short names of the publishers that ship."""
LARGEST = 5_000_000
"""Largest published picture, in bytes."""

logger = logging.getLogger(__name__)


class ImagePublisher(BaseModel, ABC):
    """Gives a picture a public address for a while."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)  # keys stand beside what may be wrong

    @abstractmethod
    def published(self, image: Image.Image) -> AbstractAsyncContextManager[str]:
        """The address, for as long as the block runs or longer. Raises `ToolFailure`."""


class S3Publisher(ImagePublisher):
    """Puts the picture into a bucket of S3-compatible storage and signs an address for reading it.

    The bucket stays private: only a holder of the signed address can read, and only until it expires. The object itself is
    removed by `delete_after`, or by a lifecycle rule of the bucket.
    """

    bucket: str = Field(min_length=1)
    """Name of the bucket; it must exist."""
    endpoint: str | None = None
    """Address of the storage, for example https://minio.example.org. None: Amazon's for the region."""
    public_endpoint: str | None = None
    """Address at which the search service reaches the storage, if it is another. None: `endpoint`."""
    region: str = Field(default_factory=lambda: os.environ.get("AWS_REGION") or "us-east-1")
    """Region that the signature names. Default: AWS_REGION, or us-east-1."""
    prefix: str = "lensgraph/"
    """Beginning of the names of published pictures, by which a lifecycle rule finds them."""
    access_key_id: SecretStr | None = None
    """Key id. None: AWS_ACCESS_KEY_ID."""
    secret_access_key: SecretStr | None = None
    """Secret key. None: AWS_SECRET_ACCESS_KEY."""
    session_token: SecretStr | None = None
    """Token of temporary keys. None: AWS_SESSION_TOKEN, where the keys come from the environment too."""
    expires_seconds: int = Field(default=600, ge=30, le=7 * 24 * 3600)
    """Time that the address works, in seconds. Lens may look at the picture again after it has answered."""
    delete_after: bool = False
    """Remove the object as soon as the search is over, and with it any later look at it."""
    longest_side: int = Field(default=1600, ge=64)
    """Larger pictures are published smaller, in pixels."""
    timeout: float = Field(default=20.0, gt=0)
    """Seconds for the upload, all tries included."""
    retries: int = Field(default=2, ge=0)
    """Further tries after an answer that may be temporary (429, 5xx) or a broken connection, within `timeout`."""
    backoff: float = Field(default=0.5, gt=0)
    """Seconds before the second try; doubled for every further one, with jitter. A Retry-After header goes first."""

    @model_validator(mode="after")
    def _find_keys(self) -> S3Publisher:
        if self.access_key_id is None and self.secret_access_key is None:
            self.access_key_id = SecretStr(os.environ.get("AWS_ACCESS_KEY_ID", ""))
            self.secret_access_key = SecretStr(os.environ.get("AWS_SECRET_ACCESS_KEY", ""))
            self.session_token = self.session_token or SecretStr(os.environ.get("AWS_SESSION_TOKEN", ""))
        if not _clear(self.access_key_id) or not _clear(self.secret_access_key):
            raise ValueError("publishing to S3 needs keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
        for name in ("endpoint", "public_endpoint"):
            address = getattr(self, name)
            if address is not None and (
                urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).netloc
            ):
                raise ValueError(f"{name} {address!r} is no address; write for example https://minio.example.org.")
        return self

    @asynccontextmanager
    async def published(self, image: Image.Image) -> AsyncIterator[str]:
        """Upload and sign; afterwards delete, if `delete_after` says so."""
        name = f"{self.prefix}{uuid.uuid4().hex}.jpg"
        content = await asyncio.to_thread(jpeg, image, longest=self.longest_side, max_bytes=LARGEST)
        await self._send("PUT", name, content, {"content-type": "image/jpeg"})
        try:
            yield self._address("GET", name, public=True)
        finally:
            if self.delete_after:
                await self._delete(name)

    async def _delete(self, name: str) -> None:
        try:
            await self._send("DELETE", name)
        except ToolFailure as failure:  # the search is over: its result counts, the left-over is told
            logger.warning("The published picture %s was not deleted: %s", name, failure)

    def _address(
        self, method: str, name: str, *, public: bool = False, headers: Mapping[str, str] | None = None
    ) -> str:
        base = (public and self.public_endpoint) or self.endpoint or f"https://s3.{self.region}.amazonaws.com"
        return presigned(
            method,
            f"{base.rstrip('/')}/{self.bucket}/{name}",
            key_id=_clear(self.access_key_id),
            secret=_clear(self.secret_access_key),
            token=_clear(self.session_token),
            region=self.region,
            expires=self.expires_seconds,
            now=datetime.now(UTC),
            headers=headers,
        )

    async def _send(
        self, method: str, name: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """One request with its further tries: writing the same object again changes nothing."""
        deadline, attempt = time.monotonic() + self.timeout, 0
        while True:
            try:
                return await self._send_once(method, name, content, headers, max(0.1, deadline - time.monotonic()))
            except ToolFailure as failure:
                broken = failure.status is None and failure.reason == "unavailable"
                wait = pause(attempt, self.backoff) if failure.wait is None else failure.wait
                late = attempt >= self.retries or wait > deadline - time.monotonic()
                if late or not (broken or failure.status in TRIED_AGAIN):
                    raise
            await asyncio.sleep(wait)
            attempt += 1

    async def _send_once(
        self, method: str, name: str, content: bytes | None, headers: Mapping[str, str] | None, seconds: float
    ) -> None:
        url = self._address(method, name, headers=headers)
        request = httpx.Request(method, url, content=content, headers=dict(headers or {}))
        try:
            # The transport itself: a client would write the signed address into the log.
            async with asyncio.timeout(seconds), httpx.AsyncHTTPTransport(verify=_tls()) as transport:
                answer = await transport.handle_async_request(request)
                await answer.aclose()
        except TimeoutError:
            raise ToolFailure("timeout", f"Picture storage: no answer in {self.timeout:g} s.") from None
        except httpx.HTTPError as error:
            # the error's own text may hold the address, and with it the signature
            raise ToolFailure("unavailable", f"Picture storage cannot be reached ({type(error).__name__}).") from None
        status = answer.status_code
        if status < 300:
            return
        reason, said = self._meaning(status)
        raise ToolFailure(reason, f"Picture storage {said}.", status=status, wait=retry_after(answer.headers))

    def _meaning(self, status: int) -> tuple[Reason, str]:
        if status in (401, 403):
            return "unavailable", f"does not accept the keys for bucket {self.bucket!r} ({status})"
        if status == 404:
            return "unavailable", f"has no bucket {self.bucket!r}; create it"
        if status in (429, 503):  # S3 answers 503 SlowDown
            return "rate_limited", f"asks to slow down ({status})"
        return "unavailable", f"answers {status}; check endpoint and region"


def build_publisher(spec: Any) -> Any:
    """The publisher that a few lines of configuration describe: `{"use": "s3", "bucket": "pictures"}`.

    `use` is a short name or an import path `package.module:Class`. Anything but a mapping is returned as it is.
    """
    if not isinstance(spec, Mapping):
        return spec
    options = dict(spec)
    use = options.pop("use", None)
    if not isinstance(use, str) or (use not in PUBLISHERS and ":" not in use):
        names = ", ".join(PUBLISHERS)
        raise ValueError(
            f"unknown publisher {use!r}; set use: {names}, or to an import path such as 'package.module:Class'"
        )
    module, _, attribute = PUBLISHERS.get(use, use).partition(":")
    try:
        publisher = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"publisher {use!r} cannot be imported ({error})") from error
    if not (isinstance(publisher, type) and issubclass(publisher, ImagePublisher)):
        raise ValueError(
            f"publisher {use!r} is no ImagePublisher; subclass lensgraph.tools.image.publish.ImagePublisher"
        )
    return publisher(**options)


Publisher = Annotated[ImagePublisher | None, BeforeValidator(build_publisher)]
"""A field that takes a publisher, or the lines that describe one."""


def _clear(secret: SecretStr | None) -> str:
    return secret.get_secret_value().strip() if secret else ""


@functools.cache
def _tls() -> ssl.SSLContext:
    """TLS settings, made once: reading the certificates takes longer than an upload."""
    return httpx.create_ssl_context()
