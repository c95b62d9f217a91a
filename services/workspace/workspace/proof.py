"""The proof of the audit: the chain fits in itself, and it fits the signed seals in the second place."""

from dataclasses import replace

from crmkit.call import Call
from sqlalchemy import select

from workspace.model import audit_tally
from workspace.model.audit import AuditEntry, Proof
from workspace.model.audit import prove as prove_chain
from workspace.seals import seals

SEAL_FORGED = "SEAL"


async def prove(from_seq: int, limit: int, call: Call) -> Proof:
    """Proves a part of the chain, and at its end that no seal speaks of more than there is.

    Whatever breaks first is named. A chain that was worked out anew fits in itself; its first entry behind the last
    seal that still fits is named then.
    """
    found = await prove_chain(from_seq, limit, call)
    found = replace(found, missing_facts=await audit_tally.missing(call))
    first = max(from_seq, found.archived_seq + 1)
    last = found.next_seq - 1 if found.next_seq else 10**11
    fits, sealed = first - 1, 0
    async for seal in seals(call, first, last):
        if found.first_break and seal.seq >= found.first_break:
            break
        if not seal.genuine:
            return replace(found, first_break=seal.seq, kind=SEAL_FORGED, next_seq=0)
        entry = await call.db.scalar(select(AuditEntry.hash).where(AuditEntry.seq == seal.seq).limit(1))
        if entry is None:
            return replace(found, first_break=found.head_seq + 1, kind="CUT", next_seq=0)
        if seal.seq > found.head_seq:
            # It came, and was sealed, while the chain was read.
            break
        if entry != seal.hash:
            return replace(found, first_break=fits + 1, kind="REHASHED", next_seq=0)
        fits = sealed = seal.seq
    return replace(found, sealed_seq=sealed)
