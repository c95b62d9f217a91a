"""Segments: who fits is in, who does not is out, as facts arrive."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from crmkit.auth import Caller, system
from crmkit.errors import InvalidArgument
from crmkit.testing import Refused, Service
from marketing.audience import compiled
from marketing.jobs import rebuild_segments
from uuid_utils.compat import uuid7


async def told(
    service: Service, resource: Mapping[str, Any], username: str = "marketer", version: int = 1, **fields: Any
) -> str:
    """An account as the customer service tells it."""
    name = fields.pop("name", f"accounts/{uuid7()}")
    person = service.person(username)
    whole = {
        "name": name,
        "state": "ACTIVE",
        "owner": person.employee,
        "department": person.department,
        **resource,
    }
    payload = {
        "name": name,
        "action": fields.pop("action", "CREATED"),
        "actor": "employees/x",
        "resource": whole,
    }
    await service.tell("crm.customer.v1.ResourceChanged", payload, name, version)
    return name


async def inside(service: Service, segment: str, username: str = "marketer") -> set[str]:
    page = await service.client(username).ListSegmentMembers(filter=f'segment = "{segment}"')
    return {member.member for member in page.segment_members}


async def segment_of(service: Service, text: str, **more: Any) -> Any:
    body = {"displayName": "重点行业", "audience": "ACCOUNTS", "filter": text, **more}
    return await service.client("marketer").CreateSegment(segment=body)


async def test_who_fits_joins_and_who_fits_no_longer_leaves(marketing: Service) -> None:
    mark = uuid4().hex
    early = await told(marketing, {"displayName": "早到公司", "industry": mark, "employeeCount": 50})
    segment = await _with(marketing, f'industry = "{mark}" AND employee_count < 100', {early}, announce=True)
    late = await told(marketing, {"displayName": "后到公司", "industry": mark})
    await told(marketing, {"displayName": "别的行业", "industry": "其他"})
    await told(marketing, {"displayName": "太大", "industry": mark, "employeeCount": 5000})

    async def both() -> bool:
        return await inside(marketing, segment.name) == {early, late}

    await marketing.eventually(both)
    await told(
        marketing, {"displayName": "早到公司", "industry": "其他"}, name=early, version=3, action="UPDATED"
    )
    await told(
        marketing, {"displayName": "早到公司", "industry": mark}, name=early, version=2, action="UPDATED"
    )

    async def one() -> bool:
        return await inside(marketing, segment.name) == {late}

    await marketing.eventually(one)
    await told(marketing, {}, name=late, version=2, action="DELETED")

    async def none() -> bool:
        return not await inside(marketing, segment.name)

    await marketing.eventually(none)
    assert (await marketing.client("marketer").GetSegment(name=segment.name)).count == 0
    facts = await marketing.facts("crm.marketing.v1.SegmentChanged", segment.name)
    moves = [(fact["member"], fact.get("joined", False)) for fact in facts]
    assert moves.count((late, True)) == moves.count((late, False)) == moves.count((early, False)) == 1


async def test_a_member_is_seen_by_those_who_may_see_the_record(marketing: Service) -> None:
    mark = uuid4().hex
    own = await told(marketing, {"displayName": "市场部客户", "industry": mark})
    other = await told(marketing, {"displayName": "销售客户", "industry": mark}, "sales1")
    segment = await _with(marketing, f'industry = "{mark}"', {own, other}, username="admin")
    assert await inside(marketing, segment.name) == {own}
    answer = await marketing.client("marketer").PreviewSegment(name=segment.name)
    assert (answer.count, list(answer.samples)) == (2, [own])
    empty = await marketing.client("marketer").PreviewSegment(name=segment.name, filter='industry = "无"')
    assert (empty.count, list(empty.samples)) == (0, [])


async def test_whom_a_hand_puts_in_stays_and_whom_it_takes_out_does_not_come_back(marketing: Service) -> None:
    mark, marketer = uuid4().hex, marketing.client("marketer")
    fitting = await told(marketing, {"displayName": "符合", "industry": mark})
    other = await told(marketing, {"displayName": "不符合", "industry": "其他"})
    segment = await _with(marketing, f'industry = "{mark}"', {fitting})
    await marketing.eventually(lambda: _known(marketing, other))
    assert (await marketer.AddSegmentMembers(name=segment.name, members=[other])).count == 2
    assert (await marketer.RemoveSegmentMembers(name=segment.name, members=[fitting])).count == 1
    await told(
        marketing, {"displayName": "符合了", "industry": mark}, name=fitting, version=2, action="UPDATED"
    )
    await told(
        marketing, {"displayName": "还是不符合", "industry": "其他"}, name=other, version=2, action="UPDATED"
    )

    async def renamed() -> bool:
        page = await marketer.ListSegmentMembers(filter=f'segment = "{segment.name}"')
        return [member.display_name for member in page.segment_members] == ["还是不符合"]

    await marketing.eventually(renamed)
    for _ in range(2):
        async with marketing.running.call("test", system("marketing")) as call:
            await rebuild_segments(call.now, call)
    assert await inside(marketing, segment.name) == {other}
    assert (await marketer.GetSegment(name=segment.name)).count == 1
    with pytest.raises(Refused) as refused:
        await marketer.AddSegmentMembers(name=segment.name, members=[f"accounts/{uuid7()}"])
    assert refused.value.violations == {"members[0]": "UNKNOWN_REFERENCE"}


@pytest.mark.parametrize(
    ("text", "position"), [("industry = = 1", "12"), ("colour = red", "1"), ("employee_count = many", "18")]
)
async def test_a_wrong_filter_is_refused_where_it_is_wrong(
    marketing: Service, text: str, position: str
) -> None:
    with pytest.raises(Refused) as refused:
        await segment_of(marketing, text)
    assert (refused.value.reason, refused.value.info.metadata["position"]) == ("FILTER_INVALID", position)


def test_what_one_may_not_read_cannot_be_filtered_by() -> None:
    text = "attitude > 0"
    assert compiled(
        "CONTACTS", text, Caller(actor="", permissions=frozenset({"customer.contacts.read_sensitive"}))
    )
    with pytest.raises(InvalidArgument) as refused:
        compiled("CONTACTS", text, Caller(actor=""))
    assert refused.value.reason == "FILTER_INVALID"


async def test_a_segment_in_use_is_neither_deleted_nor_archived_and_its_members_are_enrolled(
    marketing: Service,
) -> None:
    mark, marketer = uuid4().hex, marketing.client("marketer")
    names = {await told(marketing, {"displayName": f"公司{i}", "industry": mark}) for i in range(3)}
    segment = await _with(marketing, f'industry = "{mark}"', names)
    campaign = await marketer.CreateCampaign(
        campaign={
            "displayName": "群发邀请", "startDate": {"year": 2026, "month": 1, "day": 1},
            "endDate": {"year": 2099, "month": 1, "day": 1}, "segments": [segment.name],
        }
    )  # fmt: skip
    for verb in ("DeleteSegment", "ArchiveSegment"):
        with pytest.raises(Refused) as refused:
            await getattr(marketer, verb)(name=segment.name)
        assert refused.value.reason == "SEGMENT_IN_USE", verb
    for _ in range(2):
        assert (await marketer.EnrolCampaign(name=campaign.name, segment=segment.name)).member_count == 3
    members = (await marketer.ListCampaignMembers(filter=f'campaign = "{campaign.name}"')).campaign_members
    assert {member.account for member in members} == names
    await marketer.CancelCampaign(name=campaign.name, reason="不办了")
    await marketer.ArchiveSegment(name=segment.name)
    with pytest.raises(Refused) as refused:
        await marketer.RebuildSegment(name=segment.name)
    assert refused.value.reason == "SEGMENT_ARCHIVED"


async def _with(service: Service, text: str, names: set[str], username: str = "marketer", **more: Any) -> Any:
    """A segment once it has these members."""
    segment = await segment_of(service, text, **more)

    async def there() -> bool:
        return await inside(service, segment.name, username) == names

    await service.eventually(there)
    return segment


async def _known(service: Service, name: str) -> bool:
    async with service.running.call("test", system("marketing")) as call:
        return await call.copy(name) is not None
