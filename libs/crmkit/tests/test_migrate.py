"""The kit's migrations on a real database."""

import asyncio
from pathlib import Path

import pytest
from alembic.util import CommandError
from crmkit import migrate
from local_platform.servers import ensure_database
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

SERVICE = {
    "env.py": """
from crmkit.migrate import run
from sqlalchemy import Column, Integer, MetaData, Table
things = MetaData()
Table("things", things, Column("id", Integer, primary_key=True), Column("size", Integer))
run(things)
""",
    "versions/first.py": """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "first", None
def upgrade():
    op.create_table("things", sa.Column("id", sa.Integer, primary_key=True))
""",
    "versions/second.py": """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "second", "first"
def upgrade():
    op.add_column("things", sa.Column("size", sa.Integer))
    with op.get_context().autocommit_block():
        op.create_index("things_size_index", "things", ["size"], postgresql_concurrently=True)
        op.drop_index("things_size_index")
""",
}


@pytest.fixture
def service(tmp_path: Path) -> Path:
    for name, content in SERVICE.items():
        file = tmp_path / "migrations" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return tmp_path / "migrations"


async def test_two_starts_at_once_migrate_once_and_models_and_tables_agree(
    postgres_url: str, service: Path
) -> None:
    url = (await ensure_database(postgres_url, "twice")).owner_url + "/twice"
    await asyncio.gather(*(migrate.upgrade(url, "twice", service) for _ in range(2)))
    await migrate.check(url, service)


async def test_a_model_without_its_migration_is_found(postgres_url: str, service: Path) -> None:
    (service / "versions" / "second.py").unlink()
    url = (await ensure_database(postgres_url, "lacking")).owner_url + "/lacking"
    await migrate.upgrade(url, "lacking", service)
    with pytest.raises(CommandError, match="add_column"):
        await migrate.check(url, service)


async def test_the_role_of_an_app_cannot_change_its_tables(engine: AsyncEngine) -> None:
    for statement in (
        "DROP TABLE outbox",
        "ALTER TABLE inbox ADD COLUMN x int",
        "CREATE TABLE mine (id int)",
    ):
        with pytest.raises(DBAPIError, match=r"must be owner|permission denied"):
            async with engine.begin() as connection:
                await connection.execute(text(statement))
