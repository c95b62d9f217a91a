"""What a policy would have held of late: its condition over the records that were made or changed in the last days."""

from collections import Counter
from datetime import timedelta

from crm.workspace.v1 import pb
from crmkit import filters
from crmkit.auth import ZONE
from crmkit.call import Call
from crmkit.errors import InvalidArgument
from crmkit.filters import FilterError
from sqlalchemy import select

from workspace.model.deciders import deciders
from workspace.model.known_record import KnownRecord, may_see
from workspace.model.policy import ApprovalPolicy, actions, fits, path_of, split_action

LONGEST_DAYS = 90
MOST_RECORDS = 20_000
# Whom each would have asked is looked up for so many; more say no more.
MOST_ASKED = 500
SHOWN = 20


async def simulate_history(
    policy: ApprovalPolicy, days: int, call: Call
) -> pb.SimulateApprovalPolicyHistoryResponse:
    """Counts among what the caller sees. The requester is who has made the record. POLICY_INVALID."""
    if not 0 <= days <= LONGEST_DAYS:
        raise InvalidArgument("MALFORMED", detail="days")
    permission, _ = split_action(policy.action)
    collection = actions().get(permission, "")
    try:
        node = filters.parse(policy.condition) if policy.condition.strip() else None
    except FilterError as error:
        raise InvalidArgument("POLICY_INVALID", detail=str(error)) from None
    since = call.now - timedelta(days=days or LONGEST_DAYS)
    rows = (
        select(KnownRecord)
        .where(
            KnownRecord.name > f"{collection}/", KnownRecord.name < f"{collection}0", ~KnownRecord.deleted,
            KnownRecord.touch_time >= since,
        )
        .order_by(KnownRecord.touch_time.desc(), KnownRecord.name)
        .limit(MOST_RECORDS + 1)
    )  # fmt: skip
    answer = pb.SimulateApprovalPolicyHistoryResponse()
    definition = policy.definition()
    steps, loads = path_of(definition), Counter[str]()
    async for row in await call.db.stream_scalars(rows.execution_options(yield_per=500)):
        if answer.records == MOST_RECORDS:
            answer.cut = True
            break
        if not may_see(call.caller.employee, row, call):
            continue
        answer.records += 1
        if node is not None and not filters.matches(
            node, row.record, me=call.caller.actor, now=call.now, zone=ZONE
        ):
            continue
        answer.held += 1
        if len(answer.examples) < SHOWN:
            answer.examples.append(row.name)
        if answer.held <= MOST_ASKED:
            requester = str(row.record.get("creator") or row.scope.get("owner") or "")
            first = next(
                (one for one in steps if not one.condition.strip() or fits(one.condition, row.record, call)),
                None,
            )
            found = (
                await deciders(first, definition.self_approval, requester, row.record, call)
                if first is not None
                else {}
            )
            loads.update(list(found))
            answer.without_approver += not found
    for approver, count in loads.most_common(SHOWN):
        answer.loads.add(approver=approver, count=count)
    return answer
