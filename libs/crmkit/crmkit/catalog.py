"""What the descriptor set holds: resources, permissions, facts, the codec. Read once."""

import importlib
from collections.abc import Mapping
from functools import cache, lru_cache

import crmprotos
from crm.options.v1 import options_pb2
from google.protobuf import descriptor_pool
from sqlalchemy import null

from crmkit.describe import Described, describe
from crmkit.filters import FilterField, Kind
from crmkit.json import JsonCodec, codec_of
from crmkit.options import has_option, option

# What the fields of a message are to a filter.
FILTER_KINDS: Mapping[str, Kind] = {
    "text": "text", "decimal": "number", "int": "number", "float": "number", "bool": "bool", "enum": "enum",
    "enums": "texts", "texts": "texts", "time": "time", "date": "date", "money": "money", "message": "struct",
    "messages": "messages", "struct": "struct", "reference": "reference", "references": "texts",
}  # fmt: skip


@lru_cache(maxsize=1)
def codec() -> JsonCodec:
    """JSON of every message of the platform."""
    return codec_of(crmprotos.load_bytes())


@cache
def internal_fields(collection: str) -> frozenset[str]:
    """The fields of a collection that are for staff alone."""
    found = (one for one in resources().values() if one.collection == collection)
    return frozenset(field.name for one in found for field in one.fields.values() if field.rule.internal)


@lru_cache(maxsize=1)
def permissions() -> tuple[str, ...]:
    """Every permission that the protos declare, "*" and "public" aside."""
    found: set[str] = set()
    for file in crmprotos.load().file:
        for service in file.service:
            for method in service.method:
                found.add(option(method, options_pb2.permission))
        for message in file.message_type:
            for each in message.field:
                found.add(option(each, options_pb2.field).read_permission)
    for described in resources().values():
        found.update(described.permission(verb) for verb in described.rule.permissions)
        if described.scope == "OWNED":
            found.update((described.permission("assign"), described.permission("across")))
    return tuple(sorted(found - {"", "*", "public"}))


@lru_cache(maxsize=1)
def resources() -> Mapping[str, Described]:
    """Every resource of the platform by its type."""
    found: dict[str, Described] = {}
    pool = descriptor_pool.Default()
    for file in crmprotos.load().file:
        if file.package.startswith("crm."):
            import_proto(file.name)
            for message in pool.FindFileByName(file.name).message_types_by_name.values():
                if has_option(message, options_pb2.resource):
                    described = describe(message)
                    found[described.type] = described
    return found


@cache
def type_of(collection: str) -> str:
    """The type of the records of a collection; empty where there is no such collection."""
    return next((kind for kind, described in resources().items() if described.collection == collection), "")


@cache
def record_fields(described: Described) -> Mapping[str, FilterField]:
    """The fields that a filter over a record outside the database may name."""
    return {
        name: FilterField(name, FILTER_KINDS[field.kind], null(), frozenset(field.enum_numbers))
        for name, field in described.fields.items()
    }


def import_proto(proto: str) -> None:
    """Imports the module of a proto file, so that its messages are in the pool."""
    importlib.import_module(proto.removesuffix(".proto").replace("/", ".") + "_pb2")


@lru_cache(maxsize=1)
def business_facts() -> tuple[str, ...]:
    """The subject of every business fact that an area declares in its `events.proto`."""
    files = [file for file in crmprotos.load().file if file.name.endswith("/events.proto")]
    return tuple(sorted(f"{file.package}.{message.name}" for file in files for message in file.message_type))
