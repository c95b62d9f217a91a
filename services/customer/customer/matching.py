"""Are two customers the same one? Keys that find the pair (NAM-7) and the level of the match (NAM-10)."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from crmkit.text import fold

from customer.company_names import NORMALISERS, WORDS, CompanyName
from customer.identifiers import Phone, TaxId, TaxIdStatus, mail_address, web_domain
from customer.regions import compatible

COMMON_HOLDERS = 20
"""A value that more accounts than this hold is common: it counts only beside a key of another family."""

PUBLIC_MAIL_DOMAINS = WORDS["public_mail_domains"]


class KeyKind(StrEnum):
    """What of a customer is compared."""

    TAX_ID = "TAX_ID"
    NAME_FULL = "NAME_FULL"
    NAME_CORE = "NAME_CORE"
    BRAND = "BRAND"
    PINYIN = "PINYIN"
    PHONE = "PHONE"
    EMAIL = "EMAIL"
    EMAIL_DOMAIN = "EMAIL_DOMAIN"
    WEB_DOMAIN = "WEB_DOMAIN"
    ID_HASH = "ID_HASH"


class MatchKey(NamedTuple):
    """One row of `match_keys`, without segment and holder."""

    kind: KeyKind
    value: str


# Any two that are surely the same hold another key in common: brand and spelling only follow the name.
_FOLLOWING = (KeyKind.BRAND, KeyKind.PINYIN)


class Level(StrEnum):
    """How sure it is; CERTAIN and STRONG refuse a create."""

    CERTAIN = "CERTAIN"
    STRONG = "STRONG"
    POSSIBLE = "POSSIBLE"
    BRANCH_OF = "BRANCH_OF"
    NONE = "NONE"


TAX_IDS_DIFFER = "TAX_IDS_DIFFER"


@dataclass(frozen=True, slots=True)
class Match:
    """The level, the kinds of keys that both hold, and what spoke against it."""

    level: Level
    kinds: frozenset[KeyKind] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Identity:
    """What of a customer tells who it is; build it with `of`."""

    person: bool
    names: tuple[CompanyName, ...]
    tax_id: TaxId | None
    id_hash: str
    keys: frozenset[MatchKey]
    earlier: tuple["Identity", ...] = ()
    """As the normalisers before the one in force saw it, the last one first."""

    @cached_property
    def asked(self) -> frozenset[MatchKey]:
        """The keys by which it is looked for: customers may still be kept under those of before."""
        return self.keys.union(*(one.keys for one in self.earlier))

    @cached_property
    def deciding(self) -> list[MatchKey]:
        """The keys of which two equal customers share one."""
        return sorted(key for key in self.asked if key.kind not in _FOLLOWING)

    @classmethod
    def of(
        cls,
        names: Iterable[str],
        *,
        person: bool = False,
        tax_id: TaxId | None = None,
        phones: Iterable[Phone] = (),
        emails: Iterable[str] = (),
        website: str = "",
        id_hash: str = "",
        public_domains: Collection[str] = PUBLIC_MAIL_DOMAINS,
    ) -> "Identity":
        """`names` are the display name first, then legal name, aliases and former names; `id_hash` is the
        keyed hash of an identity number; `public_domains` give no key."""
        texts = [name for name in dict.fromkeys(names) if fold(name)]
        parsed, *before = [tuple(map(NORMALISERS[v], texts)) for v in sorted(NORMALISERS, reverse=True)]
        others = _other_keys(tax_id, phones, emails, website, id_hash, public_domains)
        earlier = tuple(cls._of(person, names, tax_id, id_hash, others) for names in before)
        return cls._of(person, parsed, tax_id, id_hash, others, earlier)

    @classmethod
    def _of(
        cls,
        person: bool,
        names: tuple[CompanyName, ...],
        tax_id: TaxId | None,
        id_hash: str,
        others: frozenset[MatchKey],
        earlier: tuple["Identity", ...] = (),
    ) -> "Identity":
        own = {key for name in names for key in _name_keys(name, person) if key.value}
        return cls(person, names, tax_id, id_hash, others | own, earlier)


def _other_keys(
    tax_id: TaxId | None,
    phones: Iterable[Phone],
    emails: Iterable[str],
    website: str,
    id_hash: str,
    public_domains: Collection[str],
) -> frozenset[MatchKey]:
    """The keys that are not of the names."""
    keys = {MatchKey(KeyKind.PHONE, phone.number) for phone in phones if phone.valid}
    if tax_id and tax_id.value and tax_id.status is not TaxIdStatus.INVALID:
        keys.add(MatchKey(KeyKind.TAX_ID, f"{tax_id.country}:{tax_id.value}"))
    for address in filter(None, map(mail_address, emails)):
        keys.add(MatchKey(KeyKind.EMAIL, address))
        keys.add(MatchKey(KeyKind.EMAIL_DOMAIN, address.rpartition("@")[2]))
    keys.add(MatchKey(KeyKind.WEB_DOMAIN, web_domain(website)))
    keys.add(MatchKey(KeyKind.ID_HASH, id_hash))
    domains = (KeyKind.EMAIL_DOMAIN, KeyKind.WEB_DOMAIN)
    return frozenset(
        key for key in keys if key.value and not (key.kind in domains and key.value in public_domains)
    )


def level(a: Identity, b: Identity, common: Collection[MatchKey] = frozenset()) -> Match:
    """What the two are to each other; `common` are the keys that too many hold."""
    shared = a.keys & b.keys
    counted = {
        key
        for key in shared
        if key not in common or any(_family(o.kind) != _family(key.kind) for o in shared)
    }
    if not counted:
        return Match(Level.NONE)
    kinds = frozenset(key.kind for key in counted)
    found = _name_level(a, b, kinds)
    checked = [i.tax_id.value for i in (a, b) if i.tax_id and i.tax_id.checked]
    if KeyKind.ID_HASH in kinds or (KeyKind.TAX_ID in kinds and len(checked) == 2):
        return Match(Level.CERTAIN, kinds)
    if found is Level.BRANCH_OF:
        return Match(found, kinds)
    if len(checked) == 2 and checked[0] != checked[1]:
        return Match(Level.POSSIBLE, kinds, (TAX_IDS_DIFFER,))
    if found is Level.STRONG or KeyKind.WEB_DOMAIN in kinds or len({_family(kind) for kind in kinds}) > 1:
        return Match(Level.STRONG, kinds)
    return Match(Level.POSSIBLE, kinds)


def level_as_kept(
    a: Identity, b: Identity, kept: Collection[MatchKey], common: Collection[MatchKey] = frozenset()
) -> Match:
    """As `level`; where `b` was found under keys of an earlier normaliser, as sure as that one was, if surer."""
    found = level(a, b, common)
    if not a.earlier or all(key in a.keys for key in kept):
        return found
    before = [level(one, other, common) for one, other in zip(a.earlier, b.earlier, strict=True)]
    return min([found, *before], key=lambda match: _SURENESS.index(match.level))


_SURENESS = list(Level)


# Keys of one family come from one piece of data: that brand and spelling agree where the core does is no
# second witness.
_FAMILIES = {
    KeyKind.NAME_FULL: "name",
    KeyKind.NAME_CORE: "name",
    KeyKind.BRAND: "name",
    KeyKind.PINYIN: "name",
    KeyKind.EMAIL: "email",
    KeyKind.EMAIL_DOMAIN: "email",
}


def _family(kind: KeyKind) -> str:
    return _FAMILIES.get(kind, kind)


def _name_keys(name: CompanyName, person: bool) -> Iterator[MatchKey]:
    yield MatchKey(KeyKind.NAME_FULL, name.full)
    if person:  # 张伟 has neither brand nor industry
        return
    yield MatchKey(KeyKind.NAME_CORE, name.core)
    if name.brand != "中国":  # of 中国银行 and 中国电信: the country is nobody's brand
        yield MatchKey(KeyKind.BRAND, name.brand)
    yield MatchKey(KeyKind.PINYIN, name.core_spelling)


def _name_level(a: Identity, b: Identity, kinds: frozenset[KeyKind]) -> Level:
    """The level that the names alone give."""
    if a.person or b.person:  # two people of one name are two people until something else agrees
        return Level.POSSIBLE
    levels = [_pair_level(one, other, kinds) for one in a.names for other in b.names]
    if (
        levels and levels[0] is Level.BRANCH_OF
    ):  # of the display names; a branch often has the company's aliases
        return Level.BRANCH_OF
    return next((found for found in (Level.STRONG, Level.BRANCH_OF) if found in levels), Level.POSSIBLE)


def _pair_level(one: CompanyName, other: CompanyName, kinds: frozenset[KeyKind]) -> Level:
    if KeyKind.NAME_FULL in kinds and one.full == other.full:
        return Level.STRONG
    if KeyKind.NAME_CORE in kinds and one.core == other.core and compatible(one.divisions, other.divisions):
        if one.branch == other.branch:
            return Level.STRONG
        if not (one.branch and other.branch):
            return Level.BRANCH_OF
    return Level.POSSIBLE
