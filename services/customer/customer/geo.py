"""Positions on the map: WGS-84 kept, GCJ-02 shown, cells for what is near, and the geocoder.

The geocoder is an HTTP contract, `GET {GEOCODER_URL}/search?q=…&format=json`, which answers with a list of
`{"lat", "lon", "precision"}` in WGS-84, best first. Without `GEOCODER_URL` a gazetteer file answers: `GAZETTEER_FILE`
names a CSV of `code,latitude,longitude` by GB/T 2260 division code.
"""

import csv
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import httpx
from crm.common.v1.common_pb2 import Address
from crmkit.errors import Unavailable
from crmkit.settings import Settings

EARTH = 6_371_008.8
PATIENCE = 5.0
DECIMALS = 6
CELL_CHARACTERS = 6
_BASE32 = "0123456789bcdefghjkmnpqrstuvwxyz"
# The ellipsoid of Krasovsky, which GCJ-02 reckons with.
_A, _EE = 6_378_245.0, 0.006_693_421_622_965_943
Position = tuple[float, float]


def outside_china(latitude: float, longitude: float) -> bool:
    """True where GCJ-02 is WGS-84."""
    return not (72.004 <= longitude <= 137.8347 and 0.8293 <= latitude <= 55.8271)


def to_gcj(latitude: float, longitude: float) -> Position:
    """The position as maps in China draw it."""
    if outside_china(latitude, longitude):
        return latitude, longitude
    north, east = _shift(latitude, longitude)
    return latitude + north, longitude + east


def from_gcj(latitude: float, longitude: float) -> Position:
    """The inverse, iterated to well below a centimetre."""
    if outside_china(latitude, longitude):
        return latitude, longitude
    found = (latitude, longitude)
    for _ in range(30):
        drawn = to_gcj(*found)
        error = (drawn[0] - latitude, drawn[1] - longitude)
        if max(map(abs, error)) < 1e-10:
            break
        found = (found[0] - error[0], found[1] - error[1])
    return found


def _shift(latitude: float, longitude: float) -> Position:
    x, y = longitude - 105.0, latitude - 35.0
    waves = (20 * math.sin(6 * x * math.pi) + 20 * math.sin(2 * x * math.pi)) * 2 / 3
    north = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * math.sqrt(abs(x)) + waves
    north += (20 * math.sin(y * math.pi) + 40 * math.sin(y / 3 * math.pi)) * 2 / 3
    north += (160 * math.sin(y / 12 * math.pi) + 320 * math.sin(y * math.pi / 30)) * 2 / 3
    east = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * math.sqrt(abs(x)) + waves
    east += (20 * math.sin(x * math.pi) + 40 * math.sin(x / 3 * math.pi)) * 2 / 3
    east += (150 * math.sin(x / 12 * math.pi) + 300 * math.sin(x / 30 * math.pi)) * 2 / 3
    angle = latitude / 180 * math.pi
    magic = 1 - _EE * math.sin(angle) ** 2
    root = math.sqrt(magic)
    return (
        north * 180 / (_A * (1 - _EE) / (magic * root) * math.pi),
        east * 180 / (_A / root * math.cos(angle) * math.pi),
    )


def metres(one: Position, other: Position) -> float:
    """The distance on the globe."""
    a, b = math.radians(one[0]), math.radians(other[0])
    north, east = b - a, math.radians(other[1] - one[1])
    half = math.sin(north / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(east / 2) ** 2
    return 2 * EARTH * math.asin(min(1.0, math.sqrt(half)))


def cell(latitude: float, longitude: float, characters: int = CELL_CHARACTERS) -> str:
    """The geohash; six characters are at most 1.2 km by 0.6 km."""
    ranges = [[-180.0, 180.0], [-90.0, 90.0]]
    values = (longitude, latitude)
    found, bits = "", 0
    for step in range(characters * 5):
        low, high = ranges[step % 2]
        middle = (low + high) / 2
        upper = values[step % 2] >= middle
        ranges[step % 2][not upper] = middle
        bits = bits * 2 + upper
        if step % 5 == 4:
            found, bits = found + _BASE32[bits], 0
    return found


def box_around(latitude: float, longitude: float, radius: float) -> tuple[float, float, float, float]:
    """South, west, north and east of a circle."""
    north = math.degrees(radius / EARTH)
    east = math.degrees(radius / (EARTH * max(math.cos(math.radians(latitude)), 0.01)))
    return latitude - north, longitude - east, latitude + north, longitude + east


def covering(south: float, west: float, north: float, east: float, most: int = 200) -> list[str]:
    """Geohash prefixes that cover the box together: the finest of which no more than `most` are needed."""
    for characters in range(CELL_CHARACTERS, 0, -1):
        found = set[str]()
        for position in _grid(south, west, north, east, characters):
            found.add(cell(*position, characters))
            if len(found) > most:
                break
        else:
            return sorted(found)
    return [""]


def _grid(south: float, west: float, north: float, east: float, characters: int) -> Iterator[Position]:
    """A point in every cell of the box."""
    bits = characters * 5
    high, wide = 180 / 2 ** (bits // 2), 360 / 2 ** ((bits + 1) // 2)
    rows, columns = math.ceil((north - south) / high) + 1, math.ceil((east - west) / wide) + 1
    for row in range(rows):
        for column in range(columns):
            yield min(south + row * high, north), min(west + column * wide, east)


async def geocode(address: Address, settings: Settings) -> tuple[float, float, str] | None:
    """Latitude, longitude and precision of an address; None where nobody knows it."""
    text, division = address.line, address.division_code
    if url := settings.geocoder_url:
        try:
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                answer = await client.get(f"{url.rstrip('/')}/search", params={"q": text, "format": "json"})
                answer.raise_for_status()
                found = answer.json()
        except (httpx.HTTPError, ValueError):
            raise Unavailable("UNAVAILABLE") from None
        if not found:
            return None
        best = found[0]
        return float(best["lat"]), float(best["lon"]), str(best.get("precision", "STREET")).upper()
    known = gazetteer(settings.gazetteer_file)
    for code, precision in (
        (division[:6], "DISTRICT"),
        (division[:4] + "00", "CITY"),
        (division[:4], "CITY"),
    ):
        if code in known:
            return *known[code], precision
    return None


@lru_cache(maxsize=4)
def gazetteer(path: str) -> dict[str, Position]:
    """Division code → position, of a file; nothing where there is no file."""
    if not path:
        return {}
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        return {
            row["code"]: (float(row["latitude"]), float(row["longitude"])) for row in csv.DictReader(file)
        }
