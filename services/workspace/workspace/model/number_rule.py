"""How human numbers are made."""

from crm.workspace.v1 import pb
from crmkit import numbering
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.resource import Resource
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped

from workspace.model.base import Base
from workspace.model.custom_field import check_collection

SHOWN_NUMBERS = 10


class NumberRule(Resource, Base):
    """How the human numbers of a collection are made. One rule per collection is in force."""

    __message__ = pb.NumberRule
    __table_args__ = (
        Index(
            "number_rules_active_key", "collection", unique=True, postgresql_where=text("state = 'ACTIVE'")
        ),
    )

    collection: Mapped[str]
    pattern: Mapped[str]
    gap_free: Mapped[bool]
    example: Mapped[str]
    examples: Mapped[list[str]]
    reset: Mapped[str]
    start: Mapped[int]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Begins as a draft."""
        check_collection(self.collection)
        self.state = "DRAFT"
        self._check(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """A rule in force is not changed but replaced."""
        self.check_state("DRAFT")
        self._check(call)

    async def deleting(self, call: Call) -> None:
        """Only what was never in force goes."""
        self.check_state("DRAFT")

    async def activate(self, call: Call) -> None:
        """Puts the rule into force in place of the one before it."""
        self.check_state("DRAFT", "RETIRED")
        rivals = select(NumberRule).where(
            NumberRule.collection == self.collection, NumberRule.state == "ACTIVE"
        )
        for rival in list(await call.db.scalars(rivals.with_for_update())):
            rival.state = "RETIRED"
        await call.flush()
        self.state = "ACTIVE"

    def retire(self) -> None:
        """Takes it out of force."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    def _check(self, call: Call) -> None:
        if not numbering.valid(self.pattern, self.reset):
            raise FailedPrecondition("NUMBER_PATTERN_INVALID")
        self.example = numbering.example(self.pattern, call.now)
        first = self.start or 1
        self.examples = [
            numbering.example(self.pattern, call.now, first + step) for step in range(SHOWN_NUMBERS)
        ]
