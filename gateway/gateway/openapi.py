"""OpenAPI 3.1 from the same descriptors that the routes are made of.

Beside the standard it carries what a client needs to build its screens from: `x-resource` on the
schema of a resource, `x-label` and its like on properties, `x-permission` on operations, and `x-facts`: what
each business fact is called.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway.descriptors import (
    BEHAVIOR,
    CREATE,
    DELETE,
    FACT,
    FIELD,
    GET,
    KEY_REQUIRED,
    LIST,
    REFERENCE,
    RESOURCE,
    RESOURCE_TYPE,
    STANDARD,
    STEP_UP,
    TEXT,
    UPDATE,
    VERB,
    Descriptors,
)
from gateway.errors import camel
from gateway.transcoder import Route

# Numbers of google.api.FieldBehavior.
REQUIRED, OUTPUT_ONLY, IMMUTABLE = 2, 3, 5
DEFAULT_MAX_LENGTH = 2000
EXAMPLE_ID = "0190c3a2-7b4e-7c11-9f3d-2a6b8c0d1e2f"
ERRORS = {
    "400": "The request cannot be read, or a parameter is wrong.",
    "401": "Nobody is signed in, or the token or key is not valid.",
    "403": "The caller lacks the permission.",
    "404": "There is no such record, or the caller may not see it.",
    "409": "The state does not allow it, or such a record exists already.",
    "412": "Another person changed the record since it was read.",
    "413": "The body is over the limit.",
    "422": "Fields are not right; the field violations say which and why.",
    "429": "Too many calls; try again after `Retry-After`.",
    "503": "The service is busy or away; try again after `Retry-After`.",
    "504": "It took too long; whether it happened is unknown.",
}
PERMISSIONS = {GET: "read", LIST: "read", CREATE: "create", UPDATE: "update", DELETE: "delete"}
WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?\d+(\.\d+)?s$"},
    "google.protobuf.FieldMask": {"type": "string", "description": "Names of fields, comma separated."},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Value": {},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Any": {"type": "object", "additionalProperties": True},
}
NUMBER = {"type": "number", "format": "double"}
INTEGER = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
LONG = {"type": "string", "format": "int64", "pattern": r"^-?\d{1,20}$"}
SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.TYPE_DOUBLE: NUMBER,
    FieldDescriptor.TYPE_FLOAT: NUMBER,
    FieldDescriptor.TYPE_INT32: INTEGER,
    FieldDescriptor.TYPE_SINT32: INTEGER,
    FieldDescriptor.TYPE_SFIXED32: INTEGER,
    FieldDescriptor.TYPE_UINT32: {**INTEGER, "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptor.TYPE_FIXED32: {**INTEGER, "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptor.TYPE_INT64: LONG,
    FieldDescriptor.TYPE_SINT64: LONG,
    FieldDescriptor.TYPE_SFIXED64: LONG,
    FieldDescriptor.TYPE_UINT64: LONG,
    FieldDescriptor.TYPE_FIXED64: LONG,
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}


def document(descriptors: Descriptors, routes: Iterable[Route]) -> bytes:
    """The OpenAPI document, the same bytes for the same descriptors."""
    text = json.dumps(_Document(descriptors, list(routes)).build(), ensure_ascii=False, indent=1)
    return text.encode() + b"\n"


class _Document:
    def __init__(self, descriptors: Descriptors, routes: list[Route]) -> None:
        self._descriptors = descriptors
        self._routes = routes
        self._schemas: dict[str, Any] = {}
        self._resources: dict[str, tuple[Descriptor, Any]] = {}
        self._plural_by_type: dict[str, str] = {}
        self._reasons_by_app: defaultdict[str, set[str]] = defaultdict(set)
        for enum in descriptors.enums("ErrorReason"):
            self._reasons_by_app[enum.file.package.split(".")[1]] |= {value.name for value in enum.values}
        for message in descriptors.messages():
            kind = descriptors.option(message, RESOURCE_TYPE)
            if kind is not None:
                self._resources[kind.plural] = (message, kind)
                self._plural_by_type[kind.type] = kind.plural

    def build(self) -> dict[str, Any]:
        paths: dict[str, dict[str, Any]] = {}
        bindings: Counter[str] = Counter()
        for route in self._routes:
            path, names = self._path(route)
            operation = paths.setdefault(path, {})[route.verb.lower()] = self._operation(route, names)
            bindings[route.method.path] += 1
            if bindings[route.method.path] > 1:
                operation["operationId"] += str(bindings[route.method.path])
        paths |= _own_paths(self._schema_name("crm.workspace.v1.File") in self._schemas)
        self._add_resources()
        self._schemas["Error"] = _error_schema()
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Guanxi",
                "version": "v1",
                "description": "One interface for every resource: the same standard methods, filters, masks, "
                "etags, idempotency keys and errors everywhere.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": app} for app in sorted({route.method.app for route in self._routes})],
            "security": [{"bearer": []}, {"apiKey": []}, {"session": []}],
            "paths": dict(sorted(paths.items())),
            "x-facts": self._facts(),
            "components": {
                "schemas": dict(sorted(self._schemas.items())),
                "responses": {
                    status: {"description": text, "content": _json({"$ref": "#/components/schemas/Error"})}
                    for status, text in ERRORS.items()
                },
                "parameters": _shared_parameters(),
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                    "session": {"type": "apiKey", "in": "cookie", "name": "crm_session"},
                },
            },
        }

    def _path(self, route: Route) -> tuple[str, list[str]]:
        """ "/v1/{name=accounts/*}:win" as "/v1/accounts/{account}:win", and the names of its parameters."""
        parts: list[str] = []
        names: list[str] = []
        for segment in route.segments:
            if segment is not None:
                parts.append(segment)
                continue
            resource = self._resources.get(parts[-1])
            name = resource[1].singular if resource else parts[-1].removesuffix("s")
            names.append(name)
            parts.append(f"{{{name}}}")
        return "/" + "/".join(parts) + (f":{route.custom}" if route.custom else ""), names

    def _operation(self, route: Route, path_names: list[str]) -> dict[str, Any]:
        method = route.method.descriptor
        comment = self._descriptors.comment(method.full_name)
        verb = self._descriptors.option(method, VERB)
        parameters: list[dict[str, Any]] = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": f"Id of the {name}: its resource name without the collection.",
                "schema": {"type": "string"},
                "example": EXAMPLE_ID,
            }
            for name in path_names
        ]
        parameters += self._query(route)
        if route.request_id is not None:
            name = "IdempotencyKeyRequired" if self._insists_on_key(method) else "IdempotencyKey"
            parameters.append({"$ref": f"#/components/parameters/{name}"})
        if route.etag is not None:
            parameters.append({"$ref": "#/components/parameters/IfMatch"})
        parameters.append({"$ref": "#/components/parameters/AcceptLanguage"})
        reply: dict[str, Any] = {
            "description": "Created." if route.status == 201 else "Done.",
            "content": _json(self._schema(method.output_type)),
        }
        if route.reply_has_etag:
            reply["headers"] = {
                "ETag": {"description": "Version of the record.", "schema": {"type": "string"}}
            }
        operation: dict[str, Any] = {
            "operationId": f"{route.method.app}.{method.name}",
            "tags": [route.method.app],
            "summary": verb.en if verb else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", method.name).capitalize(),
            "description": comment,
            "parameters": parameters,
            "responses": {
                str(route.status): reply,
                **{status: {"$ref": f"#/components/responses/{status}"} for status in ERRORS},
            },
            "x-permission": route.method.permission,
        }
        if reasons := self._reasons(route, comment):
            operation["x-reasons"] = reasons
        if self._descriptors.option(method, STEP_UP):
            operation["x-step-up"] = True
        if route.method.permission == "public":
            operation["security"] = []
        if route.body:
            operation["requestBody"] = self._body(route)
        return operation

    def _insists_on_key(self, method: Any) -> bool:
        if self._descriptors.option(method, STANDARD) == CREATE:
            return self._descriptors.option(method.output_type, RESOURCE).create_key_required
        return bool(self._descriptors.option(method, KEY_REQUIRED))

    def _query(self, route: Route) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for name, parameter in route.parameters.items():
            if name != ".".join(parameter.path) or name in ("requestId", "etag"):
                continue
            described = self._field_at(route.method.descriptor.input_type, parameter.path)
            found.append(
                {
                    "name": name,
                    "in": "query",
                    "description": self._descriptors.comment(described.full_name),
                    "required": REQUIRED in (self._descriptors.option(described, BEHAVIOR) or ()),
                    "schema": self._value(described),
                }
            )
        return found

    def _field_at(self, message: Any, path: tuple[str, ...]) -> FieldDescriptor:
        described = next(f for f in message.fields if f.json_name == path[0])
        return self._field_at(described.message_type, path[1:]) if path[1:] else described

    def _body(self, route: Route) -> dict[str, Any]:
        message: Any = route.method.descriptor.input_type
        if route.body != "*":
            message = message.fields_by_name[route.body].message_type
        required: list[str] = []
        if route.mask is None:
            captured = {capture.field for capture in route.captures}
            required = [
                field.json_name
                for field in message.fields
                if REQUIRED in (self._descriptors.option(field, BEHAVIOR) or ())
                and field.name not in captured
            ]
        schema = self._schema(message)
        if required:
            schema = {"allOf": [schema], "required": required}
        example = self._example(message, required)
        return {"required": bool(required), "content": _json(schema, example)}

    def _schema(self, message: Descriptor) -> dict[str, Any]:
        """A reference to the schema of a message, which is written on the way."""
        if message.full_name in WELL_KNOWN:
            return dict(WELL_KNOWN[message.full_name])
        name = self._schema_name(message.full_name)
        if name not in self._schemas:
            schema = self._schemas[name] = {"type": "object", "additionalProperties": False}
            if comment := self._descriptors.comment(message.full_name):
                schema["description"] = comment
            schema["properties"] = {field.json_name: self._property(field) for field in message.fields}
        return {"$ref": f"#/components/schemas/{name}"}

    def _schema_name(self, full_name: str) -> str:
        return full_name.removeprefix("crm.").replace(".v1.", ".")

    def _property(self, field: FieldDescriptor) -> dict[str, Any]:
        option = self._descriptors.option
        schema = self._value(field)
        if comment := self._descriptors.comment(field.full_name):
            schema["description"] = comment
        behavior = option(field, BEHAVIOR) or ()
        rule = option(field, FIELD)
        reference = option(field, REFERENCE)
        if OUTPUT_ONLY in behavior:
            schema["readOnly"] = True
        elif field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            schema["maxLength"] = (rule.max_length if rule else 0) or DEFAULT_MAX_LENGTH
        if REQUIRED in behavior:
            schema["x-required"] = True
        if IMMUTABLE in behavior:
            schema["x-immutable"] = True
        if reference is not None:
            plural = self._plural_by_type.get(reference.type)
            schema["x-reference"] = [plural] if plural else []
        if rule is not None:
            if rule.label.en:
                schema["x-label"] = {"zh": rule.label.zh, "en": rule.label.en}
            if rule.secret:
                schema["format"] = "password"
                if OUTPUT_ONLY not in behavior:
                    schema["writeOnly"] = True
            for flag in ("searchable", "listed", "quick", "multiline"):
                if getattr(rule, flag):
                    schema[f"x-{flag}"] = True
            if rule.decimal:
                schema["format"] = "decimal"
            if rule.dictionary:
                schema["x-dictionary"] = rule.dictionary
            if rule.read_permission:
                schema["x-read-permission"] = rule.read_permission
        return schema

    def _value(self, field: FieldDescriptor) -> dict[str, Any]:
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._single(inner.fields_by_name["value"])}
        single = self._single(field)
        return {"type": "array", "items": single} if field.is_repeated else single

    def _single(self, field: FieldDescriptor) -> dict[str, Any]:
        if field.message_type is not None:
            return self._schema(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        return dict(SCALARS[field.type])

    def _enum(self, enum: EnumDescriptor) -> dict[str, Any]:
        name = self._schema_name(enum.full_name)
        if name not in self._schemas:
            labels = {value.name: self._descriptors.option(value, TEXT) for value in enum.values}
            self._schemas[name] = {
                "type": "string",
                "description": self._descriptors.comment(enum.full_name),
                "enum": [value.name for value in enum.values],
                "x-enum-labels": {key: {"zh": t.zh, "en": t.en} for key, t in labels.items() if t},
            }
        return {"$ref": f"#/components/schemas/{name}"}

    def _facts(self) -> dict[str, dict[str, str]]:
        texts = {m.full_name: self._descriptors.option(m, FACT) for m in self._descriptors.messages()}
        return {name: {"zh": text.zh, "en": text.en} for name, text in sorted(texts.items()) if text}

    def _add_resources(self) -> None:
        for collection, (message, _) in self._resources.items():
            rule = self._descriptors.option(message, RESOURCE)
            routes = [route for route in self._routes if _collection(route) == collection]
            if rule is None or not routes:
                continue
            self._schema(message)
            permissions: dict[str, str] = {}
            verbs: list[dict[str, Any]] = []
            for route in routes:
                method = route.method.descriptor
                standard = self._descriptors.option(method, STANDARD)
                label = self._descriptors.option(method, VERB)
                if standard in PERMISSIONS:
                    permissions[PERMISSIONS[standard]] = route.method.permission
                elif label is not None:
                    self._schema(method.input_type)
                    verbs.append(
                        {
                            "name": route.custom,
                            "rpc": method.name,
                            "label": {"zh": label.zh, "en": label.en},
                            "permission": route.method.permission,
                            "method": route.verb,
                            "path": self._path(route)[0],
                            "request": self._schema_name(method.input_type.full_name),
                        }
                    )
            self._schemas[self._schema_name(message.full_name)]["x-resource"] = {
                "collection": collection,
                "area": message.file.package.split(".")[1],
                "label": {"zh": rule.label.zh, "en": rule.label.en},
                "titleField": camel(rule.title_field or "display_name"),
                "menu": rule.menu,
                "permissions": permissions,
                "verbs": verbs,
            }

    def _reasons(self, route: Route, comment: str) -> list[str]:
        """The error reasons that the comment names."""
        known = self._reasons_by_app[route.method.app] | self._reasons_by_app["common"]
        return [word for word in re.findall(r"\b[A-Z][A-Z0-9_]{3,}\b", comment) if word in known]

    def _example(self, message: Descriptor, required: list[str]) -> dict[str, Any]:
        """A small body that could be sent: what is required, and what quick create asks for."""
        shown: dict[str, Any] = {}
        for field in message.fields:
            rule = self._descriptors.option(field, FIELD)
            output = OUTPUT_ONLY in (self._descriptors.option(field, BEHAVIOR) or ())
            if not output and (field.json_name in required or (rule and rule.quick)):
                shown[field.json_name] = self._example_value(field, rule)
        return shown

    def _example_value(self, field: FieldDescriptor, rule: Any) -> Any:
        reference = self._descriptors.option(field, REFERENCE)
        inner = field.message_type
        if reference is not None:
            value: Any = f"{self._plural_by_type.get(reference.type, 'records')}/{EXAMPLE_ID}"
        elif field.enum_type is not None:
            value = field.enum_type.values[min(1, len(field.enum_type.values) - 1)].name
        elif inner is not None:
            value = _EXAMPLES.get(inner.full_name, {})
        elif field.type == FieldDescriptor.TYPE_STRING:
            value = (rule.label.zh if rule else "") or field.json_name
        else:
            value = field.type == FieldDescriptor.TYPE_BOOL or 1
        return [value] if field.is_repeated else value


_EXAMPLES: dict[str, Any] = {
    "crm.common.v1.Money": {"currencyCode": "CNY", "amount": "1000.00"},
    "google.type.Date": {"year": 2026, "month": 11, "day": 21},
    "google.protobuf.Timestamp": "2026-11-21T09:30:00Z",
}


def _collection(route: Route) -> str:
    return next((s for s in route.segments[1:] if s is not None), "")


def _json(schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": schema}
    if example:
        media["example"] = example
    return {"application/json": media}


def _shared_parameters() -> dict[str, Any]:
    key: dict[str, Any] = {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same key and body give the first successful answer again.",
        "schema": {"type": "string", "maxLength": 64, "pattern": "^[!-~]*$"},
    }
    return {
        "IdempotencyKey": key,
        "IdempotencyKeyRequired": {**key, "required": True},
        "IfMatch": {
            "name": "If-Match",
            "in": "header",
            "description": "The `ETag` of the version that the caller saw; another one is refused with 412.",
            "schema": {"type": "string", "pattern": '^(W/)?"[^"]+"$'},
            "example": '"3"',
        },
        "AcceptLanguage": {
            "name": "Accept-Language",
            "in": "header",
            "description": "Language of error texts.",
            "schema": {"type": "string", "examples": ["zh-CN", "en"]},
        },
    }


def _error_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "An error as AIP-193 has it. `details` holds an ErrorInfo with the stable reason, "
        "a BadRequest where fields are wrong, and a RequestInfo with the trace id.",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "status", "message", "details"],
                "properties": {
                    "code": {"type": "integer", "description": "HTTP status."},
                    "status": {"type": "string", "description": "Canonical code.", "examples": ["ABORTED"]},
                    "message": {"type": "string", "description": "A sentence in the caller's language."},
                    "details": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["@type"],
                            "properties": {
                                "@type": {"type": "string"},
                                "reason": {"type": "string"},
                                "domain": {"type": "string"},
                                "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                                "locale": {"type": "string"},
                                "message": {"type": "string"},
                                "requestId": {"type": "string"},
                                "fieldViolations": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "properties": {
                                            "field": {"type": "string"},
                                            "description": {"type": "string"},
                                            "reason": {"type": "string"},
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            }
        },
    }


def _own_paths(with_files: bool) -> dict[str, Any]:
    """The routes that are written by hand."""
    refused = {status: {"$ref": f"#/components/responses/{status}"} for status in ERRORS}

    def operation(name: str, summary: str, ok: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "operationId": f"gateway.{name}",
            "tags": ["gateway"],
            "summary": summary,
            "responses": {"200": {"description": "Done.", **ok}, **refused},
            **more,
        }

    session = {
        "type": "object",
        "required": ["signedIn"],
        "properties": {
            "signedIn": {"type": "boolean"},
            "employee": {"type": "string"},
            "account": {"type": "string"},
            "contact": {"type": "string"},
            "displayName": {"type": "string"},
            "roles": {"type": "array", "items": {"type": "string"}},
            "roleNames": {
                "type": "object",
                "description": "What every role is called, by its code; for staff.",
                "additionalProperties": {
                    "type": "object",
                    "properties": {"zh": {"type": "string"}, "en": {"type": "string"}},
                },
            },
            "permissions": {"type": "array", "items": {"type": "string"}},
            "locale": {"type": "string"},
            "csrf": {
                "type": "string",
                "description": "To be sent as `X-CSRF` with every call that changes something.",
            },
        },
    }
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    paths: dict[str, Any] = {
        "/session": {
            "get": operation("GetSession", "Who is signed in", {"content": _json(session)}, security=[]),
        },
        "/session/sign-out": {
            "post": operation("SignOut", "Ends the session", {"content": _json(session)}),
        },
        "/v1/stream": {
            "get": operation(
                "Stream",
                "Names of visible changes as they happen",
                {"content": stream},
                parameters=[
                    {
                        "name": "collections",
                        "in": "query",
                        "description": "Collections to hear of, comma separated; all if empty.",
                        "schema": {"type": "string"},
                    },
                    {
                        "name": "Last-Event-ID",
                        "in": "header",
                        "description": "The last event seen; what came after it follows, or `reset`.",
                        "schema": {"type": "string"},
                    },
                ],
            )
        },
    }
    if with_files:
        anything = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
        paths["/v1/files"] = {
            "post": operation(
                "UploadFile",
                "Stores a file of at most 200 MB",
                {"content": _json({"$ref": "#/components/schemas/workspace.File"})},
                requestBody={"required": True, "content": {"*/*": anything}},
                parameters=[
                    {
                        "name": "X-File-Name",
                        "in": "header",
                        "required": True,
                        "description": "The file's name, percent-encoded UTF-8.",
                        "schema": {"type": "string"},
                    },
                    {
                        "name": "X-Attached-To",
                        "in": "header",
                        "description": "The record that the file hangs on, which its readers read it by.",
                        "schema": {"type": "string"},
                    },
                    {"$ref": "#/components/parameters/IdempotencyKey"},
                ],
            )
        }
        paths["/v1/files/{file}:download"] = {
            "get": operation(
                "DownloadFile",
                "The bytes of a file, or the range asked for",
                {"content": {"*/*": anything}},
                parameters=[
                    {"name": "file", "in": "path", "required": True, "schema": {"type": "string"}},
                    {
                        "name": "disposition",
                        "in": "query",
                        "description": "`inline` for pictures that a page shows.",
                        "schema": {"type": "string", "enum": ["attachment", "inline"]},
                    },
                ],
            )
        }
    return paths
