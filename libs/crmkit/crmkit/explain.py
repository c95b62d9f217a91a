"""Why somebody may see a record and what he may do to it: the data scope in words, from the same reach as in SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from crm.common.v1 import common_pb2

from crmkit.access import Access, Ground, Scope
from crmkit.auth import Caller, passes, visible
from crmkit.catalog import permissions
from crmkit.describe import Described
from crmkit.fieldlevels import concealed

if TYPE_CHECKING:
    from crmkit.call import Call

EXPLAIN = "workspace.roles.explain"
LEVELS: Mapping[Scope, tuple[str, str]] = {
    Scope.OWN: ("本人", "own"),
    Scope.REPORTS: ("本人及下属", "own and reports"),
    Scope.DEPARTMENT: ("本部门", "department"),
    Scope.DEPARTMENTS: ("指定部门", "chosen departments"),
    Scope.BELOW: ("本部门及下级", "department and below"),
    Scope.SEGMENT: ("本板块", "segment"),
    Scope.ALL: ("全部", "all"),
}
Explained = tuple[str, str, str, Ground | None]


def grounds(
    described: Described, record: Mapping[str, Any], caller: Caller, collection: str = "", verb: str = "read"
) -> Iterator[Explained]:
    """Every ground on which the verb reaches the record: kind, the sentence in both languages, and the level."""
    scoped = collection or described.collection
    if not visible(caller, described.scope, record, described.account_fields, scoped, verb):
        return
    if described.scope == "SHARED":
        yield "SHARED", "所有有权限的人可见", "Everybody with the permission sees it", None
        return
    if caller.is_system:
        yield "ALL", "系统本身", "The system itself", None
        return
    if caller.account and described.scope == "OWNED":
        yield "ACCOUNT", "属于您的客户档案", "It belongs to the person's account", None
        return
    if caller.employee and record.get("owner") == caller.employee:
        yield "OWNER", "是负责人", "Owns it", None
    if caller.employee and caller.employee in record.get("collaborators", ()):
        yield "COLLABORATOR", "是协作人", "Collaborates on it", None
    if described.scope == "OWNED":
        yield from _levels(record, caller, scoped, verb)


def _levels(record: Mapping[str, Any], caller: Caller, collection: str, verb: str) -> Iterator[Explained]:
    reach = caller.reach(collection, verb)
    if caller.access is None:
        if reach.everything:
            yield "ALL", "数据范围为全部", "The data scope is everything", None
        elif record.get("department", "") in reach.departments:
            yield "DEPARTMENT", "数据范围包含所属部门", "The data scope covers its department", None
        return
    for ground in caller.access.grounds(collection, verb):
        zh, en = LEVELS[ground.level]
        covers = (
            ground.level is Scope.ALL
            or (ground.level is Scope.REPORTS and record.get("owner") in reach.owners)
            or record.get("department", "") in ground.departments
        )
        if covers:
            kind = "ALL" if ground.level is Scope.ALL else "DEPARTMENT"
            kind = "REPORTS" if ground.level is Scope.REPORTS else kind
            role = ground.role
            yield kind, f"角色 {role} 的数据范围：{zh}", f"Role {role} reaches: {en}", ground


def refusals(
    described: Described, record: Mapping[str, Any], caller: Caller, collection: str = ""
) -> Iterator[Explained]:
    """Why the record is not seen: the wall, the rules, or that no level covers it."""
    scoped = collection or described.collection
    reach = caller.reach(scoped)
    if described.scope == "PRIVATE":
        yield "NONE", "仅负责人与协作人可见", "Only its owner and collaborators see it", None
        return
    if caller.account:
        yield "NONE", "不属于该客户或伙伴", "It does not belong to the person's account", None
        return
    if reach.wall is not None and record.get("department", "") not in reach.wall:
        yield "WALL", "属于另一板块，板块之间相互隔离", "It lies in another segment", None
    if not passes(reach, record, caller, scoped):
        rules = " AND ".join(reach.rules)
        yield "RULE", f"不符合行规则：{rules}", f"A row rule leaves it out: {rules}", None
    zh, en = "没有任何角色的数据范围包含它", "No role's level covers it"
    levels = caller.access.grounds(scoped) if caller.access is not None else []
    if levels:
        zh += "：" + "、".join(f"{one.role}（{LEVELS[one.level][0]}）" for one in levels)
        en += ": " + ", ".join(f"{one.role} ({LEVELS[one.level][1]})" for one in levels)
    yield "NONE", zh, en, None


def actions(
    described: Described, record: Mapping[str, Any], caller: Caller, collection: str = ""
) -> Iterator[common_pb2.AccessAction]:
    """For every permission on the collection: whether the person has it and reaches the record by it."""
    prefix = f"{described.area}.{described.collection}."
    for permission in permissions():
        if not permission.startswith(prefix):
            continue
        verb = permission.removeprefix(prefix)
        may = caller.may(permission)
        seen = any(grounds(described, record, caller, collection))
        reached = seen and any(grounds(described, record, caller, collection, verb))
        missing = "PERMISSION" if not may else "" if reached else "SCOPE"
        yield common_pb2.AccessAction(
            action=verb, permission=permission, allowed=may and reached, missing=missing
        )


def answer(
    described: Described, record: Mapping[str, Any], caller: Caller, call: Call, collection: str = ""
) -> dict[str, Any]:
    """The reply of `:explainAccess`."""
    read = described.permission("read")
    found = list(grounds(described, record, caller, collection))
    if not caller.may(read):
        found = [("NONE", f"没有权限 {read}", f"Lacks {read}", None)]
        seen = False
    else:
        seen = bool(found)
        found = found or list(refusals(described, record, caller, collection))
    hidden = [
        common_pb2.HiddenField(field=field.json_name, permission=field.rule.read_permission)
        for field in described.fields.values()
        if field.rule.read_permission and not caller.may(field.rule.read_permission)
    ]
    access, own = caller.access, described.collection
    if isinstance(access, Access):
        for name in sorted(concealed(access.fields(own))):
            shown = described.fields[name].json_name if name in described.fields else name
            hidden.append(common_pb2.HiddenField(field=shown, role=access.hiding(own, name)))
    return {
        "visible": seen,
        "grounds": [_ground(one, record, call) for one in found],
        "actions": list(actions(described, record, caller, collection)),
        "hidden_fields": hidden,
    }


def _ground(explained: Explained, record: Mapping[str, Any], call: Call) -> common_pb2.AccessGround:
    kind, zh, en, ground = explained
    return common_pb2.AccessGround(
        kind=kind,
        text=call.text(zh, en),
        role=ground.role if ground else "",
        level=ground.level.value if ground else "",
        owner=str(record.get("owner", "")),
        department=str(record.get("department", "")),
    )
