"""Rows that speak of a record elsewhere are seen by those who may open that record."""

from typing import Any

from crmkit.auth import Caller, Scope
from crmkit.resource import Resource
from sqlalchemy import ColumnElement, and_, false, or_, true


class SeenAsSource(Resource):
    """A row with the scope, owner, department, collaborators and account of the record that it speaks of.

    The predicate is the kit's, with the scope taken from the row. The policy `source_scope` of the migration
    says the same to the database.
    """

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """The permission to read the record's collection, and the record within the caller's scope."""
        return and_(_permitted(cls, caller), _in_scope(cls, caller))


def _permitted(model: type[Any], caller: Caller) -> ColumnElement[bool]:
    if "*" in caller.permissions:
        return true()
    return model.requires.in_([one for one in caller.permissions if one.endswith(".read")])


def _in_scope(model: type[Any], caller: Caller) -> ColumnElement[bool]:
    if caller.is_system:
        return true()
    owned, shared = model.source_scope == "OWNED", model.source_scope == "SHARED"
    if caller.account:
        return or_(shared, and_(owned, model.account == caller.account))
    everywhere = caller.scope is Scope.ALL
    covered = and_(owned, true() if everywhere else model.department.in_(caller.departments))
    if not caller.employee:
        return or_(shared, covered, false())
    own = or_(model.owner == caller.employee, model.collaborators.contains([caller.employee]))
    return or_(shared, covered, own)
