"""Implements crm.workspace.v1.WorkspaceService."""

from datetime import UTC
from typing import Any

from crm.common.v1.common_pb2 import VerbRequest
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.catalog import permissions, resources
from crmkit.mapping import mapper
from crmkit.standard import Standard

from workspace.approval_methods import ApprovalMethods
from workspace.attendance_methods import AttendanceMethods
from workspace.audit_methods import AuditMethods
from workspace.backup_methods import BackupMethods
from workspace.board_methods import BoardMethods
from workspace.calendar_methods import CalendarMethods
from workspace.document_methods import DocumentMethods
from workspace.effective import compare, effective
from workspace.export_methods import ExportMethods
from workspace.leaving import left
from workspace.mail_methods import MailMethods
from workspace.model.api_key import ApiKey
from workspace.model.bulk_job import BulkJob
from workspace.model.currency_rate import CurrencyRate
from workspace.model.custom_field import CustomField
from workspace.model.department import Department, tree_at
from workspace.model.dictionary import Dictionary
from workspace.model.employee import Employee, simulate
from workspace.model.number_rule import NumberRule
from workspace.model.partner import Partner
from workspace.model.role import Role
from workspace.model.work import SavedView
from workspace.notice_methods import NoticeMethods
from workspace.plan_methods import PlanMethods
from workspace.reshaping import reshape
from workspace.session_methods import SessionMethods
from workspace.share_methods import ShareMethods
from workspace.task_methods import TaskMethods
from workspace.team_methods import TeamMethods
from workspace.usage_methods import UsageMethods


class WorkspaceService(
    ApprovalMethods,
    CalendarMethods,
    TaskMethods,
    PlanMethods,
    AttendanceMethods,
    NoticeMethods,
    AuditMethods,
    BackupMethods,
    MailMethods,
    ExportMethods,
    UsageMethods,
    ShareMethods,
    SessionMethods,
    BoardMethods,
    DocumentMethods,
    TeamMethods,
):
    """Organisation, permission, approval, collaboration and audit."""

    departments = Standard(Department)
    employees = Standard(Employee)
    partners = Standard(Partner)
    roles = Standard(Role)
    dictionaries = Standard(Dictionary)
    currency_rates = Standard(CurrencyRate)
    number_rules = Standard(NumberRule)
    custom_fields = Standard(CustomField)
    api_keys = Standard(ApiKey)
    saved_views = Standard(SavedView)
    bulk_jobs = Standard(BulkJob)

    async def CountDictionaryUses(self, request: VerbRequest, call: Call) -> pb.DictionaryUses:
        return await (await call.load(Dictionary, request)).count_uses(call)

    async def ListDictionaryUses(
        self, request: pb.ListDictionaryUsesRequest, call: Call
    ) -> pb.DictionaryUses:
        return await (await call.load(Dictionary, request, lock=False)).list_uses(call)

    async def MoveDepartment(self, request: pb.MoveDepartmentRequest, call: Call) -> Department:
        department = await call.load(Department, request)
        await call.check_references(request, "", ["parent"])
        await department.move(request.parent, call)
        return department

    async def MergeDepartment(self, request: pb.MergeDepartmentRequest, call: Call) -> Department:
        department = await call.load(Department, request)
        await call.check_references(request, "", ["into"])
        await department.merge(request.into, call)
        return department

    async def PreviewDepartment(
        self, request: pb.PreviewDepartmentRequest, call: Call
    ) -> pb.PreviewDepartmentResponse:
        department = await call.load(Department, request, lock=False)
        await call.check_references(request, "", ["target"])
        return await department.preview(request.target, call)

    async def ImportDepartments(
        self, request: pb.ImportDepartmentsRequest, call: Call
    ) -> pb.ImportDepartmentsResponse:
        return await reshape(request.rows, request.dry_run, call)

    async def ListDepartmentsAsOf(
        self, request: pb.ListDepartmentsAsOfRequest, call: Call
    ) -> pb.ListDepartmentsAsOfResponse:
        return pb.ListDepartmentsAsOfResponse(departments=await tree_at(request.time.ToDatetime(UTC), call))

    async def SimulateRole(self, request: pb.SimulateRoleRequest, call: Call) -> pb.SimulateRoleResponse:
        role = await call.load(Role, request, lock=False)
        return await simulate(role, list(request.permissions), call)

    async def CompareRoles(self, request: pb.CompareRolesRequest, call: Call) -> pb.CompareRolesResponse:
        first = await call.load(Role, request, lock=False)
        return compare(first, await call.load(Role, request.other, lock=False))

    async def ListEmployeePermissions(
        self, request: pb.ListEmployeePermissionsRequest, call: Call
    ) -> pb.ListEmployeePermissionsResponse:
        return await effective(await call.load(Employee, request, lock=False), call)

    async def CountEmployeeBelongings(
        self, request: pb.CountEmployeeBelongingsRequest, call: Call
    ) -> pb.CountEmployeeBelongingsResponse:
        employee = await call.load(Employee, request, lock=False)
        counts = [
            pb.CountEmployeeBelongingsResponse.Count(
                collection=described.collection, label=described.rule.label, count=count
            )
            for described, count in await left(employee.name, call)
        ]
        return pb.CountEmployeeBelongingsResponse(counts=counts, total=sum(one.count for one in counts))

    async def OffboardEmployee(self, request: pb.OffboardEmployeeRequest, call: Call) -> Employee:
        employee = await call.load(Employee, request)
        await call.check_references(request, "", ["successor", "successions"])
        await employee.offboard(request.successor, list(request.successions), call)
        return employee

    async def ActivateEmployee(self, request: Any, call: Call) -> Employee:
        employee = await call.load(Employee, request)
        await employee.ask_for_account(call)
        return employee

    async def ListPermissions(self, request: pb.ListPermissionsRequest, call: Call) -> dict[str, Any]:
        labels = {(found.area, found.collection): found.rule.label for found in resources().values()}
        listed: list[pb.Permission] = []
        for permission in permissions():
            area, collection, action = (*permission.split(".", 2), "", "")[:3]
            label = labels.get((area, collection))
            listed.append(
                pb.Permission(
                    permission=permission, area=area, collection=collection, action=action, label=label
                )
            )
        return {"permissions": listed}

    async def RetireDictionaryEntry(self, request: pb.RetireDictionaryEntryRequest, call: Call) -> Dictionary:
        dictionary = await call.load(Dictionary, request)
        dictionary.retire(request.key, call)
        return dictionary

    async def MergeDictionaryEntry(self, request: pb.MergeDictionaryEntryRequest, call: Call) -> Dictionary:
        dictionary = await call.load(Dictionary, request)
        dictionary.merge(request.key, request.into, call)
        return dictionary

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, call: Call) -> Any:
        key: Any = await self.api_keys.create(request, call)
        answer: Any = mapper(ApiKey).message(key)
        answer.secret = key.shown
        return answer

    async def RevertBulkJob(self, request: Any, call: Call) -> BulkJob:
        job = await call.load(BulkJob, request)
        return await call.add(job.reversal(call))
