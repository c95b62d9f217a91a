"""What administrators define for other services: number rules and custom fields."""

import re
from typing import Any

from crm.workspace.v1 import pb
from crmkit import numbering
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.errors import FailedPrecondition, Validation, Violation, required
from crmkit.resource import Resource
from sqlalchemy import Index, func, select, text
from sqlalchemy.orm import Mapped

from workspace.model.base import Base

MOST_FIELDS = 200
FIELD_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")


def check_collection(collection: str) -> None:
    """Refuses a collection that no service has."""
    if all(described.collection != collection for described in resources().values()):
        raise FailedPrecondition("COLLECTION_UNKNOWN", collection=collection)


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
        if not numbering.valid(self.pattern):
            raise FailedPrecondition("NUMBER_PATTERN_INVALID")
        self.example = numbering.example(self.pattern, call.now)


class CustomField(Resource, Base):
    """A field that administrators add to a collection."""

    __message__ = pb.CustomField
    __table_args__ = (Index("custom_fields_collection_key_key", "collection", "key", unique=True),)

    collection: Mapped[str]
    key: Mapped[str]
    display_name: Mapped[str]
    english_name: Mapped[str]
    kind: Mapped[str]
    required: Mapped[bool]
    choices: Mapped[Any]
    references: Mapped[str]
    max_length: Mapped[int]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Begins as a draft."""
        check_collection(self.collection)
        self.state = "DRAFT"
        if not FIELD_KEY.fullmatch(self.key):
            raise FailedPrecondition("FIELD_KEY_INVALID")
        self._check()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Words, choices and duty may change at any time; key and kind never."""
        self.check_state("DRAFT", "ACTIVE")
        self._check()

    async def deleting(self, call: Call) -> None:
        """Only what no record ever had goes."""
        self.check_state("DRAFT")

    async def activate(self, call: Call) -> None:
        """Makes the field usable."""
        self.check_state("DRAFT", "RETIRED")
        active = select(func.count()).where(
            CustomField.collection == self.collection, CustomField.state == "ACTIVE"
        )
        if (await call.db.scalar(active) or 0) >= MOST_FIELDS:
            raise FailedPrecondition("FIELD_LIMIT", limit=MOST_FIELDS)
        self.state = "ACTIVE"

    def retire(self) -> None:
        """Takes it out of use; values stay."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    def _check(self) -> None:
        if self.kind in {"CHOICE", "MULTI_CHOICE"}:
            keys = [choice.key for choice in self.choices]
            if not keys:
                raise Validation(required("custom_field.choices"))
            if len(set(keys)) < len(keys):
                raise Validation(
                    Violation("custom_field.choices", "DUPLICATE", "选项代码重复", "A key occurs twice.")
                )
        if self.kind == "REFERENCE":
            if not self.references:
                raise Validation(required("custom_field.references"))
            check_collection(self.references)
