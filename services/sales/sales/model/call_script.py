"""What to say on the telephone, in versions."""

from __future__ import annotations

from typing import Any

from crm.sales.v1 import pb
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from sales.model import versions
from sales.model.base import Base
from sales.model.versions import DraftOnly
from sqlalchemy import ColumnElement, Index, text
from sqlalchemy.orm import Mapped


class CallScript(DraftOnly, Base):
    """One version of a script. A used one never changes."""

    __message__ = pb.CallScript
    __table_args__ = (
        Index("call_scripts_one_active_key", "root", unique=True, postgresql_where=text("state = 'ACTIVE'")),
    )

    display_name: Mapped[str]
    nodes: Mapped[Any]
    faq: Mapped[Any]
    for_partners: Mapped[bool]
    version_number: Mapped[int]
    root: Mapped[str]
    state: Mapped[str]

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """Partners see what is for them."""
        return cls.for_partners.is_(True) if caller.account else None

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        versions.begin(self)
        self.state = "DRAFT"

    async def activate(self, call: Call) -> None:
        """Puts it in use in place of the version before."""
        self.check_state("DRAFT")
        if wrong := dead_ends(self.nodes):
            raise FailedPrecondition("SCRIPT_DEAD_END", nodes=", ".join(wrong))
        await versions.put_in_force(self, "root", call)

    def retire(self) -> None:
        """Ends it."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    async def new_version(self, call: Call) -> CallScript:
        """A draft like this version."""
        return await versions.next_version(self, ("display_name", "nodes", "faq", "for_partners"), call)


def dead_ends(nodes: Any) -> list[str]:
    """The nodes that nothing leads to, that lead to no node, or from which the talk never ends."""
    known = {node.key: [branch.next for branch in node.branches] for node in nodes}
    if not known:
        return ["-"]
    wrong = {key for key, following in known.items() if any(one and one not in known for one in following)}
    wrong |= {node.key for node in nodes if [other.key for other in nodes].count(node.key) > 1}
    first = nodes[0].key
    reached, ahead = {first}, [first]
    while ahead:
        new = [one for one in known[ahead.pop()] if one in known and one not in reached]
        reached.update(new)
        ahead += new
    ending = {key for key, following in known.items() if not following or "" in following}
    while more := {
        key for key, following in known.items() if key not in ending and ending.intersection(following)
    }:
        ending |= more
    return sorted(wrong | (known.keys() - reached) | (known.keys() - ending))
