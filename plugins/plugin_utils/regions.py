# SPDX-License-Identifier: Apache-2.0
"""Where regions of AWS lie: country and rough place. Source: the provider's list of regions, 2026."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Region(NamedTuple):
    """A country code and a place in degrees."""

    country: str
    latitude: float
    longitude: float


AWS = {
    "af-south-1": Region("ZA", -33.9, 18.4),
    "ap-east-1": Region("HK", 22.3, 114.2),
    "ap-east-2": Region("TW", 25.0, 121.5),
    "ap-northeast-1": Region("JP", 35.7, 139.7),
    "ap-northeast-2": Region("KR", 37.6, 127.0),
    "ap-northeast-3": Region("JP", 34.7, 135.5),
    "ap-south-1": Region("IN", 19.1, 72.9),
    "ap-south-2": Region("IN", 17.4, 78.5),
    "ap-southeast-1": Region("SG", 1.35, 103.8),
    "ap-southeast-2": Region("AU", -33.9, 151.2),
    "ap-southeast-3": Region("ID", -6.2, 106.8),
    "ap-southeast-4": Region("AU", -37.8, 145.0),
    "ap-southeast-5": Region("MY", 3.1, 101.7),
    "ap-southeast-6": Region("NZ", -36.85, 174.8),
    "ap-southeast-7": Region("TH", 13.8, 100.5),
    "ca-central-1": Region("CA", 45.5, -73.6),
    "ca-west-1": Region("CA", 51.0, -114.1),
    "eu-central-1": Region("DE", 50.1, 8.7),
    "eu-central-2": Region("CH", 47.4, 8.5),
    "eu-north-1": Region("SE", 59.3, 18.1),
    "eu-south-1": Region("IT", 45.5, 9.2),
    "eu-south-2": Region("ES", 41.65, -0.9),
    "eu-west-1": Region("IE", 53.3, -6.3),
    "eu-west-2": Region("GB", 51.5, -0.1),
    "eu-west-3": Region("FR", 48.9, 2.35),
    "il-central-1": Region("IL", 32.1, 34.8),
    "me-central-1": Region("AE", 24.5, 54.4),
    "me-south-1": Region("BH", 26.1, 50.6),
    "mx-central-1": Region("MX", 20.6, -100.4),
    "sa-east-1": Region("BR", -23.5, -46.6),
    "us-east-1": Region("US", 38.9, -77.4),
    "us-east-2": Region("US", 40.0, -83.0),
    "us-west-1": Region("US", 37.4, -121.9),
    "us-west-2": Region("US", 45.8, -119.7),
}
_EARTH_KM = 6371.0


def kilometres(one: Sequence[float], other: Sequence[float]) -> float:
    """Give the distance of two places ([latitude, longitude] in degrees) along the earth's surface."""
    (a, b), (c, d) = (map(math.radians, place) for place in (one, other))
    half = math.sin((c - a) / 2) ** 2 + math.cos(a) * math.cos(c) * math.sin((d - b) / 2) ** 2
    return 2 * _EARTH_KM * math.asin(math.sqrt(half))
