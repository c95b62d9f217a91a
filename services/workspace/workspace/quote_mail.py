"""A quote that is sent leaves by mail, from the mailbox of whoever sends it."""

from crm.sales.v1 import events_pb2 as sales
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.mapping import read_date
from sqlalchemy import select

from workspace.model.file import File
from workspace.model.mail_account import MailAccount
from workspace.model.mail_message import MailMessage
from workspace.telling import Manner, notify


async def send(sent: sales.QuoteSent, sender: str, file: File | None, key: str, call: Call) -> None:
    """The mail with its print, once. Who has no mailbox, or whose mail may not leave, is told; the draft stays his."""
    quote = sent.quote
    mine = select(MailAccount).where(MailAccount.owner == sender, MailAccount.state == "ACTIVE")
    box = await call.db.scalar(mine.order_by(MailAccount.id).limit(1))
    if box is None:
        problem = FailedPrecondition("MAILBOX_NOT_ACTIVE")
    else:
        mail = MailMessage(
            display_name=f"报价单 {quote.number} {quote.display_name}".strip()[:500], mailbox=box.name,
            to=[pb.MailParty(address=one) for one in sent.recipients], account=quote.account, contact=quote.contact,
            links=[quote.name], files=[file.name] if file else [],
        )  # fmt: skip
        mail.body = sent.text or _words(sent)
        await call.add(mail)
        try:
            await mail.send(call)
        except FailedPrecondition as refused:
            problem = refused
        else:
            return
    await notify(
        call, [sender], "mail", key, quote.name, f"报价单 {quote.number} 的邮件没有发出",
        f"The mail with the quotation {quote.number} was not sent", problem.text("zh-CN", "workspace"),
        # It is his own mail, whether or not he sees the quote.
        Manner(seen=False),
    )  # fmt: skip


def _words(sent: sales.QuoteSent) -> str:
    """What the mail says where its sender says nothing."""
    quote, until = sent.quote, read_date(sent.quote.valid_until_date)
    zh = f"您好，附件是报价单 {quote.number}" + (f"，有效期至 {until}" if until else "") + "，请查收。"
    en = f"Please find our quotation {quote.number} attached" + (f", valid until {until}." if until else ".")
    return f"{zh}\n\n{en}"
