"""Secrets within requests: not told, and kept so that only this installation opens them."""

import pytest
from crm.workspace.v1 import pb
from crmkit.secretfields import holds_secrets, opened, sealed, told

KEY = b"k" * 32


def test_a_secret_within_a_request_is_sealed_until_it_is_used() -> None:
    request = pb.CreateMailAccountRequest(
        mail_account=pb.MailAccount(address="a@b.example", password="Geheim"), request_id="r"
    )
    kept = sealed(request, KEY)
    assert b"Geheim" not in kept.SerializeToString() and kept.mail_account.address == "a@b.example"
    assert opened(kept, KEY) == request
    with pytest.raises(ValueError, match="sealed"):
        opened(kept, b"x" * 32)
    assert (told(request).mail_account.password, told(request).request_id) == ("", "r")
    assert request.mail_account.password == "Geheim"
    several = pb.BatchUpdateMailAccountsRequest(
        requests=[
            pb.UpdateMailAccountRequest(mail_account=pb.MailAccount(password=one)) for one in ("a", "", "c")
        ]
    )
    assert opened(sealed(several, KEY), KEY) == several
    assert "password" not in str(told(several))


def test_what_has_no_secret_is_the_same_message() -> None:
    assert not holds_secrets(pb.Task.DESCRIPTOR) and holds_secrets(pb.ApiKey.DESCRIPTOR)
    task = pb.Task(display_name="x")
    assert told(task) is task and sealed(task, KEY) is task
