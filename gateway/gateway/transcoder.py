"""REST from `google.api.http`, compiled at start-up into a tree of path segments.

A request's bytes are put together by appending encoded fields: parsers of protobuf take the last
value of a field and merge messages, so path variables, If-Match and Idempotency-Key simply follow
the body. What lies outside the supported subset raises `UnsupportedBinding` at start-up.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl

from crmkit.json import BadText, InvalidMessage, JsonCodec, MalformedJson, read_json
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.descriptors import Descriptors, Method
from gateway.errors import Refusal, camel

VERBS = ("get", "put", "post", "delete", "patch")
LITERAL = re.compile(r"[A-Za-z0-9._~-]+")
VARIABLE = re.compile(r"\{([a-z0-9_.]+)(?:=([^{}]+))?\}")
MAX_QUERY_DEPTH = 3
MAX_PARAMETERS = 1000
# A PATCH's mask names what the caller wants changed; these two say which record and version is meant.
NOT_IN_MASK = frozenset({"name", "etag"})

Encoder = Callable[[bytes], bytes]


class UnsupportedBinding(Exception):
    """A `google.api.http` that the gateway does not know how to serve."""


@dataclass(frozen=True, slots=True)
class Capture:
    """A path variable: which segments it takes and which field they become."""

    field: str
    start: int
    end: int
    encode: Encoder


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: where its value goes in the request."""

    path: tuple[str, ...]
    repeated: bool
    boolean: bool


@dataclass(frozen=True, slots=True)
class Route:
    """One binding of one RPC, ready to turn a request into bytes and a reply into JSON."""

    verb: str
    template: str
    segments: tuple[str | None, ...]
    custom: str
    method: Method
    captures: tuple[Capture, ...]
    body: str
    body_message: str
    wrap_body: Encoder | None
    parameters: dict[str, Parameter]
    mask: Encoder | None
    fields: dict[str, str]
    etag: Encoder | None
    request_id: Encoder | None
    reply_has_etag: bool

    @property
    def status(self) -> int:
        """Created where a record is posted to its collection, OK otherwise."""
        return 201 if self.verb == "POST" and self.wrap_body and not self.custom else 200

    @property
    def request(self) -> str:
        return self.method.descriptor.input_type.full_name

    @property
    def reply(self) -> str:
        return self.method.descriptor.output_type.full_name


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict[str, "_Node"])
    variable: "_Node | None" = None
    routes: dict[tuple[str, str], Route] = field(default_factory=dict[tuple[str, str], Route])


class Transcoder:
    """All routes of the descriptor set, and the two ways through them."""

    def __init__(self, descriptors: Descriptors, codec: JsonCodec, apps: Iterable[str]) -> None:
        self.codec = codec
        self.routes = [
            route
            for method in descriptors.methods()
            if method.app in set(apps) and method.http is not None
            for route in _routes(method)
        ]
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def match(self, verb: str, path: str) -> tuple[Route, list[str]]:
        """The route of a path and its segments; Refusal where there is none."""
        segments = path.split("/")[1:]
        # No id has a colon, so the last one begins a custom verb.
        segments[-1], _, custom = segments[-1].partition(":")
        node = self._find(self._root, segments, 0, custom)
        if node is None:
            raise Refusal("NOT_FOUND", "NOT_FOUND")
        route = node.routes.get((verb, custom))
        if route is None:
            allowed = ", ".join(sorted(v for v, c in node.routes if c == custom))
            raise Refusal("UNIMPLEMENTED", "METHOD_NOT_ALLOWED", headers=[(b"allow", allowed.encode())])
        return route, segments

    def request(self, route: Route, segments: list[str], query: bytes, body: bytes) -> bytes:
        """The request message's bytes. Refusal says what is wrong with what was sent."""
        try:
            return self._request(route, segments, query, body)
        except BadText:
            raise Refusal("INVALID_ARGUMENT", "TEXT_CONTROL_CHARACTER") from None
        except MalformedJson as error:
            raise Refusal("INVALID_ARGUMENT", "MALFORMED", detail=error.detail) from None
        except InvalidMessage as error:
            violations = [(_below(route.body, v.field), v.reason) for v in error.violations]
            raise Refusal("INVALID_ARGUMENT", "VALIDATION", violations=violations) from None

    def reply(self, route: Route, data: bytes) -> tuple[bytes, str]:
        """JSON of the reply and its etag (empty where it has none)."""
        message: Any = self.codec.parse(route.reply, data)
        return message.to_json().encode(), message.etag if route.reply_has_etag else ""

    def _request(self, route: Route, segments: list[str], query: bytes, body: bytes) -> bytes:
        data = b""
        if route.body:
            data = self.codec.from_json(route.body_message, body or b"{}")
            if route.wrap_body is not None:
                data = route.wrap_body(data)
            if route.mask is not None:
                data += route.mask(_mask(read_json(body or b"{}"), route.fields))
        if query:
            data += self.codec.from_value(route.request, _query(query, route.parameters))
        for capture in route.captures:
            data += capture.encode("/".join(segments[capture.start : capture.end]).encode())
        return data

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.segments:
            if segment is None:
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literals.setdefault(segment, _Node())
        if (other := node.routes.setdefault((route.verb, route.custom), route)) is not route:
            raise UnsupportedBinding(f"{route.method.path} and {other.method.path} share {route.template}")

    def _find(self, node: _Node, segments: list[str], index: int, custom: str) -> _Node | None:
        """Literal before variable; backs up where a literal leads nowhere."""
        if index == len(segments):
            return node if any(c == custom for _, c in node.routes) else None
        segment = segments[index]
        if (literal := node.literals.get(segment)) and (
            found := self._find(literal, segments, index + 1, custom)
        ):
            return found
        if node.variable and segment:
            return self._find(node.variable, segments, index + 1, custom)
        return None


def _routes(method: Method) -> Iterator[Route]:
    rule = method.http
    for binding in (rule, *rule.additional_bindings):
        verb = binding.WhichOneof("pattern")
        if (
            verb not in VERBS
            or binding.response_body
            or (binding is not rule and binding.additional_bindings)
        ):
            raise UnsupportedBinding(
                f"{method.path}: {verb or 'no'} pattern, response_body or nested bindings"
            )
        yield _route(method, verb.upper(), getattr(binding, verb), binding.body)


def _route(method: Method, verb: str, template: str, body: str) -> Route:
    described = method.descriptor
    if described.client_streaming or described.server_streaming:
        raise UnsupportedBinding(f"{method.path} streams")
    request: Descriptor = described.input_type
    segments, custom, captures = _template(method, template)
    body_field = None
    if body and body != "*":
        body_field = request.fields_by_name.get(body)
        if body_field is None or body_field.message_type is None or body_field.is_repeated:
            raise UnsupportedBinding(f"{method.path}: body {body} is not a message field")
    if body and verb in ("GET", "DELETE"):
        raise UnsupportedBinding(f"{method.path}: {verb} with a body")
    body_type: Any = body_field.message_type if body_field else request
    taken = {capture.field for capture in captures} | {body}
    mask = request.fields_by_name.get("update_mask") if verb == "PATCH" and body_field else None
    etag = _string(request, "etag") or (f"{body}.etag" if mask and _string(body_type, "etag") else "")
    return Route(
        verb=verb,
        template=template,
        segments=segments,
        custom=custom,
        method=method,
        captures=captures,
        body=body,
        body_message=body_type.full_name if body else "",
        wrap_body=_encoder(request, body) if body_field else None,
        parameters={} if body == "*" else dict(_parameters(request, taken)),
        mask=_encoder(request, "update_mask") if mask else None,
        fields={f.json_name: f.name for f in body_type.fields} | {f.name: f.name for f in body_type.fields},
        etag=_encoder(request, etag) if etag else None,
        request_id=_encoder(request, "request_id") if _string(request, "request_id") else None,
        reply_has_etag=bool(_string(described.output_type, "etag")),
    )


def _template(method: Method, template: str) -> tuple[tuple[str | None, ...], str, tuple[Capture, ...]]:
    """Splits "/v1/{name=accounts/*}:win" into segments, the custom verb and the captures."""
    match = re.fullmatch(r"((?:/(?:\{[^{}]*\}|[^/{}:]+))+)(?::([A-Za-z]+))?", template)
    if match is None:
        raise UnsupportedBinding(f"{method.path}: {template}")
    segments: list[str | None] = []
    captures: list[Capture] = []
    for part in re.findall(r"\{[^{}]*\}|[^/{}]+", match[1]):
        if part == "*" or LITERAL.fullmatch(part):
            segments.append(None if part == "*" else part)
            continue
        variable = VARIABLE.fullmatch(part)
        inner = (variable[2] or "*").split("/") if variable else []
        if variable is None or not all(piece == "*" or LITERAL.fullmatch(piece) for piece in inner):
            raise UnsupportedBinding(f"{method.path}: {template}")
        start = len(segments)
        segments += [None if piece == "*" else piece for piece in inner]
        name = variable[1]
        captures.append(
            Capture(name, start, len(segments), _encoder(method.descriptor.input_type, name, text=True))
        )
    return tuple(segments), match[2] or "", tuple(captures)


def _parameters(
    message: Descriptor, taken: set[str], prefix: tuple[str, ...] = ()
) -> Iterator[tuple[str, Parameter]]:
    """The query parameters of what neither path nor body carries, by JSON name and by proto name."""
    for described in message.fields:
        if ".".join((*prefix, described.name)) in taken:
            continue
        path = (*prefix, described.json_name)
        inner = described.message_type
        if inner is None or inner.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
            boolean = described.type == FieldDescriptor.TYPE_BOOL
            parameter = Parameter(path, described.is_repeated, boolean)
            yield ".".join(path), parameter
            yield ".".join((*prefix, described.name)), parameter
            continue
        plain = not described.is_repeated and not inner.file.package.startswith("google.protobuf")
        if plain and len(path) < MAX_QUERY_DEPTH:
            yield from _parameters(inner, taken, path)


def _query(query: bytes, parameters: dict[str, Parameter]) -> dict[str, Any]:
    """The JSON value that a query string stands for."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except (UnicodeDecodeError, ValueError):
        raise MalformedJson("the query is not UTF-8 or has too many parameters") from None
    value: dict[str, Any] = {}
    unknown: list[tuple[str, str]] = []
    for key, text in pairs:
        if "\0" in text:
            raise BadText("a NUL character")
        parameter = parameters.get(key)
        if parameter is None:
            unknown.append((key if key.isidentifier() and len(key) <= 64 else "", "UNKNOWN_FIELD"))
            continue
        inner = value
        for name in parameter.path[:-1]:
            inner = inner.setdefault(name, {})
        name = parameter.path[-1]
        typed: Any = {"true": True, "false": False}.get(text, text) if parameter.boolean else text
        if parameter.repeated:
            inner.setdefault(name, []).append(typed)
        elif name in inner:
            raise MalformedJson("a parameter twice")
        else:
            inner[name] = typed
    if unknown:
        raise Refusal("INVALID_ARGUMENT", "VALIDATION", violations=unknown)
    return value


def _mask(body: dict[str, Any], fields: dict[str, str]) -> bytes:
    """The bytes of the FieldMask that a PATCH's keys mean; custom fields are changed one by one."""
    paths = [name for key in body if (name := fields[key]) not in NOT_IN_MASK and name != "custom"]
    custom = body.get("custom")
    if isinstance(custom, dict):
        paths += [f"custom.{key}" for key in custom]  # pyright: ignore[reportUnknownVariableType]
    elif "custom" in body:
        paths.append("custom")
    return b"".join(_length_delimited(1, path.encode()) for path in paths)


def _below(body: str, path: str) -> str:
    """Where a field of the body is in the request, as services name it too."""
    if body in ("", "*"):
        return path
    name = camel(body)
    return f"{name}.{path}" if path else name


def _string(message: Descriptor, name: str) -> str:
    found = message.fields_by_name.get(name)
    return name if found and found.type == FieldDescriptor.TYPE_STRING and not found.is_repeated else ""


def _encoder(message: Descriptor, path: str, *, text: bool = False) -> Encoder:
    """How bytes become that (nested) length-delimited field of the message."""
    numbers: list[int] = []
    described = None
    for name in path.split("."):
        described = message.fields_by_name.get(name) if message else None
        if described is None or described.is_repeated:
            raise UnsupportedBinding(f"{path} is not a single field of the request")
        numbers.append(described.number)
        message = cast("Descriptor", described.message_type)
    if text and (described is None or described.type != FieldDescriptor.TYPE_STRING):
        raise UnsupportedBinding(f"{path} is not a string")

    def encode(data: bytes) -> bytes:
        for number in reversed(numbers):
            data = _length_delimited(number, data)
        return data

    return encode


def _length_delimited(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
