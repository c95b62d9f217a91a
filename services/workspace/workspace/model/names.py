"""Names of records of any service."""

import re
from collections.abc import Sequence

from crmkit.errors import Validation, Violation

NAME = re.compile(r"[a-z][A-Za-z]*/[0-9a-f-]{36}")


def unknown_record(path: str) -> Validation:
    """Refuses the name of a record that the caller does not see, or that there is not."""
    problem = Validation(
        Violation(path, "UNKNOWN_REFERENCE", "引用的记录不存在", "The referenced record does not exist.")
    )
    problem.reason = "UNKNOWN_REFERENCE"
    return problem


def check_names(names: Sequence[str], path: str) -> None:
    """Refuses what is no resource name. Whether the record exists, only its service knows."""
    for index, name in enumerate(names):
        if not NAME.fullmatch(name):
            raise Validation(
                Violation(f"{path}[{index}]", "WRONG_FORMAT", "不是记录名称", "This is no resource name.")
            )
