"""Data that new models are written for."""

import datetime as dt
import random

ROWS = 1200


def rentals(rows=ROWS, **columns):
    """The rentals of the tutorial: a hundred days, with a value for each row in the given columns."""
    chance = random.Random(1)
    lines = [",".join(["Rental ID", "Started At", "Station", "Planned Minutes", *columns, "Returned Late"])]
    for number in range(rows):
        start = dt.datetime(2026, 1, 1, 6) + dt.timedelta(days=100 * number // rows, minutes=chance.randrange(900))
        station, planned = chance.choice(["Harbour", "Market", "Park"]), round(chance.expovariate(1 / 30) + 5, 1)
        late = chance.random() < min(planned / 100 + (station == "Park") * 0.3, 1)
        own = [column(number, late) for column in columns.values()]
        lines.append(",".join(map(str, [number, start, station, planned, *own, "yes" if late else "no"])))
    return "\n".join(lines) + "\n"
