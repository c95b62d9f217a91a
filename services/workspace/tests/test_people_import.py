"""People come in by a table, and who is there is found by whatever is known of them."""

import csv
import io
import time
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit import blobs
from crmkit.testing import Service
from crmkit.testing.jobs import lines

PEOPLE, BAD = 200, 20
OVER = (pb.BulkJob.DONE, pb.BulkJob.DONE_WITH_ERRORS, pb.BulkJob.FAILED)


@pytest.mark.capability("a.user")
async def test_people_come_in_by_a_table_and_bad_rows_come_back(workspace: Service, office: Any) -> None:
    mark, admin = uuid4().hex[:6], workspace.admin
    department = workspace.person("sales1").department
    rows = [
        (
            "欧阳" + str(number),
            f"p{number}.{mark}",
            f"p{number}.{mark}@example.com",
            f"139{number:08}",
            department,
        )
        for number in range(PEOPLE)
    ]
    for number in range(0, PEOPLE, PEOPLE // BAD):
        name, username, _, phone, place = rows[number]
        # The address of somebody else, no name, or no user name that could be one.
        wrong = [
            (name, username, f"p1.{mark}@example.com", phone, place), ("", username, "", phone, place),
            (name, f"-{username}", "", phone, place),
        ]  # fmt: skip
        rows[number] = wrong[number % 3]
    written = io.StringIO()
    csv.writer(written).writerows([("姓名", "登录名", "邮箱", "手机", "部门"), *rows])
    content = io.BytesIO(written.getvalue().encode())
    sha256, size = await blobs.keep(workspace.running.store, content)
    file = await admin.CreateFile(file={"displayName": "员工.csv", "size": str(size), "sha256": sha256})

    options = [{"key": "skipErrors", "value": "true"}]
    asked = {"collection": "employees", "mode": "IMPORT", "file": file.name, "options": options}
    spent = time.process_time()
    job = await admin.CreateBulkJob(bulkJob=asked, requestId=uuid4().hex)

    async def over() -> Any:
        now = await admin.GetBulkJob(name=job.name)
        return now if now.state in OVER else None

    ended = await workspace.eventually(over, 300)
    # Two thousand people in a minute: so much of this process's time may one tenth of them take.
    assert time.process_time() - spent < 6.0
    assert (ended.state, ended.done, ended.failed) == (pb.BulkJob.DONE_WITH_ERRORS, PEOPLE - BAD, BAD), ended
    errors = await admin.GetFile(name=ended.error_file)
    head, *bad = await lines(workspace, {"displayName": errors.display_name, "sha256": errors.sha256})
    assert len(bad) == BAD and head[:5] == ["姓名", "登录名", "邮箱", "手机", "部门"]

    # Good rows stay, and each is found by name, its spelling, number and telephone.
    found = await admin.AggregateEmployees(filter=f'username = "*.{mark}"')
    assert found.rows[0].count == str(PEOPLE - BAD)
    (person,) = (await admin.ListEmployees(filter=f'username = "p177.{mark}"')).employees
    for words in ("欧阳177", "ouyang177", person.number, "13900000177", f"p177.{mark}"):
        page = await admin.ListEmployees(q=words, filter=f'username = "*.{mark}"')
        assert person.name in {one.name for one in page.employees}, words
