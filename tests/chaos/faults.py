"""The faults. Each takes the world and the load that goes on, does its harm, heals it, and says when it was healed."""

import random
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import psutil
from crmkit.map import moved

from tests.chaos.load import Load
from tests.chaos.world import FAKETIME, SHIFTED, Skip, World, stop_all

SOAK_SECONDS = 120

Inflict = Callable[[World, Load], str]


@dataclass(frozen=True)
class Fault:
    """What is done, and what the platform owes."""

    id: str
    name: str
    # Does its harm and heals it; returns what it has seen itself, for the report.
    inflict: Inflict
    # From healed to the first answered write.
    within: float = 5.0
    # Whether everybody is served all the time.
    unnoticed: bool = False
    # Whether a request may outlive its deadline, as its own connection to the gateway is harmed.
    patient: bool = False


FAULTS: list[Fault] = []


def fault(id: str, name: str, **promises: float | bool) -> Callable[[Inflict], Inflict]:
    """Puts a function on the list."""

    def add(inflict: Inflict) -> Inflict:
        FAULTS.append(Fault(id, name, inflict, **promises))  # pyright: ignore[reportArgumentType]
        return inflict

    return add


def owe(kept: bool, what: str) -> None:
    """AssertionError where a promise of this fault alone is broken."""
    if not kept:
        raise AssertionError(what)


for app in ("customer", "gateway", "workspace"):

    @fault("F-1", f"kill -9 {app}", within=15.0, patient=app == "gateway", unnoticed=app == "workspace")
    def kill(world: World, load: Load, app: str = app) -> str:
        world.process(app).kill()
        time.sleep(1)
        back = world.wait(f"{app} is ready", lambda: world.healthy(app), 60)
        return f"ready again after {back + 1:.1f} s"


@fault("F-2", "customer frozen for 10 s")
def freeze(world: World, load: Load) -> str:
    frozen = world.process("customer")
    frozen.suspend()
    time.sleep(10)
    frozen.resume()
    return ""


@fault("F-3", "kill -9 PostgreSQL", within=5.0)
def kill_postgres(world: World, load: Load) -> str:
    world.server("postgres").kill()
    back = world.wait("PostgreSQL answers", lambda: world.query("postgres", "SELECT 1"), 60)
    return f"PostgreSQL back after {back:.1f} s"


@fault("F-3", "PostgreSQL frozen for 5 s")
def freeze_postgres(world: World, load: Load) -> str:
    server = world.server("postgres")
    stop_all(server, signal.SIGSTOP)
    time.sleep(5)
    stop_all(server, signal.SIGCONT)
    return ""


@fault("F-3", "all backends terminated")
def end_backends(world: World, load: Load) -> str:
    for _ in range(3):
        world.query(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )
        time.sleep(1)
    return ""


@fault("F-4", "kill -9 NATS", unnoticed=True)
def kill_nats(world: World, load: Load) -> str:
    world.server("nats").kill()
    time.sleep(5)
    return ""


@fault("F-4", "NATS away while 1,000 customers are made", unnoticed=True)
def nats_away(world: World, load: Load) -> str:
    links = world.links.named("-nats")
    for link in links:
        link.harm = "refuse"
        world.links.cut(link.name)
    before, began = len(load.made), time.monotonic()
    try:
        world.wait("1,000 are made", lambda: len(load.made) >= before + 1000, 120)
        took = time.monotonic() - began
        waiting = world.query("customer", "SELECT count(*) AS n FROM outbox WHERE published_at IS NULL")[0][
            "n"
        ]
    finally:
        for link in links:
            link.harm = ""
    owe(waiting >= 1000, f"only {waiting} facts wait in the outbox")
    drained = world.wait("the outbox is empty", lambda: _waiting(world) < 20, 60)
    return f"1,000 in {took:.0f} s, {waiting} facts waited, drained in {drained:.1f} s"


def _waiting(world: World) -> int:
    return world.query("customer", "SELECT count(*) AS n FROM outbox WHERE published_at IS NULL")[0]["n"]


@fault("F-4", "stream deleted, then replay-outbox", unnoticed=True)
def lose_stream(world: World, load: Load) -> str:
    import asyncio

    from crmkit.bus import Bus

    begun = datetime.now(UTC) - timedelta(minutes=10)

    async def delete() -> int:
        async with Bus(world.environments["customer"]["NATS_URL"], "operator") as bus:
            js = await bus.connected()
            state = (await js.stream_info("crm-customer")).state
            await js.delete_stream("crm-customer")
            return state.messages

    had = asyncio.run(delete())
    time.sleep(2)
    world.command("customer", "replay-outbox", begun.isoformat(), datetime.now(UTC).isoformat())
    return f"{had} messages were lost with it"


HARMS = {
    "silence": "silent for 5 s",
    "reset": "reset again and again",
    "stalls": "one packet in five late",
    "latency": "250 ms each way",
    "narrow": "64 kbit/s",
}
PAIRS = ("gateway-customer", "customer-postgres", "customer-nats")
for pair in PAIRS:
    for harm, told in HARMS.items():

        @fault("F-5", f"{pair} {told}", unnoticed=pair == "customer-nats")
        def harm_link(world: World, load: Load, pair: str = pair, harm: str = harm) -> str:
            link = world.links.known[pair]
            calls, asked = world.metric("customer", "crm_rpc_seconds_count"), load.asked + load.read
            if harm == "reset":
                for _ in range(10):
                    world.links.cut(pair)
                    time.sleep(0.5)
            else:
                link.harm = harm
                time.sleep(5 if harm == "silence" else 8)
                link.harm = ""
            if pair != "gateway-customer":
                return ""
            calls = world.metric("customer", "crm_rpc_seconds_count") - calls
            asked = load.asked + load.read - asked
            owe(calls <= 1.2 * asked + 20, f"{calls:.0f} attempts for {asked} requests")
            return f"{calls:.0f} attempts reached the service for {asked} requests"


@fault("F-6", "the disk of PostgreSQL and NATS is full for 10 s", within=15.0)
def fill_disk(world: World, load: Load) -> str:
    with world.disk.full():
        time.sleep(10)
        read = load.read
        time.sleep(2)
        reading = load.read - read
    back = world.wait("PostgreSQL answers", lambda: world.query("postgres", "SELECT 1"), 60)
    # A stream that could not write once refuses until its server starts again, as the runbook says.
    world.server("nats").terminate()
    return f"reads {'went on' if reading else 'stood still'}, PostgreSQL answered {back:.1f} s later"


@fault("F-7", f"the clock of {SHIFTED} -5 min, +5 min, -1 h", unnoticed=True)
def move_clock(world: World, load: Load) -> str:
    if not FAKETIME:
        raise Skip("libfaketime is not installed")
    headers = {"Authorization": f"Bearer {load.token}"}

    def status() -> int:
        return httpx.get(f"{world.at.url}/v1/leads?pageSize=1", headers=headers, timeout=10).status_code

    owe(world.healthy(SHIFTED) and status() == 200, f"{SHIFTED} is not well before")
    seen = []
    try:
        # A token that is remembered as verified stays so until it expires; a new one is verified by the clock.
        for step in ("-300", "+300", "-3600"):
            world.clock.write_text(f"{step}\n")
            took = world.wait(f"{SHIFTED} is not ready", lambda: not world.healthy(SHIFTED), 20)
            fresh = {"Authorization": f"Bearer {world.token('sales2')}"}
            answer = httpx.get(f"{world.at.url}/v1/leads?pageSize=1", headers=fresh, timeout=10).status_code
            seen.append(f"{step} s: not ready after {took:.1f} s, a new token gets {answer}")
            owe(answer == 401 if step.startswith("-") else answer in {200, 401}, f"{step} s: {answer}")
            # From one wrong time to the next nobody could see when it is the next one's turn.
            world.clock.write_text("+0\n")
            world.wait(f"{SHIFTED} is ready", lambda: world.healthy(SHIFTED), 20)
    finally:
        world.clock.write_text("+0\n")
    owe(status() == 200, "it does not serve afterwards")
    return "; ".join(seen)


@fault("F-9", "a fact that one handler always refuses", unnoticed=True)
def poison(world: World, load: Load) -> str:
    headers = {"Authorization": f"Bearer {load.token}"}
    named = world.query("workspace", "SELECT coalesce(max(id), 0) AS id FROM dead_letters")[0]["id"]
    world.query(
        "workspace",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.after LIKE '%毒药有限公司%' THEN RAISE 'poison'; END IF; RETURN NEW; END $$",
    )
    world.query(
        "workspace",
        "CREATE TRIGGER refuse BEFORE INSERT ON audit_entries FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    began = time.monotonic()
    try:
        made = httpx.post(
            f"{world.at.url}/v1/accounts", json={"displayName": "毒药有限公司"}, headers=headers, timeout=10
        )
        name = made.json()["name"]
        statement = "SELECT id FROM dead_letters WHERE id > $1 AND payload LIKE '%' || $2 || '%'"
        world.wait("it is a dead letter", lambda: world.query("workspace", statement, named, name), 60)
        parked = time.monotonic() - began
        lag = world.query(
            "workspace", "SELECT extract(epoch FROM now() - max(time)) AS lag FROM audit_entries"
        )[0]["lag"]
    finally:
        world.query("workspace", "DROP FUNCTION refuse() CASCADE")
    owe(float(lag) < 5, f"others wait {float(lag):.1f} s")
    owe("poison" in world.command("workspace", "dead-letters"), "the operator's list lacks it")
    for letter in world.query("workspace", statement, named, name):
        world.command("workspace", "replay", str(letter["id"]))
        world.command("workspace", "replay", str(letter["id"]))
    entries = world.query(
        "workspace",
        "SELECT count(*) AS n FROM audit_entries WHERE resource = $1 AND action = 'CREATED'",
        name,
    )
    owe(entries[0]["n"] == 1, f"{entries[0]['n']} entries after two replays")
    return f"parked after {parked:.1f} s, others {float(lag):.1f} s behind; two replays gave one entry"


@fault("F-10", "1,000 clients that hang up in the middle")
def hang_up(world: World, load: Load) -> str:
    place = urlsplit(world.at.url)
    assert place.hostname and place.port
    body = b'{"displayName": "' + b"x" * 40 + b'"}'
    for number in range(1000):
        head = (
            f"POST /v1/accounts HTTP/1.1\r\nHost: crm\r\nAuthorization: Bearer {load.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        with suppress(OSError), socket.create_connection((place.hostname, place.port), timeout=5) as client:
            client.sendall(head + (body if number % 2 else body[:10]))
    time.sleep(2)
    idle = world.query(
        "customer",
        "SELECT count(*) AS n FROM pg_stat_activity WHERE state = 'idle in transaction'"
        " AND state_change < now() - interval '2 seconds'",
    )[0]["n"]
    owe(idle == 0, f"{idle} transactions are left open")
    world.wait("the pool is full again", lambda: world.metric("customer", "crm_db_pool_in_use") < 10, 10)
    return "no transaction left open"


@fault("F-11", "SIGTERM to two replicas of customer, one after the other", unnoticed=True)
def roll(world: World, load: Load) -> str:
    port = moved(7102) + 90
    link = world.links.known["gateway-customer"]
    second = world.second("customer", port)
    try:
        world.wait("the second replica listens", lambda: _listens(port), 120)
        time.sleep(3)
        link.targets.append(("127.0.0.1", port))
        old = world.process("customer")
        began = time.monotonic()
        old.terminate()
        world.wait("the first has ended", lambda: not psutil.pid_exists(old.pid), 30)
        ended = time.monotonic() - began
        world.wait("the first is back", lambda: world.healthy("customer"), 60)
        time.sleep(2)
    finally:
        second.terminate()
        code = second.wait(30)
    link.targets.pop()
    owe(code == 0 and ended <= 25, f"ended with {code} after {ended:.1f} s")
    return f"the first had ended after {ended:.1f} s, the second with code {code}"


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@fault("F-11", "SIGTERM to sales, orders, billing, workspace, insight in turn", unnoticed=True)
def roll_others(world: World, load: Load) -> str:
    slowest = 0.0
    for app in ("sales", "orders", "billing", "workspace", "insight"):
        old = world.process(app)
        began = time.monotonic()
        old.terminate()
        world.wait(f"{app} has ended", lambda old=old: not psutil.pid_exists(old.pid), 30)
        slowest = max(slowest, time.monotonic() - began)
        world.wait(f"{app} is ready", lambda app=app: world.healthy(app), 60)
    owe(slowest <= 25, f"one took {slowest:.1f} s to end")
    return f"the slowest ended after {slowest:.1f} s"


@fault("F-12", "faults by chance (seed 1)", within=15.0, patient=True)
def by_chance(world: World, load: Load) -> str:
    chance = random.Random(1)
    done = []
    for _ in range(6):
        what = chance.choice(
            ["kill customer", "reset postgres", "reset nats", "kill insight", "silence nats"]
        )
        done.append(what)
        verb, _, part = what.partition(" ")
        if verb == "kill":
            world.process(part).kill()
            time.sleep(1)
            world.wait(f"{part} is ready", lambda part=part: world.healthy(part), 60)
        elif verb == "reset":
            world.links.cut(f"customer-{part}")
        else:
            world.links.known[f"customer-{part}"].harm = "silence"
            time.sleep(3)
            world.links.known[f"customer-{part}"].harm = ""
        time.sleep(chance.uniform(0.5, 2))
    return ", ".join(done)


@fault("D-1", "the power fails", within=15.0)
def power_cut(world: World, load: Load) -> str:
    if not world.disk.there:
        raise Skip(world.disk.why)
    world.disk.shut_down()

    def kill() -> None:
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error, OSError):
                ours = process.info["name"] in {"postgres", "nats-server"}
                if ours and str(world.state) in " ".join(process.cmdline()):
                    stop_all(process, signal.SIGKILL)

    world.disk.remount(kill)
    back = world.wait("PostgreSQL answers", lambda: world.query("postgres", "SELECT 1"), 90)
    return f"PostgreSQL back after {back:.1f} s"


@fault("L-5", "a short soak", unnoticed=True)
def soak(world: World, load: Load) -> str:
    def figures() -> dict[str, tuple[float, int]]:
        return {
            app: ((p := world.process(app)).memory_info().rss / 2**20, p.num_fds())
            for app in ("gateway", "customer", "workspace", "insight")
        }

    def connections() -> int:
        return world.query("postgres", "SELECT count(*) AS n FROM pg_stat_activity")[0]["n"]

    time.sleep(20)
    first, taken = figures(), connections()
    time.sleep(SOAK_SECONDS)
    last, taken_last = figures(), connections()
    slope = {app: (last[app][0] - first[app][0]) / (SOAK_SECONDS / 60) for app in first}
    files = {app: last[app][1] - first[app][1] for app in first}
    owe(max(files.values()) <= 10, f"open files grow: {files}")
    owe(taken_last <= taken + 10, f"connections grow from {taken} to {taken_last}")
    told = ", ".join(f"{app} {mb:+.1f}" for app, mb in slope.items())
    return f"{SOAK_SECONDS} s; MB a minute: {told}; connections {taken} → {taken_last}"
