"""What a new model is: everything that is decided about the data before a file is written."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nightly.new_model import labels, leaks
from nightly.new_model.doubts import doubts_of
from nightly.new_model.errors import NewModelError
from nightly.new_model.labels import Label
from nightly.new_model.leaks import Alone
from nightly.new_model.questions import Questions
from nightly.new_model.roles import Roles, ids_of, is_id, roles_of
from nightly.new_model.tables import Table
from nightly.new_model.times import Time, changed_at_of, time_of, times_of, why_not
from nightly.new_model.windows import Window, window_of
from nightly.records.columns import NO_FEATURES
from nightly.records.label_config import Kind

NO_TIME = "none"  # --time none
TRAIN_SHARE = 0.8  # of a night's rows


@dataclass(frozen=True)
class Wishes:
    """What a person says with the command's options; "" and () for what is to be proposed."""

    label: str = ""
    kind: Kind | None = None
    time: str = ""
    ids: Sequence[str] = ()
    weight: str = ""


@dataclass(frozen=True)
class Proposal:
    """A new model.

    :ivar source: the keys of config.toml's [source]
    :ivar origin: the data as the person named it
    :ivar label_why: why this column is the label
    :ivar doubts: what a person should look at, a sentence each
    """

    name: str
    source: Mapping[str, Any]
    origin: str
    table: Table
    label: Label
    label_why: str
    time: Time | None
    window: Window | None
    roles: Roles
    weight: str = ""
    doubts: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """About how many rows a night has."""
        return self.window.rows if self.window else self.table.rows


def propose(
    name: str,
    source: Mapping[str, Any],
    origin: str,
    table: Table,
    wishes: Wishes,
    questions: Questions,
    now: dt.datetime,
) -> Proposal:
    """Look at the table and decide, with a person's answers where it is not certain. Raises NewModelError."""
    times = times_of(table)
    column, why = _label_column(table, times, wishes, questions)
    label = _label(table, column, wishes, questions)
    time = _time(table, times, wishes, questions, column)
    weight = _weight(table, wishes, column)
    named_time = time.column if time else ""
    ids, id_reason = _ids(table, wishes, column, time)
    roles = roles_of(table, label=column, time=named_time, weight=weight, ids=ids, id_reason=id_reason)
    doubts = _leave_out_leaks(table, label, roles, questions)
    if not roles.names:
        left = ", ".join(f"{name} ({reason})" for name, reason in roles.ignored.items())
        raise NewModelError(f"no column is left to predict {column} from: {left}")
    if unnamed := [name for name in roles.names if name in NO_FEATURES]:
        raise NewModelError(f"no feature can have the name {unnamed[0]!r}: with --label {column} it gets another")
    window = window_of(table, time, now) if time else None
    rows = TRAIN_SHARE * (window.rows if window else table.rows)
    labels.refuse_rare_classes(table.columns[column], label, rows / table.sample.num_rows)
    if source["kind"] == "sql" and (changed_at := changed_at_of(times, (column, named_time))):
        source = {**source, "changed_at": table.headers[changed_at]}
    doubts += doubts_of(table, label, times, time, now)
    return Proposal(name, source, origin, table, label, why, time, window, roles, weight, doubts)


def _label_column(table: Table, times: list[Time], wishes: Wishes, questions: Questions) -> tuple[str, str]:
    if wishes.label:
        return labels.label_column(table, wishes.label).name, "as you said"
    others = {time.column for time in times} | {column.name for column in table.columns.values() if is_id(column)}
    proposal, why = labels.proposed_column(table, others)
    options = [column.name for column in table.columns.values() if column.is_single]
    name = questions.choose("the label", proposal, why, options=options, option="--label COLUMN")
    return labels.label_column(table, name).name, why if name == proposal else "as you said"


def _label(table: Table, name: str, wishes: Wishes, questions: Questions) -> Label:
    column = table.columns[name]
    label = labels.label_of(column, wishes.kind)
    if label.is_certain:
        return label
    if label.kind == "binary":
        values = [value for value, _ in column.counts if value.strip()]
        positive = questions.choose(
            f"the value of {name} that counts as 1",
            label.positive[0],
            label.why,
            options=values,
            option="--kind binary",
        )
        return label if positive == label.positive[0] else labels.with_positive(column, positive)
    options = ["classes", "number"]
    kind = questions.choose(f"the kind of {name}", label.kind, label.why, options=options, option="--kind KIND")
    return label if kind == label.kind else labels.label_of(column, "number" if kind == "number" else "classes")


def _time(table: Table, times: list[Time], wishes: Wishes, questions: Questions, label: str) -> Time | None:
    if wishes.time == NO_TIME:
        return None
    if wishes.time:
        column = table.column(wishes.time, "--time")
        time = time_of(column, named=True)
        if time is None:
            example = column.counts[0].value if column.counts else "nothing"
            raise NewModelError(f"--time {column.name}: {example!r} is in no format of times that is known here")
        if not time.is_usable:
            raise NewModelError(f"--time {column.name}: {why_not(time)}")
        return _one_format(time, questions)
    usable = [time for time in times if time.is_usable and time.column != label]
    if not usable:
        return None
    chosen = usable[0]
    if len(usable) > 1:
        names = [time.column for time in usable]
        why = f"of {', '.join(names)} it is the first to be known"
        options = [*names, NO_TIME]
        name = questions.choose("the time of a row", chosen.column, why, options=options, option="--time COLUMN")
        if name == NO_TIME:
            return None
        chosen = next(time for time in usable if time.column == name)
    return _one_format(chosen, questions)


def _one_format(time: Time, questions: Questions) -> Time:
    """Ask which format the times have, if days and months cannot be told apart."""
    if len(time.formats) == 1 or not _differ(time):
        return time
    name = questions.choose(
        f"the format of {time.column}", time.format, "several read it", options=time.formats, option="--yes"
    )
    return Time(time.column, [name], time.times, time.missing)


def _differ(time: Time) -> bool:
    """Return whether the formats say different days: 03/04/2016 is in March or in April."""
    moment = dt.datetime(2016, 3, 4)
    return len({moment.strftime(f) for f in time.formats if "%b" not in f and "%B" not in f}) > 1


def _ids(table: Table, wishes: Wishes, label: str, time: Time | None) -> tuple[list[str], str]:
    if wishes.ids:
        ids = list(dict.fromkeys(table.column(name, "--id").name for name in wishes.ids))
        if label in ids:
            raise NewModelError(f"--id {label}: it is the label")
        return ids, "as you said"
    return ids_of(table, label, time)


def _weight(table: Table, wishes: Wishes, label: str) -> str:
    if not wishes.weight:
        return ""
    column = table.column(wishes.weight, "--weight")
    if column.name == label or not column.is_number or (column.low or 0) < 0:
        raise NewModelError(f"--weight {column.name}: give a column of numbers, 0 or more, that is not the label")
    return column.name


def _leave_out_leaks(table: Table, label: Label, roles: Roles, questions: Questions) -> list[str]:
    """Move the features that give the label away to the columns that are left out; return what is in doubt."""
    alone, doubts = Alone(table, label), []
    for name in list(roles.names):
        finding = alone.finding(table.columns[name])
        if finding is None:
            continue
        if finding.score < leaks.SURE:
            question = f"{name}: {finding.sentence}. Is it known when the prediction is asked for?"
            if questions.confirm(question, default=True):
                doubts.append(f"{name}: {finding.sentence}; leave it out if it is known only later")
                continue
        for names in roles.groups.values():
            if name in names:
                names.remove(name)
        roles.ignored[name] = finding.sentence
    return doubts
