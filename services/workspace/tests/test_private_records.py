"""What belongs to one person stays with that person behind either wall."""

import pytest
from crmkit import listing, reading
from crmkit.testing import Service
from sqlalchemy import true


async def test_the_database_hides_private_records_from_who_sees_everything(
    workspace: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = await workspace.sales1.CreateNote(note={"displayName": "只给自己看"})
    view = await workspace.sales1.CreateSavedView(
        savedView={"displayName": "我的", "collection": "accounts", "kind": "LIST"}
    )
    monkeypatch.setattr(listing, "branch_predicates", lambda *_: None)
    for module in (listing, reading):
        monkeypatch.setattr(module, "predicate", lambda *_: true())
    reading._listed.cache_clear()  # pyright: ignore[reportPrivateUsage]
    try:
        boss = workspace.client("everything2")
        for condition in ("", f'name = "{note.name}"'):
            assert not (await boss.ListNotes(filter=condition)).notes
        assert not (await boss.ListSavedViews(filter=f'name = "{view.name}"')).saved_views
        seen = (await workspace.sales1.ListNotes(filter=f'name = "{note.name}"')).notes
        assert [found.name for found in seen] == [note.name]
    finally:
        reading._listed.cache_clear()  # pyright: ignore[reportPrivateUsage]
