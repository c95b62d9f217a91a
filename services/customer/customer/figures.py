"""Keeps what other services have about an account, and who may open the records that the time line tells of."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from crmkit.bulk import insert_rows, newer
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.events import Fact, listens
from crmkit.listing import ZONE
from crmkit.mapping import told_date
from sqlalchemy import Select, case, func, select, update
from sqlalchemy.dialects.postgresql import insert

from customer.model.credit import follow_accounts
from customer.model.figure import Figure, RecordScope
from customer.model.timeline import GONE, TimelineEntry

# Collection → the field of its amount, and those that give the day that it counts for.
COUNTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "opportunities": ("amount", ("expectedCloseDate",)),
    "quotes": ("grossTotal", ("validUntilDate",)),
    "contracts": ("gross", ("signDate", "effectiveFrom")),
    "orders": ("gross", ("placeTime", "createTime")),
    "allocations": ("amount", ("date", "createTime")),
    "accountBalances": ("balance", ()),
    "tickets": ("", ("createTime",)),
    "surveyResponses": ("", ("createTime",)),
}
_KEPT = (
    "effectiveTo", "endDate", "type", "severity", "stage", "score", "maximum", "currency", "lines", "payment", "breached",
    "paymentState",
)  # fmt: skip
_SCOPE = ("owner", "department", "collaborators")
_ANEW = newer(
    "source",
    tuple(column.name for column in Figure.__table__.columns),
    "known.version <= excluded.version",
)
_AREAS = ("sales", "orders", "billing", "servicedesk", "marketing", "customer", "workspace")


@listens(
    *(
        f"crm.{found.area}.v1.ResourceChanged.{found.collection}"
        for found in resources().values()
        if found.collection in COUNTED
    ),
    *(f"crm.{area}.v1.ResourceChanged.*.{action}" for area in _AREAS for action in ("UPDATED", "DELETED")),
)
async def on_record_changed(events: list[Fact], call: Call) -> None:
    """Takes the changes of records that count for an account, and of who may open a record."""
    counted = [event for event in events if _collection(event) in COUNTED]
    await _count(counted, call)
    owing = [event for event in counted if _collection(event) == "accountBalances"]
    if owing:
        await follow_accounts({str(event.payload["resource"]["account"]) for event in owing}, call)
    await _move([event for event in events if _moved(event)], call)


@listens("crm.billing.v1.PaymentRefunded")
async def on_payment_refunded(events: list[Fact], call: Call) -> None:
    """Money that was paid back counts against what its customers have paid, once for each thing it had paid."""
    rows: dict[str, dict[str, Any]] = {}
    for event in events:
        refund: dict[str, Any] = event.payload.get("refund") or {}
        cause = str(refund.get("name") or event.aggregate)
        for target in event.payload.get("targets", []):
            paid: dict[str, Any] = target["allocation"]
            source = f"{cause}#{paid['name']}"
            rows[source] = {
                "source": source, "collection": "refunds", "account": paid["account"], "state": "PAID",
                "amount": Decimal(str(paid["amount"]["amount"])), "currency": paid["amount"]["currencyCode"],
                "day": _day(refund.get("date")) or event.time.astimezone(ZONE).date(),
                "owner": paid.get("owner", ""), "department": paid.get("department", ""),
                "collaborators": paid.get("collaborators", []), "version": 1,
            }  # fmt: skip
    if rows:
        await call.db.execute(insert(Figure).values(list(rows.values())).on_conflict_do_nothing())


@listens("crm.servicedesk.v1.SurveyAnswered")
async def on_survey_answered(events: list[Fact], call: Call) -> None:
    """What a customer answered, or answers otherwise now."""
    rows: dict[str, dict[str, Any]] = {}
    for event in events:
        answer: dict[str, Any] = event.payload.get("response") or {}
        score, account = answer.get("score", event.payload.get("score")), str(answer.get("account", ""))
        if not account.startswith("accounts/") or score is None:
            continue
        row = {
            "source": str(answer["name"]), "collection": "surveyResponses", "account": account, "state": "ANSWERED",
            "amount": None, "currency": "", "day": event.time.astimezone(ZONE).date(), "owner": answer.get("owner", ""),
            "department": answer.get("department", ""), "collaborators": answer.get("collaborators", []),
            "detail": {"score": score, "maximum": answer.get("maximum") or 5},
            "version": int(str(answer.get("etag") or event.version or 1)),
        }  # fmt: skip
        if row["version"] >= rows.get(row["source"], row)["version"]:
            rows[row["source"]] = row
    await _write([rows[source] for source in sorted(rows)], call)


def collected(since: date, until: date) -> Select[str, str, Any]:
    """Account, currency and the money that came in on these days, less what was paid back on them."""
    came = (Figure.collection == "allocations") & Figure.state.not_in(["REVERSED", "DELETED"])
    back = Figure.collection == "refunds"
    signed = case((back, -Figure.amount), else_=Figure.amount)
    return (
        select(Figure.account, Figure.currency, func.sum(signed).label("amount"))
        .where(came | back, Figure.day.between(since, until), Figure.amount.is_not(None))
        .group_by(Figure.account, Figure.currency)
    )


def _collection(event: Fact) -> str:
    return str(event.payload.get("name", "")).partition("/")[0]


def _moved(event: Fact) -> bool:
    before: dict[str, Any] = event.payload.get("before") or {}
    return event.payload.get("action") == "DELETED" or any(key in before for key in _SCOPE)


async def _count(events: Sequence[Fact], call: Call) -> None:
    await _write([row for event in events if (row := _figure(event)) is not None], call)


async def _write(rows: Sequence[dict[str, Any]], call: Call) -> None:
    await insert_rows(call, Figure.__table__, rows, _ANEW)


def _figure(event: Fact) -> dict[str, Any] | None:
    resource: dict[str, Any] = event.payload.get("resource") or {}
    account = str(resource.get("account", ""))
    if not account.startswith("accounts/"):
        return None
    field, days = COUNTED[_collection(event)]
    money: dict[str, Any] = resource.get(field) or {}
    gone = event.payload.get("action") == "DELETED"
    return {
        "source": event.payload["name"],
        "collection": _collection(event),
        "account": account,
        "state": "DELETED" if gone else str(resource.get("state", "")),
        "amount": Decimal(str(money["amount"])) if money.get("amount") else None,
        "currency": str(money.get("currencyCode", resource.get("currency", ""))),
        "day": next((day for key in days if (day := _day(resource.get(key))) is not None), None),
        "owner": resource.get("owner", ""),
        "department": resource.get("department", ""),
        "collaborators": resource.get("collaborators", []),
        "detail": {key: resource[key] for key in _KEPT if key in resource},
        "version": _version(event),
    }


def _version(event: Fact) -> int:
    """The version of the record; one more for a deletion, which changes nothing else."""
    given = int(str((event.payload.get("resource") or {}).get("etag") or event.version or 1))
    return given + (1 if event.payload.get("action") == "DELETED" else 0)


def _day(value: Any) -> date | None:
    if isinstance(value, str):
        return date.fromisoformat(value[:10]) if len(value) >= 10 else None
    return told_date(value)


async def _move(events: Sequence[Fact], call: Call) -> None:
    latest: dict[str, dict[str, Any]] = {}
    for event in events:
        resource: dict[str, Any] = event.payload.get("resource") or {}
        row = {
            "name": event.payload["name"], "owner": resource.get("owner", ""),
            "department": resource.get("department", ""), "collaborators": resource.get("collaborators", []),
            "deleted": event.payload.get("action") == "DELETED", "version": _version(event),
        }  # fmt: skip
        if row["version"] >= latest.get(row["name"], row)["version"]:
            latest[row["name"]] = row
    if not latest:
        return
    statement = insert(RecordScope).values([latest[name] for name in sorted(latest)])
    fresh = {
        name: statement.excluded[name]
        for name in ("owner", "department", "collaborators", "deleted", "version")
    }
    newer = RecordScope.version <= statement.excluded.version
    await call.db.execute(statement.on_conflict_do_update(index_elements=["name"], set_=fresh, where=newer))
    await apply_scopes(sorted(latest), call)


async def apply_scopes(names: Sequence[str], call: Call) -> None:
    """Shows the entries about these records to those who may open them now. What is gone nobody opens."""
    now = select(RecordScope).where(RecordScope.name.in_(names)).subquery()
    await call.db.execute(
        update(TimelineEntry)
        .where(TimelineEntry.follows == now.c.name)
        .values(
            owner=now.c.owner,
            department=now.c.department,
            collaborators=now.c.collaborators,
            source_scope=case((now.c.deleted, GONE), else_=TimelineEntry.source_scope),
        )
        .execution_options(synchronize_session=False)
    )
