"""Contacts: where they work, and their cards."""

import io
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit import blobs
from crmkit.testing import Refused, Service
from customer.vcards import read_cards
from sqlalchemy import text

GBK = (
    b"BEGIN:VCARD\r\nVERSION:2.1\r\n"
    b"N;CHARSET=GBK;ENCODING=QUOTED-PRINTABLE:=C5=B7=D1=F4;=D0=C0;;;\r\n"
    b"FN;CHARSET=GBK;ENCODING=QUOTED-PRINTABLE:=C5=B7=D1=F4=D0=C0\r\n"
    b"ORG;CHARSET=GBK;ENCODING=QUOTED-PRINTABLE:=C3=FB=C6=AC=\r\n=B5=E7=D7=D3\r\n"
    b"TEL;CELL;PREF:138 0013 8000\r\nTEL;WORK;FAX:010-62782336\r\nEMAIL;INTERNET:xin@example.com\r\n"
    b"BDAY:1980-03-15\r\nEND:VCARD\r\n"
)
THREE = (
    "BEGIN:VCARD\nVERSION:3.0\nN:Doe;John;Quincy;Mr.;\nFN:John Doe\n"
    'TITLE:Head\\, Purchasing\nTEL;TYPE="home,voice":+1-650-253-0000\n'
    "item1.EMAIL;type=INTERNET;type=pref:john@example.com\nitem1.X-ABLabel:x\n"
    "NOTE:folded\n  text\nPHOTO;ENCODING=b;TYPE=JPEG:AAAA\n BBBB\nEND:VCARD\n"
)
FOUR = (
    "BEGIN:VCARD\nVERSION:4.0\nFN:Zoë Quint\nN:Quint;Zoë;;;\nBDAY:--0229\nORG:四版电气;研发部\n"
    'TEL;VALUE=uri;PREF=1;TYPE="voice,work":tel:+86-10-6278-2336;ext=8021\nEMAIL;TYPE=work:zoe@example.com\nEND:VCARD\n'
)
BROKEN = "BEGIN:VCARD\nVERSION:3.0\nN:\nNONSENSE WITHOUT COLON\nEND:VCARD\n"
NESTED = (
    "BEGIN:VCARD\nVERSION:2.1\nFN:外层\nAGENT:\nBEGIN:VCARD\nVERSION:2.1\nFN:里层\nEND:VCARD\nEND:VCARD\n"
)


# As the programs of the day write them: version, what is odd about it, and what has to be read all the same.
DIALECTS = {
    "Outlook 2.1": (
        "BEGIN:VCARD\r\nVERSION:2.1\r\nX-MS-SIGNATURE:YES\r\nN;LANGUAGE=en-us:Reed;Anna;;Ms.;Jr.\r\nFN:Ms. Anna Reed Jr.\r\n"
        "NOTE;ENCODING=QUOTED-PRINTABLE:a note\t\r\n=0D=0A=\r\nthat goes on=0D=0A=\r\n\r\nTEL;CELL;VOICE:(111) 555-4444\r\n"
        "ADR;WORK;PREF;ENCODING=QUOTED-PRINTABLE:;;2 Broad=0D=0AHouse 2;NY;NY;99999;USA\r\nKEY;X509;ENCODING=BASE64:\r\n TWlj\r\n\r\n"
        "BDAY;VALUE=DATE:19800322\r\nEMAIL;PREF;INTERNET:anna@example.com\r\nEND:VCARD\r\n",
        ("Ms. Anna Reed Jr.", "Reed", "(111) 555-4444", "anna@example.com", (1980, 3, 22)),
    ),
    "Android 2.1": (
        "BEGIN:VCARD\r\nVERSION:2.1\r\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=E7=8E=8B;=E5=B0=8F=E6=98=8E;;;\r\n"
        "FN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=E7=8E=8B=E5=B0=8F=E6=98=8E\r\nTEL;CELL;PREF:13800138000\r\n"
        "X-ANDROID-CUSTOM:vnd.android.cursor.item/nickname;ming;1;;;;;;;;;;;;;\r\nEND:VCARD\r\n",
        ("王小明", "王", "13800138000", "", (0, 0, 0)),
    ),
    "iOS 3.0": (
        "BEGIN:VCARD\nVERSION:3.0\nPRODID:-//Apple Inc.//iOS 17.0//EN\nN:陈;雨;;;\nFN:陈雨\n"
        "item1.EMAIL;type=INTERNET;type=pref:chen@example.com\nitem1.X-ABLabel:_$!<Work>!$_\n"
        "BDAY;X-APPLE-OMIT-YEAR=1604;value=date:1604-10-12\nX-SOCIALPROFILE;type=wechat;x-user=cy:x-apple:cy\nEND:VCARD\n",
        ("陈雨", "陈", "", "chen@example.com", (0, 10, 12)),
    ),
    "macOS 3.0": (
        "BEGIN:VCARD\nVERSION:3.0\nN:Reed;Anna;May\\,Lou;Ms.;\nFN:Ms. Anna May\\,Lou Reed\nTEL;type=WORK;type=pref:905-777-1234\n"
        "item1.TEL:905-222-1234\nitem1.X-ABLabel:AssistantPhone\nEMAIL;type=INTERNET;type=WORK:a@example.com\n"
        "BDAY;value=date:2012-06-06\nPHOTO;BASE64:\n  /9j/4AAQ\n  SkZJRg==\nEND:VCARD",
        ("Ms. Anna May,Lou Reed", "Reed", "905-777-1234", "a@example.com", (2012, 6, 6)),
    ),
    "Evolution 3.0": (
        'BEGIN:VCARD\nVERSION:3.0\nX-COUCHDB-APPLICATION-ANNOTATIONS:{"Evolution":{"revision":"2012-03-05T13:3\n 2:54Z"}}\n'
        'TEL;X-COUCHDB-UUID="c2fa1caa";TYPE=CELL:905-666\n -1234\nN:Reed;Anna;;;\nFN:Anna Reed\nORG:IBM;Accounting;Cellar\n'
        'EMAIL;TYPE=WORK;X-COUCHDB-UUID="83a75a5d":anna.\n reed@example.com\nBDAY:1980-03-22\nEND:VCARD',
        ("Anna Reed", "Reed", "905-666-1234", "anna.reed@example.com", (1980, 3, 22)),
    ),
    "RFC 6350 4.0": (
        "BEGIN:VCARD\nVERSION:4.0\nFN:Simone Perret\nN:Perret;Simone;;;ing. jr,M.Sc.\nBDAY:--0203\nLANG;PREF=1:fr\n"
        'TEL;VALUE=uri;TYPE="work,voice";PREF=1:tel:+1-418-656-9254;ext=102\nADR;TYPE=work:;Suite D2;2875 Laurier;\n Quebec;QC;;CA\n'
        "GEO;TYPE=work:geo:46.772673,-71.282945\nEMAIL;TYPE=work:s@example.com\nKEY;VALUE=uri:\n http://example.com/s.asc\nEND:VCARD\n",
        ("Simone Perret", "Perret", "+1-418-656-9254", "s@example.com", (0, 2, 3)),
    ),
}  # fmt: skip


async def test_a_title_typed_alone_stays_and_moves_with_the_account(customer: Service) -> None:
    one = await customer.sales1.CreateAccount(account={"displayName": "职务甲轴承有限公司"})
    other = await customer.sales1.CreateAccount(account={"displayName": "职务乙轴承有限公司"})
    made = await customer.sales1.CreateContact(
        contact={"displayName": "严职务", "account": one.name, "title": "采购员"}
    )

    async def change(mask: str, **fields: Any) -> Any:
        return await customer.sales1.UpdateContact(contact={"name": made.name, **fields}, updateMask=mask)

    changed = await change("title", title="采购经理")
    assert changed.title == changed.affiliations[0].title == "采购经理"
    assert not (await change("title", title="")).title
    await change("title", title="采购总监")
    moved = await change("account", account=other.name)
    assert (moved.account, moved.title) == (other.name, "")
    assert [(a.account, a.title, a.primary) for a in moved.affiliations] == [
        (one.name, "采购总监", False),
        (other.name, "", True),
    ]
    back = await change("account,title", account=one.name, title="顾问")
    assert [(a.account, a.title, a.primary) for a in back.affiliations] == [
        (other.name, "", False),
        (one.name, "顾问", True),
    ]


@pytest.mark.capability("c.contacts")
async def test_whoever_works_on_an_account_uses_its_people_and_they_move_with_it(customer: Service) -> None:
    account = await customer.sales1.CreateAccount(account={"displayName": "同工轴承有限公司"})
    one = await customer.sales1.CreateContact(contact={"displayName": "甲同工", "account": account.name})
    guest = customer.person("sales2").employee
    with pytest.raises(Refused):
        await customer.sales2.GetContact(name=one.name)
    await customer.manager.UpdateAccount(
        account={"name": account.name, "collaborators": [guest]}, updateMask="collaborators"
    )
    later = await customer.sales1.CreateContact(contact={"displayName": "乙同工", "account": account.name})
    seen = (await customer.sales2.ListContacts(filter=f'account = "{account.name}"')).contacts
    assert {contact.name for contact in seen} == {one.name, later.name}
    used = {
        "account": account.name, "channel": "CALL", "summary": "协作人联系", "contacts": [one.name],
        "startTime": "2026-11-20T02:00:00Z",
    }  # fmt: skip
    assert (await customer.sales2.CreateInteraction(interaction=used)).contacts == [one.name]
    for refused in (
        customer.sales2.UpdateContact(contact={"name": one.name, "title": "改"}, updateMask="title"),
        customer.sales2.DeleteContact(name=later.name),
    ):
        with pytest.raises(Refused) as problem:
            await refused
        assert problem.value.reason == "READ_ONLY_COLLABORATOR"
    # To another owner in one transaction: nobody is left behind, and the guest stays.
    await customer.admin.AssignAccount(name=account.name, owner=customer.person("stranger").employee)
    for contact in (one, later):
        moved = await customer.admin.GetContact(name=contact.name)
        assert (moved.owner, list(moved.collaborators)) == (customer.person("stranger").employee, [guest])
    await customer.admin.UpdateAccount(
        account={"name": account.name, "collaborators": []}, updateMask="collaborators"
    )
    with pytest.raises(Refused):
        await customer.sales2.GetContact(name=one.name)


@pytest.mark.capability("c.contacts")
async def test_who_changes_the_employer_leaves_what_was_said_where_it_was_said(customer: Service) -> None:
    old = await customer.sales1.CreateAccount(account={"displayName": "旧东家机床有限公司"})
    new = await customer.sales1.CreateAccount(account={"displayName": "新东家机床有限公司"})
    person = await customer.sales1.CreateContact(
        contact={"displayName": "蒋跳槽", "account": old.name, "title": "厂长"}
    )
    said = await customer.sales1.CreateInteraction(
        interaction={
            "account": old.name, "channel": "VISIT", "summary": "看了旧厂", "contacts": [person.name],
            "startTime": "2026-11-20T02:00:00Z",
        }
    )  # fmt: skip
    day = {"year": 2026, "month": 11, "day": 21}
    left = await customer.sales1.LeaveContact(name=person.name, date=day, toAccount=new.name)
    # What somebody was at the old one nobody says of the new.
    assert (left.account, left.title, left.state) == (new.name, "", pb.Contact.ACTIVE)
    ends = {a.account: (a.to_date.day, a.from_date.day, a.primary) for a in left.affiliations}
    assert ends == {old.name: (21, 0, False), new.name: (0, 21, True)}
    assert (await customer.sales1.GetInteraction(name=said.name)).account == old.name
    with pytest.raises(Refused) as refused:
        await customer.sales1.LeaveContact(name=person.name, account=old.name, date=day)
    assert refused.value.reason == "ALREADY_LEFT"
    (fact,) = await customer.facts("crm.customer.v1.ContactLeft", person.name)
    assert (fact["account"], fact["toAccount"]) == (old.name, new.name)


@pytest.mark.parametrize("program", DIALECTS)
def test_cards_of_every_program_are_read(program: str) -> None:
    text, expected = DIALECTS[program]
    (card,) = read_cards(text.encode())
    birth = (card.birth.year, card.birth.month, card.birth.day) if card.birth else (0, 0, 0)
    phone = next((phone.number for phone in card.phones), "")
    email = next((email.address for email in card.emails), "")
    assert (card.display_name, card.family_name, phone, email, birth) == expected
    # Whatever is cut off or bent in the middle: no exception, and the next card is read.
    for cut in range(0, len(text), 7):
        *_, last = read_cards((text[:cut] + "\nEND:VCARD\n" + FOUR).encode())
        assert last.display_name


def test_cards_of_every_version_are_read_and_a_broken_one_spoils_no_other() -> None:
    (gbk,) = read_cards(GBK)
    assert (gbk.display_name, gbk.family_name, gbk.given_name, gbk.organisation) == (
        "欧阳欣", "欧阳", "欣", "名片电子",
    )  # fmt: skip
    assert [(p.number, p.type, p.primary) for p in gbk.phones] == [
        ("138 0013 8000", "MOBILE", True),
        ("010-62782336", "FAX", False),
    ]
    raw = "BEGIN:VCARD\r\nVERSION:2.1\r\nFN:司马光\r\nEND:VCARD\r\n"
    assert [card.display_name for card in read_cards(raw.encode("gb18030"))] == ["司马光"]
    assert [card.display_name for card in read_cards(raw.encode("utf-16"))] == ["司马光"]
    cards = list(read_cards((THREE + BROKEN + NESTED + FOUR).encode()))
    assert [card.display_name for card in cards] == ["John Doe", "", "外层", "Zoë Quint"]
    assert (cards[0].title, cards[0].emails[0].primary) == ("Head, Purchasing", True)
    assert (cards[3].phones[0].number, cards[3].phones[0].extension) == ("+86-10-6278-2336", "8021")
    assert (cards[3].birth.year, cards[3].birth.month, cards[3].birth.day) == (0, 2, 29)
    assert not list(read_cards(b"END:VCARD\n\x00\xff no card"))


@pytest.mark.capability("c.contacts")
async def test_a_card_file_makes_contacts_once_and_a_contact_goes_out_as_it_came(customer: Service) -> None:
    account = await customer.sales1.CreateAccount(account={"displayName": "名片电子"})
    sha256, size = await blobs.keep(
        customer.running.store, io.BytesIO(GBK + THREE.encode() + BROKEN.encode())
    )
    file, person = f"files/{uuid4()}", customer.person("sales1")
    resource = {
        "name": file, "displayName": "cards.vcf", "sha256": sha256, "size": str(size), "etag": "1",
        "owner": person.employee, "department": person.department,
    }  # fmt: skip
    payload = {"name": file, "action": "CREATED", "actor": person.employee, "resource": resource}
    await customer.tell("crm.workspace.v1.ResourceChanged", payload, file)

    answer = await customer.sales1.ImportContactVcards(file=file)
    assert [c.display_name for c in answer.contacts] == ["欧阳欣", "John Doe"]
    assert [(s.position, s.reason) for s in answer.skipped] == [(3, "UNREADABLE")]
    first = answer.contacts[0]
    assert (first.account, first.phones[0].number) == (account.name, "+8613800138000")
    assert (first.birth.year, first.owner) == (1980, person.employee)

    again = await customer.sales1.ImportContactVcards(file=file, account=account.name)
    left_out = again.skipped[0]
    assert (left_out.position, left_out.reason, left_out.contact) == (1, "ALREADY_EXISTS", first.name)

    for version in ("", "4.0"):
        card = await customer.sales1.ExportContactVcard(name=first.name, version=version)
        assert card.file_name == "欧阳欣.vcf"
        assert all(len(line.encode()) <= 75 for line in card.text.split("\r\n"))
        (back,) = read_cards(card.text.encode())
        assert (back.display_name, back.family_name, back.organisation) == ("欧阳欣", "欧阳", "名片电子")
        assert [(p.number, p.type, p.primary) for p in back.phones] == [
            ("+8613800138000", "MOBILE", True), ("+861062782336", "FAX", False),
        ]  # fmt: skip
        assert back.birth == pb.Account.Birth(calendar="SOLAR", year=1980, month=3, day=15)
    with pytest.raises(Refused) as refused:
        await customer.sales2.ExportContactVcard(name=first.name)
    assert refused.value.reason == "NOT_FOUND"
    with pytest.raises(Refused) as refused:
        await customer.sales1.ImportContactVcards(text="no card at all")
    assert refused.value.reason == "IMPORT_UNREADABLE"


@pytest.mark.capability("c.contacts")
async def test_who_wishes_to_be_forgotten_is_forgotten_and_what_was_done_stays(customer: Service) -> None:
    admin, sales = customer.admin, customer.sales1
    account = (await sales.CreateAccount(account={"displayName": f"忘却{uuid4().hex}有限公司"})).name
    boss = await sales.CreateContact(
        contact={
            "displayName": "齐忘忧", "familyName": "齐", "givenName": "忘忧", "account": account, "title": "采购总监",
            "phones": [{"number": "13855556666"}], "emails": [{"address": "qi@forget.example"}], "wechat": "qiwangyou",
            "birth": {"calendar": "SOLAR", "month": 3, "day": 4}, "worries": "齐忘忧担心交期",
        }
    )  # fmt: skip
    junior = await sales.CreateContact(
        contact={
            "displayName": "柳记得",
            "account": account,
            "reportsTo": boss.name,
            "phones": [{"number": "13855557777"}],
        }
    )
    await sales.CreateConsent(
        consent={
            "subject": boss.name,
            "channel": "EMAIL",
            "purpose": "MARKETING",
            "source": "FORM",
            "decision": "GRANTED",
        }
    )
    talk = await sales.CreateInteraction(
        interaction={
            "account": account, "contacts": [boss.name], "channel": "CALL", "startTime": "2026-11-20T02:00:00Z",
            "summary": "齐忘忧确认了全年的交货计划和付款条件", "result": "齐忘忧同意", "nextStep": {"text": "给齐总寄样品"},
        }
    )  # fmt: skip
    await sales.AmendInteraction(name=talk.name, text="手机 13855556666")
    await sales.LeaveContact(name=boss.name, date={"year": 2026, "month": 11, "day": 20})

    async def lines() -> Any:
        found = (await admin.ListTimeline(filter=f'account = "{account}"')).timeline
        return found if any(boss.name == line.ref for line in found) else None

    await customer.eventually(lines)
    with pytest.raises(Refused) as refused:
        await sales.EraseContact(name=boss.name, reason="来函")
    assert refused.value.reason == "PERMISSION_DENIED"
    held = await admin.HoldContact(name=boss.name, reason="合同诉讼")
    with pytest.raises(Refused) as refused:
        await admin.EraseContact(name=boss.name, reason="来函")
    assert (refused.value.reason, held.legal_hold) == ("LEGAL_HOLD", "合同诉讼")
    await admin.HoldContact(name=boss.name)
    gone = await admin.EraseContact(name=boss.name, reason="2026-11-21 来函")
    assert (gone.state, gone.account, len(gone.affiliations)) == (pb.Contact.ERASED, account, 1)
    with pytest.raises(Refused) as refused:
        await admin.EraseContact(name=boss.name, reason="再来一次")
    assert refused.value.reason == "ILLEGAL_TRANSITION"

    async def told_no_more() -> bool:
        return (await sales.GetInteraction(name=talk.name)).summary == "***"

    await customer.eventually(told_no_more, 60)
    secrets = ("齐", "忘忧", "13855556666", "qi@forget", "qiwangyou", "采购总监")
    for shown in (gone, await lines(), await admin.ListConsents(filter=f'subject = "{boss.name}"')):
        assert not [word for word in secrets if word in str(shown)]
    assert (
        not (await admin.ListContacts(q="齐忘忧")).contacts
        and not (await admin.ListContacts(q="13855556666")).contacts
    )
    # Nowhere in what the service keeps for good; facts that were told are tidied away by their age.
    async with customer.running.system_call("test", None) as call:
        tables = [table.name for table in customer.running.app.tables.sorted_tables if table.name != "outbox"]
        for table in tables:
            for word in secrets:
                count = await call.db.scalar(
                    text(f"SELECT count(*) FROM {table} t WHERE t::text LIKE :word AND t::text LIKE :who"),
                    {"word": f"%{word}%", "who": f"%{boss.name.partition('/')[2]}%"},
                )
                assert not count, (table, word)
    await admin.RebuildTimeline(account=account)
    assert not [word for word in secrets if word in str(await lines())]
    # That they spoke, when and how stays.
    said = await sales.GetInteraction(name=talk.name)
    assert (said.contacts, said.channel) == ([boss.name], pb.Interaction.CALL)
    assert said.start_time == talk.start_time and not said.amendments and not said.HasField("next_step")
    kept = await sales.GetContact(name=junior.name)
    assert (kept.display_name, kept.reports_to, len(kept.phones)) == ("柳记得", boss.name, 1)
    latest = (await admin.ListConsents(filter=f'subject = "{boss.name}"', orderBy="time desc")).consents[0]
    assert pb.Consent.Decision.Name(latest.decision) == "WITHDRAWN"
    told = await customer.facts("crm.customer.v1.PersonalDataErased")
    (fact,) = [one for one in told if one["person"] == boss.name]
    assert {"displayName", "phones", "birth"} <= set(fact["fields"])


async def test_an_import_never_brings_a_withdrawn_consent_back(customer: Service) -> None:
    sales = customer.sales1
    account = await sales.CreateAccount(account={"displayName": f"撤回{uuid4().hex}"})
    said = {"subject": account.name, "channel": "EMAIL", "purpose": "MARKETING"}
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    # Both of one moment: the later decision counts.
    for decision in ("GRANTED", "WITHDRAWN"):
        await sales.CreateConsent(consent={**said, "source": "FORM", "decision": decision, "time": now})
    with pytest.raises(Refused) as refused:
        await sales.CreateConsent(consent={**said, "source": "IMPORT", "decision": "GRANTED"})
    assert refused.value.reason == "CONSENT_WITHDRAWN"
    given = await sales.CreateConsent(consent={**said, "source": "FORM", "decision": "GRANTED"})
    assert given.name
    assert (await sales.CreateConsent(consent={**said, "source": "IMPORT", "decision": "GRANTED"})).name
