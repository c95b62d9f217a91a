"""Links to files: for a while, so many times, behind a password, and only as long as their owner may read the file."""

from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit import blobs
from crmkit.auth import system
from crmkit.testing import Service
from sqlalchemy import text

State = pb.FileShare.State


async def a_file(workspace: Service, client: Any) -> Any:
    content = uuid4().bytes * 100
    sha256, size = await blobs.keep(workspace.running.store, BytesIO(content))
    body = {"displayName": "报价.pdf", "mediaType": "application/pdf", "sha256": sha256, "size": str(size)}
    return await client.CreateFile(file=body)


async def share(client: Any, file: Any, **more: Any) -> tuple[Any, str]:
    """A link, and what stands in its address."""
    made = await client.CreateFileShare(fileShare={"displayName": "给王总", "file": file.name, **more})
    return made, made.path.removeprefix("/shares/")


@pytest.mark.capability("w.share")
async def test_a_link_gives_its_file_so_many_times_behind_its_password_until_it_ends(
    workspace: Service, office: Any
) -> None:
    me, anybody = workspace.sales1, workspace.client("nobody")
    file = await a_file(workspace, me)
    made, secret = await share(me, file, password="correct horse", downloadLimit=2)
    assert len(secret) >= 40 and made.protected and not made.password
    assert not (await me.GetFileShare(name=made.name)).path
    days = (made.expire_time.ToDatetime(UTC) - datetime.now(UTC)).total_seconds() / 86400
    assert 6.9 < days <= 7
    looked = await anybody.ReadFileShare(secret=secret)
    assert (looked.display_name, looked.size, looked.protected, looked.sha256) == (
        "报价.pdf",
        "1600",
        True,
        "",
    )
    for wrong in ("", "wrong"):
        assert (
            await office.refusal(anybody.OpenFileShare(secret=secret, password=wrong))
            == "SHARE_PASSWORD_WRONG"
        )
    for _ in range(2):
        given = await anybody.OpenFileShare(secret=secret, password="correct horse")
        assert given.sha256 == file.sha256
    for over in (
        anybody.OpenFileShare(secret=secret, password="correct horse"),
        anybody.ReadFileShare(secret=secret),
    ):
        assert await office.refusal(over) == "SHARE_EXPIRED"
    now = await me.GetFileShare(name=made.name)
    assert (now.downloads, now.failed_tries, State.Name(now.state)) == (2, 2, "ACTIVE")
    # Neither secret nor password stands in a fact.
    told = str(await workspace.facts("crm.workspace.v1.ResourceChanged", made.name))
    assert secret not in told and "correct horse" not in told

    # Ten wrong passwords end it, also for who knows the right one.
    locked, secret = await share(me, file, password="correct horse")
    tries = [await office.refusal(anybody.OpenFileShare(secret=secret, password="guess")) for _ in range(10)]
    assert tries == ["SHARE_PASSWORD_WRONG"] * 9 + ["SHARE_EXPIRED"]
    assert (
        await office.refusal(anybody.OpenFileShare(secret=secret, password="correct horse"))
        == "SHARE_EXPIRED"
    )
    assert State.Name((await me.GetFileShare(name=locked.name)).state) == "LOCKED"


@pytest.mark.capability("w.share")
async def test_a_link_ends_by_its_date_when_taken_back_and_with_its_owners_right(
    workspace: Service, office: Any
) -> None:
    anybody = workspace.client("nobody")
    hired = await office.hire(f"share{uuid4().hex[:6]}", ["sales_representative"])
    me = await office.client_of(hired)
    file = await a_file(workspace, me)
    for more in (
        {"expireTime": (datetime.now(UTC) + timedelta(days=31)).isoformat().replace("+00:00", "Z")},
        {"expireTime": "2020-01-01T00:00:00Z"}, {"password": "short"}, {"downloadLimit": 1001},
    ):  # fmt: skip
        assert await office.refusal(share(me, file, **more)) == "VALIDATION"
    assert await office.refusal(share(workspace.sales2, file)) == "UNKNOWN_REFERENCE"
    assert await office.refusal(anybody.OpenFileShare(secret="x" * 43)) == "NOT_FOUND"

    old, secret = await share(me, file)
    async with workspace.running.call("test", system("workspace")) as call:
        await call.db.execute(
            text("UPDATE file_shares SET expire_time = now() - interval '1 s' WHERE id = :id"),
            {"id": UUID(old.name.partition("/")[2])},
        )
    assert await office.refusal(anybody.OpenFileShare(secret=secret)) == "SHARE_EXPIRED"
    back, secret = await share(me, file)
    assert (await anybody.OpenFileShare(secret=secret)).sha256 == file.sha256
    assert await office.refusal(workspace.sales2.RevokeFileShare(name=back.name)) == "NOT_FOUND"
    await me.RevokeFileShare(name=back.name)
    assert await office.refusal(anybody.OpenFileShare(secret=secret)) == "SHARE_EXPIRED"

    left, secret = await share(me, file)
    await workspace.admin.FreezeEmployee(name=hired.name, reason="离职前冻结")
    key = f"employee.{hired.name.partition('/')[2]}"
    await workspace.eventually(lambda: workspace.running.config.get(key)["disabled"])
    assert await office.refusal(anybody.OpenFileShare(secret=secret)) == "SHARE_EXPIRED"
    assert await office.refusal(anybody.ReadFileShare(secret=secret)) == "SHARE_EXPIRED"
    assert left.downloads == 0
