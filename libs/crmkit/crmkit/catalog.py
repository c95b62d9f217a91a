"""What the descriptor set holds: resources, permissions, facts, the codec. Read once."""

import importlib
from collections.abc import Mapping
from functools import lru_cache

import crmprotos
from crm.options.v1 import options_pb2
from google.protobuf import descriptor_pool

from crmkit.describe import Described, describe
from crmkit.json import JsonCodec
from crmkit.options import has_option, option


@lru_cache(maxsize=1)
def codec() -> JsonCodec:
    """JSON of every message of the platform."""
    return JsonCodec(crmprotos.load_bytes())


@lru_cache(maxsize=1)
def permissions() -> tuple[str, ...]:
    """Every permission that the protos declare, "*" and "public" aside."""
    found: set[str] = set()
    for file in crmprotos.load().file:
        for service in file.service:
            found.update(option(service, options_pb2.permissions))
            for method in service.method:
                found.add(option(method, options_pb2.permission))
        for message in file.message_type:
            for each in message.field:
                found.add(option(each, options_pb2.field).read_permission)
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


def import_proto(proto: str) -> None:
    """Imports the module of a proto file, so that its messages are in the pool."""
    importlib.import_module(proto.removesuffix(".proto").replace("/", ".") + "_pb2")


@lru_cache(maxsize=1)
def business_facts() -> tuple[str, ...]:
    """The subject of every business fact that an area declares in its `events.proto`."""
    files = [file for file in crmprotos.load().file if file.name.endswith("/events.proto")]
    return tuple(sorted(f"{file.package}.{message.name}" for file in files for message in file.message_type))
