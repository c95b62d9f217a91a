"""Does a follow-up count for the sea, and if not, why not? (SEA-4)"""

from collections import Counter
from datetime import timedelta
from typing import Any

from crmkit.call import Call
from crmkit.text import fold
from sqlalchemy import select

from customer import ownership
from customer.model.account import Account
from customer.model.importation import ImportHeld

LATE = timedelta(hours=72)
LETTERS = 10
CALL_SECONDS = 15
LOOKED_BACK = 5
ALIKE = 0.9


async def why_not(interaction: Any, account: Account | None, call: Call) -> str:
    """Empty where it counts."""
    author = call.caller.employee or interaction.done_by
    if not author:
        return "SYSTEM"
    if call.method in ("RunImport", "import", "IMPORT"):
        return "IMPORT"
    if call.caller.approved and await ImportHeld.holds(interaction.name, call):
        return "IMPORT"
    if account is not None and not ownership.works_on(account, author):
        return "NO_WORK_ACCESS"
    if (interaction.create_time or call.now) - interaction.start_time > LATE:
        return "LATE"
    inbound = interaction.direction == "INBOUND"
    letters = sum(character.isalnum() for character in interaction.summary)
    called = interaction.channel == "CALL" and interaction.duration_seconds >= CALL_SECONDS
    if letters < LETTERS and not (called or interaction.files or inbound):
        return "TOO_SHORT"
    if not interaction.result and interaction.next_step is None and not interaction.done_with_result:
        return "NO_RESULT"
    if letters >= LETTERS and not inbound and await _repeats(interaction, author, call):
        return "REPEATED"
    return ""


async def _repeats(interaction: Any, author: str, call: Call) -> bool:
    """Whether the author wrote as much lately."""
    model = type(interaction)
    statement = select(model.summary).where(
        model.creator == author, model.summary != "", model.id != interaction.id
    )
    async with call.everybody():
        texts = await call.db.scalars(
            statement.order_by(model.create_time.desc(), model.id.desc()).limit(LOOKED_BACK)
        )
        return any(dice(interaction.summary, text) >= ALIKE for text in texts)


def dice(one: str, other: str) -> float:
    """How alike two texts are by their pairs of neighbouring letters, 0 to 1."""
    a, b = _pairs(one), _pairs(other)
    together = sum(a.values()) + sum(b.values())
    return 2 * sum((a & b).values()) / together if together else float(fold(one) == fold(other))


def _pairs(text: str) -> Counter[str]:
    letters = "".join(character for character in fold(text) if character.isalnum())
    return Counter(letters[n : n + 2] for n in range(len(letters) - 1))
