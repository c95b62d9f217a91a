"""The methods of mail that concern more than the one mail."""

from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import NotFound
from crmkit.standard import Standard

from workspace import filing, mime, posting
from workspace.model.fax import Fax
from workspace.model.mail_account import MailAccount
from workspace.model.mail_message import MailBody, MailMessage, MailRecord, MailTemplate
from workspace.model.names import check_names


class MailMethods:
    """Mailboxes, mails, what is shared of them, and templates."""

    mail_accounts = Standard(MailAccount)
    mail_messages = Standard(MailMessage)
    mail_records = Standard(MailRecord)
    mail_templates = Standard(MailTemplate)
    faxes = Standard(Fax)

    async def ReportFax(self, request: pb.ReportFaxRequest, call: Call) -> Fax:
        fax = await call.find(Fax, Fax.job == request.job, lock=True)
        if fax is None:
            raise NotFound()
        await fax.report(request.arrived, request.reason, call)
        return fax

    async def ReceiveFax(self, request: pb.ReceiveFaxRequest, call: Call) -> Fax:
        await call.check_references(request, "", ["file", "owner", "account"])
        fax = Fax(display_name=request.fax_number, fax_number=request.fax_number, file=request.file)
        fax.owner, fax.account, fax.state = request.owner, request.account, "RECEIVED"
        return await call.add(fax)

    async def TestMailAccount(self, request: Any, call: Call) -> MailAccount:
        box = await call.load(MailAccount, request, lock=False)
        await posting.test(box, call.running.settings)
        return box

    async def FileMailMessage(self, request: pb.FileMailMessageRequest, call: Call) -> MailMessage:
        message = await call.load(MailMessage, request)
        await call.check_references(request, "", ["account", "contact"])
        check_names(request.links, "links")
        await filing.file_by_hand(message, request.account, request.contact, list(request.links), call)
        return message

    async def HideMailMessage(self, request: Any, call: Call) -> MailMessage:
        message = await call.load(MailMessage, request)
        await filing.hide(message, call)
        return message

    async def ReadMailMessage(
        self, request: pb.ReadMailMessageRequest, call: Call
    ) -> pb.ReadMailMessageResponse:
        message = await call.load(MailMessage, request.name, lock=False)
        body = await call.db.get(MailBody, message.id)
        if body is None:
            return pb.ReadMailMessageResponse()
        html, blocked = mime.safe_html(body.html, request.show_images)
        return pb.ReadMailMessageResponse(
            text=body.text, quote=body.quote, html=html, blocked_images=blocked, references=body.references
        )
