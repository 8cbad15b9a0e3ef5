# SPDX-License-Identifier: Apache-2.0
"""The people of the practice. Nobody here exists: names come from faker's pools, addresses and numbers are invented.

Telephone numbers are from the ranges set aside for fiction in Australia, mail addresses at example.com and .org.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import random

STREETS = [
    "Example Street",
    "Sample Road",
    "Placeholder Avenue",
    "Invented Lane",
    "Fictional Parade",
    "Specimen Terrace",
    "Nowhere Close",
    "Madeup Crescent",
    "Imaginary Way",
    "Pretend Place",
]
SUBURBS = ["Sampleton", "Exampleville", "Mockford", "Dummy Bay", "Fictional Heights", "Testham", "Placebo Point"]
ROLES = [
    "General practitioner",
    "General practitioner",
    "General practitioner",
    "Paediatrician",
    "Dentist",
    "Practice nurse",
    "Physiotherapist",
    "Psychologist",
]
LOCALES = ("en_AU", "de_DE", "es_ES", "it_IT", "en_IE")


@dataclasses.dataclass(frozen=True)
class Practitioner:
    """Somebody who sees patients."""

    id: int
    name: str
    role: str
    provider: str


@dataclasses.dataclass(frozen=True)
class Patient:
    """A row of the patient table."""

    id: int
    record: str
    family: str
    given: str
    born: dt.date
    sex: str
    address: str
    suburb: str
    phone: str
    email: str
    registered: dt.date
    practitioner: int

    @property
    def name(self) -> str:
        """Given and family name."""
        return f"{self.given} {self.family}"


@dataclasses.dataclass(frozen=True)
class Pools:
    """Names drawn once; twenty thousand calls to faker would take longer than the rest together."""

    female: tuple[str, ...]
    male: tuple[str, ...]
    family: tuple[str, ...]


@functools.cache
def draw_pools(seed: int, per_locale: int = 160) -> Pools:
    """Draw the name pools. A few awkward names are always in: they are what breaks careless file handling."""
    from faker import Faker

    female: list[str] = ["Zoë", "Siobhán", "Anne-Marie"]
    male: list[str] = ["Jürgen", "Søren", "José"]
    family: list[str] = ["O'Brien", "Müller", "D'Angelo", "Nguyễn", "Strauß", "van der Berg", "McTavish"]
    for number, locale in enumerate(LOCALES):
        faker = Faker(locale, providers=["faker.providers.person"])  # the other thirty take seconds to load
        faker.seed_instance(seed * 100 + number)
        female += [faker.first_name_female() for _ in range(per_locale)]
        male += [faker.first_name_male() for _ in range(per_locale)]
        family += [faker.last_name() for _ in range(per_locale)]
    return Pools(*(tuple(dict.fromkeys(names)) for names in (female, male, family)))


def draw_practitioners(pools: Pools, seed: int, count: int) -> list[Practitioner]:
    """Draw the staff who see patients."""
    rng = random.Random(f"{seed}:practitioner")
    staff = []
    for number in range(1, count + 1):
        given = rng.choice(pools.female if rng.random() < 0.55 else pools.male)
        role = ROLES[(number - 1) % len(ROLES)]
        title = "" if role in {"Practice nurse", "Physiotherapist"} else "Dr "
        staff.append(Practitioner(number, f"{title}{given} {rng.choice(pools.family)}", role, f"SAMPLE{number:04d}X"))
    return staff


def draw_patients(pools: Pools, seed: int, count: int, practitioners: int, today: dt.date) -> list[Patient]:
    """Draw the patients, oldest registration first; ages lean towards the young and the old, as in a real practice."""
    rng = random.Random(f"{seed}:patient")
    first_day = today - dt.timedelta(days=365 * 12)
    patients = []
    for number in range(1, count + 1):
        female = rng.random() < 0.53
        given = rng.choice(pools.female if female else pools.male)
        family = rng.choice(pools.family)
        age_days = int(rng.choice((rng.random() * 16, rng.random() * 95, 40 + rng.random() * 50)) * 365.25)
        registered = first_day + dt.timedelta(days=int(365 * 10 * number / (count + 1)))
        born = min(today - dt.timedelta(days=age_days), registered)
        patients.append(
            Patient(
                id=number,
                record=f"HS-{number:06d}",
                family=family,
                given=given,
                born=born,
                sex="f" if female else "m",
                address=f"{rng.randrange(1, 220)} {rng.choice(STREETS)}",
                suburb=f"{rng.choice(SUBURBS)} NSW 0000",
                phone=f"0491 570 {rng.choice(('006', '156', '157', '158', '159', '110', '313', '737'))}",
                email=f"patient{number:06d}@example.{'com' if number % 2 else 'org'}",
                registered=registered,
                practitioner=rng.randrange(1, practitioners + 1),
            )
        )
    return patients
