"""Copies of foreign resources, fed by their change facts: what references are checked against."""

# pyright: reportMissingTypeStubs=false
# googleapis-common-protos has its types beside it and does not say so.

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.api import resource_pb2
from google.protobuf.descriptor import Descriptor, FileDescriptor

from crmkit.bulk import insert_rows, newer
from crmkit.call import Call
from crmkit.describe import Described
from crmkit.events import Fact, Function, listens
from crmkit.options import option
from crmkit.tables import Copy


def referenced_types(files: Iterable[FileDescriptor]) -> set[str]:
    """Every resource type that messages of the files refer to."""
    found: set[str] = set()

    def visit(message: Descriptor) -> None:
        for field in message.fields:
            if kind := option(field, resource_pb2.resource_reference).type:
                found.add(kind)
        for nested in message.nested_types:
            visit(nested)

    for file in files:
        for message in file.message_types_by_name.values():
            visit(message)
    return found


def keeper(foreign: Mapping[str, Described]) -> Function | None:
    """The handler that keeps the copies of these resources; None where there are none."""
    collections = {described.collection for described in foreign.values()}
    if not collections:
        return None
    heard = {
        f"crm.{described.area}.v1.ResourceChanged.{described.collection}" for described in foreign.values()
    }

    @listens(*sorted(heard))
    async def keep_copies(events: list[Fact], call: Call) -> None:
        await keep(events, call, collections)

    return keep_copies


async def keep(events: Iterable[Fact], call: Call, collections: set[str]) -> None:
    """Writes the copies, unless later ones are there already: facts come in any order."""
    latest: dict[str, dict[str, Any]] = {}
    for event in sorted(events, key=lambda event: event.version or 0):
        name: str = event.payload["name"]
        collection = name.partition("/")[0]
        if collection in collections:
            latest[name] = {
                "name": name,
                "collection": collection,
                "payload": event.payload.get("resource", {}),
                "version": event.version or 0,
                "deleted": event.payload["action"] == "DELETED",
            }
    # In one order, so that two replicas cannot wait for each other.
    rows = [latest[name] for name in sorted(latest)]
    await insert_rows(call, Copy.__table__, rows, newer("name", tuple(rows[0])) if rows else "")
