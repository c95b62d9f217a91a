"""The methods of boards and of comments."""

from typing import Any, cast

from crm.common.v1.common_pb2 import VerbRequest
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.mapping import to_timestamp
from crmkit.scope import predicate
from crmkit.standard import Standard
from sqlalchemy import func, select

from workspace.model.audience import AudienceMember
from workspace.model.comment import Comment
from workspace.model.post import Post

# Posts of each board in the information centre, and announcements that wait.
NEWEST, WAITING = 5, 50


class BoardMethods:
    """What people tell each other."""

    posts = Standard(Post)
    comments = Standard(Comment)

    async def AcknowledgePost(self, request: pb.AcknowledgePostRequest, call: Call) -> Post:
        # Nobody waits for the thousand others who read it now: the post itself does not change.
        post = await call.load(Post, request, lock=False)
        await post.acknowledge(list(request.answers), call)
        return post

    async def ReactPost(self, request: VerbRequest, call: Call) -> Post:
        post = await call.load(Post, request, lock=False)
        await post.react(call)
        return post

    async def AcceptPostAnswer(self, request: pb.AcceptPostAnswerRequest, call: Call) -> Post:
        post = await call.load(Post, request)
        await (await call.load(Comment, request.comment, lock=False)).accept(post, call)
        return post

    async def DecidePost(self, request: pb.DecidePostRequest, call: Call) -> Post:
        seen = await call.load(Post, request, lock=False)
        async with call.others(seen) as post:
            await post.decide(request, call.caller, call)
        return post

    async def HidePost(self, request: pb.ReasonRequest, call: Call) -> Post:
        seen = await call.load(Post, request, lock=False)
        async with call.others(seen) as post:
            post.hide(request.reason)
        return post

    async def HideComment(self, request: pb.ReasonRequest, call: Call) -> Comment:
        seen = await call.load(Comment, request, lock=False)
        async with call.others(seen) as comment:
            comment.hide(request.reason)
        return comment

    async def ListPostReaders(
        self, request: pb.ListPostReadersRequest, call: Call
    ) -> pb.ListPostReadersResponse:
        found: dict[str, Any] = await (await call.load(Post, request, lock=False)).standing(request, call)
        readers = [
            pb.ListPostReadersResponse.Reader(
                **{**row, "acknowledge_time": _instant(row["acknowledge_time"])}
            )
            for row in found.pop("readers", ())
        ]
        found["my_acknowledge_time"] = _instant(found["my_acknowledge_time"])
        return pb.ListPostReadersResponse(readers=readers, **found)

    async def ReadInformationCentre(
        self, request: pb.ReadInformationCentreRequest, call: Call
    ) -> dict[str, Any]:
        readable = select(Post).where(predicate(Post, call.caller), Post.state == "PUBLISHED")
        member = AudienceMember
        waiting = readable.join(member, (member.record == Post.shown_as) & member.current).where(
            Post.ack_required,
            member.employee == call.caller.employee,
            member.acknowledge_time.is_(None),
        )
        place = func.row_number().over(
            partition_by=Post.board, order_by=(Post.pinned.desc(), Post.publish_time.desc())
        )
        ranked = readable.with_only_columns(Post.id, place.label("place")).subquery()
        newest = (
            select(Post)
            .join(ranked, (ranked.c.id == Post.id) & (ranked.c.place <= NEWEST))
            .order_by(Post.board, ranked.c.place)
        )
        boards: dict[str, list[Post]] = {}
        for post in await call.db.scalars(newest):
            boards.setdefault(post.board, []).append(post)
        return {
            "to_acknowledge": list(await call.db.scalars(waiting.order_by(Post.publish_time).limit(WAITING))),
            "boards": [
                pb.ReadInformationCentreResponse.Board(
                    board=board, posts=[cast("pb.Post", call.shown(post, call.caller)) for post in posts]
                )
                for board, posts in boards.items()
            ],
        }


def _instant(moment: Any) -> Any:
    return None if moment is None else to_timestamp(moment)
