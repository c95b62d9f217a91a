"""What the insight service hears: everything."""

from crmkit import events
from crmkit.call import Call
from crmkit.catalog import business_facts
from crmkit.events import listens

from insight.model.fact import Fact
from insight.model.figures import FIGURES
from insight.model.search_document import SearchDocument, is_found
from insight.sources import sources


@listens("crm.*.v1.ResourceChanged")
async def on_resource_changed(event: events.Fact, call: Call) -> None:
    """Keeps the search document and the figures of the record."""
    source = sources().get(event.payload["name"].partition("/")[0])
    if source is None:
        return
    if is_found(source):
        await SearchDocument.keep(event, source, call)
    if figure := FIGURES.get(source.collection):
        await figure.keep(event, source, call)


@listens(*business_facts())
async def on_business_fact(event: events.Fact, call: Call) -> None:
    """Keeps one row for each business fact."""
    await Fact.keep(event, call)
