"""People who write and read while things break, and the oracle that looks afterwards what became of it."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from uuid import uuid4

import httpx

from tests.chaos.world import World

WRITERS = 4
READERS = 1
ALLOWED = {409, 429, 503, 504}
# The gateway's longest deadline of a write, 5 s, and 250 ms; the rest is this machine's own slowness.
LONGEST = 6.5


@dataclass
class Load:
    """Writers make customers, again and again, each with its own key until it is answered; a reader reads."""

    world: World
    token: str
    stop: threading.Event = field(default_factory=threading.Event)
    made: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    asked: int = 0
    refusals: Counter[int] = field(default_factory=Counter)
    silences: int = 0
    slowest: float = 0.0
    read: int = 0
    reads_refused: Counter[int] = field(default_factory=Counter)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._write) for _ in range(WRITERS)]
        self._threads += [threading.Thread(target=self._read) for _ in range(READERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(60)

    def _write(self) -> None:
        with httpx.Client(base_url=self.world.at.url, timeout=10) as http:
            while not self.stop.is_set():
                body = {"displayName": f"{uuid4().hex}有限公司"}
                headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": uuid4().hex}
                if not self._until_answered(http, body, headers):
                    return

    def _until_answered(self, http: httpx.Client, body: dict[str, str], headers: dict[str, str]) -> bool:
        """One write, tried with its key until it is answered, even after the end: what may be stored must be told."""
        give_up = time.monotonic() + 120
        while time.monotonic() < give_up:
            began = time.monotonic()
            self.asked += 1
            try:
                answer = http.post("/v1/accounts", json=body, headers=headers)
            except httpx.TransportError:
                self.silences += 1
                time.sleep(0.2)
                continue
            finally:
                self.slowest = max(self.slowest, time.monotonic() - began)
            if answer.status_code == 201:
                self.made.append(answer.json()["name"])
                self.moments.append(time.monotonic())
                return True
            self.refusals[answer.status_code] += 1
            if answer.status_code not in ALLOWED:
                return False
            time.sleep(0.2)
        return False

    def _read(self) -> None:
        with httpx.Client(base_url=self.world.at.url, timeout=10) as http:
            while not self.stop.is_set():
                try:
                    answer = http.get(
                        "/v1/accounts?pageSize=5", headers={"Authorization": f"Bearer {self.token}"}
                    )
                    self.reads_refused[answer.status_code] += answer.status_code != 200
                    self.read += answer.status_code == 200
                except httpx.TransportError:
                    pass
                time.sleep(0.1)

    @property
    def bad(self) -> dict[int, int]:
        """Refusals that no fault excuses."""
        both = self.refusals + self.reads_refused
        return {status: n for status, n in both.items() if n and status not in ALLOWED}


# Who must have had the fact of a new customer once, and how that is seen: database, statement.
READERS_OF_FACTS = {
    "time line": (
        "customer",
        "SELECT account AS name, count(*) AS n FROM timeline WHERE account = ANY($1) GROUP BY account",
    ),
    "audit": (
        "workspace",
        "SELECT resource AS name, count(*) AS n FROM audit_entries"
        " WHERE resource = ANY($1) AND action = 'CREATED' GROUP BY resource",
    ),
    "search": (
        "insight",
        "SELECT target AS name, count(*) AS n FROM search_documents WHERE target = ANY($1) GROUP BY target",
    ),
    "copies": (
        "sales",
        "SELECT name, count(*) AS n FROM copies WHERE name = ANY($1) GROUP BY name",
    ),
}


@dataclass
class Verdict:
    """What became of the answered writes."""

    lost: int
    late: dict[str, int]
    twice: dict[str, int]
    settled: float

    @property
    def good(self) -> bool:
        """Nothing lost, nothing missing, nothing twice."""
        return not (self.lost or any(self.late.values()) or any(self.twice.values()))


def judge(world: World, made: list[str], within: float = 90) -> Verdict:
    """Looks into every database: each answered write is there, and every reader has had its fact once."""
    began = time.monotonic()
    world.wait("the database answers", lambda: world.query("customer", "SELECT 1"), 120)
    ids = [name.partition("/")[2] for name in made]
    there = world.query("customer", "SELECT count(*) AS n FROM accounts WHERE id::text = ANY($1)", ids)[0][
        "n"
    ]
    while True:
        late, twice = {}, {}
        for reader, (database, statement) in READERS_OF_FACTS.items():
            counts = {row["name"]: row["n"] for row in world.query(database, statement, made)}
            late[reader] = len(made) - len(counts)
            twice[reader] = sum(n > 1 for n in counts.values())
        settled = time.monotonic() - began
        if not any(late.values()) or settled > within:
            return Verdict(len(made) - there, late, twice, settled)
        time.sleep(0.5)
