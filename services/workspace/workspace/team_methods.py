"""The page of a team: its people, what is posted for it, its documents."""

from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.scope import predicate
from sqlalchemy import func, or_, select

from workspace import experts
from workspace.model.department import Department
from workspace.model.employee import Employee
from workspace.model.folder import Folder, topmost_for
from workspace.model.post import Post


class TeamMethods:
    """Teams, and who knows what."""

    async def FindExperts(self, request: pb.FindExpertsRequest, call: Call) -> pb.FindExpertsResponse:
        return await experts.find(request, call)

    async def ReadTeam(self, request: pb.ReadTeamRequest, call: Call) -> pb.ReadTeamResponse:
        department = await call.load(Department, request, lock=False)
        leads = [department.manager, *department.deputies]
        name = Employee.sql_name()
        people = await call.db.scalars(
            select(Employee)
            .where(
                predicate(Employee, call.caller),
                or_(Employee.department == department.name, Employee.posts.contains([department.name]), name.in_(leads)),
                Employee.state.in_(["ACTIVE", "FROZEN"]), Employee.kind == "STAFF",
            )
            .order_by(func.coalesce(func.array_position(leads, name), len(leads) + 1), Employee.display_name)
            .limit(500)
        )  # fmt: skip
        posts = await call.db.scalars(
            select(Post)
            .where(
                predicate(Post, call.caller),
                Post.state == "PUBLISHED",
                Post.audience_departments.contains([department.name]),
            )
            .order_by(Post.pinned.desc(), Post.publish_time.desc())
            .limit(10)
        )
        folders = await call.db.scalars(
            select(Folder)
            .where(
                predicate(Folder, call.caller),
                topmost_for([department.name]),
            )
            .order_by(Folder.display_name)
            .limit(50)
        )
        beneath = await call.db.scalars(
            select(Department)
            .where(Department.parent == department.name, Department.state == "ACTIVE")
            .order_by(Department.display_name)
            .limit(200)
        )
        shown: Any = call.shown
        return pb.ReadTeamResponse(
            members=[
                pb.ReadTeamResponse.Member(
                    employee=one.name, display_name=one.display_name, position=one.position, skills=one.skills,
                    leads=one.name in leads,
                )
                for one in people
            ],
            posts=[shown(post, call.caller) for post in posts],
            folders=[shown(folder, call.caller) for folder in folders],
            departments=[one.name for one in beneath],
        )  # fmt: skip
