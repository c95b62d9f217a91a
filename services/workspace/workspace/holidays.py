"""On which days somebody works: the working days of the country without the company's own holidays.

These are the entries of the dictionary `companyHolidays`, each from its first to its last day; those that name
departments are for these and all beneath them.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

from crmkit.call import Call
from crmkit.company import beneath
from crmkit.customfields import choosable
from crmkit.workdays import is_working_day

HOLIDAYS = "companyHolidays"


def works(department: str, call: Call) -> Callable[[date], bool]:
    """Says of a day whether people of the department work on it."""
    entries = call.running.directory.custom.dictionary(HOLIDAYS).values()
    mine = [entry for entry in entries if _is_for(entry, department, call)]
    return lambda day: is_working_day(day) and not any(choosable(entry, day) for entry in mine)


def _is_for(entry: dict[str, Any], department: str, call: Call) -> bool:
    """Without a first and a last day an entry is no holiday yet."""
    if not entry.get("validFrom") or not entry.get("validTo"):
        return False
    departments = entry.get("departments")
    return not departments or beneath(department, departments, call)
