"""The errors that application code raises.

    Problem
     ├── InvalidArgument       the request cannot be understood            400
     │    └── Validation       fields break a rule                         422
     ├── Unauthenticated                                                   401
     ├── PermissionDenied                                                  403
     ├── NotFound              absent, or invisible to the caller          404
     ├── AlreadyExists                                                     409
     ├── FailedPrecondition    the state does not allow it                 409
     ├── Aborted               somebody else was faster                    409, 412
     ├── ResourceExhausted     too many, too large                         429, 413
     ├── Unavailable                                                       503
     └── DeadlineExceeded                                                  504

A problem has a reason (a value of some area's `enum ErrorReason`) and metadata that fill its sentence, which
stands in the proto in Chinese and English. Anything else that is raised becomes INTERNAL with a fixed text.
"""

# pyright: reportMissingTypeStubs=false
# googleapis-common-protos has its types beside it and does not say so.

from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import crmprotos
import grpc
from crm.options.v1 import options_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from crmkit.options import option

CHINESE = "zh-CN"
ENGLISH = "en"
# What a person must write at least, in characters.
LEAST_REASON = 5


@dataclass(frozen=True)
class Violation:
    """A field that breaks a rule. `field` is the path in snake_case; `reason` a word such as REQUIRED."""

    field: str
    reason: str
    zh: str
    en: str


class Problem(Exception):
    """An error with a reason that the caller can act on."""

    code = grpc.StatusCode.UNKNOWN

    def __init__(self, reason: str, /, **metadata: object) -> None:
        super().__init__(reason)
        self.reason = reason
        self.metadata = {key: str(value) for key, value in metadata.items()}
        self.violations: Sequence[Violation] = ()
        # What the refused call leaves behind, done as its caller in a transaction of its own.
        self.afterwards: Callable[[Any], Awaitable[None]] | None = None

    def text(self, locale: str, area: str = "") -> str:
        """The sentence in the locale, as the area says it that refuses."""
        texts = reason_text(self.reason, area)
        if texts is None:
            return self.reason
        sentence = texts.zh if locale == CHINESE else texts.en
        for key, value in self.metadata.items():
            sentence = sentence.replace("{" + key + "}", value)
        return sentence

    def status(self, locale: str, trace_id: str = "", area: str = "") -> status_pb2.Status:
        """The google.rpc.Status that travels to the caller."""
        texts = reason_text(self.reason, area)
        sentence = self.text(locale, area)
        info = error_details_pb2.ErrorInfo(
            reason=self.reason, domain=texts.domain if texts else "common.crm", metadata=self.metadata
        )
        details: list[Message] = [info, error_details_pb2.LocalizedMessage(locale=locale, message=sentence)]
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for violation in self.violations:
                text = violation.zh if locale == CHINESE else violation.en
                bad.field_violations.add(
                    field=violation.field,
                    description=text,
                    reason=violation.reason,
                    localized_message=error_details_pb2.LocalizedMessage(locale=locale, message=text),
                )
            details.append(bad)
        if trace_id:
            details.append(error_details_pb2.RequestInfo(request_id=trace_id))
        status = status_pb2.Status(code=self.code.value[0], message=sentence)
        for detail in details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        return status


class InvalidArgument(Problem):
    """The request cannot be understood."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class Validation(InvalidArgument):
    """Fields break a rule; every one that is known to is listed."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("VALIDATION")
        self.violations = violations


class Unauthenticated(Problem):
    """No valid token."""

    code = grpc.StatusCode.UNAUTHENTICATED

    def __init__(self, reason: str = "UNAUTHENTICATED", **metadata: Any) -> None:
        super().__init__(reason, **metadata)


class PermissionDenied(Problem):
    """The caller may see it but not do it."""

    code = grpc.StatusCode.PERMISSION_DENIED


class NotFound(Problem):
    """Absent, or invisible: the two answer alike."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, **metadata: object) -> None:
        super().__init__("NOT_FOUND", **metadata)


class AlreadyExists(Problem):
    """Something unique is taken."""

    code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(Problem):
    """The state does not allow it."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(Problem):
    """Somebody else was faster."""

    code = grpc.StatusCode.ABORTED


class ResourceExhausted(Problem):
    """Too many or too large."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(Problem):
    """Not now."""

    code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(Problem):
    """It took too long; the outcome is unknown."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class InternalError(Problem):
    """What the caller learns of a bug: nothing but where to ask."""

    code = grpc.StatusCode.INTERNAL


@dataclass(frozen=True)
class ReasonText:
    """A reason's sentences and the domain it belongs to, such as "customer.crm"."""

    domain: str
    zh: str
    en: str


@lru_cache(maxsize=1)
def reasons() -> dict[str, dict[str, ReasonText]]:
    """Every error reason of the platform, as each area says it that declares it."""
    found: dict[str, dict[str, ReasonText]] = {}
    for file in crmprotos.load().file:
        for enum in file.enum_type:
            if enum.name == "ErrorReason":
                area = file.package.split(".")[1]
                for value in enum.value:
                    text = option(value, options_pb2.text)
                    found.setdefault(value.name, {})[area] = ReasonText(f"{area}.crm", text.zh, text.en)
    return found


def reason_text(reason: str, area: str = "") -> ReasonText | None:
    """The reason as the area says it, else as all do, else as the one area does that knows it."""
    found = reasons().get(reason, {})
    return found.get(area) or found.get("common") or next(iter(found.values()), None)


def check_reason(text: str) -> str:
    """The reason that a person gives for what he does, trimmed; REASON_REQUIRED where it says too little."""
    reason = text.strip()
    if len(reason) < LEAST_REASON:
        raise FailedPrecondition("REASON_REQUIRED", least=LEAST_REASON)
    return reason


def check_frozen(reason: str, changed: Set[str]) -> None:
    """Refuses, with the reason, a change of fields that change no more."""
    if changed:
        raise FailedPrecondition(reason, fields=", ".join(sorted(changed)))


def required(field: str) -> Violation:
    """The violation of an absent field."""
    return Violation(field, "REQUIRED", "必填", "This field is required.")
