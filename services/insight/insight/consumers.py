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
async def on_resource_changed(facts: list[events.Fact], call: Call) -> None:
    """Keeps the search documents and the figures of the records."""
    known = [(fact, source) for fact in facts if (source := sources().get(_collection(fact)))]
    await SearchDocument.keep([one for one in known if is_found(one[1])], call)
    for fact, source in sorted(known, key=lambda one: one[0].payload["name"]):
        if figure := FIGURES.get(source.collection):
            await figure.keep(fact, call)


@listens(*business_facts())
async def on_business_fact(facts: list[events.Fact], call: Call) -> None:
    """Keeps one row for each business fact."""
    await Fact.keep(facts, call)


def _collection(fact: events.Fact) -> str:
    return fact.payload["name"].partition("/")[0]
