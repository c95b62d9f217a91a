"""Typed edges between accounts."""

from datetime import date
from decimal import Decimal

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import AlreadyExists, FailedPrecondition
from crmkit.resource import Resource
from customer.model.base import Base
from sqlalchemy import Index, func, select, text
from sqlalchemy.orm import Mapped

DEEPEST = 10
OWNERSHIP = ("PARENT_OF", "BRANCH_OF", "JOINT_VENTURE")
# Levels above and below the new edge, and whether it would lead back. A branch names its head office; every other
# edge of ownership leads from the unit above to the one below.
_WALK = text(
    "WITH RECURSIVE up(node, depth) AS (SELECT CAST(:above AS text), 1 UNION SELECT e.node, depth + 1 FROM up"
    ' JOIN LATERAL (SELECT r."from" AS node FROM account_relations r WHERE r."to" = up.node'
    " AND r.kind IN ('PARENT_OF', 'JOINT_VENTURE') AND r.state = 'ACTIVE'"
    ' UNION ALL SELECT r."to" FROM account_relations r WHERE r."from" = up.node'
    " AND r.kind = 'BRANCH_OF' AND r.state = 'ACTIVE') e ON true WHERE depth < 12),"
    " down(node, depth) AS (SELECT CAST(:below AS text), 1 UNION SELECT e.node, depth + 1 FROM down"
    ' JOIN LATERAL (SELECT r."to" AS node FROM account_relations r WHERE r."from" = down.node'
    " AND r.kind IN ('PARENT_OF', 'JOINT_VENTURE') AND r.state = 'ACTIVE'"
    ' UNION ALL SELECT r."from" FROM account_relations r WHERE r."to" = down.node'
    " AND r.kind = 'BRANCH_OF' AND r.state = 'ACTIVE') e ON true WHERE depth < 12)"
    " SELECT EXISTS (SELECT 1 FROM up WHERE node = :below), (SELECT max(depth) FROM up) + (SELECT max(depth) FROM down)"
)


class AccountRelation(Resource, Base):
    """A typed edge between two accounts."""

    __message__ = pb.AccountRelation
    __table_args__ = (
        Index(
            "account_relations_active_key",
            "from",
            "to",
            "kind",
            unique=True,
            postgresql_where=text("state = 'ACTIVE'"),
        ),
    )

    kind: Mapped[str]
    share: Mapped[Decimal | None]
    from_date: Mapped[date | None]
    to_date: Mapped[date | None]
    to: Mapped[str]
    pays_for: Mapped[bool]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Refuses cycles, groups that are too deep, and shares that exceed the whole."""
        self.state = "ACTIVE"
        start, end = getattr(self, "from"), self.to
        async with call.everybody():
            table = AccountRelation
            same = await call.find(
                table,
                getattr(table, "from") == start,
                table.to == end,
                table.kind == self.kind,
                table.state == "ACTIVE",
            )
            if same is not None:
                raise AlreadyExists("RELATION_EXISTS")
            if start == end:
                raise FailedPrecondition("RELATION_CYCLE")
            if self.kind in OWNERSHIP:
                above, below = (end, start) if self.kind == "BRANCH_OF" else (start, end)
                # Two edges made at once could close a circle that neither sees.
                await call.one_at_a_time(["accountRelations"])
                parameters = {"above": above, "below": below}
                cycle, levels = (await call.db.execute(_WALK, parameters)).one()
                if cycle:
                    raise FailedPrecondition("RELATION_CYCLE")
                if levels > DEEPEST:
                    raise FailedPrecondition("RELATION_TOO_DEEP", limit=DEEPEST)
            await self._check_share(call)
            from customer.disputes import related

            await related(self, call)
        call.emit(events.AccountRelationChanged, relation=self)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """What is over stays as it was; who reads the relation hears of what is new."""
        self.check_state("ACTIVE")
        if "share" in changed:
            async with call.everybody():
                await self._check_share(call)
        call.emit(events.AccountRelationChanged, relation=self)

    async def deleting(self, call: Call) -> None:
        """One made by mistake is none any more for those who read it."""
        if self.state == "ACTIVE":
            self.end(today(call), call)

    async def _check_share(self, call: Call) -> None:
        """SHARE_OVER_100 where the owners would have more than the whole."""
        if self.share is not None and self.share > 100:
            raise FailedPrecondition("SHARE_OVER_100")
        if self.share is None or self.kind not in OWNERSHIP:
            return
        # Two owners at once could have more than the whole and neither would see it.
        await call.one_at_a_time(["accountRelations"])
        table = AccountRelation
        held = select(func.coalesce(func.sum(table.share), 0)).where(
            table.to == self.to, table.state == "ACTIVE", table.kind.in_(OWNERSHIP), table.id != self.id
        )
        if (await call.db.scalar(held) or Decimal(0)) + self.share > 100:
            raise FailedPrecondition("SHARE_OVER_100")

    def end(self, day: date, call: Call) -> None:
        """Ends the relation; it stays known for the days before."""
        self.check_state("ACTIVE")
        self.state, self.to_date = "ENDED", day
        call.emit(events.AccountRelationChanged, relation=self)
