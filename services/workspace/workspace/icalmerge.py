"""Puts our changes into the text of another calendar: line by line, so that all else stays as it was written.

What is not ours (attendees of others, alarms, properties that we do not know, other components) is never read into
an object and written out again, and so cannot be lost.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from icalendar.parser import Contentline

from workspace import ical

# Which properties stand for which fields of an event.
WHEN = (
    "start",
    "end",
    "start_date",
    "end_date",
    "time_zone",
    "recurrence",
    "extra_dates",
    "except_dates",
    "overrides",
)
PROPERTIES = {
    "when": frozenset(["DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID"]),
    "display_name": frozenset(["SUMMARY"]),
    "location": frozenset(["LOCATION"]),
    "agenda": frozenset(["DESCRIPTION"]),
    "availability": frozenset(["TRANSP"]),
    "visibility": frozenset(["CLASS"]),
    "state": frozenset(["STATUS"]),
}  # fmt: skip
VERSION = frozenset(["SEQUENCE", "DTSTAMP", "LAST-MODIFIED"])


@dataclass
class Block:
    """A component with the lines of all that is in it."""

    kind: str
    lines: list[str] = field(default_factory=list)

    def own(self) -> Iterable[tuple[int, str, str]]:
        """Index, name and line of each property that is the component's and not of one within it."""
        depth = 0
        for index, line in enumerate(self.lines):
            name = _name(line)
            depth += name == "BEGIN"
            if depth == 1 and name not in {"BEGIN", "END"}:
                yield index, name, line
            depth -= name == "END"

    def replace(self, names: frozenset[str], other: "Block") -> None:
        """Has the other's lines of the properties in place of its own."""
        old = {index for index, name, _ in self.own() if name in names}
        kept = [line for index, line in enumerate(self.lines) if index not in old]
        self.lines = [kept[0], *(line for _, name, line in other.own() if name in names), *kept[1:]]

    def text(self) -> str:
        """The component alone, as a calendar that can be read."""
        return "\n".join(["BEGIN:VCALENDAR", *self.lines, "END:VCALENDAR"])


def groups(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an event in groups, of which each is changed as one."""
    found = {name: values.get(name) for name in PROPERTIES if name != "when"}
    return {**found, "when": {name: values.get(name) or None for name in WHEN}}


def three_way(base: Mapping[str, Any] | None, here: Mapping[str, Any], there: Mapping[str, Any]) -> set[str]:
    """The groups that are taken from there: what differs and was not changed here since both were alike."""
    old = groups(base) if base is not None else groups(here)
    mine, theirs = groups(here), groups(there)
    return {name for name in mine if theirs[name] != mine[name] and mine[name] == old[name]}


def merge(theirs: str, ours: str, written: Iterable[str] = ()) -> str:
    """The text of theirs with those of our properties that differ; itself where none does.

    Attendees of ours are added or brought up to date; only those that we have `written` and that are ours no more go.
    """
    head, blocks, tail = _parse(theirs)
    _, own, _ = _parse(ours)
    here, there = (ical.values_of(ical.read(text).walk("VEVENT")) for text in (ours, theirs))
    mine, old = groups(here), groups(there)
    changed = {name for name in mine if mine[name] != old[name]}
    zone, known = here["time_zone"], {}
    for block in [block for block in blocks if block.kind == "VEVENT"]:
        known[_occurrence(block, there["time_zone"])] = block
    wanted = {_occurrence(block, zone): block for block in own if block.kind == "VEVENT"}
    people = _attendees(known[""], wanted[""], written)
    if not changed and not people:
        return theirs
    names = VERSION.union(*(PROPERTIES[name] for name in changed))
    for key, block in wanted.items():
        if key not in known:
            blocks.append(block)
        elif not key:
            known[key].replace(names, block)
        elif "when" in changed:
            known[key].replace(
                VERSION | PROPERTIES["when"] | PROPERTIES["display_name"] | PROPERTIES["location"], block
            )
    if "when" in changed:
        gone = [block for key, block in known.items() if key not in wanted]
        blocks = [block for block in blocks if block not in gone]
        zones = {_value(block, "TZID") for block in blocks if block.kind == "VTIMEZONE"}
        blocks = [b for b in own if b.kind == "VTIMEZONE" and _value(b, "TZID") not in zones] + blocks
    lines = [*head, *(line for block in blocks for line in block.lines), *tail]
    return "".join(f"{Contentline(line).to_ical().decode()}\r\n" for line in lines)


def _attendees(theirs: Block, ours: Block, written: Iterable[str]) -> bool:
    """Brings our attendees to theirs; True where that changes something."""
    before = list(theirs.lines)
    mine = {_address(line): line for _, name, line in ours.own() if name == "ATTENDEE"}
    dropped = set(written) - mine.keys()
    listed: set[str] = set()
    for index, name, line in list(theirs.own()):
        address = _address(line) if name == "ATTENDEE" else ""
        if address in mine:
            listed.add(address)
            if _parameter(line, "PARTSTAT") != _parameter(mine[address], "PARTSTAT"):
                theirs.lines[index] = mine[address]
        elif address in dropped:
            theirs.lines[index] = ""
    theirs.lines = [line for line in theirs.lines if line]
    missing = [line for address, line in mine.items() if address not in listed]
    if missing and not any(name == "ORGANIZER" for _, name, _ in theirs.own()):
        missing += [line for _, name, line in ours.own() if name == "ORGANIZER"]
    theirs.lines[1:1] = missing
    return theirs.lines != before


def addresses(text: str) -> list[str]:
    """The attendees of the first event of a text."""
    block = next(block for block in _parse(text)[1] if block.kind == "VEVENT")
    return [_address(line) for _, name, line in block.own() if name == "ATTENDEE"]


def _parse(text: str) -> tuple[list[str], list[Block], list[str]]:
    head, blocks, tail, depth = list[str](), list[Block](), list[str](), 0
    for line in ical.FOLD.sub("", text.replace("\r\n", "\n")).split("\n"):
        name = _name(line)
        if name == "BEGIN":
            depth += 1
            if depth == 2:
                blocks.append(Block(line.partition(":")[2].strip().upper()))
        if depth >= 2:
            blocks[-1].lines.append(line)
        elif line:
            (tail if blocks or name == "END" else head).append(line)
        depth -= name == "END"
    return head, blocks, tail


def _occurrence(block: Block, zone: str) -> str:
    return ical.occurrence_of(ical.read(block.text()).walk("VEVENT")[0], zone)


def _name(line: str) -> str:
    return line.partition(":")[0].partition(";")[0].strip().upper()


def _value(block: Block, wanted: str) -> str:
    return next((line.partition(":")[2].strip() for _, name, line in block.own() if name == wanted), "")


def _address(line: str) -> str:
    return line.lower().rpartition("mailto:")[2].strip()


def _parameter(line: str, name: str) -> str:
    return Contentline(line).parts()[1].get(name, "")
