"""The rules of `crmkit.lint` find what they are for, and nothing else."""

from pathlib import Path

import pytest
from crm.options.v1 import options_pb2
from crmkit.lint import check, undeclared
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

SQL = "SQL is a constant text; what differs is bound"


def found(folder: Path, line: str) -> list[str]:
    """What is wrong with the line, as code of a service."""
    path = folder / "services" / "sales" / "sales" / "rows.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"async def rows(db, name):\n    {line}\n")
    return [sentence for _, sentence in check(path)]


@pytest.mark.parametrize(
    "line",
    [
        """await db.execute(text(f"SELECT id FROM quotes WHERE name = '{name}'"))""",
        """await db.execute(text("SELECT id FROM quotes WHERE name = '" + name + "'"))""",
        """await db.execute(text("SELECT id FROM quotes WHERE name = '%s'" % name))""",
        """await db.execute(text("SELECT id FROM quotes WHERE name = '{}'".format(name)))""",
        """await connection.fetch(f"SELECT id FROM quotes ORDER BY {name}")""",
        """await connection.exec_driver_sql("SELECT id FROM quotes WHERE name = " + name)""",
        """return literal_column(f"'{name}'")""",
        """statement = f"SELECT id FROM quotes WHERE name = '{name}'\"""",
    ],
)
def test_a_statement_with_a_value_in_its_text_is_refused(tmp_path: Path, line: str) -> None:
    assert set(found(tmp_path, line)) == {SQL}


@pytest.mark.parametrize(
    "line",
    [
        """await db.execute(text("SELECT id FROM quotes WHERE name = :name"), {"name": name})""",
        """await connection.fetch("SELECT id FROM quotes WHERE name = $1", name)""",
        """await db.execute(text(f"SELECT id FROM quotes WHERE {_OPEN}"))""",
        """await db.execute(text("SELECT id" + _FROM))""",
        """await db.execute(select(Quote).where(Quote.name == name))""",
        """return call.text(f"“{name}”没有了", f"{name} is gone")""",
    ],
)
def test_a_statement_of_constants_with_bound_values_is_not(tmp_path: Path, line: str) -> None:
    assert found(tmp_path, line) == []


def test_what_is_named_like_a_secret_is_declared_as_one_or_says_why_not() -> None:
    file = FileDescriptorProto(package="crm.sales.v1")
    message = file.message_type.add(name="Link")
    inner = message.nested_type.add(name="Way")
    for names, fields in (
        (("token", "page_token", "passwordless", "tokens_left", "display_name"), message.field),
        (("api_key", "key", "webhook", "old_password"), inner.field),
    ):
        for name in names:
            fields.add(name=name, type=FieldDescriptorProto.TYPE_STRING)
    message.field.add(name="secret_count", type=FieldDescriptorProto.TYPE_INT32)
    found = {path.removeprefix("crm.sales.v1.Link.") for path in undeclared([file])}
    assert found == {"token", "tokens_left", "Way.api_key", "Way.webhook", "Way.old_password"}
    inner.field[0].options.Extensions[options_pb2.field].secret = True
    assert "crm.sales.v1.Link.Way.api_key" not in set(undeclared([file]))
