"""A function in the model's folder as a source: it yields Arrow batches for a window."""

import contextlib
import hashlib
import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from nightly.io.code import sources_of
from nightly.io.hints import did_you_mean
from nightly.records.source_config import PythonSource
from nightly.sources.base import Context, Fetched, Part, Window
from nightly.sources.errors import RefusedError, SourceError
from nightly.sources.row_groups import write_parquet
from nightly.sources.slices import slices_of

log = logging.getLogger(__name__)

END = object()  # of what a function yields; it may yield None by mistake


class FunctionError(SourceError):
    """The function raises an error."""


def open_source(config: PythonSource, context: Context) -> "Python":
    """Return the source of a [source] of kind python. Raises RefusedError or FunctionError."""
    return Python(config, context)


@dataclass
class Python:
    """The rows of a function."""

    config: PythonSource
    context: Context
    calls: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # a part's name -> the function's arguments

    def __post_init__(self) -> None:
        name, _, function = self.config.function.partition(":")
        self.file = self.context.folder / f"{name.replace('.', '/')}.py"
        module = self._imported(f"include.models.{self.context.folder.name}.{name}")
        self.function = self._function(module, function)
        self.lister: Callable[..., Any] | None = getattr(module, "parts", None)
        # Another code may give other rows, so what it fetched has another name.
        root, own = self.context.folder.absolute().parents[2], f"include/models/{self.context.folder.name}/"
        hashes = [value for path, value in sources_of([module.__name__], root).items() if path.startswith(own)]
        self.code = hashlib.sha256("".join(hashes).encode()).hexdigest()[:8]

    def parts(self) -> list[Part]:
        """Return what the module's own `parts` lists, or a part for each slice of days; one if rows have no time."""
        window, connection = self.context.window, self.context.connection
        if self.lister:
            with self._explained():
                listed = self.lister(window, connection)
                fingerprints = dict(listed) if isinstance(listed, dict) else dict.fromkeys(listed, "")
            for part in fingerprints.items():
                if not all(isinstance(text, str) for text in part):
                    raise RefusedError(
                        f"{self.file}: parts gives {part!r}; give a dict of name = fingerprint, as text."
                    )
            self.calls = {self._name(name): (window, connection, name) for name in fingerprints}
            return [Part(self._name(name), fingerprint=text) for name, text in fingerprints.items()]
        if not self.context.time_column:
            self.calls = {self._name("everything"): (window, connection)}
            return [Part(self._name("everything"))]
        parts = []
        for days in slices_of(window, self.config.slice_days):
            part = Part(self._name(f"{days.start:%Y-%m-%d} to {days.last:%Y-%m-%d}"), end=days.end)
            self.calls[part.name] = (Window(days.start, days.end, window.as_of), connection)
            parts.append(part)
        return parts

    def fetch(self, part: Part, target: Path, known: str) -> Fetched:
        """Call the function, and write what it yields. See base.py."""
        target.unlink(missing_ok=True)
        with self._explained():
            yielded = self.function(*self.calls[part.name])
        write_parquet(target, self._batches(yielded))
        return Fetched()

    def _batches(self, yielded: Any) -> Iterator[pa.RecordBatch]:
        """Yield the batches, checked, and without metadata and dictionaries, which depend on how they were made."""
        if isinstance(yielded, pa.Table | pa.RecordBatch):
            yielded = [yielded]
        if not isinstance(yielded, Iterable) or isinstance(yielded, dict | str) or hasattr(yielded, "iloc"):
            raise self._wrong_type("returns", yielded)
        first: pa.Schema | None = None
        iterator, number = iter(yielded), 0
        while True:
            with self._explained():
                item = next(iterator, END)
            if item is END:
                return
            number += 1
            if not isinstance(item, pa.Table | pa.RecordBatch):
                raise self._wrong_type("yields", item)
            table = pa.Table.from_batches([item]) if isinstance(item, pa.RecordBatch) else item
            schema = pa.schema([(column.name, _plain(column.type)) for column in table.schema])
            if len(set(schema.names)) < len(schema.names):
                raise RefusedError(f"{self.file}: {self.function.__name__} yields two columns of one name: rename one.")
            self._refuse_structs(schema)
            first = first or schema
            if schema != first:
                raise RefusedError(
                    f"{self.file}: batch {number} of {self.function.__name__} has {_difference(schema, first)}. Yield "
                    "batches of one schema, e.g. by pa.RecordBatch.from_pylist(rows, schema=SCHEMA)."
                )
            yield from table.cast(schema).to_batches()

    def _refuse_structs(self, schema: pa.Schema) -> None:
        for column in schema:
            element = column.type
            while _is_list(element):
                element = element.value_type
            if pa.types.is_nested(element):
                raise RefusedError(
                    f"{self.file}: the column {column.name!r} of {self.function.__name__} is {column.type}, and a "
                    "column holds values or lists of values: yield its fields as columns."
                )

    def _wrong_type(self, verb: str, value: Any) -> RefusedError:
        hint = "; pa.Table.from_pandas(frame, preserve_index=False) makes one" if hasattr(value, "iloc") else ""
        return RefusedError(
            f"{self.file}: {self.function.__name__} {verb} {type(value).__name__}, and not pyarrow.RecordBatch or "
            f"pyarrow.Table{hint}."
        )

    def _imported(self, name: str) -> ModuleType:
        if not self.file.exists():
            raise RefusedError(
                f"{self.file} does not exist: write a function {self.config.function.partition(':')[2]}(window, "
                "connection) there that yields Arrow batches, or correct `function` in [source]."
            )
        before = "tensorflow" in sys.modules
        with self._explained():
            module = import_module(name)
        if "tensorflow" in sys.modules and not before:
            log.warning(
                "%s imports TensorFlow, which takes seconds and memory that a download can do without", self.file
            )
        return module

    def _function(self, module: ModuleType, name: str) -> Callable[..., Any]:
        function = getattr(module, name, None)
        if not callable(function):
            names = [other for other, _ in inspect.getmembers(module, inspect.isfunction)]
            raise RefusedError(f"{self.file} has no function {name!r}{did_you_mean(name, names)}")
        return function

    def _name(self, part: str) -> str:
        return f"{self.context.folder.name}/{self.config.function} {part}, code {self.code}"

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an error of the user's code into one sentence with the line; its traceback goes to the log."""
        try:
            yield
        except SourceError:
            raise
        except Exception as error:
            log.exception("%s of %s fails", self.config.function, self.context.folder.name)
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if Path(frame.filename).is_relative_to(self.context.folder.resolve())]
            own = own or [frame for frame in frames if Path(frame.filename).is_relative_to(self.context.folder)]
            place = f"{own[-1].filename}, line {own[-1].lineno}, in {own[-1].name}" if own else str(self.file)
            raise FunctionError(f"{place}: {type(error).__name__}: {error}") from None


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column in the body. One that Parquet has is kept, so the same rows are the same body."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if not _is_list(kind):
        return kind
    element = _plain(kind.value_type)
    is_kept = (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and element == kind.value_type
    return kind if is_kept else pa.list_(element)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _difference(schema: pa.Schema, first: pa.Schema) -> str:
    """Return in words how a batch's schema differs from the first one's."""
    if missing := [name for name in first.names if name not in schema.names]:
        return f"no column {missing[0]}, unlike the first"
    if new := [name for name in schema.names if name not in first.names]:
        return f"a column {new[0]}, unlike the first"
    for name in schema.names:
        if schema.field(name).type != first.field(name).type:
            return f"{name} as {schema.field(name).type}, and the first has it as {first.field(name).type}"
    return "its columns in another order than the first"
