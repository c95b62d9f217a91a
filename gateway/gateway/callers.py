"""Who a token stands for, where the gateway itself must know: streams, sessions, uploads.

The kit verifies and knows the rules of visibility; nothing is decided here that a service decides too.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from crmkit.auth import Caller, ConfigReader, Directory, Verifier, visible
from crmkit.errors import CHINESE, Unauthenticated

from gateway.descriptors import FIELD, RESOURCE, RESOURCE_TYPE, Descriptors
from gateway.errors import Refusal
from gateway.settings import Settings

# A token's caller as of now (Refusal where it is not valid), and whether a caller sees a record.
Authenticate = Callable[[str], Awaitable[Caller]]
Visible = Callable[[Caller, str, Mapping[str, Any]], bool]


class Callers:
    """Callers by token, and the visibility of records by collection."""

    def __init__(self, settings: Settings, config: ConfigReader, descriptors: Descriptors) -> None:
        # The gateway's own tokens are verified like everybody's: against the published key.
        own_keys = settings.gateway_issuer_jwks or f"http://127.0.0.1:{settings.http_port}/session/jwks"
        self._verifier = Verifier(
            settings.oidc_issuer, settings.oidc_audience, own_keys, settings.oidc_discovery_url
        )
        self._directory = Directory(config, sorted(_permissions(descriptors)))
        self._rules = {
            descriptors.option(message, RESOURCE_TYPE).plural: (
                rule.DESCRIPTOR.fields_by_name["scope"].enum_type.values_by_number[rule.scope].name,
                [json_name(field) for field in (rule.account_field, rule.partner_field) if field],
            )
            for message in descriptors.messages()
            if (rule := descriptors.option(message, RESOURCE)) is not None
        }

    @property
    def ready(self) -> bool:
        """True where tokens can be verified; asks for the issuer's keys where not."""
        if not self._verifier.knows_keys:
            self._verifier.warm()
        return self._verifier.knows_keys

    async def close(self) -> None:
        """Ends what is still being asked."""
        await self._verifier.close()

    async def authenticate(self, token: str) -> Caller:
        """The caller as the configuration knows it now; Refusal for a token that is not valid."""
        try:
            return self._directory.caller(await self._verifier.verify(token), CHINESE, "")
        except Unauthenticated as problem:
            raise Refusal("UNAUTHENTICATED", problem.reason) from None

    def visible(self, caller: Caller, collection: str, record: Mapping[str, Any]) -> bool:
        """True where the caller's data scope covers the record, which is JSON."""
        rule = self._rules.get(collection)
        if rule is None:
            return False
        scope, account_fields = rule
        return visible(caller, scope, record, account_fields, collection)


def json_name(field: str) -> str:
    """`shown_to` → `shownTo`: records come as JSON."""
    first, *rest = field.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _permissions(descriptors: Descriptors) -> set[str]:
    """Every permission that there is, for roles that name them by pattern."""
    found = {method.permission for method in descriptors.methods()}
    for message in descriptors.messages():
        if (rule := descriptors.option(message, RESOURCE)) is not None:
            scope = rule.DESCRIPTOR.fields_by_name["scope"].enum_type.values_by_number[rule.scope].name
            area = message.full_name.split(".")[1]
            collection = descriptors.option(message, RESOURCE_TYPE).plural
            further = [*rule.permissions, *(("assign", "across") if scope == "OWNED" else ())]
            found.update(f"{area}.{collection}.{verb}" for verb in further)
        for field in message.fields:
            if rule := descriptors.option(field, FIELD):
                found.add(rule.read_permission)
    return found - {"", "*", "public"}
