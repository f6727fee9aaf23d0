"""S3-compatible storage on this machine that verifies every signature by itself.

Checked against: AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)". Written apart from the
code that signs: it starts from the raw request line and knows only the secret.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote

from .conftest import Answer, Asked

KEY_ID, SECRET = "AKIDEXAMPLE", "wJalr/very+secret"


@dataclass
class Storage:
    """One bucket."""

    bucket: str = "pictures"
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """Name -> content and its type."""
    now: datetime | None = None
    """The time here. None: it is now."""
    refused: list[str] = field(default_factory=list)
    """Why requests were not let in."""

    def __call__(self, asked: Asked) -> Answer:
        path, _, query = asked.path.partition("?")
        problem = self.problem(asked, path, query)
        if problem:
            self.refused.append(problem)
            return Answer(b"<Error><Code>SignatureDoesNotMatch</Code></Error>", 403)
        bucket, _, name = unquote(path).lstrip("/").partition("/")
        if bucket != self.bucket:
            return Answer(b"<Error><Code>NoSuchBucket</Code></Error>", 404)
        if asked.method == "PUT":
            self.objects[name] = (asked.body, asked.headers.get("content-type", ""))
            return Answer()
        if asked.method == "DELETE":
            self.objects.pop(name, None)
            return Answer(status=204)
        if name not in self.objects:
            return Answer(b"<Error><Code>NoSuchKey</Code></Error>", 404)
        content, kind = self.objects[name]
        return Answer(content, headers={"Content-Type": kind})

    def problem(self, asked: Asked, path: str, query: str) -> str:
        """Why the request is not let in; empty if it is."""
        pairs = dict(parse_qsl(query, keep_blank_values=True))
        signature = pairs.pop("X-Amz-Signature", "")
        key_id, date, region, service, end = (pairs.get("X-Amz-Credential", "") + "/////").split("/")[:5]
        if (key_id, service, end) != (KEY_ID, "s3", "aws4_request") or pairs.get(
            "X-Amz-Algorithm"
        ) != "AWS4-HMAC-SHA256":
            return "unknown credential"
        signed_at = datetime.strptime(pairs["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if (self.now or datetime.now(UTC)) > signed_at + timedelta(seconds=int(pairs["X-Amz-Expires"])):
            return "expired"
        names = pairs["X-Amz-SignedHeaders"].split(";")
        if "host" not in names:
            return "host is not signed"
        lines = [asked.method, path]
        lines.append("&".join(f"{quote(name, safe='')}={quote(pairs[name], safe='')}" for name in sorted(pairs)))
        lines += [f"{name}:{asked.headers.get(name, '').strip()}" for name in names]
        lines += ["", ";".join(names), "UNSIGNED-PAYLOAD"]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        key = ("AWS4" + SECRET).encode()
        for part in (date, region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        text = f"AWS4-HMAC-SHA256\n{pairs['X-Amz-Date']}\n{date}/{region}/s3/aws4_request\n{digest}"
        expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return "" if hmac.compare_digest(expected, signature) else "wrong signature"
