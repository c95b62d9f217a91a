"""`python -m crmkit.lint`: the mistakes that would cost data, found in the code of the services.

The rules are those of taste 3 to 9 and 12 that no linter knows: no commit, no `db.add` behind the kit, no `try` or HTTP
in a service method, no engine in a module, no layer that only passes on, no unknown error reason, no NATS client
outside the kit, no patching of our own parts in tests. In the protos, what is named like a secret is declared as one.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import crmprotos
from crm.options.v1 import options_pb2
from google.protobuf.descriptor import FieldDescriptor

from crmkit.errors import reasons
from crmkit.options import option
from crmkit.resource import snake

ROOT = Path(__file__).parents[3]
PROBLEMS = {
    "InvalidArgument", "PermissionDenied", "AlreadyExists", "FailedPrecondition", "Aborted", "ResourceExhausted", "Unavailable",
    "DeadlineExceeded",
}  # fmt: skip
SQL_TEXTS = {
    "literal_column",
    "DDL",
    "exec_driver_sql",
    "execute",
    "fetch",
    "fetchval",
    "fetchrow",
    "executemany",
}
# Where a statement is put together of more than constants, and why no text of a caller gets into it as it is.
SQL_COMPILED = {
    "crmkit/migrate.py": "names of roles, quoted by the dialect",
    "crmkit/listing.py": "keys of custom fields: letters, digits and underscores alone, so that an index is found",
    "model/audience.py": "the table of the model, in the DDL of its policies",
    "model/comment.py": "tables of models, in the DDL of policies",
    "model/file_place.py": "kinds of scope and the table, named in the module, so that an index is found",
    "model/figures.py": "table and columns of the model, by crmkit.inserting",
    "model/search_document.py": "columns named in the module",
    "customer/timeline.py": "columns named in the module",
    "customer/grading.py": "one expression for each kind of factor, and its months as a whole number",
    "sea/jobs.py": "rules of the sea, whose texts sea/clauses.py binds",
    "sea/simulation.py": "rules of the sea",
    "sea/states.py": "rules of the sea",
}
CONSTANT = re.compile(r"(\w+\.)*_?[A-Z][A-Z0-9_]*( [*+] \d+)?")
STATEMENT = re.compile(r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|GRANT|ALTER|CREATE|DROP|SET LOCAL)\b")
SECRET_NAME = re.compile(
    r"(^|_)(pass(word|wd|phrase|code)|pwd|secrets?|tokens?|keys?|otp|pin|credentials?|cookie|webhook|seed)($|_)|(^|_)(verification|one_time|access|secret)_code$"
)
# Names that are no secrets, with the reason.
NO_SECRETS = {
    "page_token": "where the next page begins, sealed and bound to its query",
    "next_page_token": "the same",
    "key": "the code of an entry within its list",
    "keys": "codes of entries, or what was matched",
    "source_key": "what the other system calls it",
    "company_key": "the name of a company in its compared form",
    "public_key": "the half that is for everybody",
    "key_id": "the half that is shown",
    "dedupe_key": "by which a notice comes once",
    "group_key": "by which notices are put together",
    "storage_key": "where the bytes of a file lie, open to the service alone",
    "device_key": "stands for a browser, and opens nothing",
    "key_levels": "levels of key accounts",
}
BUS_MODULES = {"bus.py", "config.py", "events.py", "outbox.py"}


def check(path: Path) -> Iterator[tuple[int, str]]:
    """Line and sentence of every broken rule in the file."""
    tree = ast.parse(path.read_text())
    in_service = "services" in path.parts
    is_test = "tests" in path.parts
    methods = path.name == "service.py" or path.parent.name == "service"
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="commit" | "rollback")) if in_service and not is_test:
                yield node.lineno, "application code never ends a transaction"
            case ast.Call(func=ast.Attribute(attr="add" | "add_all", value=ast.Attribute(attr="db"))) if (
                in_service
            ):
                yield node.lineno, "a row is added by call.add, which completes and checks it"
            case ast.Try() if in_service and methods and not is_test:
                yield node.lineno, "a service method raises meaning; it catches nothing"
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(reason)), *_]) if (
                name in PROBLEMS
            ):
                if not _declared(reason, path):
                    yield node.lineno, f"{reason} is not in the ErrorReason of its area"
            case ast.Import(names=names) if not _may_speak_nats(path) and any(
                n.name.split(".")[0] == "nats" for n in names
            ):
                yield node.lineno, "facts go through the outbox, not through the NATS client"
            case ast.AsyncFunctionDef() if in_service and not is_test and _only_passes_on(node):
                yield (
                    node.lineno,
                    "what the model's method of the verb's name does alone needs no service method",
                )
            case ast.ImportFrom(module=str(module)) if (
                not _may_speak_nats(path) and module.split(".")[0] == "nats"
            ):
                yield node.lineno, "facts go through the outbox, not through the NATS client"
            case ast.Call(func=ast.Attribute(attr="patch") | ast.Name(id="patch")) if is_test and in_service:
                yield node.lineno, "test through the front door; nothing of ours is mocked"
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[first, *_]) if (
                (name in SQL_TEXTS or (name == "text" and isinstance(node.func, ast.Name)))
                and not (is_test or "testing" in path.parts or "/".join(path.parts[-2:]) in SQL_COMPILED)
                and _built(first)
            ):
                yield node.lineno, "SQL is a constant text; what differs is bound"
            case ast.JoinedStr(values=[ast.Constant(value=str(begin)), *_]) if (
                in_service
                and not (is_test or "/".join(path.parts[-2:]) in SQL_COMPILED)
                and STATEMENT.match(begin)
                and _built(node)
            ):
                yield node.lineno, "SQL is a constant text; what differs is bound"
            case _:
                pass
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            function = ast.unparse(statement.value.func)
            if function.endswith(("create_engine", "create_async_engine", "async_sessionmaker", "Settings")):
                yield statement.lineno, "no state in modules: what is needed is passed"


def _built(argument: ast.expr) -> bool:
    """Whether it is a text made of anything but constants."""
    match argument:
        case ast.JoinedStr(values=values):
            return any(_built(value) for value in values)
        case ast.FormattedValue(value=value):
            return not CONSTANT.fullmatch(ast.unparse(value))
        case ast.BinOp(left=left, op=ast.Add() | ast.Mod(), right=right):
            sides = (left, right)
            texts = any(isinstance(one, ast.JoinedStr) or _text(one) for one in sides)
            return texts and not all(_text(one) or CONSTANT.fullmatch(ast.unparse(one)) for one in sides)
        case ast.Call(func=ast.Attribute(attr="format" | "replace" | "join")):
            return True
        case _:
            return False


def _text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _only_passes_on(method: ast.AsyncFunctionDef) -> bool:
    """Whether it loads a row, calls the method that bears the verb's name, and returns the row."""
    match [ast.unparse(statement) for statement in method.body]:
        case [loads, calls, returns]:
            pass
        case _:
            return False
    loaded = re.fullmatch(r"(\w+)(?:: \w+)? = await call\.load\((\w+), request\)", loads)
    if loaded is None or returns != f"return {loaded[1]}":
        return False
    verb = snake(method.name.replace(loaded[2], "", 1)).lstrip("_")
    argument = r"(call|request|request\.\w+|list\(request\.\w+\))"
    return bool(re.fullmatch(rf"(await )?{loaded[1]}\.{verb}\(({argument}(, {argument})*)?\)", calls))


def _declared(reason: str, path: Path) -> bool:
    """True for a reason of the service that the file belongs to, or of all."""
    areas = reasons().get(reason, {})
    parts = path.parts
    area = parts[parts.index("services") + 1] if "services" in parts else ""
    return "common" in areas or (area in areas if area else bool(areas))


def _may_speak_nats(path: Path) -> bool:
    return (
        "tests" in path.parts or "local" in path.parts or "gateway" in path.parts or path.name in BUS_MODULES
    )


def undeclared(files: Iterable[Any]) -> Iterator[str]:
    """Fields whose name is that of a secret, and whose proto neither says that they are nor `NO_SECRETS` why not."""
    for file in files:
        if file.package.startswith("crm."):
            for message in file.message_type:
                yield from _undeclared(message, f"{file.package}.{message.name}")


def _undeclared(message: Any, path: str) -> Iterator[str]:
    for nested in message.nested_type:
        yield from _undeclared(nested, f"{path}.{nested.name}")
    for field in message.field:
        text = field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}
        named = text and SECRET_NAME.search(field.name) and field.name not in NO_SECRETS
        if named and not option(field, options_pb2.field).secret:
            yield f"{path}.{field.name}"


def main() -> int:
    """1 where a rule is broken."""
    broken = 0
    for field in undeclared(crmprotos.load().file):
        print(
            f"protos: {field} is named like a secret: declare it `secret`, or say in NO_SECRETS why it is none"
        )
        broken += 1
    for folder in ("libs", "services"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "crmprotos" in path.parts or "migrations" in path.parts:
                continue
            for line, sentence in check(path):
                print(f"{path.relative_to(ROOT)}:{line}: {sentence}")
                broken += 1
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
