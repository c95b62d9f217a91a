"""Errors in the form of AIP-193, in the caller's language. Nothing of what was sent comes back.

Refusal          raised by the gateway itself: a reason whose sentences stand in the protos
AioRpcError      raised by a service: its google.rpc.Status says everything
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2

from gateway.descriptors import TEXT, Descriptors

HTTP_STATUS = {
    "OK": 200,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
# Where the reason says more than the code.
HTTP_STATUS_BY_REASON = {
    "VALIDATION": 422,
    "UNKNOWN_REFERENCE": 422,
    "CURRENCY_MISMATCH": 422,
    "IDEMPOTENCY_KEY_REUSED": 422,
    "ETAG_MISMATCH": 412,
    "TOO_LARGE": 413,
    "FILE_TOO_LARGE": 413,
    "FILE_TYPE_REFUSED": 415,
    "METHOD_NOT_ALLOWED": 405,
    "URI_TOO_LONG": 414,
    "MEDIA_TYPE_UNSUPPORTED": 415,
    "RANGE_NOT_SATISFIABLE": 416,
    "HEADERS_TOO_LARGE": 431,
}
# A service that says nothing but a code (or is not there to say anything).
REASON_BY_CODE = {
    "UNAVAILABLE": "UNAVAILABLE",
    "DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED",
    "UNAUTHENTICATED": "UNAUTHENTICATED",
    "NOT_FOUND": "NOT_FOUND",
    "RESOURCE_EXHAUSTED": "RESOURCE_EXHAUSTED",
}
GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
DETAILS = {
    f"type.googleapis.com/google.rpc.{name}": getattr(error_details_pb2, name)
    for name in ("ErrorInfo", "BadRequest", "LocalizedMessage", "RequestInfo", "RetryInfo", "Help")
}
LOCALES = {"zh": "zh-CN", "en": "en"}


class Refusal(Exception):
    """The gateway says no: a gRPC code, a reason of the protos and what fills its sentence."""

    def __init__(
        self,
        code: str,
        reason: str,
        *,
        violations: Sequence[tuple[str, str]] = (),
        headers: Iterable[tuple[bytes, bytes]] = (),
        **metadata: str,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.violations = violations
        self.headers = list(headers)
        self.metadata = metadata


class Errors:
    """Renders errors; the sentences come from the descriptor set."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._texts: dict[str, tuple[str, Mapping[str, str]]] = {}
        for enum in (*descriptors.enums("FieldReason"), *descriptors.enums("ErrorReason")):
            area = enum.file.package.split(".")[1]
            if area in ("common", "gateway"):
                for value in enum.values:
                    if text := descriptors.option(value, TEXT):
                        self._texts[value.name] = (f"{area}.crm", {"zh": text.zh, "en": text.en})

    def refusal(self, error: Refusal, language: str, trace_id: str) -> tuple[int, list[Any], bytes]:
        """Status, headers and body for what the gateway refuses."""
        domain, message = self._text(error.reason, language, error.metadata)
        details: list[dict[str, Any]] = [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": error.reason,
                "domain": domain,
                "metadata": error.metadata,
            }
        ]
        if error.violations:
            details.append(
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [
                        {"field": field, "description": self._text(reason, language, {})[1], "reason": reason}
                        for field, reason in error.violations
                    ],
                }
            )
        status, headers, body = self._render(error.code, error.reason, message, language, details, trace_id)
        given = {name for name, _ in error.headers}
        return status, [header for header in headers if header[0] not in given] + error.headers, body

    def rpc(self, error: grpc.aio.AioRpcError, language: str, trace_id: str) -> tuple[int, list[Any], bytes]:
        """Status, headers and body for what a service refused, or why it could not be asked."""
        # What a service that ends has not begun it cancels.
        code = "UNAVAILABLE" if error.code() in GONE else error.code().name
        packed = next((v for k, v in error.trailing_metadata() or () if k == "grpc-status-details-bin"), None)
        details: list[dict[str, Any]] = []
        if isinstance(packed, bytes):
            for any_ in status_pb2.Status.FromString(packed).details:
                if detail := DETAILS.get(any_.type_url):
                    fields = json_format.MessageToDict(detail.FromString(any_.value))
                    details.append({"@type": any_.type_url, **fields})
        info = next((d for d in details if d["@type"].endswith(".ErrorInfo")), None)
        if info is None:
            return self.refusal(Refusal(code, REASON_BY_CODE.get(code, "INTERNAL")), language, trace_id)
        info.setdefault("metadata", {})
        for detail in details:
            for violation in detail.get("fieldViolations", ()):
                violation["field"] = camel(violation.get("field", ""))
                violation.pop("localizedMessage", None)
        localized = next((d for d in details if d["@type"].endswith(".LocalizedMessage")), None)
        message = localized["message"] if localized else error.details() or ""
        details = [d for d in details if d is not localized and not d["@type"].endswith(".RequestInfo")]
        return self._render(code, info["reason"], message, language, details, trace_id)

    def _text(self, reason: str, language: str, metadata: Mapping[str, str]) -> tuple[str, str]:
        domain, texts = self._texts[reason]
        return domain, re.sub(r"\{(\w+)\}", lambda match: metadata.get(match[1], ""), texts[language])

    def _render(
        self,
        code: str,
        reason: str,
        message: str,
        language: str,
        details: list[dict[str, Any]],
        trace_id: str,
    ) -> tuple[int, list[Any], bytes]:
        status = HTTP_STATUS_BY_REASON.get(reason) or HTTP_STATUS.get(code, 500)
        details += [
            {
                "@type": "type.googleapis.com/google.rpc.LocalizedMessage",
                "locale": LOCALES[language],
                "message": message,
            },
            {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": trace_id},
        ]
        body = {"error": {"code": status, "status": code, "message": message, "details": details}}
        headers = [(b"content-type", b"application/json"), (b"content-language", LOCALES[language].encode())]
        if status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="crm", error="invalid_token"'))
        if status in (429, 503):
            headers.append((b"retry-after", b"1"))
        return status, headers, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


@lru_cache(maxsize=4096)
def camel(path: str) -> str:
    """A field path of a service as JSON writes it; the names of custom fields are their authors'."""
    own, custom, rest = path.partition("custom.")
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), own) + custom + rest


@lru_cache(maxsize=1024)
def language_of(accept_language: str) -> str:
    """ "zh" or "en": the one that the header weighs more; Chinese where it names neither."""
    best, weight = "zh", 0.0
    for part in accept_language[:200].split(","):
        tag, _, parameter = part.strip().partition(";")
        language = tag.strip().lower().split("-")[0]
        try:
            q = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if language in LOCALES and q > weight:
            best, weight = language, q
    return best
