"""Who calls, what the caller may do, and which rows the caller may see.

Tokens are verified here, in every service. What roles mean and where people work comes from the configuration
bucket, so that a change counts within seconds whatever the token's lifetime.
"""

import asyncio
import base64
import ipaddress
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Protocol, cast
from uuid import NAMESPACE_OID, uuid5
from zoneinfo import ZoneInfo

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from crmkit import filters, http
from crmkit.access import Access, Given, Grant, Organisation, People, Reach, Role
from crmkit.access import Scope as Scope
from crmkit.background import ended
from crmkit.catalog import internal_fields
from crmkit.customfields import CustomFields
from crmkit.errors import CHINESE, ENGLISH, PermissionDenied, Unauthenticated
from crmkit.fieldlevels import NONE, FieldLevel, Levels, together

ALGORITHMS = ["RS256", "ES256", "PS256"]
LEEWAY_SECONDS = 30
GATEWAY_ISSUER = "guanxi-gateway"
TOKEN_CACHE = 2048
ACCESS_CACHE = 4096
ZONE = ZoneInfo("Asia/Shanghai")
# The level of a sign-in with a second factor, and how long it is believed for what wants one.
SECOND_FACTOR = "2"
STEP_UP_MINUTES = 10
# Kinds of people who never use what is for staff.
OUTSIDERS = frozenset(["partner", "customer"])
# Keys are asked for again after an hour; while the issuer is away the known ones go on for a day.
FRESH_SECONDS = 3600
STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Caller:
    """Somebody or something that calls. `actor` is what stands in the audit.

    `scope` and `departments` are the widest level of the roles; what counts for a collection is `reach`.
    """

    actor: str
    employee: str = ""
    display_name: str = ""
    roles: tuple[str, ...] = ()
    permissions: frozenset[str] = frozenset()
    scope: Scope = Scope.OWN
    department: str = ""
    departments: tuple[str, ...] = ()
    account: str = ""
    locale: str = CHINESE
    address: str = ""
    principal: str = ""
    # When the person last gave a second factor, in seconds of the epoch; None for who calls without a token.
    confirmed: float | None = None
    approved: str = field(default="", compare=False)
    access: Access | Given | None = field(default=None, compare=False, repr=False)
    custom: CustomFields | None = field(default=None, compare=False, repr=False)

    def may(self, permission: str) -> bool:
        """True where the caller holds the permission."""
        return permission in self.permissions or "*" in self.permissions

    def check_step_up(self) -> None:
        """STEP_UP_REQUIRED unless the person has given a second factor a moment ago.

        Work that goes on without a token was asked for by somebody who had one.
        """
        if self.confirmed is not None and time.time() - self.confirmed > STEP_UP_MINUTES * 60:
            raise Unauthenticated("STEP_UP_REQUIRED", minutes=STEP_UP_MINUTES)

    @property
    def is_system(self) -> bool:
        """True for a service itself: consumers and timed work."""
        return self.actor.startswith("system/")

    def reach(self, collection: str, verb: str = "read") -> Reach:
        """Which rows of the collection the verb reaches."""
        if self.access is not None:
            return self.access.reach(collection, verb)
        return Reach(self.scope is Scope.ALL, self.departments)

    def fields(self, collection: str) -> Levels:
        """What the caller's roles take from single fields of the collection, and what customers and partners never get."""
        levels = self.access.fields(collection) if self.access is not None else NONE
        if self.account:
            levels = together([levels, dict.fromkeys(internal_fields(collection), FieldLevel.HIDDEN)])
        return self.custom.with_reckoned(collection, levels) if levels and self.custom is not None else levels

    @property
    def takes_fields(self) -> bool:
        """True where anything at all is hidden from the caller, by a role or as a customer or partner."""
        return bool(self.account) or (isinstance(self.access, Access) and self.access.takes_fields)


def system(app: str) -> Caller:
    """The service itself: consumers and timed work."""
    return Caller(
        actor=f"system/{app}",
        permissions=frozenset("*"),
        scope=Scope.ALL,
        locale=CHINESE,
        principal=f"system/{app}",
    )


class ConfigReader(Protocol):
    """The part of the live configuration that decides who may do what."""

    def get(self, key: str) -> Any:
        """The value of a key, None if absent."""
        ...

    def prefix(self, prefix: str) -> Mapping[str, Any]:
        """All entries whose key begins so."""
        ...

    def changed(self, prefix: str, listener: Callable[[str, Any], None]) -> None:
        """Calls the listener for every change of such a key."""
        ...


class Directory:
    """Roles, people and departments as the configuration bucket tells them now."""

    def __init__(self, config: ConfigReader, known_permissions: Sequence[str]) -> None:
        self._config = config
        self._known = tuple(known_permissions)
        self._areas: dict[str, str] = {}
        for parts in (one.split(".") for one in self._known if one.count(".") > 1):
            # How far a role reaches is asked by the collection alone.
            if self._areas.setdefault(parts[1], parts[0]) != parts[0]:
                raise ValueError(f"permissions of two areas speak of {parts[1]}")
        self._expanded: dict[tuple[str, ...], frozenset[str]] = {}
        self._roles: dict[str, Role] = {}
        self._access: dict[tuple[Any, ...], Access] = {}
        self._organisation: Organisation | None = None
        self.custom = CustomFields(config)
        for prefix in ("role.", "department.", "employee.", "customField."):
            config.changed(prefix, self._forget)

    def caller(self, claims: Mapping[str, Any], locale: str, address: str) -> Caller:
        """The caller that verified claims stand for; Unauthenticated where the person is disabled."""
        if claims["iss"] == GATEWAY_ISSUER:
            return self._key_caller(claims, locale, address)
        employee = str(claims.get("employee", ""))
        contact = str(claims.get("contact", ""))
        entry: Mapping[str, Any] = self._config.get(f"employee.{_id(employee)}") or {} if employee else {}
        if entry.get("disabled"):
            raise Unauthenticated("EMPLOYEE_FROZEN" if entry.get("frozen") else "UNAUTHENTICATED")
        if (ended := entry.get("signedOut")) and claims.get("iat", ended + 1) <= ended:
            # All sessions of the person were ended after this token was given.
            raise Unauthenticated
        if (sid := claims.get("sid")) and self._config.get(f"session.{session_id(claims['iss'], str(sid))}"):
            # Workspace has ended the session that the token belongs to; the gateway tells its caller why.
            raise Unauthenticated
        # Whoever belongs to a partner does so whatever a token leaves out.
        account = str(entry.get("account") or claims.get("account", ""))
        # Once workspace has published a person's roles they count, not those in a token of minutes ago.
        roles = tuple(entry.get("roles", claims.get("roles", ())))
        department = str(entry.get("department", ""))
        posts = (department, *entry.get("departments", ()))
        staff = not account and claims.get("kind") not in OUTSIDERS
        access = self._accessed(employee, roles, posts, staff=staff)
        for role in access.roles if address else ():
            if not in_networks(address, role.networks):
                raise PermissionDenied("IP_NOT_ALLOWED")
        confirmed = _confirmed(claims)
        if confirmed == 0.0 and any(role.second_factor for role in access.roles):
            raise Unauthenticated("SECOND_FACTOR_REQUIRED")
        return Caller(
            actor=employee or contact or f"users/{claims['sub']}",
            employee=employee,
            display_name=str(entry.get("displayName") or claims.get("name", "")),
            roles=roles,
            permissions=access.permissions,
            scope=access.scope,
            department=department,
            departments=access.departments,
            account=account,
            locale=locale,
            address=address,
            principal=f"{claims['iss']}|{claims['sub']}",
            confirmed=confirmed,
            access=access,
            custom=self.custom,
        )

    def explained(self, employee: str) -> Caller | None:
        """The caller that an employee would be, for explaining access; None if unknown."""
        entry = self._config.get(f"employee.{_id(employee)}")
        if entry is None or entry.get("disabled"):
            return None
        claims = {"iss": "", "sub": employee, "employee": employee, "account": entry.get("account", "")}
        return self.caller(claims, ENGLISH, "")

    def acting(self, actor: str) -> Caller | None:
        """The caller that an employee or an API key would be now, for work that goes on after their call.

        None where they are unknown, and for a key that has ended.
        """
        if not actor.startswith("apiKeys/"):
            return self.explained(actor)
        entry: Mapping[str, Any] = self._config.get(f"apiKey.{_id(actor)}") or {}
        expires = entry.get("expires")
        if "permissions" not in entry or (expires and datetime.fromisoformat(expires) < datetime.now(UTC)):
            return None
        claims = {
            "sub": actor, "permissions": entry["permissions"], "scope_level": entry.get("scope") or "OWN",
            "account": entry.get("account") or "",
        }  # fmt: skip
        try:
            return self._key_caller(claims, CHINESE, "")
        except Unauthenticated:
            return None

    @property
    def organisation(self) -> Organisation:
        """The tree and the people as of now."""
        if self._organisation is None:
            config = self._config
            self._organisation = Organisation(
                config.prefix("department."), People(config.prefix("employee."))
            )
        return self._organisation

    def _forget(self, key: str, value: Any) -> None:
        if key.startswith("role."):
            self._roles.pop(key.removeprefix("role."), None)
        elif not key.startswith("customField."):
            self._organisation = None
        self._access.clear()

    def _accessed(self, employee: str, roles: Sequence[str], posts: Sequence[str], *, staff: bool) -> Access:
        own = tuple(sorted({post for post in posts if post}))
        key = (employee, tuple(roles), own, staff)
        if key not in self._access:
            if len(self._access) > ACCESS_CACHE:
                self._access.clear()
            # A customer or partner never uses what is for staff, whatever roles a token or a mistake names.
            known = [self._role(code) for code in roles if staff or self._of_portal(code)]
            fields = self.custom.held_by(roles, staff)
            self._access[key] = Access(employee, own, known, self.organisation, self._areas, fields)
        return self._access[key]

    def _of_portal(self, code: str) -> bool:
        entry: Mapping[str, Any] = self._config.get(f"role.{code}") or {}
        return bool(entry.get("portal"))

    def _role(self, code: str) -> Role:
        if code not in self._roles:
            entry: Mapping[str, Any] = self._config.get(f"role.{code}") or {}
            grants = tuple(Grant.read(grant) for grant in entry.get("grants", ()))
            permissions = self._expand(tuple(entry.get("permissions", ())))
            scope, fields = Scope(entry.get("scope", "OWN")), _fields(entry.get("fields", ()))
            networks, strong = tuple(entry.get("networks", ())), bool(entry.get("secondFactor"))
            self._roles[code] = Role(code, permissions, scope, grants, fields, networks, strong)
        return self._roles[code]

    def _key_caller(self, claims: Mapping[str, Any], locale: str, address: str) -> Caller:
        key = str(claims["sub"])
        entry = self._config.get(f"apiKey.{_id(key)}")
        if entry is not None and (reason := ended_with_owner(entry, self._config.get)):
            raise Unauthenticated(reason)
        if entry is None or entry.get("disabled"):
            raise Unauthenticated
        permissions = self._expand(tuple(claims.get("permissions", ())))
        department = str(entry.get("department", ""))
        role = Role(key, permissions, Scope(claims.get("scope_level", "OWN")))
        posts = (department,) if department else ()
        account = str(claims.get("account", ""))
        fields, owner = self.custom.held_by((), not account), str(entry.get("owner") or "")
        behind = self._owner(owner)
        access = Access("", posts, [role], self.organisation, self._areas, fields, behind)
        return Caller(
            actor=key,
            permissions=access.permissions,
            scope=access.scope,
            account=account,
            department=department,
            departments=access.departments,
            locale=locale,
            address=address,
            principal=key,
            confirmed=_confirmed(claims),
            access=access,
            custom=self.custom,
        )

    def _owner(self, employee: str) -> Access | None:
        """What a key's owner reaches now; None for a key of nobody."""
        entry: Mapping[str, Any] = self._config.get(f"employee.{_id(employee)}") or {} if employee else {}
        if not entry:
            return None
        posts = (str(entry.get("department", "")), *entry.get("departments", ()))
        return self._accessed(employee, tuple(entry.get("roles", ())), posts, staff=not entry.get("account"))

    def _expand(self, patterns: tuple[str, ...]) -> frozenset[str]:
        if patterns not in self._expanded:
            if len(self._expanded) > 1000:
                self._expanded.clear()
            plain = {pattern for pattern in patterns if "*" not in pattern or pattern == "*"}
            wild = [pattern for pattern in patterns if "*" in pattern and pattern != "*"]
            plain |= {known for known in self._known if any(fnmatchcase(known, pattern) for pattern in wild)}
            self._expanded[patterns] = frozenset(plain)
        return self._expanded[patterns]


def session_id(issuer: str, sid: str) -> str:
    """The id by which all know a session that the identity provider calls `sid`."""
    return str(uuid5(NAMESPACE_OID, f"{issuer}#{sid}"))


def ended_with_owner(key: Mapping[str, Any], lookup: Callable[[str], Mapping[str, Any] | None]) -> str:
    """EMPLOYEE_FROZEN for a key (its configuration) whose owner is frozen, at once with its owner; else nothing."""
    owner = str(key.get("owner") or "")
    entry: Mapping[str, Any] = lookup(f"employee.{_id(owner)}") or {} if owner else {}
    return "EMPLOYEE_FROZEN" if entry.get("disabled") and entry.get("frozen") else ""


class Verifier:
    """Verifies tokens against the configured issuers' published keys.

    Keys are cached; an unknown key id is asked for at most once in 30 s; when the issuer is away the known
    keys go on for 24 h.
    """

    def __init__(self, issuer: str, audience: str, gateway_jwks: str = "", discovery: str = "") -> None:
        self._audience = audience
        self._sources = {issuer: _KeySource(issuer, "", discovery)}
        if gateway_jwks:
            self._sources[GATEWAY_ISSUER] = _KeySource("", gateway_jwks)
        self._cache: dict[str, dict[str, Any]] = {}

    def warm(self) -> None:
        """Begins to fetch the issuers' keys, so that the first caller need not wait for them."""
        for source in self._sources.values():
            source.refresh()

    @property
    def knows_keys(self) -> bool:
        """True where keys of the issuer are at hand; those of the gateway may come later."""
        return next(iter(self._sources.values())).known

    async def close(self) -> None:
        """Ends what is still being asked."""
        await ended(task for source in self._sources.values() if (task := source.asking) is not None)

    async def verify(self, token: str) -> dict[str, Any]:
        """The claims of a valid access token; Unauthenticated for anything else."""
        claims = self._cache.get(token)
        if claims is None:
            claims = await self._verify(token)
            if len(self._cache) >= TOKEN_CACHE:
                self._cache.clear()
            self._cache[token] = claims
        if claims["exp"] + LEEWAY_SECONDS < time.time():
            raise Unauthenticated
        return claims

    async def _verify(self, token: str) -> dict[str, Any]:
        try:
            # Read unverified only to choose among the configured issuers.
            issuer, kid = _peek(token)
            source = self._sources[issuer]
            keys = await source.keys(kid)
            decoded = jwt.decode(token, keys, registry=JWSRegistry(algorithms=ALGORITHMS))
            claims: dict[str, Any] = dict(decoded.claims)
            now = time.time()
            named = claims["aud"]
            audience = cast("list[Any]", named) if isinstance(named, list) else [named]
            valid = (
                claims["iss"] == issuer
                and self._audience in audience
                and isinstance(claims["exp"], int | float)
                and claims["exp"] + LEEWAY_SECONDS >= now
                and claims["iat"] - LEEWAY_SECONDS <= now
                and claims.get("nbf", 0) - LEEWAY_SECONDS <= now
                and isinstance(claims["sub"], str)
                and claims.get("typ", "Bearer") == "Bearer"
                and decoded.header.get("typ", "JWT").lower() in {"jwt", "at+jwt"}
                and not {"jku", "jwk", "x5u"} & set(decoded.header)
            )
        except (JoseError, ValueError, KeyError, TypeError, RecursionError):
            raise Unauthenticated from None
        if not valid:
            raise Unauthenticated
        return claims


class _KeySource:
    """The published keys of one issuer."""

    def __init__(self, issuer: str, jwks: str, discovery: str = "") -> None:
        self._issuer, self._jwks = issuer, jwks
        self._discovery = discovery or f"{issuer}/.well-known/openid-configuration"
        self._keys: KeySet | None = None
        self._tried = self._fetched = -1e9
        self.asking: asyncio.Task[None] | None = None

    async def keys(self, kid: str) -> KeySet:
        """Keys among which `kid` is, asking the issuer where needed and allowed."""
        known = self._has(kid)
        if not known or self._age() > FRESH_SECONDS:
            self.refresh()
        if not known and self.asking is not None:
            # The answer serves everybody who waits, so one caller's deadline does not end the question.
            await asyncio.shield(self.asking)
        if self._keys is None or not self._has(kid) or self._age() > STALE_SECONDS:
            raise Unauthenticated
        return self._keys

    @property
    def known(self) -> bool:
        """True where there are keys that may still be used."""
        return self._keys is not None and self._age() <= STALE_SECONDS

    def refresh(self) -> None:
        """Asks the issuer, unless that is being done or was done a moment ago."""
        busy = self.asking is not None and not self.asking.done()
        if not busy and time.monotonic() - self._tried > (30 if self._keys else 1):
            self._tried = time.monotonic()
            self.asking = asyncio.create_task(self._fetch())

    def _age(self) -> float:
        return time.monotonic() - self._fetched

    def _has(self, kid: str) -> bool:
        return self._keys is not None and any(key.kid == kid for key in self._keys.keys)

    async def _fetch(self) -> None:
        try:
            async with http.client(timeout=5) as client:
                if not self._jwks:
                    discovery = await client.get(self._discovery)
                    discovery.raise_for_status()
                    if discovery.json()["issuer"] != self._issuer:
                        return
                    self._jwks = discovery.json()["jwks_uri"]
                answer = await client.get(self._jwks)
                answer.raise_for_status()
                self._keys = KeySet.import_key_set(answer.json())
                self._fetched = time.monotonic()
        except (httpx.HTTPError, ValueError, KeyError):
            return


def visible(
    caller: Caller,
    scope_rule: str,
    record: Mapping[str, Any],
    account_fields: Sequence[str],
    collection: str,
    verb: str = "read",
) -> bool:
    """The data scope over a JSON-shaped record: the same rule as `crmkit.scope.predicate` in SQL."""
    mine = bool(caller.employee) and (
        record.get("owner") == caller.employee or caller.employee in record.get("collaborators", ())
    )
    if scope_rule == "PRIVATE":
        return caller.is_system or mine
    if caller.account:
        fields = ("name",) if collection == "accounts" else account_fields
        return scope_rule == "SHARED" or any(record.get(field) == caller.account for field in fields)
    reach = caller.reach(collection, verb)
    if scope_rule == "SHARED":
        return passes(reach, record, caller, collection)
    department = record.get("department", "")
    behind = reach.wall is not None and department not in reach.wall
    reached = reach.everything or (
        not behind and (mine or department in reach.departments or record.get("owner") in reach.owners)
    )
    return reached and passes(reach, record, caller, collection)


def passes(reach: Reach, record: Mapping[str, Any], caller: Caller, collection: str) -> bool:
    """Whether a record passes every row rule; a rule that cannot be read lets nothing through."""
    if not reach.rules:
        return True
    from crmkit.catalog import record_fields, resources

    described = next(one for one in resources().values() if one.collection == collection)
    fields, now = record_fields(described), datetime.now(UTC)
    # JSON leaves out what is zero; a filter wants to know.
    numbers = [one for one in described.fields.values() if one.kind in {"int", "float"}]
    zeros = {one.name: 0 for one in numbers if not {one.name, one.json_name} & record.keys()}
    whole = {**zeros, **record}
    try:
        return all(
            filters.matches(
                filters.bind(filters.parse(rule), fields), whole, me=caller.actor, now=now, zone=ZONE
            )
            for rule in reach.rules
        )
    except filters.FilterError:
        return False


def in_networks(address: str, networks: Sequence[str]) -> bool:
    """True where the address lies in one of the networks, or where there are none."""
    return not networks or any(
        ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in networks
    )


def locale_of(accept_language: str) -> str:
    """The locale that an Accept-Language header asks for: en where it says so first, else zh-CN."""
    return ENGLISH if accept_language.lower().lstrip().startswith("en") else CHINESE


def _confirmed(claims: Mapping[str, Any]) -> float | None:
    """When a second factor was given; 0 for a token that tells of none, None where there is no token."""
    if not claims.get("iss"):
        return None
    return float(claims.get("auth_time") or 0) if str(claims.get("acr", "")) == SECOND_FACTOR else 0.0


def _fields(entries: Sequence[Mapping[str, str]]) -> dict[str, Levels]:
    """What a role takes from fields, by collection; of a field that is named twice, the more."""
    found: dict[str, Levels] = {}
    for entry in entries:
        collection = entry["collection"].rpartition(".")[2]
        taken = {entry["field"]: FieldLevel(entry["level"])}
        found[collection] = together([found.get(collection, NONE), taken])
    return found


def _peek(token: str) -> tuple[str, str]:
    header, payload = (_object(part) for part in token.split(".")[:2])
    if header.get("alg") not in ALGORITHMS:
        raise ValueError("algorithm")
    return str(payload["iss"]), str(header["kid"])


def _object(part: str) -> dict[str, Any]:
    found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    if not isinstance(found, dict):
        raise ValueError("no object")
    return cast("dict[str, Any]", found)


def _id(name: str) -> str:
    return name.rsplit("/", 1)[-1]
