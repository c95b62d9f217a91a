"""Handing over what somebody owns, over all services, and taking it back (HND-1 … HND-6).

Customer plans, moves the customers by `ownership` and tells; every service, this one too, moves the rest by
`crmkit.handing` and answers. What came to whom stands in `transfer_items`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from crm.common.v1 import common_pb2
from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit import handing, runs
from crmkit.call import Call
from crmkit.company import employed, today
from crmkit.errors import FailedPrecondition, PermissionDenied, Problem
from crmkit.events import Fact, listens
from crmkit.map import APPS
from crmkit.mapping import to_timestamp
from crmkit.notices import raise_notice
from crmkit.runs import Kind, Run
from crmkit.schedule import every
from crmkit.scope import predicate
from crmkit.tables import Repoint
from google.protobuf import json_format
from sqlalchemy import and_, exists, func, literal_column, not_, or_, select

from customer import ownership
from customer.disputes import working_days_after
from customer.model.account import Account
from customer.model.sea import SeaState
from customer.model.transfer import Transfer, TransferItem
from customer.sea.states import watch

SERVICES = frozenset(entry.name for entry in APPS if entry.database)
UNDO_DAYS = 7
ACCEPT_DAYS = 3
FREEZE_DAYS = 5
PATIENCE = timedelta(minutes=15)
AT_ONCE = 200
_NOT_BEGUN = ("DRAFT", "PREVIEWED", "SCHEDULED")
_FOREVER: Any = literal_column("'infinity'::timestamptz")
_CUSTOMERS, _FREEZE, _THAW = "HandOverCustomers", "FreezeCustomers", "ThawCustomers"


async def preview(transfer: Transfer, call: Call) -> None:
    """Asks every service; the answers come as facts."""
    transfer.check_state("DRAFT", "PREVIEWED")
    await _check_reach(transfer, call)
    await ask(transfer, call)


async def ask(transfer: Transfer, call: Call) -> None:
    """Lets every service count."""
    transfer.state, transfer.preview, transfer.preview_time = "DRAFT", [], call.now
    transfer.acknowledgements = []
    call.emit(events.TransferPreviewRequested, transfer=transfer, time=call.now, **{"from": transfer.leaver})


@listens("crm.*.v1.TransferPreviewed")
async def on_transfer_previewed(event: Fact, call: Call) -> None:
    """Takes a service's counts; when all have answered the handover may run."""
    answer = json_format.ParseDict(event.payload, common_pb2.TransferPreviewed(), ignore_unknown_fields=True)
    transfer = await _transfer(answer.transfer, call)
    if transfer is None or transfer.state != "DRAFT" or transfer.preview_time is None:
        return
    if answer.time != to_timestamp(transfer.preview_time) or answer.service in transfer.answered(
        "PREVIEW", 0
    ):
        return
    transfer.preview = [
        *transfer.preview,
        *(
            pb.Transfer.Count(service=answer.service, collection=c.collection, open=c.open, closed=c.closed)
            for c in answer.counts
        ),
    ]
    _acknowledge(transfer, answer.service, "PREVIEW", 0, call)
    if transfer.answered("PREVIEW", 0) >= SERVICES:
        transfer.state = "PREVIEWED"


async def run(transfer: Transfer, call: Call) -> None:
    """Hands over now, or at its time."""
    transfer.check_previewed()
    await _check_reach(transfer, call)
    under_way = await call.find(
        Transfer, getattr(Transfer, "from") == transfer.leaver, Transfer.id != transfer.id,
        Transfer.state.in_(["RUNNING", "SCHEDULED", "UNDOING"]),
    )  # fmt: skip
    if under_way is not None:
        raise FailedPrecondition("TRANSFER_RUNNING", transfer=under_way.number)
    for employee in {one for rule in transfer.plan for one in rule.to}:
        ownership.check_active(employee, call)
    await _check_customers(transfer, call)
    transfer.actor = call.caller.actor
    if transfer.effective_time is not None and transfer.effective_time > call.now:
        transfer.state = "SCHEDULED"
    else:
        await begin(transfer, call)


async def begin(transfer: Transfer, call: Call) -> None:
    """Owners change now: the customers first, then everything else."""
    transfer.state, transfer.run_time, transfer.batches = "RUNNING", call.now, 1
    transfer.undo_until_time = call.now + timedelta(days=UNDO_DAYS)
    transfer.moved, transfer.left = 0, []
    await runs.start(call, _CUSTOMERS, transfer.name, {}, f"system/{call.running.app.name}")


async def _hand_over_customers(run: Run) -> None:
    while run.phase != "ENDED":
        async with run.chunk() as call:
            transfer = await _transfer(run.about, call)
            if transfer is None or transfer.state != "RUNNING":
                run.next_phase("ENDED")
                continue
            steps = list(handing.steps_of(Account, handing.read_rules(transfer.rules()), {}, call))
            if run.position < len(steps):
                if not await handing.move(steps[run.position], transfer.name, 1, transfer.leaver, run, call):
                    run.position += 1
                continue
            await _tell(transfer, 1, call)
            run.next_phase("ENDED")


async def _tell(transfer: Transfer, batch: int, call: Call) -> None:
    """Says what moves in the batch: the first by the plan, each later one what was declined."""
    mine = select(Repoint).where(Repoint.merge == transfer.name, Repoint.state == "MOVED")
    customers: dict[str, list[str]] = {}
    leaver, rules = transfer.leaver, transfer.rules()
    if batch > 1:
        declined = (
            TransferItem.transfer == transfer.name,
            TransferItem.batch == batch,
            TransferItem.declined_by != "",
        )
        async with call.everybody():
            items = list(await call.db.scalars(select(TransferItem).where(*declined)))
        leaver = items[0].declined_by
        to = _above(leaver, transfer, call)
        rules = [pb.Transfer.Rule(items=[one.item for one in items], to=[to], closed=True)]
        customers[to] = [one.item for one in items if one.collection == "accounts"]
    else:
        for entry in await call.db.scalars(mine.where(Repoint.table == "accounts").order_by(Repoint.row)):
            customers.setdefault(entry.old["to"], []).append(f"accounts/{entry.row}")
    handed = [events.HandedCustomers(to=to, accounts=names) for to, names in sorted(customers.items())]
    call.emit(
        events.TransferStarted, transfer=transfer, batch=batch, rules=rules, customers=handed, time=call.now,
        **{"from": leaver},
    )  # fmt: skip


@listens("crm.*.v1.TransferApplied")
async def on_transfer_applied(event: Fact, call: Call) -> None:
    """Takes what a service has moved; when all have answered the receivers are asked."""
    answer = json_format.ParseDict(event.payload, common_pb2.TransferApplied(), ignore_unknown_fields=True)
    transfer = await _transfer(answer.transfer, call)
    under_way = {"RUNNING": "RUN", "UNDOING": "UNDO"}
    if transfer is None or under_way.get(transfer.state) != answer.direction:
        return
    if answer.service in transfer.answered(answer.direction, answer.batch):
        return
    known = {
        one.item: one
        for one in await call.db.scalars(
            select(TransferItem).where(
                TransferItem.transfer == transfer.name, TransferItem.item.in_([m.name for m in answer.moved])
            )
        )
    }
    for move in answer.moved:
        if answer.direction == "UNDO":
            if move.name in known:
                known[move.name].state = "UNDONE"
        else:
            await _received(transfer, move, answer.batch, known.get(move.name), call)
    listed = {one.name for one in transfer.left}
    transfer.left = [
        *transfer.left,
        *(
            pb.Transfer.Left(service=answer.service, name=one.name, reason=one.reason)
            for one in answer.left
            if one.name not in listed
        ),
    ]
    if answer.last:
        _acknowledge(transfer, answer.service, answer.direction, answer.batch, call)
        if transfer.answered(answer.direction, answer.batch) >= SERVICES:
            await call.flush()
            await _all_answered(transfer, answer.direction, call)


async def _received(transfer: Transfer, move: Any, batch: int, item: TransferItem | None, call: Call) -> None:
    # Into a pool nobody has to agree, and who lets it run has agreed.
    state = "ACCEPTED" if move.to in ("", transfer.actor) else "MOVED"
    if item is None:
        item = TransferItem(
            transfer=transfer.name, item=move.name, collection=move.name.partition("/")[0], to=move.to, state=state,
            batch=batch, owner=move.to, department=handing.department_of(move.to, call) or transfer.department,
            collaborators=[transfer.owner] if transfer.owner not in ("", move.to) else [],
            creator=transfer.actor or transfer.creator, **{"from": getattr(move, "from")},
        )  # fmt: skip
        await call.add(item)
    elif item.to != move.to:
        item.to, item.owner, item.state, item.batch = move.to, move.to, state, batch
        item.department = handing.department_of(move.to, call)
    if move.to and move.to not in (transfer.owner, *transfer.collaborators):
        transfer.collaborators = [*transfer.collaborators, move.to]


async def _all_answered(transfer: Transfer, direction: str, call: Call) -> None:
    count = select(func.count()).where(TransferItem.transfer == transfer.name)
    if direction == "UNDO":
        transfer.state = "UNDONE"
        transfer.moved = await call.db.scalar(count.where(TransferItem.state == "UNDONE")) or 0
        return
    transfer.moved = await call.db.scalar(count) or 0
    waiting = select(TransferItem.to).where(
        TransferItem.transfer == transfer.name, TransferItem.state == "MOVED"
    )
    receivers = sorted(set(await call.db.scalars(waiting)))
    if not receivers:
        transfer.state = "DONE"
        return
    transfer.state = "AWAITING_ACCEPTANCE"
    transfer.accept_until_time = await working_days_after(call.now, ACCEPT_DAYS, call)
    _notice(
        transfer, receivers, f"accept:{transfer.batches}", call,
        f"请确认接收 {transfer.display_name} 的工作交接", f"Work of {transfer.display_name} has come to you",
    )  # fmt: skip


async def accept(transfer: Transfer, items: Sequence[str], call: Call) -> None:
    """A receiver accepts all that came, or some of it."""
    transfer.check_state("AWAITING_ACCEPTANCE")
    for item in await _mine(transfer, items, call):
        item.state = "ACCEPTED"
    await call.flush()
    await _settle(transfer, call)


async def decline(transfer: Transfer, items: Sequence[str], reason: str, call: Call) -> None:
    """What a receiver declines goes to the superior, as one more batch."""
    transfer.check_state("AWAITING_ACCEPTANCE")
    transfer.batches += 1
    for item in await _mine(transfer, items, call):
        item.state, item.reason, item.batch = "DECLINED", reason, transfer.batches
        item.declined_by = call.caller.employee
    transfer.state = "RUNNING"
    await call.flush()
    await _tell(transfer, transfer.batches, call)


async def undo(transfer: Transfer, call: Call) -> None:
    """Every service brings back what nobody has changed since."""
    transfer.check_state("AWAITING_ACCEPTANCE", "DONE")
    if transfer.undo_until_time is None or call.now > transfer.undo_until_time:
        raise FailedPrecondition("UNDO_EXPIRED")
    await _check_reach(transfer, call)
    ownership.check_active(transfer.leaver, call)
    transfer.state, transfer.left = "UNDOING", []
    call.emit(events.TransferUndone, transfer=transfer, time=call.now, **{"from": transfer.leaver})


async def unattended(request: Any, call: Call) -> dict[str, Any]:
    """Customers in the reader's scope whose owner does not work here, or who have none and wait in no pool."""
    live = Account.state.in_(["ACTIVE", "FROZEN"])
    seen = predicate(Account, call.caller)
    owners = await call.db.scalars(select(Account.owner).where(live, seen).distinct())
    gone = [one for one in owners if not employed(one, call)]
    statement = select(Account).where(live, seen, Account.owner.in_(gone))
    total = await call.db.scalar(select(func.count()).select_from(statement.subquery())) or 0
    size = min(request.page_size or AT_ONCE, AT_ONCE)
    found = await call.db.scalars(statement.order_by(Account.owner, Account.id).limit(size))
    return {"accounts": list(found), "total": total}


@listens("crm.workspace.v1.EmployeeFrozen")
async def on_employee_frozen(event: Fact, call: Call) -> None:
    """Somebody lost access: a draft is there at once, and the superior may work on the customers (HND-5)."""
    employee = event.payload["employee"]
    name, superior = str(employee["name"]), str(employee.get("superior") or "")
    transfer = await _draft_of(name, call)
    if transfer is not None and transfer.deadline is not None:
        return
    if transfer is None:
        made = Transfer(reason="LEAVE", owner=superior, creator=event.actor, **{"from": name})
        made.department = str(employee.get("department") or "")
        transfer = await call.add(made)
        await call.flush()
        await ask(transfer, call)
    # One that somebody has prepared is that draft.
    transfer.deadline = await working_days_after(event.time, FREEZE_DAYS, call)
    await runs.start(call, _FREEZE, transfer.name, {}, f"system/{call.running.app.name}")


@listens("crm.workspace.v1.EmployeeOffboarded")
async def on_employee_offboarded(event: Fact, call: Call) -> None:
    """Somebody left: the plan wins, what it leaves open the successor of its collection gets, or the one of all."""
    name, successor = str(event.payload["employee"]["name"]), str(event.payload.get("successor") or "")
    done = await call.find(
        Transfer, getattr(Transfer, "from") == name, Transfer.successor == successor, Transfer.reason == "RESIGN",
        Transfer.run_time >= event.time,
    )  # fmt: skip
    if done is not None:
        return
    transfer = await _draft_of(name, call)
    if transfer is None:
        entry = event.payload["employee"]
        owner, department = str(entry.get("superior") or successor), str(entry.get("department") or "")
        transfer = await call.add(
            Transfer(
                reason="RESIGN", owner=owner, department=department, creator=event.actor, **{"from": name}
            )
        )
    transfer.reason, transfer.successor, transfer.actor = "RESIGN", successor, event.actor
    # Behind the rules of the plan, which win.
    transfer.plan = [
        *transfer.plan,
        *(
            pb.Transfer.Rule(collections=one["collections"], to=[one["successor"]])
            for one in event.payload.get("successions", [])
        ),
    ]
    await call.flush()
    await begin(transfer, call)


@listens("crm.workspace.v1.ResourceChanged.employees")
async def on_employee_changed(event: Fact, call: Call) -> None:
    """Somebody has access again: the draft for the absence is given up, and the customers thaw."""
    resource = event.payload.get("resource") or {}
    if resource.get("state") != "ACTIVE":
        return
    transfer = await _draft_of(event.aggregate, call)
    if transfer is None:
        # What was given up, or left by one that has run, does not rest for good.
        mine = (getattr(Transfer, "from") == event.aggregate, Transfer.deadline.is_not(None))
        transfer = await call.db.scalar(select(Transfer).where(*mine).order_by(Transfer.id.desc()).limit(1))
    if transfer is None or transfer.deadline is None or event.time <= transfer.create_time:
        return
    # What was prepared for another reason, or has its day, goes on without hurry.
    if transfer.reason == "LEAVE" and transfer.state in ("DRAFT", "PREVIEWED"):
        transfer.cancel()
    transfer.deadline = None
    await runs.start(call, _THAW, transfer.name, {}, f"system/{call.running.app.name}")


async def _freeze(run: Run) -> None:
    await _each_customer(run, "ACTIVE")


async def _thaw(run: Run) -> None:
    await _each_customer(run, "FROZEN")


async def _each_customer(run: Run, before: str) -> None:
    """Freezes the person's customers, or thaws them: clocks rest, and the superior may work on them meanwhile."""
    while run.phase != "ENDED":
        async with run.chunk() as call:
            transfer = await _transfer(run.about, call)
            over = transfer is None or (before == "ACTIVE" and transfer.state not in _NOT_BEGUN)
            leaver = transfer.leaver if transfer else ""
            # Whoever has prepared the handover need not be the one who stands in.
            boss = str(call.entry(leaver).get("superior") or (transfer.owner if transfer else ""))
            mine = (
                select(Account).where(Account.owner == leaver, Account.state == before).order_by(Account.id)
            )
            rows = [] if over else list(await call.db.scalars(mine.limit(AT_ONCE).with_for_update()))
            if transfer is None or not rows:
                run.next_phase("ENDED")
                continue
            for account in rows:
                if before == "ACTIVE":
                    account.state = "FROZEN"
                    if boss and boss != account.owner:
                        await ownership.share(account, boss, "WORK", None, transfer.name, call)
                else:
                    await ownership.thaw(account, call)
                watch(account, call)
            run.position += 1


@every("5m", collapse=True)
async def watch_transfers(as_of: datetime, call: Call) -> None:
    """Begins what is due, takes silence for yes, asks services again, and reminds of what was not handed over."""
    waiting = select(Transfer).where(
        or_(
            and_(Transfer.state == "SCHEDULED", Transfer.effective_time <= call.now),
            and_(Transfer.state == "AWAITING_ACCEPTANCE", Transfer.accept_until_time <= call.now),
            and_(Transfer.state.in_(["RUNNING", "UNDOING"]), Transfer.update_time < call.now - PATIENCE),
            and_(Transfer.state.in_(_NOT_BEGUN), Transfer.deadline <= call.now),
        )
    )
    for transfer in (await call.db.scalars(waiting.with_for_update(skip_locked=True))).all():
        match transfer.state:
            case "SCHEDULED" if transfer.effective_time is None or transfer.effective_time <= call.now:
                await begin(transfer, call)
            case "AWAITING_ACCEPTANCE":
                for item in await _open_items(transfer, call):
                    item.state = "SILENT"
                await call.flush()
                await _settle(transfer, call)
            case "RUNNING":
                await _tell(transfer, transfer.batches, call)
            case "UNDOING":
                call.emit(
                    events.TransferUndone, transfer=transfer, time=call.now, **{"from": transfer.leaver}
                )
            case _:
                boss = _above(transfer.owner, transfer, call)
                _notice(
                    transfer, sorted({transfer.owner, boss} - {""}), f"late:{today(call)}", call,
                    f"{transfer.display_name} 的工作仍未交接", f"The work of {transfer.display_name} is not handed over yet",
                )  # fmt: skip


async def _check_reach(transfer: Transfer, call: Call) -> None:
    """Only who may give the person's customers to others hands over for them."""
    reach = call.caller.reach("accounts", "assign")
    department = handing.department_of(transfer.leaver, call)
    own = call.caller.employee == transfer.leaver or transfer.leaver in reach.owners
    if not (call.caller.is_system or reach.everything or own or department in reach.departments):
        raise PermissionDenied("PERMISSION_DENIED", permission="customer.accounts.assign")


async def _check_customers(transfer: Transfer, call: Call) -> None:
    """HANDOVER_NOTE_MISSING for a key account without a note; CAPACITY_EXCEEDED where receivers have no room."""
    notes = {note.account for note in transfer.notes}
    taken: list[Any] = []
    async with call.everybody():
        for step in handing.steps_of(Account, handing.read_rules(transfer.plan), {}, call):
            mine = and_(Account.owner == transfer.leaver, step.condition, *(not_(one) for one in taken))
            taken.append(step.condition)
            key = exists().where(
                SeaState.account == Account.id,
                SeaState.to_time == literal_column("'infinity'::timestamptz"),
                SeaState.key_account,
            )
            noted = [UUID(name.partition("/")[2]) for name in notes]
            bare = await call.find(Account, mine, key, Account.id.not_in(noted))
            if bare is not None:
                raise FailedPrecondition("HANDOVER_NOTE_MISSING", account=bare.display_name)
            count = await call.db.scalar(select(func.count()).select_from(Account).where(mine)) or 0
            rooms = [await ownership.capacity_left(one, call) for one in step.to]
            if step.to and all(room is not None for room in rooms):
                room = sum(max(0, one[0]) for one in rooms if one is not None)
                if count > room:
                    raise FailedPrecondition("CAPACITY_EXCEEDED", limit=room)


async def _mine(transfer: Transfer, names: Sequence[str], call: Call) -> list[TransferItem]:
    """What came to the caller and is not answered; NOT_RECEIVER where nothing did, or one of these did not."""
    found = [one for one in await _open_items(transfer, call) if one.to == call.caller.employee]
    chosen = [one for one in found if one.item in names] if names else found
    if not chosen or (names and len(chosen) != len(set(names))):
        raise FailedPrecondition("NOT_RECEIVER")
    return chosen


async def _open_items(transfer: Transfer, call: Call) -> list[TransferItem]:
    async with call.everybody():
        mine = (TransferItem.transfer == transfer.name, TransferItem.state == "MOVED")
        return list(await call.db.scalars(select(TransferItem).where(*mine).with_for_update()))


async def _settle(transfer: Transfer, call: Call) -> None:
    if not await _open_items(transfer, call):
        transfer.state = "DONE"


async def _draft_of(employee: str, call: Call) -> Transfer | None:
    """The person's handover that has not begun, locked."""
    return await call.find(
        Transfer, getattr(Transfer, "from") == employee, Transfer.state.in_(_NOT_BEGUN), lock=True
    )


async def _transfer(name: str, call: Call) -> Transfer | None:
    return await call.named(Transfer, name, lock=True)


def _above(employee: str, transfer: Transfer, call: Call) -> str:
    """The nearest superior who works here, else who owns the handover."""
    seen: set[str] = set()
    while employee and employee not in seen:
        seen.add(employee)
        entry = call.entry(employee)
        employee = str(entry.get("superior") or "")
        if employed(employee, call) and employee != transfer.leaver:
            return employee
    return transfer.owner


def _notice(transfer: Transfer, people: Sequence[str], key: str, call: Call, zh: str, en: str) -> None:
    key = f"transfer:{transfer.id}:{key}"
    raise_notice("handover", zh, en, call, key=key, employees=people, subjects=[transfer.name])


def _acknowledge(transfer: Transfer, service: str, step: str, batch: int, call: Call) -> None:
    one = pb.Transfer.Acknowledgement(service=service, step=step, batch=batch, time=to_timestamp(call.now))
    transfer.acknowledgements = [*transfer.acknowledgements, one]


async def _cannot(run: Run, problem: Problem, call: Call) -> None:
    """The watch tells of it again; what is done stays done."""


RUNS = {
    _CUSTOMERS: Kind(_hand_over_customers, _cannot),
    _FREEZE: Kind(_freeze, _cannot),
    _THAW: Kind(_thaw, _cannot),
}
