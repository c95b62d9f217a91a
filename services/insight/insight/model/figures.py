"""Records of other areas as they stand now, in the fields that are counted and summed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from crm.insight.v1 import pb
from crmkit.auth import Caller
from crmkit.bulk import insert_rows, newer
from crmkit.call import Call
from crmkit.catalog import codec
from crmkit.describe import COMMON
from crmkit.driver import driver
from crmkit.events import Fact
from crmkit.mapping import mapper
from crmkit.resource import Resource
from insight.model.base import Base
from insight.sources import moment, source_id
from sqlalchemy import Boolean, ColumnElement, and_, false, true
from sqlalchemy.orm import Mapped, mapped_column

_SHARE = (
    "INSERT INTO collaborators (employee, collection, id) SELECT one, $2, key"
    " FROM unnest($1::text[], $3::uuid[]) AS shared(one, key) ON CONFLICT DO NOTHING"
)


class Figure(Resource):
    """A row for each record of `figured`, written by its change facts. Fields of the same name are copied."""

    figured: ClassVar[str]
    requires: ClassVar[str]

    deleted: Mapped[bool] = mapped_column(Boolean, server_default=false())

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """Beside the data scope, the reader needs the permission to read the source."""
        return and_(~cls.deleted, true() if caller.may(cls.requires) else false())

    def reckon(self) -> None:
        """Completes what is not copied."""

    @classmethod
    async def keep(cls, events: Sequence[Fact], call: Call) -> None:
        """Writes the rows of changed records, but where a later version is there already."""
        rows = [
            {
                **cls._figures(event.payload.get("resource", {}), call),
                "id": source_id(event.payload["name"]),
                "deleted": event.payload["action"] == "DELETED",
                "version": event.version or 0,
            }
            for event in sorted(events, key=lambda event: event.payload["name"])
        ]
        if rows:
            later = f"{newer('id', tuple(rows[0]))} RETURNING id"
            written = {row["id"] for row in await insert_rows(call, cls.__table__, rows, later)}
            await cls._share([row for row in rows if row["id"] in written], call)

    @classmethod
    def _figures(cls, record: dict[str, Any], call: Call) -> dict[str, Any]:
        row, fields = cls(), cls.described.fields
        own = {name: field for name, field in fields.items() if name not in COMMON and name != "name"}
        told = {
            field.json_name: record[field.json_name] for field in own.values() if field.json_name in record
        }
        # What a newer sender knows is left out.
        read = codec().from_newer(cls.__message__.DESCRIPTOR.full_name, told)
        message = cls.__message__.FromString(read)
        mapper(cls).assign(row, message, list(own), new=True, prefix="")
        setattr(row, "source", record.get("name", ""))  # noqa: B010  # a column by declaration
        row.owner, row.department = record.get("owner", ""), record.get("department", "")
        row.collaborators = record.get("collaborators", [])
        row.create_time = moment(record.get("createTime")) or call.now
        row.update_time = moment(record.get("updateTime")) or call.now
        row.reckon()
        values: dict[str, Any] = {}
        for name, field in own.items():
            value = getattr(row, name)
            if field.kind == "money":
                values[f"{name}_amount"] = value.amount if value is not None else None
                values[f"{name}_currency"] = value.currency if value is not None else None
            else:
                values[name] = value
        common = ("owner", "department", "collaborators", "create_time", "update_time")
        return values | {name: getattr(row, name) for name in common}

    @classmethod
    async def _share(cls, rows: Sequence[dict[str, Any]], call: Call) -> None:
        connection = await driver(call.db)
        if rows:
            keys = [row["id"] for row in rows]
            await connection.execute("DELETE FROM collaborators WHERE id = ANY($1)", keys)
        shared = [(one, row["id"]) for row in rows for one in row["collaborators"]]
        if shared:
            people, keys = zip(*shared, strict=True)
            await connection.execute(_SHARE, people, cls.described.collection, keys)


class OpportunityFact(Figure, Base):
    """One opportunity as it stands now, for funnels and forecasts."""

    __message__ = pb.OpportunityFact
    figured = scoped_by = copies = "opportunities"
    requires = "sales.opportunities.read"

    open_time: Mapped[datetime | None]
    close_time: Mapped[datetime | None]
    cycle_days: Mapped[int]

    def reckon(self) -> None:
        self.open_time = self.create_time
        self.cycle_days = (self.close_time - self.create_time).days if self.close_time else 0


class InvoiceFact(Figure, Base):
    """One invoice as it stands now, for revenue and receivables."""

    __message__ = pb.InvoiceFact
    figured = scoped_by = copies = "invoices"
    requires = "billing.invoices.read"


FIGURES: dict[str, type[Figure]] = {model.figured: model for model in (OpportunityFact, InvoiceFact)}
