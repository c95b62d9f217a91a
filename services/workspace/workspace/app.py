"""The workspace service: its table of contents."""

from pathlib import Path

from crmkit.app import App

from workspace import (
    board_news,
    caldav,
    faxes,
    filing,
    identity,
    mail,
    mailboxes,
    posting,
    publishing,
    rules,
    selfcheck,
    texts,
    using,
)
from workspace.consumers import CONSUMERS
from workspace.jobs import SCHEDULES
from workspace.model import audit_proof
from workspace.model.base import Base
from workspace.seeds import seed
from workspace.service import WorkspaceService


def app() -> App:
    """Who works here, who may do what, who decides, and what happened."""
    return App(
        name="workspace",
        serves=WorkspaceService(),
        consumes=[
            *CONSUMERS,
            identity.on_organisation_changed,
            identity.on_session_ended,
            filing.on_customer_changed,
        ],
        schedules=SCHEDULES,
        tables=Base.metadata,
        migrations=Path(__file__).parent.parent / "migrations",
        on_start=[seed],
        ready=[publishing.people_told],
        runs={
            **identity.RUNS,
            **mail.RUNS,
            **rules.RUNS,
            **filing.RUNS,
            **mailboxes.RUNS,
            **posting.RUNS,
            **faxes.RUNS,
            **audit_proof.RUNS,
            **selfcheck.RUNS,
            **using.RUNS,
            **caldav.RUNS,
            **board_news.RUNS,
            **texts.RUNS,
        },
    )
