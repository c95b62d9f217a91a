"""What a check or a chunk has seen of the lines before: who they are, and which of them somebody's parent may be.

It stands in a database of SQLite without a name, which writes what is too much for its cache to a file that ends with
it: a file of five million lines takes no more memory than one of five thousand.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence

from crm.common.v1 import common_pb2
from crm.customer.v1 import pb

from customer.importing import duplicates
from customer.importing.duplicates import Twin
from customer.importing.plan import PARENT, Line
from customer.matching import COMMON_HOLDERS, Identity
from customer.model.account import Account

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -8192;
CREATE TABLE keys (key INTEGER, line INTEGER, PRIMARY KEY (key, line)) WITHOUT ROWID;
CREATE TABLE who (line INTEGER PRIMARY KEY, told TEXT);
CREATE TABLE names (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE parents (line INTEGER PRIMARY KEY, name TEXT);
BEGIN;
"""


class Seen:
    """The lines before."""

    def __init__(self, public_domains: frozenset[str]) -> None:
        self._public_domains = public_domains
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Forgets everything."""
        self._db.close()

    def twin(self, line: Line) -> Twin | None:
        """The earlier line that is the same customer; the line is remembered where there is none."""
        identity = line.identity
        if identity is None or line.account is None:
            return None
        held = {key: self._held(key) for key in map(hash, identity.deciding)}
        earlier = {
            number for numbers in held.values() if len(numbers) <= COMMON_HOLDERS for number in numbers
        }
        for number in sorted(earlier):
            if found := duplicates.same(identity, self._identity(number)):
                return Twin(found, line=number)
        # One line more than makes a key a common one is enough.
        told = [(key, line.number) for key, numbers in held.items() if len(numbers) <= COMMON_HOLDERS]
        self._db.executemany("INSERT INTO keys VALUES (?, ?)", told)
        one = line.account
        who = (
            one.display_name, one.legal_name, one.kind, one.tax_id, one.website,
            [p.number for p in one.phones if p.valid], [e.address for e in one.emails], [a.text for a in one.aliases],
        )  # fmt: skip
        self._db.execute("INSERT INTO who VALUES (?, ?)", (line.number, json.dumps(who, ensure_ascii=False)))
        return None

    def _held(self, key: int) -> list[int]:
        """The lines that have a key."""
        return [number for (number,) in self._db.execute("SELECT line FROM keys WHERE key = ?", (key,))]

    def _identity(self, number: int) -> Identity:
        (told,) = self._db.execute("SELECT told FROM who WHERE line = ?", (number,)).fetchone()
        name, legal, kind, tax_id, website, phones, emails, aliases = json.loads(told)
        return Account(
            display_name=name, legal_name=legal, kind=kind, tax_id=tax_id, website=website,
            phones=[common_pb2.Phone(number=phone, valid=True) for phone in phones],
            emails=[common_pb2.Email(address=address) for address in emails],
            aliases=[pb.Account.Alias(text=alias) for alias in aliases],
        ).identity(self._public_domains)  # fmt: skip

    def family(self, lines: Sequence[Line]) -> None:
        """Remembers how lines are named, and whom those that are right name as parent."""
        accounts = [line.account for line in lines if line.account is not None]
        names = [(name,) for one in accounts for name in (one.display_name, one.legal_name)]
        self._db.executemany("INSERT OR IGNORE INTO names VALUES (?)", names)
        parents = [
            (line.number, line.given[PARENT]) for line in lines if not line.problems and PARENT in line.given
        ]
        self._db.executemany("INSERT INTO parents VALUES (?, ?)", parents)

    def outsiders(self, most: int) -> Iterator[list[tuple[int, str]]]:
        """Line and parent of those whose parent no line is named like; so many at once."""
        found = self._db.execute(
            "SELECT line, name FROM parents WHERE name NOT IN (SELECT name FROM names) ORDER BY line"
        )
        while some := found.fetchmany(most):
            yield some
