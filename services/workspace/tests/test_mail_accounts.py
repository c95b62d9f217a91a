"""Mailboxes of people and teams: fetched, filed, shared, written and sent, over real servers."""

import base64
import email
import email.policy
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import obstore
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from crmkit import blobs
from crmkit.auth import system
from crmkit.blobs import storage_key
from crmkit.scanning import EICAR, EICAR_NAME
from crmkit.testing import Refused, Service, free_port, hostile
from crmkit.testing.mail import ImapServer, imap_server
from google.protobuf.json_format import MessageToDict
from sqlalchemy import text
from workspace import mailboxes, posting
from workspace.model.mail_account import check_host


class Smtp:
    """What a server was given, and whom it does not know."""

    def __init__(self) -> None:
        self.got: list[tuple[list[str], Any]] = []
        self.unknown: set[str] = set()
        self.answer = ""
        self.port = 0

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.unknown:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.answer:
            return self.answer
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.got.append((list(envelope.rcpt_tos), message))
        return "250 OK"

    def of(self, address: str) -> list[Any]:
        """The mails to an address."""
        return [message for people, message in list(self.got) if address in people]


def _signs_in(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=data.password == b"secret", handled=True)


@pytest.fixture(scope="module")
def smtp() -> Iterator[Smtp]:
    box = Smtp()
    server = Controller(
        box, hostname="127.0.0.1", port=free_port(), authenticator=_signs_in, auth_require_tls=False,
    )  # fmt: skip
    server.start()
    box.port = server.port
    yield box
    server.stop()


@pytest.fixture(scope="module")
def imap() -> Iterator[ImapServer]:
    with imap_server() as server:
        yield server


class Post:
    """What the tests do over and over."""

    def __init__(self, workspace: Service, imap: ImapServer, smtp: Smtp) -> None:
        self.workspace, self.imap, self.smtp = workspace, imap, smtp

    async def open(self, client: Any, password: str = "secret", **more: Any) -> Any:
        """A mailbox of a person's own."""
        address = f"u{uuid4().hex[:10]}@guanxi.example"
        self.imap.mailbox(address)
        body = {
            "displayName": "肖一凡", "address": address, "password": password, "imapHost": "127.0.0.1",
            "imapPort": self.imap.port, "imapSecurity": "PLAIN", "smtpHost": "127.0.0.1", "smtpPort": self.smtp.port,
            "smtpSecurity": "PLAIN", **more,
        }  # fmt: skip
        return await client.CreateMailAccount(mailAccount=body)

    async def deliver(self, client: Any, box: Any, *mails: bytes) -> list[Any]:
        """Puts mails into the box and reads it until there are as many more."""
        before = len(await self.mails(client, box))
        self.imap.folders[box.address]["INBOX"].extend(mails)
        await client.FetchMailAccount(name=box.name)
        await self.read()

        async def come() -> Any:
            found = await self.mails(client, box)
            if len(found) >= before + len(mails):
                return found
            await self.read()
            return None

        return await self.workspace.eventually(come)

    async def read(self) -> None:
        """Begins to read the boxes whose time has come."""
        async with self.workspace.running.call("test", system("workspace")) as call:
            await mailboxes.start_due(call)

    async def mails(self, client: Any, box: Any) -> list[Any]:
        page = await client.ListMailMessages(
            filter=f'mailbox = "{box.name}"', orderBy="create_time", pageSize=200
        )
        return list(page.mail_messages)

    async def state(self, client: Any, message: Any, *wanted: str) -> Any:
        """The mail, once it stands so."""

        async def there() -> Any:
            found = await client.GetMailMessage(name=message.name)
            return found if MessageToDict(found)["state"] in wanted else None

        return await self.workspace.eventually(there)

    async def customer(self, username: str, *addresses: str, **more: Any) -> tuple[str, str]:
        """A customer of a person's, and a contact there who has the addresses."""
        person = self.workspace.person(username)
        account, contact = f"accounts/{uuid4()}", f"contacts/{uuid4()}"
        scope = {"owner": person.employee, "department": person.department}
        for name, record in (
            (account, {"displayName": "华东机械", **scope, **more}),
            (contact, {"displayName": "王明", "account": account, "emails": [{"address": one} for one in addresses], **scope}),
        ):  # fmt: skip
            payload = {"name": name, "action": "CREATED", "resource": {"name": name, **record}}
            await self.workspace.tell("crm.customer.v1.ResourceChanged", payload, name)

        async def known() -> bool:
            async with self.workspace.running.sessions() as session:
                found = await session.scalar(
                    text("SELECT count(*) FROM known_records WHERE name = ANY(:names)"),
                    {"names": [account, contact]},
                )
                filed = await session.scalar(
                    text("SELECT count(*) FROM mail_addresses WHERE name = :name"), {"name": contact}
                )
                return found == 2 and filed == len(addresses)

        await self.workspace.eventually(known)
        return account, contact


@pytest.fixture
def post(workspace: Service, imap: ImapServer, smtp: Smtp) -> Post:
    return Post(workspace, imap, smtp)


def mail(sender: str, to: str, subject: str, body: str = "您好", head: str = "", id: str = "") -> bytes:
    """A mail as a program writes it."""
    told = base64.b64encode(subject.encode("gb18030")).decode()
    return (
        f"From: =?gb18030?B?{base64.b64encode('王明'.encode('gb18030')).decode()}?= <{sender}>\r\nTo: <{to}>\r\n"
        f"Subject: =?gb18030?B?{told}?=\r\nMessage-ID: {id or f'<{uuid4()}@example.com>'}\r\n"
        f"Date: Mon, 16 Nov 2026 10:00:00 +0800\r\n{head}"
        "Content-Type: text/plain; charset=gbk\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        f"{base64.b64encode(body.encode('gb18030')).decode()}\r\n"
    ).encode()


@pytest.mark.capability("w.mail")
async def test_mail_is_fetched_once_and_filed_by_thread_then_address_and_never_guessed_twice(
    workspace: Service, post: Post
) -> None:
    me = workspace.sales1
    box = await post.open(me)
    wang, both = f"wang{uuid4().hex[:8]}@example.com", f"both{uuid4().hex[:8]}@example.com"
    account, contact = await post.customer("sales1", wang, both)
    other, _ = await post.customer("sales1", both)
    hidden, _ = await post.customer(
        "sales2", f"theirs{uuid4().hex[:8]}@example.com", wang.replace("wang", "li")
    )
    first = mail(
        wang,
        box.address,
        "询价单",
        "请报价。\n\n在 2026年11月1日，肖一凡 写道：\n> 好",
        id=f"<first-{box.address}>",
    )
    (message,) = await post.deliver(me, box, first)
    shown = MessageToDict(message)
    assert (shown["displayName"], shown["preview"], shown["sender"]["displayName"]) == (
        "询价单",
        "请报价。",
        "王明",
    )
    assert (shown["direction"], shown["state"], shown["filing"]) == ("INBOUND", "RECEIVED", "FILED")
    assert (message.account, message.contact) == (account, contact)
    told = await me.ReadMailMessage(name=message.name)
    assert (told.text, told.quote) == ("请报价。", "在 2026年11月1日，肖一凡 写道：\n> 好")

    # A colleague of the customer's whom we do not know answers in the thread; the subject alone joins only who was in it.
    unknown = f"zhao{uuid4().hex[:8]}@example.com"
    answers = [
        mail(unknown, box.address, "Re: 别的", head=f"In-Reply-To: <first-{box.address}>\r\n"),
        mail(wang, box.address, "回复：询价单"),
        mail(unknown + ".org", box.address, "回复：询价单"),
        mail(both, box.address, "新事"),
        mail(wang.replace("wang", "li"), box.address, "不是我的客户"),
        first,
    ]
    mails = await post.deliver(me, box, *answers[:5])
    by_reference, by_subject, stranger, ambiguous, invisible = mails[1:]
    assert by_reference.thread == by_subject.thread == message.thread != stranger.thread
    assert (by_reference.account, by_subject.account, stranger.account) == (account, account, "")
    assert MessageToDict(ambiguous)["filing"] == "AMBIGUOUS" and not ambiguous.account
    assert sorted(ambiguous.candidates) == sorted([account, other])
    assert MessageToDict(invisible)["filing"] == "UNKNOWN" and hidden not in str(invisible)

    # The same mail again, and from a server that counts anew: nothing doubles.
    post.imap.folders[box.address]["INBOX"].append(first)
    post.imap.validity += 1
    await post.deliver(
        me, box, mail(both, box.address, "回复：新事", head=f"References: {ambiguous.message_id}\r\n")
    )
    mails = await post.mails(me, box)
    assert len(mails) == 7
    assert MessageToDict(mails[-1])["filing"] == "AMBIGUOUS"

    # A person says where it belongs: the thread follows, and what comes later too.
    with pytest.raises(Refused) as refused:
        await me.FileMailMessage(name=ambiguous.name, account=hidden)
    assert refused.value.reason == "UNKNOWN_REFERENCE"
    await me.FileMailMessage(name=ambiguous.name, account=other, links=[account])
    later = await post.deliver(
        me, box, mail(both, box.address, "回复：新事", head=f"References: {ambiguous.message_id}\r\n")
    )
    assert [MessageToDict(one)["filing"] for one in later[-2:]] == ["FILED", "FILED"]
    assert [one.account for one in later[-2:]] == [other, other]
    assert list((await me.GetMailMessage(name=ambiguous.name)).links) == [account]


async def ready_of(client: Any, asked: Any) -> Any:
    """An export, once its file is there."""
    found = await client.GetExport(name=asked.name)
    return found if MessageToDict(found)["state"] in {"READY", "FAILED"} else None


@pytest.mark.capability("w.mail")
async def test_others_see_of_mail_what_the_mailbox_shares_and_no_more(workspace: Service, post: Post) -> None:
    me, boss = workspace.sales1, workspace.manager
    box = await post.open(me)
    wang, marker = f"w{uuid4().hex[:8]}@example.com", f"秘密{uuid4().hex[:6]}"
    account, _ = await post.customer("sales1", wang)
    (message,) = await post.deliver(me, box, mail(wang, box.address, f"关于{marker}", f"内容{marker}"))
    for client in (boss, workspace.admin, workspace.sales2):
        with pytest.raises(Refused):
            await client.GetMailMessage(name=message.name)
        assert not (await client.ListMailMessages(q=marker)).mail_messages

    async def seen(client: Any = boss) -> Any:
        found = (await client.ListMailRecords(filter=f'account = "{account}"')).mail_records
        return found[0] if found else None

    record = await seen()
    shown = MessageToDict(record)
    assert (shown["sharing"], shown["sender"]["address"], shown["direction"]) == ("METADATA", wang, "INBOUND")
    assert not record.display_name and not record.body and marker not in str(record)
    assert not (await boss.ListMailRecords(q=marker)).mail_records
    assert await seen(workspace.sales2) is None
    (fact,) = await workspace.facts("crm.workspace.v1.MailReceived", record.name)
    assert fact["mailRecord"]["account"] == account and marker not in str(fact)
    changes = await workspace.facts("crm.workspace.v1.ResourceChanged", record.name)
    assert changes and marker not in str(changes)

    async def shares(level: str) -> Any:
        current = await me.GetMailAccount(name=box.name)
        await me.UpdateMailAccount(mailAccount={"name": current.name, "sharing": level})

        async def there() -> Any:
            found = await seen()
            return found if MessageToDict(found)["sharing"] == level else None

        return await workspace.eventually(there)

    record = await shares("SUBJECT")
    assert record.display_name == f"关于{marker}" and not record.body
    record = await shares("FULL")
    assert record.body == f"内容{marker}" and (await boss.ListMailRecords(q=f"内容{marker}")).mail_records
    record = await shares("METADATA")
    assert marker not in str(record) and not (await boss.ListMailRecords(q=marker)).mail_records
    last = (await workspace.facts("crm.workspace.v1.MailRecordChanged", record.name))[-1]
    assert marker not in str(last)

    # An export of whoever sees the customer's mail holds no more than the mailbox shares.
    why = {"purpose": "REPORT", "purposeText": "客户往来邮件统计所需要的清单"}
    for level, told in (
        ("METADATA", []),
        ("SUBJECT", ["关于"]),
        ("FULL", ["关于", "内容"]),
        ("METADATA", []),
    ):
        await shares(level)
        asked = await boss.CreateExport(
            export={
                "collection": "mailRecords",
                "filter": f'account = "{account}"',
                "format": "NDJSON",
                **why,
            }
        )

        file = await workspace.eventually(lambda asked=asked: ready_of(boss, asked))
        stored = await obstore.get_async(workspace.running.store, storage_key(file.sha256))
        content = bytes(await stored.bytes_async()).decode()
        assert wang in content
        assert [word for word in ("关于", "内容") if f"{word}{marker}" in content] == told
    for client in (boss, workspace.admin):
        asked = await client.CreateExport(export={"collection": "mailMessages", "format": "CSV", **why})
        assert (await workspace.eventually(lambda c=client, a=asked: ready_of(c, a))).rows == 0

    # Whoever shares the mailbox reads it whole; whoever owns the customer next sees the record.
    colleague = workspace.person("sales2")
    await me.UpdateMailAccount(mailAccount={"name": box.name, "collaborators": [colleague.employee]})

    async def reads() -> Any:
        found = (await workspace.sales2.ListMailMessages(q=marker)).mail_messages
        return found[0] if found else None

    assert (await workspace.eventually(reads)).name == message.name
    for change in ({"displayName": "别人的"}, {"sharing": "FULL"}):
        with pytest.raises(Refused) as refused:
            await workspace.sales2.UpdateMailAccount(mailAccount={"name": box.name, **change})
        assert refused.value.reason == "NOT_THE_OWNER"

    # Kept private: nothing stands with the customer any more, nor does what comes later.
    await me.HideMailMessage(name=message.name)
    assert await seen() is None
    assert (await workspace.facts("crm.workspace.v1.MailRecordChanged", record.name))[-1]["withdrawn"]
    await post.deliver(
        me, box, mail(wang, box.address, "Re: x", head=f"References: {message.message_id}\r\n")
    )
    assert MessageToDict((await post.mails(me, box))[-1])["filing"] == "PERSONAL" and await seen() is None


@pytest.mark.capability("w.mail")
async def test_mail_with_an_erased_person_says_nothing_of_the_person_any_more(
    workspace: Service, post: Post
) -> None:
    me = workspace.sales1
    box = await post.open(me)
    await me.UpdateMailAccount(mailAccount={"name": box.name, "sharing": "FULL"})
    wang, marker = f"w{uuid4().hex[:8]}@example.com", f"秘密{uuid4().hex[:6]}"
    account, contact = await post.customer("sales1", wang)
    (message,) = await post.deliver(me, box, mail(wang, box.address, f"关于{marker}", f"内容{marker}"))
    assert (message.contact, message.account) == (contact, account)
    pair = f'account = "{account}"'

    async def shared() -> Any:
        found = (await me.ListMailRecords(filter=pair)).mail_records
        return found[0] if found and marker in found[0].body else None

    record = await workspace.eventually(shared)
    await workspace.tell("crm.customer.v1.PersonalDataErased", {"person": contact}, contact)

    async def forgotten() -> bool:
        kept = [await me.GetMailMessage(name=message.name), await me.GetMailRecord(name=record.name)]
        return not any(marker in str(one) or wang in str(one) for one in kept)

    await workspace.eventually(forgotten, 60)
    assert not (await me.ListMailMessages(q=marker)).mail_messages
    assert marker not in str(await me.ReadMailMessage(name=message.name))
    # That there was a mail, and when, stays; and time lines that tell of it hear.
    kept = await me.GetMailRecord(name=record.name)
    assert (kept.account, kept.contact, kept.occur_time) == (account, contact, record.occur_time)
    last = (await workspace.facts("crm.workspace.v1.MailRecordChanged", record.name))[-1]
    assert last["withdrawn"] and marker not in str(last)
    async with workspace.running.system_call("test", None) as call:
        for table in ("mail_messages", "mail_bodies", "mail_records", "search_documents"):
            if await call.db.scalar(text("SELECT to_regclass(:t)"), {"t": table}):
                statement = text(f"SELECT count(*) FROM {table} t WHERE t::text LIKE :word")
                assert await call.db.scalar(statement, {"word": f"%{marker}%"}) == 0, table


async def test_mail_is_written_from_a_template_answered_signed_and_sent_once_with_files(
    workspace: Service, post: Post, smtp: Smtp
) -> None:
    me = workspace.sales1
    box = await post.open(me, signature="肖一凡\n国关")
    wang = f"w{uuid4().hex[:8]}@example.com"
    account, contact = await post.customer("sales1", wang)
    with pytest.raises(Refused) as refused:
        await workspace.manager.CreateMailTemplate(
            mailTemplate={"displayName": "坏", "subject": "{account.displayName}", "body": "{secret}"}
        )
    assert refused.value.reason == "TEMPLATE_INVALID"
    template = await workspace.manager.CreateMailTemplate(
        mailTemplate={
            "displayName": "合同", "subject": "{account.displayName}的合同", "body": "{contact.displayName}您好，请查收。{record.x}",
        }
    )  # fmt: skip
    content = "合同正文".encode()
    stored = await _stored(workspace, content)
    file = await me.CreateFile(
        file={"displayName": "合同（终稿）.pdf", "mediaType": "application/pdf", **stored}
    )
    draft = await me.CreateMailMessage(
        mailMessage={
            "mailbox": box.name, "template": template.name, "account": account, "contact": contact,
            "to": [{"address": wang, "displayName": "王, 明"}], "bcc": [{"address": "chief@guanxi.example"}], "files": [file.name],
        }
    )  # fmt: skip
    assert (draft.display_name, MessageToDict(draft)["state"]) == ("华东机械的合同", "DRAFT")
    assert (await me.ReadMailMessage(name=draft.name)).text == "王明您好，请查收。"
    assert not (await workspace.manager.ListMailRecords(filter=f'account = "{account}"')).mail_records
    await me.SendMailMessage(name=draft.name)
    sent = await post.state(me, draft, "SENT")
    (people, got), *more = [one for one in smtp.got if wang in one[0]]
    assert not more and sorted(people) == sorted([wang, "chief@guanxi.example"]) and got["Bcc"] is None
    assert (got["Subject"], got["From"].addresses[0].display_name) == ("华东机械的合同", "肖一凡")
    assert got["To"].addresses[0].addr_spec == wang and got["To"].addresses[0].display_name == "王, 明"
    assert got["Message-ID"] == sent.message_id
    assert got.get_body().get_content().replace("\r\n", "\n") == "王明您好，请查收。\n\n-- \n肖一凡\n国关\n"
    (part,) = got.iter_attachments()
    assert (part.get_filename(), part.get_content()) == ("合同（终稿）.pdf", content)
    with pytest.raises(Refused) as refused:
        await me.SendMailMessage(name=draft.name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    (record,) = (await workspace.manager.ListMailRecords(filter=f'account = "{account}"')).mail_records
    assert await workspace.facts("crm.workspace.v1.MailSent", record.name)

    # What we have sent comes back from the folder of sent mail, and is known; the answer joins the thread and is answered.
    answer = mail(
        wang,
        box.address,
        "Re: 合同",
        "收到",
        head=f"In-Reply-To: {sent.message_id}\r\nCc: lin@example.com\r\n",
    )
    post.imap.folders[box.address]["INBOX"].append(bytes(got))
    mails = await post.deliver(me, box, answer)
    mails = [one for one in mails if one.thread == sent.thread]
    assert len(mails) == 2 and mails[1].account == account
    reply = await me.ReplyMailMessage(name=mails[1].name, body="不客气", all=True)
    assert ([one.address for one in reply.to], [one.address for one in reply.cc]) == (
        [wang],
        ["lin@example.com"],
    )
    await me.SendMailMessage(name=reply.name)
    await post.state(me, reply, "SENT")
    second = smtp.of("lin@example.com")[0]
    assert second["In-Reply-To"] == mails[1].message_id
    assert (
        second["References"] == f"{sent.message_id} {mails[1].message_id}" and second["Subject"] == "Re: 合同"
    )


async def _stored(workspace: Service, content: bytes) -> dict[str, str]:
    sha256, size = await blobs.keep(workspace.running.store, BytesIO(content))
    return {"sha256": sha256, "size": str(size)}


@pytest.mark.capability("s.quote")
async def test_a_quote_that_is_sent_leaves_by_mail_with_its_print_and_who_has_no_mailbox_is_told(
    workspace: Service, post: Post, smtp: Smtp, office: Any
) -> None:
    person = await office.hire(f"quote{uuid4().hex[:8]}", ["sales_representative"])
    me = await office.client_of(person)
    content = b"%PDF-1.7 quotation"
    stored = await _stored(workspace, content)

    async def sent(address: str, **more: Any) -> str:
        name = f"quotes/{uuid4()}"
        file = {
            "name": f"files/{uuid4()}",
            "displayName": "Q-1-V1.pdf",
            "mediaType": "application/pdf",
            **stored,
        }
        quote = {
            "name": name, "number": "Q-1-V1", "displayName": "二号线改造", "owner": person.name,
            "validUntilDate": {"year": 2031, "month": 5, "day": 6},
        }  # fmt: skip
        fact = {"quote": quote, "recipients": [address], "file": file, **more}
        # Told twice, it is one mail.
        await workspace.tell("crm.sales.v1.QuoteSent", fact, name, times=2, actor=person.name)
        return name

    lost = await sent(f"x{uuid4().hex[:8]}@example.com")
    (notice,) = await office.notices(me, lost)
    assert "Q-1-V1" in notice.display_name and notice.body
    box = await post.open(me)
    wang = f"w{uuid4().hex[:8]}@example.com"
    name = await sent(wang, text="请看附件")

    (got,) = await workspace.eventually(lambda: smtp.of(wang))
    assert (got["From"].addresses[0].addr_spec, got["Subject"]) == (box.address, "报价单 Q-1-V1 二号线改造")
    assert got.get_body().get_content().strip() == "请看附件"
    (part,) = got.iter_attachments()
    assert (part.get_filename(), part.get_content()) == ("Q-1-V1.pdf", content)
    (mine,) = (await me.ListMailMessages(filter=f'mailbox = "{box.name}"')).mail_messages
    assert list(mine.links) == [name]
    silent = f"s{uuid4().hex[:8]}@example.com"
    await sent(silent)
    (got,) = await workspace.eventually(lambda: smtp.of(silent))
    assert "2031-05-06" in got.get_body().get_content()


@pytest.mark.capability("w.mail")
async def test_a_mail_that_comes_back_marks_the_address_and_tells_its_writer(
    workspace: Service, post: Post, smtp: Smtp, office: Any
) -> None:
    me = await office.client_of(await office.hire(f"bounce{uuid4().hex[:8]}", ["sales_representative"]))
    box = await post.open(me)
    gone, good = f"gone{uuid4().hex[:8]}@example.com", f"good{uuid4().hex[:8]}@example.com"

    async def write(*to: str, **more: Any) -> Any:
        body = {
            "mailbox": box.name,
            "displayName": "通知",
            "body": "您好",
            "to": [{"address": one} for one in to],
            **more,
        }
        return await me.CreateMailMessage(mailMessage=body)

    with pytest.raises(Refused) as refused:
        await me.SendMailMessage(name=(await write()).name)
    assert refused.value.reason == "RECIPIENT_MISSING"
    draft = await write(gone, good)
    await me.SendMailMessage(name=draft.name)
    sent = await post.state(me, draft, "SENT")
    report = (
        f"From: MAILER-DAEMON@example.com\r\nTo: {box.address}\r\nSubject: Undelivered\r\nMessage-ID: <{uuid4()}@mx>\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n--b\r\n\r\nSorry.\r\n--b\r\n'
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n"
        f"Final-Recipient: rfc822; {gone}\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 no such user\r\n\r\n"
        f"Final-Recipient: rfc822; not-ours@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        f"\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {sent.message_id}\r\nSubject: x\r\n\r\n--b--\r\n"
    ).encode()
    await post.deliver(me, box, report)
    back = await post.state(me, draft, "BOUNCED")
    assert gone in back.problem and "5.1.1" in back.problem
    (notice,) = await office.notices(me, draft.name)
    assert gone in notice.display_name
    assert (await workspace.facts("crm.workspace.v1.MailBounced", draft.name))[0]["address"] == gone
    again = await write(gone)
    with pytest.raises(Refused) as refused:
        await me.SendMailMessage(name=again.name)
    assert refused.value.reason == "ADDRESS_BOUNCED"
    # Whoever writes a notification marks no address that we have not written to.
    free = await write("not-ours@example.com", good)
    await me.SendMailMessage(name=free.name)
    await post.state(me, free, "SENT")
    # A server may refuse at once; who insists may send all the same.
    smtp.unknown.add(gone)
    await me.UpdateMailMessage(mailMessage={"name": again.name, "acceptBounced": True})
    await me.SendMailMessage(name=again.name)
    assert "no such user" in (await post.state(me, again, "BOUNCED")).problem


async def test_what_a_server_does_not_take_is_tried_again_and_what_it_refuses_has_failed(
    workspace: Service, post: Post, smtp: Smtp, office: Any
) -> None:
    me = await office.client_of(await office.hire(f"retry{uuid4().hex[:8]}", ["sales_representative"]))
    box = await post.open(me)
    to = f"r{uuid4().hex[:8]}@example.com"
    draft = await me.CreateMailMessage(
        mailMessage={"mailbox": box.name, "displayName": "重试", "to": [{"address": to}]}
    )
    smtp.answer = "451 4.3.0 later"
    try:
        await me.SendMailMessage(name=draft.name)

        async def tried() -> bool:
            return "451" in (await me.GetMailMessage(name=draft.name)).problem

        await workspace.eventually(tried)
    finally:
        smtp.answer = ""
    async with workspace.running.call("test", system("workspace")) as call:
        call.now = datetime.now(UTC) + timedelta(minutes=1)
        await posting.start_waiting(call)
    await post.state(me, draft, "SENT")
    assert len(smtp.of(to)) == 1

    # The process dies in the midst of sending: it is not sent again by itself, and its writer is told.
    async with workspace.running.engine.begin() as connection:
        await connection.execute(
            text("UPDATE mail_messages SET state = 'SENDING' WHERE id = :id"), {"id": UUID(draft.name[13:])}
        )
        await connection.execute(
            text(
                "UPDATE bulk_runs SET state = 'RUNNING', phase = 'SENDING', lease_until = clock_timestamp()"
                " WHERE id = (SELECT id FROM bulk_runs WHERE about = :about ORDER BY create_time DESC LIMIT 1)"
            ),
            {"about": draft.name},
        )
    lost = await post.state(me, draft, "FAILED")
    assert lost.problem == "SEND_UNKNOWN" and len(smtp.of(to)) == 1
    assert (await office.notices(me, draft.name))[0].display_name.startswith("邮件未能发送")
    await me.RetryMailMessage(name=draft.name)
    await post.state(me, draft, "SENT")
    first, second = smtp.of(to)
    assert first["Message-ID"] == second["Message-ID"]


async def test_a_wrong_password_is_told_to_its_owner_once_and_not_tried_again(
    workspace: Service, post: Post, imap: ImapServer, office: Any
) -> None:
    me = await office.client_of(await office.hire(f"login{uuid4().hex[:8]}", ["sales_representative"]))
    box = await post.open(me, password="wrong")
    with pytest.raises(Refused) as refused:
        await me.TestMailAccount(name=box.name)
    assert refused.value.reason == "MAIL_AUTH_FAILED"
    await post.read()

    async def failing() -> Any:
        found = await me.GetMailAccount(name=box.name)
        return found if MessageToDict(found)["state"] == "FAILING" else None

    assert (await workspace.eventually(failing)).problem.startswith("MAIL_AUTH_FAILED")
    (notice,) = await office.notices(me, box.name)
    assert box.address in notice.display_name
    tries = len(imap.logins)
    for _ in range(2):
        await post.read()
    draft = await me.CreateMailMessage(
        mailMessage={"mailbox": box.name, "displayName": "x", "to": [{"address": "a@example.com"}]}
    )
    with pytest.raises(Refused) as refused:
        await me.SendMailMessage(name=draft.name)
    assert refused.value.reason == "MAILBOX_NOT_ACTIVE"
    assert [one for one in imap.logins[tries:] if one[0] == box.address] == []

    # The password is nowhere: not in answers, facts, nor the table, and a new one is tried at once.
    fixed = await me.UpdateMailAccount(mailAccount={"name": box.name, "password": "secret"})
    assert MessageToDict(fixed)["state"] == "ACTIVE" and fixed.HasField("password_time")
    assert (await me.TestMailAccount(name=box.name)).name == box.name
    assert not fixed.password and "secret" not in str(await me.GetMailAccount(name=box.name))
    facts = await workspace.facts("crm.workspace.v1.ResourceChanged", box.name)
    assert facts and '"secret"' not in str(facts) and "'wrong'" not in str(facts)
    async with workspace.running.call("test", system("workspace")) as call:
        kept = await call.db.scalar(
            text("SELECT secret FROM mail_accounts WHERE id = :id"), {"id": UUID(box.name[13:])}
        )
    assert kept and "secret" not in kept and "wrong" not in kept
    await post.deliver(me, box, mail("a@example.com", box.address, "通了"))


async def test_a_server_that_breaks_off_loses_and_doubles_nothing_and_broken_mail_stops_none(
    workspace: Service, post: Post, imap: ImapServer
) -> None:
    me = workspace.sales1
    box = await post.open(me)
    broken = [
        b"", b"\xff\xfe\x00garbage", b"From: x\r\n\r\n",
        "From: 王 <w@example.com>\nSubject: 直接八位编码\n\n正文".encode("gb18030"),
        b"Subject: =?no-such?B?@@@?=\r\nContent-Type: text/plain; charset=no-such\r\n\r\n\xc4\xe3\xba\xc3",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!\r\n--b",
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(2000)),
        b"Message-ID: <" + b"x" * 5000 + b">\r\nSubject: " + b"y" * 9000 + b"\r\nDate: never\r\n\r\nhi",
        "From: a@example.com\r\nContent-Type: text/html; charset=utf-8\r\nSubject: html\r\n\r\n"
        "<p onclick=steal()>你好<script>steal()</script><img src=http://track/x.gif><a href='javascript:steal()'>点</a></p>"
        .encode(),
    ]  # fmt: skip
    imap.cut[box.address] = 2
    imap.folders[box.address]["INBOX"].extend(broken)
    await me.FetchMailAccount(name=box.name)
    await post.read()

    async def cut_off() -> bool:
        return (
            box.address not in imap.cut and "UNREACHABLE" in (await me.GetMailAccount(name=box.name)).problem
        )

    await workspace.eventually(cut_off)
    mails = await post.deliver(me, box)

    async def all_there() -> Any:
        await post.read()
        found = await post.mails(me, box)
        return found if len(found) == len(broken) else None

    await me.FetchMailAccount(name=box.name)
    await post.read()
    mails = await workspace.eventually(all_there)
    subjects = [one.display_name for one in mails]
    assert subjects[3] == "直接八位编码" and mails[3].sender.address == "w@example.com"
    assert mails[4].preview == "你好" and len(mails[7].display_name) == 500
    html = await me.ReadMailMessage(name=mails[8].name)
    assert (html.text, html.blocked_images) == ("你好点", 1)
    assert "你好" in html.html and "steal" not in html.html and "track" not in html.html
    open_ = await me.ReadMailMessage(name=mails[8].name, showImages=True)
    assert "track" not in open_.html  # not over an open line either


async def test_a_real_server_is_read_by_folders_with_names_in_chinese(
    workspace: Service, post: Post, dovecot: tuple[str, Path]
) -> None:
    url, inbox = dovecot
    me, port = workspace.sales1, int(url.rpartition(":")[2])
    address = f"dovecot{uuid4().hex[:8]}@guanxi.example"
    sent = inbox.parent / ".&XfJT0ZAB-"
    for folder in ("new", "cur", "tmp"):
        (sent / folder).mkdir(parents=True)
    for where, raw in (
        (inbox, mail("a@example.com", address, "真服务器")), (sent / "new", mail(address, "b@example.com", "已发出")),
    ):  # fmt: skip
        (where / f"{uuid4().hex}.test").write_bytes(raw)
    for path in [sent, *sent.rglob("*"), *inbox.iterdir()]:
        os.chown(path, 65534, 65534)
    box = await me.CreateMailAccount(
        mailAccount={
            "displayName": "肖", "address": address, "userName": "calendar", "password": "secret", "imapHost": "127.0.0.1",
            "imapPort": port, "imapSecurity": "PLAIN", "smtpHost": "127.0.0.1", "smtpPort": post.smtp.port,
            "smtpSecurity": "PLAIN", "folders": ["INBOX", "已发送"],
        }
    )  # fmt: skip
    assert (await me.TestMailAccount(name=box.name)).name == box.name
    await post.read()

    async def come(count: int) -> Any:
        found = await post.mails(me, box)
        return found if len(found) == count else None

    mails = await workspace.eventually(lambda: come(2))
    assert {(one.display_name, MessageToDict(one)["state"]) for one in mails} == {
        ("真服务器", "RECEIVED"),
        ("已发出", "SENT"),
    }
    extra = inbox / f"{uuid4().hex}.test"
    extra.write_bytes(mail("a@example.com", address, "再来一封"))
    os.chown(extra, 65534, 65534)

    async def again() -> Any:
        with suppress(Refused):
            await me.FetchMailAccount(name=box.name)
        await post.read()
        return await come(3)

    await workspace.eventually(again)


async def test_files_of_mail_are_read_by_those_who_share_the_mailbox_alone(
    workspace: Service, post: Post
) -> None:
    me = workspace.sales1
    box = await post.open(me)
    raw = (
        f"From: a@example.com\r\nTo: {box.address}\r\nSubject: file\r\nMessage-ID: <{uuid4()}@x>\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nsee\r\n--b\r\n"
        "Content-Type: application/pdf\r\nContent-Disposition: attachment; filename*=utf-8''%E6%8A%A5%E4%BB%B7.pdf\r\n"
        f"Content-Transfer-Encoding: base64\r\n\r\n{base64.b64encode(b'%PDF-1.7').decode()}\r\n--b--\r\n"
    ).encode()
    (message,) = await post.deliver(me, box, raw)
    (name,) = message.files
    file = await me.GetFile(name=name)
    assert (file.display_name, file.media_type, list(file.attached_to)) == (
        "报价.pdf",
        "application/pdf",
        [message.name],
    )
    for client in (workspace.admin, workspace.manager):
        with pytest.raises(Refused) as refused:
            await client.GetFile(name=name)
        assert refused.value.reason == "NOT_FOUND"


@pytest.mark.capability("a.security")
async def test_no_infected_file_comes_in_or_leaves_by_mail(workspace: Service, post: Post) -> None:
    me, store = workspace.sales1, workspace.running.store
    box = await post.open(me)
    sick, name = EICAR + b"\r\n" + uuid4().bytes, f"{uuid4().hex}.doc"
    raw = (
        f"From: a@example.com\r\nTo: {box.address}\r\nSubject: file\r\nMessage-ID: <{uuid4()}@x>\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nsee\r\n--b\r\n"
        f"Content-Type: application/msword\r\nContent-Disposition: attachment; filename={name}\r\n"
        f"Content-Transfer-Encoding: base64\r\n\r\n{base64.b64encode(sick).decode()}\r\n--b--\r\n"
    ).encode()
    (message,) = await post.deliver(me, box, raw)
    assert not message.files and message.problem == f"FILE_INFECTED: {name} ({EICAR_NAME})"
    assert (await me.ReadMailMessage(name=message.name)).text == "see"
    digest = sha256(sick).hexdigest()
    assert (await obstore.head_async(store, f"quarantine/{digest}"))["size"] == len(sick)
    with pytest.raises(FileNotFoundError):
        await obstore.head_async(store, storage_key(digest))

    # A file that came in before its virus was known.
    stored = await _stored(workspace, sick)
    file = await me.CreateFile(file={"displayName": name, "mediaType": "application/msword", **stored})
    to = f"w{uuid4().hex[:8]}@example.com"
    draft = await me.CreateMailMessage(
        mailMessage={
            "mailbox": box.name,
            "displayName": "报价",
            "to": [{"address": to}],
            "files": [file.name],
        }
    )
    await me.SendMailMessage(name=draft.name)
    failed = await post.state(me, draft, "FAILED")
    assert failed.problem == f"FILE_INFECTED: {name} ({EICAR_NAME})" and not post.smtp.of(to)

    async def told(who: Any) -> bool:
        found = (await who.ListNotifications(pageSize=200)).notifications
        return len([one for one in found if name in one.display_name]) == 2

    for who in (me, workspace.admin):
        await workspace.eventually(lambda who=who: told(who))
    alerts = await workspace.facts("crm.workspace.v1.SecurityAlertRaised")
    sick_ones = [one["subject"] for one in alerts if one["kind"] == "INFECTED_FILE" and name in one["en"]]
    assert sorted(sick_ones) == sorted(["a@example.com", workspace.person("sales1").employee or ""])


@pytest.mark.capability("a.security")
async def test_formatted_mail_is_made_safe_before_it_is_kept_and_again_when_it_is_read(
    workspace: Service, post: Post
) -> None:
    me = workspace.sales1
    box = await post.open(me)
    bad = "<script>alert(1)</script>"
    bad += "<a href='javascript:alert(1)' onclick=alert(1)>x</a><img src='https://t.example/p.png' onerror=alert(1)>"
    bad += "".join(f"<p>{one}</p>" for one in hostile.strings())
    raw = (
        f"From: a@example.com\r\nTo: {box.address}\r\nSubject: html\r\nMessage-ID: <{uuid4()}@x>\r\n"
        "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        f"{base64.b64encode(bad.encode()).decode()}\r\n"
    ).encode()
    (message,) = await post.deliver(me, box, raw)
    async with workspace.running.sessions() as session:
        query = text("SELECT html FROM mail_bodies WHERE message = :id")
        kept = str(await session.scalar(query, {"id": message.name.partition("/")[2]}))
    shown = await me.ReadMailMessage(name=message.name)
    assert "https://t.example/p.png" in kept and "t.example" not in shown.html and shown.blocked_images
    for html in (kept, shown.html, (await me.ReadMailMessage(name=message.name, showImages=True)).html):
        acts = Acts()
        acts.feed(html)
        assert not acts.found


class Acts(HTMLParser):
    """What in a page would act: scripts, handlers, frames, addresses that are code."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {
            "script",
            "iframe",
            "object",
            "embed",
            "form",
            "meta",
            "link",
            "base",
            "svg",
            "math",
            "style",
        }:
            self.found.append(tag)
        for name, value in attrs:
            address = "".join((value or "").split()).lower()
            if name.startswith("on") or (
                name in {"href", "src"} and address.startswith(("javascript:", "vbscript:", "data:text"))
            ):
                self.found.append(f"{tag} {name}={value}")


async def test_a_mailbox_leads_to_mail_servers_alone_and_by_secret_ways(
    workspace: Service, post: Post
) -> None:
    good = {
        "displayName": "a",
        "imapHost": "imap.example.com",
        "smtpHost": "smtp.example.com",
        "password": "p",
    }
    for change, reason in (
        ({"imapSecurity": "PLAIN"}, "TLS_REQUIRED"), ({"address": "no address"}, "VALIDATION"), ({"firstDays": 999}, "VALIDATION"),
    ):  # fmt: skip
        body = {**good, "address": f"a{uuid4().hex[:8]}@example.com", **change}
        with pytest.raises(Refused) as refused:
            await workspace.sales1.CreateMailAccount(mailAccount=body)
        assert refused.value.reason == reason
    for host, port in (
        ("127.0.0.1", 993),
        ("169.254.169.254", 993),
        ("[::1]", 993),
        ("localhost", 993),
        ("db", 993),
        ("a.cn", 5432),
    ):
        with pytest.raises(Exception, match="HOST_NOT_ALLOWED"):
            check_host(host, port, local=False)
    check_host("imap.exmail.qq.com", 993, local=False)


def invitation(organizer: str, guest: str, uid: str, method: str = "REQUEST", **said: str) -> bytes:
    """The mail by which another house's calendar invites."""
    head = (
        f"From: Organizer <{organizer}>\r\nTo: {guest}\r\nSubject: invitation\r\nMIME-Version: 1.0\r\n"
        f"Message-ID: <{uuid4()}@other.example>\r\nContent-Type: text/calendar; charset=utf-8; method={method}\r\n\r\n"
    )
    lines = {
        "UID": uid, "SEQUENCE": "0", "DTSTAMP": "20261120T000000Z", "DTSTART;TZID=Europe/Berlin": "20270614T090000",
        "DTEND;TZID=Europe/Berlin": "20270614T100000", "SUMMARY": "Kickoff", "LOCATION": "Berlin",
        "ORGANIZER": f"mailto:{organizer}", "ATTENDEE;PARTSTAT=NEEDS-ACTION;RSVP=TRUE": f"mailto:{guest}",
        "ATTENDEE;CN=Other;PARTSTAT=ACCEPTED": "mailto:other@other.example", **said,
    }  # fmt: skip
    event = "\r\n".join(f"{key}:{value}" for key, value in lines.items())
    return (
        f"{head}BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Other//EN\r\nMETHOD:{method}\r\nBEGIN:VEVENT\r\n{event}\r\n"
        "END:VEVENT\r\nEND:VCALENDAR\r\n"
    ).encode()


@pytest.mark.capability("w.calendar")
async def test_invitations_of_others_that_come_by_mail_stand_in_the_calendar_and_answers_go_back(
    workspace: Service, post: Post
) -> None:
    me, uid = workspace.sales2, f"{uuid4()}@other.example"
    box = await post.open(me)
    organizer = f"org{uuid4().hex[:8]}@other.example"

    async def events() -> list[Any]:
        found = await me.ListCalendarEvents(filter=f'uid = "{uid}"')
        return list(found.calendar_events)

    # Whoever writes in the name of an organizer invites nobody, nor to whom it is not addressed.
    forged = invitation(organizer, box.address, uid).replace(
        f"From: Organizer <{organizer}>".encode(), b"From: e@vil.example"
    )
    await post.deliver(me, box, forged, invitation(organizer, "somebody@else.example", uid))
    assert not await events()
    (message,) = (await post.deliver(me, box, invitation(organizer, box.address, uid)))[2:]
    (event,) = await events()
    assert (event.display_name, event.start, event.time_zone) == (
        "Kickoff",
        "2027-06-14T09:00",
        "Europe/Berlin",
    )
    assert (event.organizer, event.location, list(event.links)) == (organizer, "Berlin", [message.name])
    person = workspace.person("sales2").employee
    assert [(one.employee, one.email, one.response) for one in event.attendees] == [
        (person, "", 1), ("", "other@other.example", 2)
    ]  # fmt: skip
    with pytest.raises(Refused) as refused:
        await me.MoveCalendarEvent(name=event.name, start="2027-06-15T09:00", end="2027-06-15T10:00")
    assert refused.value.reason == "NOT_THE_ORGANIZER"
    await me.UpdateCalendarEvent(
        calendarEvent={"name": event.name, "reminders": [{"minutes": 30}]}, updateMask="reminders"
    )

    # The answer goes to the organizer by the mailbox that was asked, as calendars read it.
    await me.RespondCalendarEvent(name=event.name, response="ACCEPTED", comment="gern")
    (answer,) = await workspace.eventually(lambda: post.smtp.of(organizer))
    part = next(part for part in answer.walk() if part.get_content_type() == "text/calendar")
    assert part["Content-Type"].params["method"] == "REPLY" and box.address in answer["From"]
    reply = part.get_content()
    for line in (
        "METHOD:REPLY",
        f"UID:{uid}",
        f"ATTENDEE;PARTSTAT=ACCEPTED:mailto:{box.address}",
        "COMMENT:gern",
    ):
        assert line in reply.replace("\r\n ", "").splitlines(), line

    # Only the same organizer changes it; an older version changes nothing; another time wants another answer.
    moved = {
        "SEQUENCE": "2",
        "DTSTART;TZID=Europe/Berlin": "20270615T090000",
        "DTEND;TZID=Europe/Berlin": "20270615T100000",
    }
    thief = f"thief{uuid4().hex[:6]}@other.example"
    await post.deliver(me, box, invitation(thief, box.address, uid, SEQUENCE="9", SUMMARY="Stolen"))
    await post.deliver(me, box, invitation(organizer, box.address, uid, **moved))
    await post.deliver(me, box, invitation(organizer, box.address, uid, SEQUENCE="1", SUMMARY="Older"))
    (event,) = await events()
    assert (event.display_name, event.start, event.sequence, event.attendees[0].response) == (
        "Kickoff", "2027-06-15T09:00", 2, 1,
    )  # fmt: skip
    assert [one.minutes for one in event.reminders] == [30]
    # Who declines has the time again.
    await me.RespondCalendarEvent(name=event.name, response="DECLINED")
    reply = await me.QueryCalendar(fromTime="2027-06-15T00:00:00Z", toTime="2027-06-16T00:00:00Z")
    assert not [one for one in reply.instances if one.event == event.name]
    await post.deliver(me, box, invitation(organizer, box.address, uid, "CANCEL", SEQUENCE="3"))
    (event,) = await events()
    assert event.state == 2
    # A series without end cannot be taken: the person is told, and the mail is there.
    await post.deliver(
        me, box, invitation(organizer, box.address, f"endless{uid}", RRULE="FREQ=DAILY", SUMMARY="Endless")
    )
    mails = await post.mails(me, box)
    (notice,) = (await me.ListNotifications(filter=f'target = "{mails[-1].name}"')).notifications
    assert (
        notice.display_name == "An invitation cannot be put into the calendar: Endless"
        and "10" in notice.body
    )
