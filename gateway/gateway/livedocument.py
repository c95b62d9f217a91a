"""The OpenAPI document as a caller has it: with the custom fields that the caller may read, as they are now, and without
the fields that a role hides."""

import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from crmkit.auth import Caller
from crmkit.customfields import STAFF, TODAY, CustomFields, Definition
from crmkit.fieldlevels import CUSTOM, FieldLevel, Levels

from gateway.callers import json_name

KEPT = 32
FORMATS = {"URL": "uri", "EMAIL": "email", "PHONE": "tel"}
MONEY = "#/components/schemas/common.Money"


@dataclass(frozen=True, slots=True)
class Packed:
    """A document, compressed once: it is 6 MB, and every page that is opened asks for it."""

    gzipped: bytes
    etag: str

    @classmethod
    def of(cls, document: bytes) -> "Packed":
        return cls(gzip.compress(document, 6, mtime=0), f'"{sha256(document).hexdigest()[:32]}"')

    def unpacked(self) -> bytes:
        return gzip.decompress(self.gzipped)


class LiveDocument:
    """The document of the protos, and one for every set of custom fields that somebody sees."""

    def __init__(self, plain: bytes) -> None:
        self._plain = Packed.of(plain)
        self._made: dict[str, Packed] = {}

    def _parsed(self) -> dict[str, Any]:
        # Parsed it is 20 MB, and needed only where somebody's fields are new.
        return json.loads(self._plain.unpacked())

    @cached_property
    def _schemas(self) -> dict[str, str]:
        return {
            schema["x-resource"]["collection"]: name
            for name, schema in self._parsed()["components"]["schemas"].items()
            if "x-resource" in schema
        }

    def of(self, caller: Caller | None) -> Packed:
        """The document for the caller; without one that of the protos."""
        if caller is None or caller.custom is None:
            return self._plain
        found: dict[str, dict[str, Any]] = {}
        taken = {one: levels for one in sorted(self._schemas) if (levels := caller.fields(one))}
        defined = caller.custom.collections()
        for collection in sorted(defined & self._schemas.keys()) if defined else ():
            seen = {
                key: _schema(definition, caller.custom, caller.may(STAFF))
                for key, definition in caller.custom.of(collection).items()
                if not definition.retired and caller.may(definition.permission)
            }
            for name, level in taken.get(collection, {}).items():
                _take(seen, name.removeprefix(CUSTOM), level, name.startswith(CUSTOM))
            if seen:
                found[collection] = seen
        if not found and not taken:
            return self._plain
        key = json.dumps([found, taken], ensure_ascii=False)
        if key not in self._made:
            if len(self._made) >= KEPT:
                self._made.pop(next(iter(self._made)))
            self._made[key] = Packed.of(self._with(found, taken))
        return self._made[key]

    def _with(self, found: dict[str, dict[str, Any]], taken: dict[str, Levels]) -> bytes:
        parsed = self._parsed()
        components: dict[str, Any] = parsed["components"]
        schemas: dict[str, Any] = dict(components["schemas"])
        for collection, properties in found.items():
            name = self._schemas[collection]
            schema = schemas[name]
            custom = {**schema["properties"].get("custom", {}), "type": "object", "properties": properties}
            schemas[name] = {**schema, "properties": {**schema["properties"], "custom": custom}}
        for collection, levels in taken.items():
            name = self._schemas[collection]
            properties = dict(schemas[name]["properties"])
            for field, level in levels.items():
                _take(properties, json_name(field), level, not field.startswith(CUSTOM))
            schemas[name] = {**schemas[name], "properties": properties}
        document = {**parsed, "components": {**components, "schemas": schemas}}
        return json.dumps(document, ensure_ascii=False).encode()


def _take(properties: dict[str, Any], name: str, level: FieldLevel, concerned: bool) -> None:
    """What a role hides is not described; what it does not let change is only read."""
    if not concerned or name not in properties:
        return
    if level is FieldLevel.HIDDEN:
        del properties[name]
        return
    schema = {key: value for key, value in properties[name].items() if key != "x-required"}
    marked = {"x-masked": True} if level is FieldLevel.MASKED else {}
    properties[name] = {**schema, "readOnly": True, **marked}


def _schema(field: Definition, fields: CustomFields, staff: bool) -> dict[str, Any]:
    zh, en = field.label
    schema = _value(field, fields)
    schema["x-label"] = {"zh": zh or field.key, "en": en or zh or field.key}
    if field.hidden:
        schema["x-hidden"] = True
    elif field.required:
        schema["x-required"] = True
    if field.portal == "READ" and not staff:
        schema["readOnly"] = True
    if field.pattern:
        schema["pattern"] = f"^(?:{field.pattern})$"
    schema |= {f"x-{word}": limit for word in ("minimum", "maximum") if (limit := getattr(field, word))}
    if field.shown_by:
        own = field.shown_by if field.shown_by.startswith(CUSTOM) else json_name(field.shown_by)
        schema["x-shown-when"] = {"field": own, "is": list(field.shown_for)}
    if field.default is not None:
        # "today" is no day, so the standard's word would not be true.
        schema["x-default" if field.default == TODAY else "default"] = field.default
    return schema


def _value(field: Definition, fields: CustomFields) -> dict[str, Any]:
    match field.kind:
        case "NUMBER":
            return {"type": ["number", "string"], "format": "decimal"}
        case "FORMULA":
            return {"type": "string", "format": "decimal", "readOnly": True}
        case "PERCENT":
            return {"type": ["number", "string"], "format": "decimal", "x-unit": "%"}
        case "INSTANT":
            return {"type": "string", "format": "date-time"}
        case "URL" | "EMAIL" | "PHONE":
            return {"type": "string", "format": FORMATS[field.kind], "maxLength": field.max_length}
        case "MONEY":
            return {"allOf": [{"$ref": MONEY}]}
        case "BOOL":
            return {"type": "boolean"}
        case "DATE":
            return {"type": "string", "format": "date"}
        case "CHOICE":
            return _choice(field, fields)
        case "MULTI_CHOICE":
            return {"type": "array", "items": _choice(field, fields)}
        case "FILES":
            return {"type": "array", "items": {"type": "string"}, "x-reference": [field.references]}
        case _ if field.references:
            return {"type": "string", "x-reference": [field.references]}
        case "LONG_TEXT":
            return {"type": "string", "maxLength": field.max_length, "x-multiline": True}
        case _:
            return {"type": "string", "maxLength": field.max_length}


def _choice(field: Definition, fields: CustomFields) -> dict[str, Any]:
    choices = fields.choices(field)
    labels = {key: {"zh": zh or key, "en": en or zh or key} for key, (zh, en) in choices.items()}
    return (
        {"type": "string", "enum": list(choices), "x-enum-labels": labels} if choices else {"type": "string"}
    )
