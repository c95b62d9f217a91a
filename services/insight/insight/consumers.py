"""What the insight service hears: everything."""

from crmkit import events
from crmkit.call import Call
from crmkit.catalog import business_facts
from crmkit.events import listens

from insight.churn import await_scores
from insight.model.fact import Fact
from insight.model.figures import FIGURES
from insight.model.search_document import SearchDocument, is_found
from insight.sources import sources

_KEPT = [source for source in sources().values() if is_found(source) or source.collection in FIGURES]


@listens(*(f"crm.{source.area}.v1.ResourceChanged.{source.collection}" for source in _KEPT))
async def on_resource_changed(facts: list[events.Fact], call: Call) -> None:
    """Keeps the search documents and the figures of the records."""
    known = [(fact, sources()[_collection(fact)]) for fact in facts]
    await SearchDocument.keep([one for one in known if is_found(one[1])], call)
    for figure in FIGURES.values():
        await figure.keep([fact for fact, source in known if source.collection == figure.figured], call)


@listens(*business_facts())
async def on_business_fact(facts: list[events.Fact], call: Call) -> None:
    """Keeps one row for each business fact, and notes whose scores may change."""
    accounts = await Fact.keep(facts, call)
    await await_scores(facts, accounts, call)


def _collection(fact: events.Fact) -> str:
    return fact.payload["name"].partition("/")[0]
