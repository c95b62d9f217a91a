"""Places on the earth: Chinese maps shift them; here everything is WGS84."""

from math import asin, atan2, cos, pi, radians, sin, sqrt

AXIS, ECCENTRICITY = 6378245.0, 0.00669342162296594323
EARTH_M = 6371008.8
CHINA = (0.8293, 55.8271, 72.004, 137.8347)
BD = pi * 3000.0 / 180.0


def to_wgs84(lat: float, lon: float, datum: str) -> tuple[float, float]:
    """The place in WGS84, exact to a metre."""
    if datum == "BD09":
        lat, lon = _bd_to_gcj(lat, lon)
    return _gcj_to_wgs(lat, lon) if datum in {"GCJ02", "BD09"} else (lat, lon)


def distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Metres between two places, over the earth."""
    lat1, lon1, lat2, lon2 = (radians(value) for value in (*a, *b))
    half = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_M * asin(min(1.0, sqrt(half)))


def _gcj_to_wgs(lat: float, lon: float) -> tuple[float, float]:
    """The shift has no inverse in closed form; each step leaves a thousandth of what was wrong."""
    if not (CHINA[0] <= lat <= CHINA[1] and CHINA[2] <= lon <= CHINA[3]):
        return lat, lon
    found = (lat, lon)
    for _ in range(4):
        dlat, dlon = _shift(*found)
        found = (lat - dlat, lon - dlon)
    return found


def _bd_to_gcj(lat: float, lon: float) -> tuple[float, float]:
    x, y = lon - 0.0065, lat - 0.006
    z = sqrt(x * x + y * y) - 0.00002 * sin(y * BD)
    theta = atan2(y, x) - 0.000003 * cos(x * BD)
    return z * sin(theta), z * cos(theta)


def _shift(lat: float, lon: float) -> tuple[float, float]:
    x, y = lon - 105.0, lat - 35.0
    both = (20.0 * sin(6.0 * x * pi) + 20.0 * sin(2.0 * x * pi)) * 2.0 / 3.0
    dlat = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * sqrt(abs(x)) + both
    dlat += (20.0 * sin(y * pi) + 40.0 * sin(y / 3.0 * pi)) * 2.0 / 3.0
    dlat += (160.0 * sin(y / 12.0 * pi) + 320.0 * sin(y * pi / 30.0)) * 2.0 / 3.0
    dlon = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * sqrt(abs(x)) + both
    dlon += (20.0 * sin(x * pi) + 40.0 * sin(x / 3.0 * pi)) * 2.0 / 3.0
    dlon += (150.0 * sin(x / 12.0 * pi) + 300.0 * sin(x / 30.0 * pi)) * 2.0 / 3.0
    magic = 1 - ECCENTRICITY * sin(radians(lat)) ** 2
    dlat = dlat * 180.0 / (AXIS * (1 - ECCENTRICITY) / (magic * sqrt(magic)) * pi)
    return dlat, dlon * 180.0 / (AXIS / sqrt(magic) * cos(radians(lat)) * pi)
