"""Positions on the earth, latitude and longitude in degrees: WGS-84 kept, GCJ-02 as maps in China draw, and distances."""

import math

# The mean radius in metres.
EARTH = 6_371_008.8
# The ellipsoid of Krasovsky, which GCJ-02 reckons with.
_A, _EE = 6_378_245.0, 0.006_693_421_622_965_943
_BD = math.pi * 3000 / 180
Position = tuple[float, float]


def _outside_china(latitude: float, longitude: float) -> bool:
    """True where GCJ-02 is WGS-84."""
    return not (72.004 <= longitude <= 137.8347 and 0.8293 <= latitude <= 55.8271)


def to_gcj(latitude: float, longitude: float) -> Position:
    """The position as maps in China draw it."""
    if _outside_china(latitude, longitude):
        return latitude, longitude
    north, east = _shift(latitude, longitude)
    return latitude + north, longitude + east


def from_gcj(latitude: float, longitude: float) -> Position:
    """The inverse, iterated to well below a centimetre."""
    if _outside_china(latitude, longitude):
        return latitude, longitude
    found = (latitude, longitude)
    for _ in range(30):
        drawn = to_gcj(*found)
        error = (drawn[0] - latitude, drawn[1] - longitude)
        if max(map(abs, error)) < 1e-10:
            break
        found = (found[0] - error[0], found[1] - error[1])
    return found


def to_wgs(latitude: float, longitude: float, datum: str) -> Position:
    """The position in WGS-84 of one in the datum: "GCJ02", "BD09" or WGS-84 itself."""
    if datum == "BD09":
        x, y = longitude - 0.0065, latitude - 0.006
        z = math.sqrt(x * x + y * y) - 0.00002 * math.sin(y * _BD)
        theta = math.atan2(y, x) - 0.000003 * math.cos(x * _BD)
        latitude, longitude = z * math.sin(theta), z * math.cos(theta)
    return from_gcj(latitude, longitude) if datum in ("GCJ02", "BD09") else (latitude, longitude)


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
