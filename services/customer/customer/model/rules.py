"""Rules in versions: what decided about customers once stays as it was."""

from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.resource import Resource


class DraftRule(Resource):
    """Only a draft changes or goes; a new owner changes nothing of a rule."""

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Checks what a draft says now."""
        if changed - {"collaborators", "owner", "department"}:
            self._check_draft()
        self.check_content(call)

    async def deleting(self, call: Call) -> None:
        """Leaves what has decided."""
        self._check_draft()

    def check_content(self, call: Call) -> None:
        """Refuses what can never be right; a model says what that is."""
        raise NotImplementedError

    def _check_draft(self) -> None:
        state: str = getattr(self, "state")  # noqa: B009  # every rule in versions has one
        if state != "DRAFT":
            raise FailedPrecondition("RULE_IMMUTABLE")
