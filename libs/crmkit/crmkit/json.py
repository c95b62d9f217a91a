"""JSON of messages, without google's classes in between.

`JsonCodec` turns the bytes of a message into proto JSON and back, about thirty times as fast as
`google.protobuf.json_format`. Its classes are built once, at start-up, from a descriptor set.
What comes from outside is read by one strict parser (`read_json`), so that everything that later
hurts a database or another parser is refused here:

    JsonError
     ├── MalformedJson     not JSON as we take it: `detail` says why, in a fixed word
     │    └── BadText      NUL, a lone surrogate or broken UTF-8
     └── InvalidMessage    JSON, but not this message: `violations` names the fields

Neither ever repeats what was sent.
"""

import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, cast

from google.protobuf import descriptor_pb2
from protobuf import (
    DescEnum,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescFieldValueScalar,
    DescFile,
    DescMessage,
    Message,
    Registry,
    ScalarType,
    message_from_json_value,
)
from protobuf._codegen import file_desc  # pyright: ignore[reportUnknownVariableType]

MAX_DEPTH = 32
MAX_INTEGER = 2**64

_REFUSALS = (ValueError, TypeError, OverflowError, RecursionError)
_base64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")


class JsonError(ValueError):
    """What was sent cannot become a message."""


class MalformedJson(JsonError):
    """Not JSON as we take it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BadText(MalformedJson):
    """Characters that no text may have: NUL, half of a surrogate pair, bytes that are no UTF-8."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that cannot be read. `reason` is UNKNOWN_FIELD, WRONG_TYPE, WRONG_FORMAT or UNKNOWN_VALUE."""

    field: str
    reason: str


class InvalidMessage(JsonError):
    """JSON, but not this message."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__(f"{len(violations)} fields cannot be read")
        self.violations = violations


class JsonCodec:
    """Bytes of messages to proto JSON and back, for every message of a descriptor set."""

    def __init__(self, descriptor_set: bytes) -> None:
        files: list[DescFile] = []
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file:
            file.ClearField("source_code_info")
            files.append(file_desc(file.SerializeToString(), files, {}))
        self._registry = Registry(*files)
        self._types: dict[str, type[Message]] = {}

    def to_json(self, full_name: str, data: bytes) -> bytes:
        """Proto JSON of a message's bytes."""
        return self.parse(full_name, data).to_json(registry=self._registry).encode()

    def from_json(self, full_name: str, text: bytes) -> bytes:
        """Bytes of the message that strict JSON describes."""
        value = read_json(text)
        data = self.from_value(full_name, value)
        # Proto JSON writes these as text, and a number field would take them; no column of ours does.
        if (b'"NaN"' in text or b'Infinity"' in text) and (
            violations := _violations(self.type(full_name).desc(), value, "")
        ):
            raise InvalidMessage(violations)
        return data

    def from_value(self, full_name: str, value: Any) -> bytes:
        """Bytes of the message that an already read JSON value describes."""
        message_type = self.type(full_name)
        try:
            message = message_from_json_value(message_type, value, registry=self._registry)
        except _REFUSALS:
            violations = _violations(message_type.desc(), value, "")
            raise InvalidMessage(violations or [Violation("", "WRONG_TYPE")]) from None
        return message.to_binary()

    def from_newer(self, full_name: str, value: Any) -> bytes:
        """Bytes of the message that a JSON value describes; what a newer sender knows is left out."""
        message_type = self.type(full_name)
        message = message_from_json_value(
            message_type, value, registry=self._registry, ignore_unknown_fields=True
        )
        return message.to_binary()

    def parse(self, full_name: str, data: bytes) -> Message:
        """The message itself, for whoever needs a field of it beside its JSON."""
        return self.type(full_name).from_binary(data)

    def type(self, full_name: str) -> type[Message]:
        """The class of a message."""
        found = self._types.get(full_name)
        if found is None:
            described = self._registry.message(full_name)
            if described is None:
                raise KeyError(full_name)
            found = self._types[full_name] = described.type
        return found


@lru_cache(maxsize=1)
def codec_of(descriptor_set: bytes) -> JsonCodec:
    """The codec of a descriptor set, made once: its classes are 20 MB."""
    return JsonCodec(descriptor_set)


def read_json(text: bytes) -> Any:
    """The value of a JSON text; MalformedJson for all that is not plain, bounded, unambiguous JSON."""
    if text.startswith(b"\xef\xbb\xbf"):
        raise MalformedJson("byte order mark")
    try:
        value = _decoder.decode(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadText("not UTF-8") from None
    except RecursionError:
        raise MalformedJson("nested too deep") from None
    except json.JSONDecodeError as error:
        raise MalformedJson(f"not JSON at character {error.pos}") from None
    if b"\\u" in text:
        _check_text(value)
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise MalformedJson("nested too deep")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedJson("a key twice")
    return value


def _integer(digits: str) -> int:
    # Length first: reading a number of many thousand digits is itself an attack.
    if len(digits) > 21 or not -MAX_INTEGER < (value := int(digits)) < MAX_INTEGER:
        raise MalformedJson("a number too large")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise MalformedJson("a number too large")
    return value


def _constant(_: str) -> NoReturn:
    raise MalformedJson("not a number")


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)


def _check_text(value: Any) -> None:
    """Refuses NUL and lone surrogates, which only escapes can bring into JSON."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadText("a lone surrogate") from None
    # dumps escapes NUL; a backslash before it would be escaped itself and is no NUL.
    if "\\u0000" in text.replace("\\\\", ""):
        raise BadText("a NUL character")


def _deeper_than(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in cast("list[Any]", outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _violations(message: DescMessage, value: Any, path: str) -> list[Violation]:
    """Which fields keep `value` from being `message`. Slow and precise: only called after a failure."""
    if not isinstance(value, dict):
        return [Violation(path, "WRONG_TYPE")]
    fields = {name: field for field in message.fields for name in (field.name, field.json_name)}
    found: list[Violation] = []
    for key, inner in cast("dict[str, Any]", value).items():
        field = fields.get(key)
        if field is None:
            # The key was typed by the caller; a name that no field could have is not repeated.
            found.append(Violation(_join(path, key), "UNKNOWN_FIELD"))
            continue
        here = _join(path, field.json_name)
        match field.value:
            case DescFieldValueMessage(message=inner_message) if inner is not None:
                found += _element_violations(inner_message, inner, here)
            case DescFieldValueList(element=element) if isinstance(inner, list):
                for index, item in enumerate(cast("list[Any]", inner)):
                    found += _element_violations(element, item, f"{here}[{index}]")
            case DescFieldValueMap(value=element) if isinstance(inner, dict):
                for name, item in cast("dict[str, Any]", inner).items():
                    found += _element_violations(element, item, _join(here, name))
            case DescFieldValueEnum(enum=element) | DescFieldValueScalar(scalar=element) if inner is not None:
                found += _element_violations(element, inner, here)
            case _ if inner is not None:
                found.append(Violation(here, "WRONG_TYPE"))
            case _:
                pass
    return found


def _element_violations(
    element: ScalarType | DescEnum | DescMessage, value: Any, path: str
) -> list[Violation]:
    match element:
        case DescMessage() if not element.type_name.startswith("google.protobuf."):
            return _violations(element, value, path)
        case DescMessage():
            try:
                message_from_json_value(element.type, value)
            except _REFUSALS:
                return [Violation(path, "WRONG_FORMAT" if isinstance(value, str) else "WRONG_TYPE")]
        case DescEnum():
            if isinstance(value, str) and not any(known.name == value for known in element.values):
                return [Violation(path, "UNKNOWN_VALUE")]
            if not isinstance(value, str | int) or isinstance(value, bool):
                return [Violation(path, "WRONG_TYPE")]
        case ScalarType.STRING:
            if not isinstance(value, str):
                return [Violation(path, "WRONG_TYPE")]
        case ScalarType.BOOL:
            if not isinstance(value, bool):
                return [Violation(path, "WRONG_TYPE")]
        case ScalarType.BYTES:
            if not isinstance(value, str) or not _base64.fullmatch(value):
                return [Violation(path, "WRONG_FORMAT" if isinstance(value, str) else "WRONG_TYPE")]
        case _:
            if not isinstance(value, str | int | float) or isinstance(value, bool):
                return [Violation(path, "WRONG_TYPE")]
            if not _fits(element, value):
                return [Violation(path, "WRONG_FORMAT")]
    return []


def _fits(kind: ScalarType, value: str | float) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    if kind in (ScalarType.DOUBLE, ScalarType.FLOAT):
        return math.isfinite(number)
    bits = 32 if "32" in kind.name else 64
    low, high = (
        (0, 2**bits) if kind.name.startswith(("UINT", "FIXED")) else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    )
    return number.is_integer() and low <= number < high


def _join(path: str, key: str) -> str:
    if not (key.isidentifier() and len(key) <= 64):
        return path
    return f"{path}.{key}" if path else key
