"""From data to a model's files: fetch, look, ask, measure, write."""

import datetime as dt
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from pydantic import TypeAdapter, ValidationError

from nightly.io.owned import owned_folder, remove_abandoned
from nightly.io.paths import MODELS
from nightly.io.secrets import hide
from nightly.models import load_config
from nightly.new_model import gates, templates
from nightly.new_model.config import config_text
from nightly.new_model.errors import NewModelError
from nightly.new_model.history import History, measure
from nightly.new_model.labels import NAMES
from nightly.new_model.proposal import TRAIN_SHARE, Proposal, Wishes, propose
from nightly.new_model.questions import Questions
from nightly.new_model.schema import schema_text
from nightly.new_model.tables import Table, read_table
from nightly.new_model.times import Time
from nightly.new_model.writing import DAGS, publish, refuse_name, stage
from nightly.records.connection import Connection, variable
from nightly.records.night import DownloadedFile
from nightly.records.path_pattern import STEPS, WEB, PathPattern
from nightly.records.source_config import SourceConfig
from nightly.snapshots.readers import bodies
from nightly.sources import fetch, open_source
from nightly.sources.base import Context, Window
from nightly.sources.errors import RefusedError
from nightly.sources.files.tables import IsTableError
from nightly.state import current, unshared
from nightly.training.tabular.recommended import Recommended, recommended

STAGING = ".new-"  # prefix of the folders in include/models that are being written
FIRST = dt.datetime(1900, 1, 1, tzinfo=dt.UTC)
GAP = dt.timedelta(days=400)  # without a file on a web server, before which none is looked for
MAX_DATES = 10_000  # on a web server, from today back to the newest file

log = logging.getLogger("nightly")


@dataclass(frozen=True)
class Created:
    """A model that was written."""

    proposal: Proposal
    history: History
    training: Recommended
    written: Sequence[Path]


def source_of(data: str, connection: str = "", table: str = "", file_format: str = "") -> dict[str, Any]:
    """Return the keys of [source] for the data that a person names. Raises NewModelError.

    :param file_format: of all files, if their names do not show it
    """
    if table and file_format:
        raise NewModelError(f"--format {file_format}: it is for files, and --table {table} is not one")
    if table and data:
        raise NewModelError(f"give either {data} or --table {table}: a model reads one of them")
    if table:
        if not connection:
            raise NewModelError(f"--table {table}: in which database? Name its Airflow connection with --connection ID")
        return {"kind": "sql", "table": table, "connection": connection}
    if not data:
        raise NewModelError("give the data: a file, a folder, a URL, or --connection ID --table T")
    is_remote = "://" in data or data.startswith("package:")
    place = data if is_remote else str(Path(data).expanduser().absolute())
    keys = {"kind": "files", "path": place, "connection": connection, "format": file_format}
    return {key: value for key, value in keys.items() if value}


def create(
    name: str,
    source: Mapping[str, Any],
    wishes: Wishes,
    questions: Questions,
    *,
    origin: str,
    models: Path = MODELS,
    dags: Path = DAGS,
    tell: Callable[[Proposal], None] = lambda proposal: None,
) -> Created:
    """Look at the data of a source and write a model for it. Raises UserError and OSError; then nothing is written.

    :param origin: the data as the person named it
    :param tell: called with what is proposed, before thresholds are measured
    """
    refuse_name(name, models, dags)
    now = dt.datetime.now(dt.UTC)
    keep = [wishes.label] if wishes.label else NAMES
    try:
        table = _read(name, source, origin, now, keep)
    except IsTableError as error:
        if error.path.rstrip("/") != source["path"].rstrip("/"):
            raise  # the table is only a part of what was named
        source = {**source, "kind": "table", "format": error.format}
        table = _read(name, source, origin, now, keep)
    proposal = propose(name, source, origin, table, wishes, questions, now)
    if source["kind"] == "sql" and proposal.time:
        proposal = replace(proposal, time=_sliced(proposal.time, proposal.table, proposal.source, now))
    tell(proposal)
    features = proposal.roles.features
    training = recommended(round(TRAIN_SHARE * proposal.rows), proposal.label.kind, features)
    remove_abandoned(models.glob(f"{STAGING}*"))
    with owned_folder(models, STAGING) as folder:
        history = History(missing="the data has no times")
        if proposal.window:
            stage(name, _files(proposal, history, training), folder)
            draft = load_config(name, models=folder)
            with unshared():
                history = measure(draft, folder / name / "schema.pbtxt", table, proposal.window, folder)
        staged = stage(name, _files(proposal, history, training), folder)
        written = publish(name, staged, models, dags)
    return Created(proposal, history, training, written)


def _read(name: str, source: Mapping[str, Any], origin: str, now: dt.datetime, keep: Collection[str]) -> Table:
    """Fetch the data as a night does, and read it."""
    config = _config(source)
    connection = _connection(config.connection)
    with current().session(name) as paths:
        folder = paths.downloads / name
        files = _fetch(config, now, folder, connection)
    return read_table(
        (body for file in files for body in bodies(Path(file.path), file.suffix, file.partition)), origin, keep
    )


def _config(source: Mapping[str, Any]) -> SourceConfig:
    try:
        return TypeAdapter(SourceConfig).validate_python(dict(source))
    except ValidationError as error:
        problems = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise NewModelError(f"the data cannot be read as it is named: {problems}") from None


def _connection(name: str) -> Connection | None:
    connection = Connection.from_environment(name) if name else None
    if name and connection is None:
        raise NewModelError(f"--connection {name}: set {variable(name)} to its URI or JSON, as for Airflow")
    hide(connection.secrets() if connection else [])
    return connection


def _sliced(time: Time, table: Table, source: Mapping[str, Any], now: dt.datetime) -> Time:
    """Return the time with a format by which the database can select days. Raises NewModelError if there is none.

    A text with any offset does not sort by time. One that always ends in Z does, and its format has that letter.
    """
    formats = [time.format]
    texts = pc.drop_null(table.columns[time.column].texts)
    if time.format.endswith("%z") and pc.all(pc.ends_with(texts, "Z")).as_py():
        formats.append(time.format.removesuffix("%z") + "Z")
    config = _config(source)
    window = Window(now - dt.timedelta(days=1), now, now)
    refusal = None
    for time_format in formats:
        context = Context(
            window, time.column, time_format, rename=table.rename, connection=_connection(config.connection)
        )
        try:
            open_source(config, context).parts()
            return replace(time, formats=[time_format])
        except RefusedError as error:
            refusal = error
    raise NewModelError(f"{refusal} Or name another column with --time COLUMN, or none with --time none.")


def _fetch(
    config: SourceConfig, now: dt.datetime, folder: Path, connection: Connection | None
) -> Iterable[DownloadedFile]:
    """Fetch all that the source has.

    A web server lists nothing: each date is a request, so they are asked for from today backwards, up to a long gap.
    Raises NewModelError if the newest file is too old to be found in this way.
    """

    def files(start: dt.datetime, end: dt.datetime) -> list[DownloadedFile]:
        return fetch(config, window_start=start, window_end=end, as_of=now, folder=folder, connection=connection).files

    pattern = PathPattern(config.path) if config.kind == "files" else None
    if not pattern or pattern.scheme not in WEB or pattern.step not in STEPS:
        return files(FIRST, now)
    by_origin: dict[str, DownloadedFile] = {}
    start, oldest = now, now - max(MAX_DATES * STEPS[pattern.step], GAP)
    while by_origin or start - GAP >= oldest:
        end, start = start, start - GAP
        earlier = {file.origin: file for file in files(start, end)}
        if by_origin and not earlier:
            break
        by_origin = earlier | by_origin
    if not by_origin:
        raise NewModelError(
            f"{config.path.partition('?')[0]} has no file from {start:%Y-%m-%d} to today, and bin/new asks for none "
            "before that: check the address, or download the files into a folder and name that"
        )
    return by_origin.values()


def _files(proposal: Proposal, history: History, training: Recommended) -> dict[str, str]:
    """Return file name -> text, of the model's folder."""
    return {
        "__init__.py": "",
        "config.toml": config_text(proposal, history, training),
        "schema.pbtxt": schema_text(
            proposal.name,
            proposal.table,
            proposal.label,
            proposal.roles,
            proposal.weight,
            thresholds=gates.thresholds_of_schema(history),
            lowest_presence=history.lowest_presence,
            measured=history.measured,
        ),
        "features.py": templates.features_file(proposal.roles.features, proposal.roles.comments),
        "preprocessing.py": templates.PREPROCESSING,
        "model.py": templates.MODEL,
    }
