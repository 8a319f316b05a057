"""Generates taxi-like trips, day by day: any number of rows, reproducible by day, and typed as a database is."""

import datetime as dt
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

COMPANIES = [f"Taxi Affiliation {number:03}" for number in range(120)]
PAYMENTS = ["Cash", "Credit Card", "Dispute", "No Charge", "Pcard", "Prcard"]
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"  # in which Arrow writes a timestamp as CSV
SCHEMA = pa.schema(
    [
        ("trip_id", pa.int64()),
        ("picked_up", pa.timestamp("s", "UTC")),
        ("pickup_area", pa.int32()),
        ("dropoff_area", pa.int32()),
        ("pickup_latitude", pa.float64()),
        ("pickup_longitude", pa.float64()),
        ("dropoff_latitude", pa.float64()),
        ("dropoff_longitude", pa.float64()),
        ("trip_miles", pa.float64()),
        ("trip_seconds", pa.int64()),
        ("fare", pa.float64()),
        ("tips", pa.float64()),
        ("payment_type", pa.string()),
        ("company", pa.string()),
        ("big_tipper", pa.int64()),
    ]
)
CURATED = "\n".join(
    f'feature {{ name: "{field.name}" type: '
    f"{'INT' if pa.types.is_integer(field.type) else 'FLOAT' if pa.types.is_floating(field.type) else 'BYTES'} }}"
    for field in SCHEMA
    if field.name != "picked_up"
)


def days(rows: int, first: dt.date, number: int) -> Iterator[tuple[dt.date, pa.RecordBatch]]:
    """Yield each of `number` days from `first` with its trips, `rows` in all, spread evenly."""
    for n in range(number):
        begin, end = rows * n // number, rows * (n + 1) // number
        yield first + dt.timedelta(days=n), _trips(first + dt.timedelta(days=n), begin, end - begin)


def _trips(day: dt.date, first_id: int, rows: int) -> pa.RecordBatch:
    random = np.random.default_rng(day.toordinal())
    seconds = int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()) + random.integers(0, 86_400, rows)
    areas = random.integers(1, 78, (2, rows))
    miles = random.gamma(1.2, 2.5, rows).round(1)
    fare = (3.25 + 2.25 * miles + random.gamma(1, 1, rows)).round(2)
    payment = random.choice(len(PAYMENTS), rows, p=[0.55, 0.42, 0.01, 0.01, 0.005, 0.005])
    tips = np.where(payment == 1, (fare * random.uniform(0, 0.4, rows)).round(2), 0.0)
    centre = 41.7 + areas / 300, -87.6 - areas / 400
    absent = random.random(rows) < 0.03  # drop-offs outside the city have no place
    columns = [
        pa.array(np.arange(first_id, first_id + rows)),
        pa.array(seconds),
        pa.array(areas[0]),
        pa.array(areas[1], mask=absent),
        pa.array(centre[0][0].round(9)),
        pa.array(centre[1][0].round(9)),
        pa.array(centre[0][1].round(9), mask=absent),
        pa.array(centre[1][1].round(9), mask=absent),
        pa.array(miles),
        pa.array((miles * 180 + random.integers(60, 900, rows)).astype(np.int64)),
        pa.array(fare),
        pa.array(tips),
        pa.array(PAYMENTS).take(pa.array(payment)),
        pa.array(COMPANIES).take(pa.array(random.integers(0, len(COMPANIES), rows))),
        pa.array((tips > 0.2 * fare).astype(np.int64)),
    ]
    return pa.RecordBatch.from_arrays([c.cast(f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
