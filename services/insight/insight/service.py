"""Implements crm.insight.v1.InsightService."""

from typing import Any

from crmkit.call import Call
from crmkit.errors import InvalidArgument
from crmkit.standard import Standard

from insight.model.fact import Fact
from insight.model.figures import InvoiceFact, OpportunityFact
from insight.model.search_document import SearchDocument

LONGEST_QUERY = 200


class InsightService:
    """Search, facts and figures; all of them are read and never written here."""

    search_documents = Standard(SearchDocument)
    facts = Standard(Fact)
    opportunity_facts = Standard(OpportunityFact)
    invoice_facts = Standard(InvoiceFact)

    async def ListSearchDocuments(self, request: Any, call: Call) -> dict[str, Any]:
        if len(request.q) > LONGEST_QUERY:
            raise InvalidArgument("QUERY_TOO_LONG", limit=LONGEST_QUERY)
        if request.q and not any(character.isalnum() for character in request.q):
            raise InvalidArgument("QUERY_TOO_SHORT")
        return await self.search_documents.list(request, call)
