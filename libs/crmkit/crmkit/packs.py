"""Many facts of one kind as one message: packs of what is told at once, bundles of what is sent at once.

    create_many → packed → one outbox row → one message on the subject of its facts → unpacked → handlers
    outbox rows of a flight → bundled → one message for those of one subject → unpacked → handlers

A pack saves what each fact costs on its way (outbox, relay, broker, inbox); handlers see single facts. It has the
numbers of its facts right behind its own, so that the inbox can tell the whole from its parts. A bundle is on the way
only: the same facts may go in other bundles when they are sent again, so each has its own number and inbox row.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

# Small enough for a list of handlers' statements, and by far for a message.
MOST = 125
LARGEST = 256_000
# A bundle waits at the broker for its slowest handler of single facts: few enough to be done before it is sent again.
BUNDLED = 32
# Fewer facts of one kind go one by one.
FEWEST = 8
HEADER = "crm-facts"
BUNDLE = "crm-bundle"
_ACTION = re.compile(r'\{"action": ?"(\w+)"')


def packed(facts: Iterable[Mapping[str, Any]], action: str = "") -> list[dict[str, Any]]:
    """Outbox rows for these rows of one actor: those of one type as packs, where there are many.

    No two facts of one type may be of one aggregate; all that are changes are changes of that `action`.
    """
    by_type: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for fact in facts:
        by_type[fact["type"], fact["aggregate_type"]].append(fact)
    rows: list[dict[str, Any]] = []
    for same in by_type.values():
        if len(same) < FEWEST:
            rows += map(dict, same)
            continue
        begun: list[Mapping[str, Any]] = []
        size = 0
        for fact in same:
            more = len(fact["payload"].encode())
            if begun and (len(begun) == MOST or size + more > LARGEST):
                rows.append(_pack(begun, action))
                begun, size = [], 0
            begun.append(fact)
            size += more
        rows.append(_pack(begun, action))
    return rows


def _pack(facts: Sequence[Mapping[str, Any]], action: str) -> dict[str, Any]:
    if len(facts) == 1:
        return dict(facts[0])
    first = facts[0]
    parts = (
        f'["{fact["aggregate_id"]}",{json.dumps(fact["aggregate_version"])},{fact["payload"]}]'
        for fact in facts
    )
    return {
        **first,
        # Room for the numbers of its facts.
        "event_id": UUID(int=uuid7().int & ~0x3FF),
        "aggregate_id": f"{first['aggregate_type']}/-",
        "aggregate_version": None,
        "payload": f'{{"action": "{action}", "facts": [{",".join(parts)}]}}',
        "facts": len(facts),
    }


def bundled(rows: Sequence[Any], subject_of: Callable[[Any], str]) -> list[tuple[str, list[Any]]]:
    """Outbox rows by the messages that they go in, with the subject of each.

    A message has at most one fact of an aggregate, and none that an earlier message should have told first.
    """
    messages: list[tuple[str, list[Any]]] = []
    sizes: list[int] = []
    last: dict[str, int] = {}
    behind: dict[str, int] = {}
    for row in rows:
        subject, size, aggregate = subject_of(row), len(row["payload"].encode()), row["aggregate_id"]
        place = last.get(subject, -1)
        if (
            row["facts"] > 1
            or place <= behind.get(aggregate, -1)
            or len(messages[place][1]) == BUNDLED
            or sizes[place] + size > LARGEST
        ):
            place = len(messages)
            messages.append((subject, []))
            sizes.append(0)
            last[subject] = place
        if row["facts"] > 1:
            # A pack tells of many aggregates: what follows it goes behind it.
            last.clear()
        messages[place][1].append(row)
        sizes[place] += size
        if aggregate:
            behind[aggregate] = place
    return messages


def bundle(rows: Sequence[Any]) -> str:
    """The payload of a message with these facts, each with the headers that are its own."""
    parts = (f"[{json.dumps(own(row))},{row['payload']}]" for row in rows)
    return f"[{','.join(parts)}]"


def own(row: Any) -> list[str]:
    """The headers that are a fact's own: those of `OWN`, in their order."""
    version = row["aggregate_version"]
    return [
        str(row["event_id"]), row["occurred_at"].isoformat(), row["aggregate_id"], row["actor"],
        "" if version is None else str(version), str(row["schema_version"]), row["trace"],
    ]  # fmt: skip


OWN = ("ce-id", "ce-time", "ce-subject", "crm-actor", "crm-version", "crm-schema-version", "traceparent")


def numbers(id: UUID, facts: int) -> list[UUID]:
    """The numbers of the facts of an outbox row or message with this number."""
    return [id] if facts == 1 else [UUID(int=id.int + place) for place in range(1, facts + 1)]


def action_of(payload: str) -> str:
    """What the changes of a pack have done, without reading all of it."""
    found = _ACTION.match(payload)
    return found[1] if found else ""


def unpacked(headers: Mapping[str, str], data: bytes | str) -> list[tuple[Mapping[str, str], dict[str, Any]]]:
    """Headers and payload of each fact of a message, as if it had come alone."""
    count, found = int(headers.get(HEADER) or 1), json.loads(data)
    if BUNDLE in headers:
        common = {key: value for key, value in headers.items() if key != BUNDLE}
        return [(common | dict(zip(OWN, its, strict=True)), payload) for its, payload in found]
    if count == 1:
        return [(headers, found)]
    ids = numbers(UUID(headers["ce-id"]), count)
    return [
        (headers_of(headers, id, name, version), payload)
        for id, (name, version, payload) in zip(ids, found["facts"], strict=True)
    ]


def headers_of(headers: Mapping[str, str], id: UUID, aggregate: str, version: int | None) -> dict[str, str]:
    """The headers of a message with one fact alone, as far as those of its pack or bundle tell them."""
    its = {"ce-id": str(id), "ce-subject": aggregate, "crm-version": "" if version is None else str(version)}
    return {key: value for key, value in headers.items() if key not in (HEADER, BUNDLE)} | its
