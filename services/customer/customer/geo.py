"""Cells for what is near, and the geocoder.

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
from crmkit.positions import EARTH, Position
from crmkit.settings import Settings

PATIENCE = 5.0
DECIMALS = 6
CELL_CHARACTERS = 6
_BASE32 = "0123456789bcdefghjkmnpqrstuvwxyz"


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
