"""Servers of mail for the stories: what one of them is given, and what lies in a mailbox from the beginning."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from crmkit.testing import free_port
from crmkit.testing.mail import imap_server

BUYER = "buyer@customer.example"
ASKED = """<p style="color: #b3261e">请在<b>周五</b>前报价。<a href="https://customer.example/spec">规格书</a></p>
<script>document.title = "taken"</script><img src="https://track.example/pixel.png" onerror="alert(1)">"""


class Taken:
    """Takes every mail."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """As a real one says it."""
        return "250 OK"


@contextmanager
def post() -> Generator[dict[str, str]]:
    """A mailbox with a question of a customer in it, as the environment of a story."""
    address = f"sales-{uuid4().hex[:8]}@guanxi.example"

    def signs_in(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.password == b"secret", handled=True)

    smtp = Controller(
        Taken(), hostname="127.0.0.1", port=free_port(), authenticator=signs_in, auth_require_tls=False
    )
    with imap_server() as imap:
        imap.mailbox(address).append(_question(address))
        smtp.start()
        try:
            yield {"MAIL_ADDRESS": address, "MAIL_IMAP": str(imap.port), "MAIL_SMTP": str(smtp.port)}
        finally:
            smtp.stop()


def _question(address: str) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = f"王明 <{BUYER}>", address, "询价：装配单元"
    mail["Message-ID"], mail["Date"] = f"<{uuid4()}@customer.example>", format_datetime(datetime.now(UTC))
    mail.set_content("请在周五前报价。")
    mail.add_alternative(ASKED, subtype="html")
    return mail.as_bytes()
