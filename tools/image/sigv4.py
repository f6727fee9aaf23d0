"""Presigned addresses for S3-compatible storage: AWS Signature Version 4 in the query string.

One pure function over the standard library; botocore would be a hundred times its size. The published example of AWS is
among the tests, and the loopback storage of the tests verifies every signature on its own.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
"""Name of the signing method, as it stands in the address."""


def presigned(
    method: str,
    url: str,
    *,
    key_id: str,
    secret: str,
    region: str,
    expires: int,
    now: datetime,
    token: str = "",
    headers: Mapping[str, str] | None = None,
) -> str:
    """`url` (whose path is not encoded yet) with a signature that allows `method` for `expires` seconds.

    `headers` are signed too: the request must then carry them unchanged. `now` is in UTC.
    """
    parts = urlsplit(url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    signed = {"host": parts.netloc, **{name.lower(): value.strip() for name, value in (headers or {}).items()}}
    names = ";".join(sorted(signed))
    query = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": names,
    }
    if token:
        query["X-Amz-Security-Token"] = token
    path = quote(parts.path or "/", safe="/-_.~")
    asked = "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query.items()))
    canonical = "\n".join(
        [method, path, asked, *(f"{name}:{signed[name]}" for name in sorted(signed)), "", names, "UNSIGNED-PAYLOAD"]
    )
    to_sign = "\n".join([ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return f"{parts.scheme}://{parts.netloc}{path}?{asked}&X-Amz-Signature={signature}"
