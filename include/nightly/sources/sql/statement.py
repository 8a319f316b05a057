"""The SQL that reads a slice of a table or a query."""

from dataclasses import dataclass

from nightly.sources.sql.database import PLACEHOLDER, Column, Database

IN_WINDOW = "{0} >= :window_start AND {0} < :window_end"


@dataclass(frozen=True)
class Relation:
    """The table or the query that rows are read from.

    :ivar query: reads all of it
    :ivar place: stands behind FROM
    :ivar own_window: whether the query uses :window_start or :window_end, so its rows may depend on them
    """

    query: str
    place: str
    own_window: bool

    @classmethod
    def of(cls, database: Database, table: str, query: str) -> "Relation":
        if table:
            name = ".".join(database.quote(part) for part in table.split("."))
            return cls(f"SELECT * FROM {name}", name, False)
        query = query.strip().rstrip(";")
        return cls(query, f"({query}\n)", PLACEHOLDER.search(query) is not None)  # it may end with a comment


def select_rows(database: Database, relation: Relation, columns: list[Column], time: Column | None) -> str:
    """Return the query of the rows from :window_start to :window_end, or of all without a time column.

    Their order is by time and then by all other columns, so the same rows give the same file, whatever the database
    did meanwhile.
    """
    read = ", ".join(
        column.read
        if column.read == f"q.{database.quote(column.name)}"
        else f"{column.read} AS {database.quote(column.name)}"
        for column in columns
    )
    first = [time] if time else []
    order = [column.order for column in [*first, *(column for column in columns if column is not time)] if column.order]
    window = f" WHERE {IN_WINDOW.format(time.order)}" if time else ""
    return f"SELECT {read} FROM {relation.place} q{window}" + (f" ORDER BY {', '.join(order)}" if order else "")


def select_changes(database: Database, relation: Relation, day: str, time: Column | None, changed_at: Column) -> str:
    """Return the query of how many rows each day has, when the last of them changed, and a checksum of all changes."""
    figures = f"COUNT(*), MAX({changed_at.order}), {database.checksum.format(changed_at.order) or 0}"
    if time is None:
        return f"SELECT 0, {figures} FROM {relation.place} q"
    window = IN_WINDOW.format(time.order)
    return f"SELECT {day}, {figures} FROM {relation.place} q WHERE {window} GROUP BY {day}"
