"""Customers on the map: pinned by hand or from their address, found by circle and box."""

from collections.abc import Sequence
from typing import Any

from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.mapping import mapper, to_timestamp
from crmkit.positions import EARTH, from_gcj, metres, to_gcj
from crmkit.scope import predicate
from sqlalchemy import and_, func, or_, select, true
from sqlalchemy.dialects.postgresql import insert

from customer import geo
from customer.model.account import Account
from customer.model.pin import AccountPin

FARTHEST = 200_000.0
NEAR = 5_000.0
USUAL, MOST = 100, 500


async def pin(account: Account, request: Any, call: Call) -> Account:
    """Pins by hand: from now on no geocoder moves it."""
    account.check_state("ACTIVE", "POOLED", "FROZEN")
    latitude, longitude = request.latitude, request.longitude
    _check(latitude, longitude)
    if request.datum == pb.GCJ02:
        latitude, longitude = from_gcj(latitude, longitude)
    await _write(account, latitude, longitude, "PIN", "MANUAL", call)
    return account


async def locate(account: Account, call: Call) -> Account:
    """Pins by the address, unless somebody has pinned by hand."""
    account.check_state("ACTIVE", "POOLED", "FROZEN")
    if account.pin is not None and account.pin.source == "MANUAL":
        raise FailedPrecondition("PIN_IS_MANUAL")
    address = next(iter(account.addresses), None)
    if address is None or not (found := await geo.geocode(address, call.running.settings)):
        raise FailedPrecondition("ADDRESS_NOT_FOUND")
    latitude, longitude, precision = found
    _check(latitude, longitude)
    await _write(account, latitude, longitude, precision, "GEOCODER", call)
    return account


async def nearby(request: Any, call: Call) -> pb.FindNearbyAccountsResponse:
    """Those that the caller sees in a circle or box, the nearest first."""
    box = [request.HasField(name) for name in ("south", "west", "north", "east")]
    if all(box):
        around = (request.south, request.west, request.north, request.east)
        middle, radius = ((around[0] + around[2]) / 2, (around[1] + around[3]) / 2), None
    elif request.HasField("latitude") and request.HasField("longitude"):
        middle, radius = (request.latitude, request.longitude), request.radius or NEAR
        if not 0 < radius <= FARTHEST:
            raise _wrong("radius")
        around = geo.box_around(*middle, radius)
    else:
        raise _wrong("latitude")
    _check(*middle)
    if not (around[0] <= around[2] and around[1] <= around[3]):
        raise _wrong("south")
    size = min(request.page_size or USUAL, MOST)
    rows: Sequence[Any] = (
        await call.db.execute(near_statement(around, middle, radius, size + 1, call))
    ).all()
    answer = pb.FindNearbyAccountsResponse(more=len(rows) > size)
    for row in rows[:size]:
        account, latitude, longitude = row[0], float(row[1]), float(row[2])
        place = answer.places.add(distance=round(metres(middle, (latitude, longitude)), 1))
        shown: Any = mapper(Account).message(account, call.caller)
        place.account.CopyFrom(shown)
        place.gcj_latitude, place.gcj_longitude = (
            round(x, geo.DECIMALS) for x in to_gcj(latitude, longitude)
        )
    return answer


def near_statement(
    around: tuple[float, float, float, float],
    middle: geo.Position,
    radius: float | None,
    size: int,
    call: Call,
) -> Any:
    """Accounts in the cells of the box that are in the box and circle, by distance."""
    south, west, north, east = around
    cells = geo.covering(*around, most=40)
    inside = or_(*(and_(AccountPin.cell >= one, AccountPin.cell < f"{one}~") for one in cells))
    half = func.pow(func.sin(func.radians(AccountPin.latitude - middle[0]) / 2), 2) + func.cos(
        func.radians(middle[0])
    ) * func.cos(func.radians(AccountPin.latitude)) * func.pow(
        func.sin(func.radians(AccountPin.longitude - middle[1]) / 2), 2
    )
    distance = 2 * EARTH * func.asin(func.least(1.0, func.sqrt(half)))
    return (
        select(Account, AccountPin.latitude, AccountPin.longitude)
        .join(AccountPin, AccountPin.account == Account.id)
        .where(
            inside,
            AccountPin.latitude.between(south, north),
            AccountPin.longitude.between(west, east),
            distance <= radius if radius is not None else true(),
            Account.state.not_in(["MERGED", "ARCHIVED"]),
            predicate(Account, call.caller),
        )
        .order_by(distance, Account.id)
        .limit(size)
    )


async def _write(
    account: Account, latitude: float, longitude: float, precision: str, source: str, call: Call
) -> None:
    latitude, longitude = round(latitude, geo.DECIMALS), round(longitude, geo.DECIMALS)
    drawn = to_gcj(latitude, longitude)
    account.pin = pb.Account.Pin(
        latitude=latitude, longitude=longitude, precision=precision, source=source, time=to_timestamp(call.now),
        gcj_latitude=round(drawn[0], geo.DECIMALS), gcj_longitude=round(drawn[1], geo.DECIMALS),
    )  # fmt: skip
    row = {"cell": geo.cell(latitude, longitude), "latitude": latitude, "longitude": longitude}
    statement = insert(AccountPin).values(account=account.id, **row)
    await call.db.execute(statement.on_conflict_do_update(index_elements=["account"], set_=row))


def _check(latitude: float, longitude: float) -> None:
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise _wrong("latitude")


def _wrong(field: str) -> Validation:
    return Validation(
        Violation(field, "OUT_OF_RANGE", "坐标或范围不正确", "The position or its range is not right.")
    )
