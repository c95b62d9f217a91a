"""Credit: who of those we do business with has a valid grade, and what the company register says.

The register is an HTTP contract, `GET {REGISTER_URL}/companies?taxId=…&name=…`, which answers with
`{"status", "evidence"}`. Without `REGISTER_URL` a file answers: `REGISTER_FILE` names a CSV of
`taxId,name,status,evidence`.
"""

import csv
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, Unavailable
from crmkit.schedule import cron
from crmkit.scope import predicate
from crmkit.settings import Settings
from sqlalchemy import or_, select

from customer.model.account import Account
from customer.model.credit import CreditProfile, follow_days
from customer.model.figure import Figure

PATIENCE = 5.0
MOST = 1000
_NOT_YET = ("DELETED", "DRAFT", "CANCELLED", "REJECTED")


async def coverage(call: Call) -> pb.CreditCoverage:
    """Accounts with an order, a contract or a balance that the caller sees, and those without a valid grade."""
    busy = select(Figure.account).where(
        or_(
            Figure.collection.in_(["orders", "contracts"]) & Figure.state.not_in(_NOT_YET),
            (Figure.collection == "accountBalances") & (Figure.amount != 0) & (Figure.state != "DELETED"),
        )
    )
    names = (await call.db.scalars(busy.distinct())).all()
    ids = [UUID(name.partition("/")[2]) for name in names]
    statement = select(Account.id, Account.display_name).where(
        Account.id.in_(ids), Account.state != "MERGED", predicate(Account, call.caller)
    )
    seen = {f"accounts/{row.id}": row.display_name for row in await call.db.execute(statement)}
    async with call.everybody():
        found = await call.db.scalars(select(CreditProfile).where(CreditProfile.account.in_(seen)))
        profiles = {profile.account: profile for profile in found}
    answer = pb.CreditCoverage(accounts=len(seen))
    for name in sorted(seen, key=lambda one: (seen[one], one)):
        why = _why_not(profiles.get(name), call)
        if not why:
            answer.covered += 1
        elif len(answer.missing) < MOST:
            answer.missing.add(account=name, display_name=seen[name], why=why)
    if seen:
        share = Decimal(100 * answer.covered) / len(seen)
        answer.percent = str(share.quantize(Decimal("0.1"), ROUND_HALF_UP))
    return answer


def _why_not(profile: CreditProfile | None, call: Call) -> str:
    if profile is None:
        return "NO_PROFILE"
    if not profile.grade:
        return "NOT_GRADED"
    if profile.state == "EXPIRED" or (
        profile.valid_until_date is not None and profile.valid_until_date < today(call)
    ):
        return "EXPIRED"
    return "UNDER_REVIEW" if profile.state == "UNDER_REVIEW" else ""


async def check_register(profile: CreditProfile, request: Any, call: Call) -> None:
    """Keeps what somebody saw in a register, or asks it."""
    if request.status:
        profile.check(request.source or "MANUAL", request.status, request.evidence, call)
        return
    account = await call.named(Account, profile.account)
    assert account is not None
    found = await _ask(account, call.running.settings)
    if found is None:
        raise FailedPrecondition("REGISTER_UNKNOWN_COMPANY")
    profile.check("REGISTER", found["status"], found.get("evidence", ""), call)


async def _ask(account: Account, settings: Settings) -> dict[str, str] | None:
    name = account.legal_name or account.display_name
    if url := settings.register_url:
        query = {"taxId": account.tax_id, "name": name}
        try:
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                answer = await client.get(f"{url.rstrip('/')}/companies", params=query)
                if answer.status_code == 404:
                    return None
                return answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            raise Unavailable("UNAVAILABLE") from None
    known = _register(settings.register_file)
    return known.get(account.tax_id) or known.get(name)


@lru_cache(maxsize=4)
def _register(path: str) -> dict[str, dict[str, str]]:
    if not path:
        return {}
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row[key]: row for row in rows for key in ("taxId", "name") if row.get(key)}


@cron("5 0 * * *", collapse=True)
async def end_credit_of_yesterday(as_of: datetime, call: Call) -> None:
    """Ends grades and temporary limits whose last day is over."""
    await follow_days(as_of, call)
