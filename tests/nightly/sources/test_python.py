"""Functions in a model's folder as a source."""

import shutil
import sys
from importlib import import_module
from textwrap import dedent

import pyarrow as pa
import pytest

import include.models
from nightly.records.connection import Connection
from nightly.records.source_config import HttpSource, PythonSource
from nightly.sources.errors import RefusedError, SourceError
from nightly.sources.python import FunctionError
from tests.support.fetched import DATA, download, rows_of, snapshot
from tests.support.nights import utc
from tests.support.paged_api import PagedApi

START, END = utc(2016, 1, 1), utc(2016, 1, 4)
SOURCE = PythonSource(settled_days=1)
DAYS = """
import pyarrow as pa

calls = []

def rows(window, connection):
    calls.append((window.start, window.end, window.as_of))
    table = pa.table({"day": [f"{window.start:%Y-%m-%d}"] * 4, "trips": [1, 2, None, 4]})
    yield from table.to_batches(max_chunksize=SIZE)
"""
_names = iter(range(1000))


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Write a model's source.py: model(code) returns the folder."""
    models = tmp_path / "project/include/models"
    monkeypatch.setattr(include.models, "__path__", [*include.models.__path__, str(models)])

    def write(code, name=""):
        folder = models / (name or f"sourced_{next(_names)}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "source.py").write_text(dedent(code))
        return folder

    return write


def module_of(folder):
    return import_module(f"include.models.{folder.name}.source")


def test_a_function_is_called_for_each_day_and_the_next_night_for_a_new_one(model, tmp_path):
    folder = model(DAYS.replace("SIZE", "2"))
    first = download(SOURCE, tmp_path, START, END, model_folder=folder, run_id="first")
    assert [call[0].day for call in module_of(folder).calls] == [1, 2, 3]
    assert module_of(folder).calls[0] == (utc(2016, 1, 1), utc(2016, 1, 2), END)
    second = download(SOURCE, tmp_path, utc(2016, 1, 2), utc(2016, 1, 5), model_folder=folder, run_id="second")
    assert [call[0].day for call in module_of(folder).calls[3:]] == [4]
    assert second.files[:2] == first.files[1:] and second.reused == 2
    assert first.files[0].origin.startswith(f"{folder.name}/source:rows 2016-01-01 to 2016-01-01, code ")


def test_the_same_rows_are_the_same_body_however_they_are_batched_and_whatever_made_them(model, tmp_path):
    other = """
    import pyarrow as pa

    def rows(window, connection):
        texts = pa.array([f"{window.start:%Y-%m-%d}"] * 4).dictionary_encode()
        return pa.table({"day": texts, "trips": [1, 2, None, 4]}).replace_schema_metadata({"made": "now"})
    """
    codes = [DAYS.replace("SIZE", "1"), DAYS.replace("SIZE", "3"), other]
    made = [download(SOURCE, tmp_path / str(n), START, END, model_folder=model(c)) for n, c in enumerate(codes)]
    assert len({tuple(file.sha256 for file in each.files) for each in made}) == 1


def test_the_same_rows_are_the_same_snapshot_as_over_http(model, tmp_path):
    code = """
    import pyarrow as pa

    def rows(window, connection):
        if window.start.day == 1:
            yield pa.table({"day": ["2016-01-01"] * 2, "trips": [1, None], "fare": [0.1, 3.0], "city": ["A", "ü"]})
    """
    rows = [{"day": "2016-01-01", "trips": trips, "fare": fare, "city": city} for trips, fare, city in
            [(1, 0.1, "A"), (None, 3.0, "ü")]]  # fmt: skip
    with PagedApi(rows) as api:
        config = HttpSource(url=api.address, params={"from": "{start}", "until": "{end}"})
        fetched = [download(config, tmp_path / "http", START, END)]
    fetched.append(download(SOURCE, tmp_path / "python", START, END, model_folder=model(code)))
    ids = {snapshot(each, tmp_path / f"ingested-{n}").snapshot_id for n, each in enumerate(fetched)}
    assert len(ids) == 1 and len(fetched[1].files) == 1


def test_parts_with_fingerprints_are_fetched_when_they_change(model, tmp_path):
    code = """
    import pyarrow as pa

    versions, calls = {"a": "1", "b": "1"}, []

    def parts(window, connection):
        return versions

    def rows(window, connection, part):
        calls.append(part)
        yield pa.table({"part": [part + versions[part]]})
    """
    folder = model(code)
    download(SOURCE, tmp_path, START, END, model_folder=folder, run_id="first")
    module_of(folder).versions["b"] = "2"
    second = download(SOURCE, tmp_path, START, END, model_folder=folder, run_id="second")
    assert module_of(folder).calls == ["a", "b", "b"]
    assert [row["part"] for row in rows_of(second)] == ["a1", "b2"]
    assert [name.split(",")[0] for name in second.revised] == [f"{folder.name}/source:rows b"]


def test_another_code_fetches_anew_and_data_without_a_time_is_one_part(model, tmp_path):
    data = DATA.model_copy(update={"time_column": ""})
    code = "import pyarrow as pa\n\ndef rows(window, connection):\n    return pa.table({'x': [VALUE]})\n"
    folder = model(code.replace("VALUE", "1"), "changing")
    first = download(SOURCE, tmp_path, START, END, data=data, model_folder=folder)
    other = model(code.replace("VALUE", "2"), "changing")
    del sys.modules["include.models.changing.source"]
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    second = download(SOURCE, tmp_path, START, END, data=data, model_folder=other, run_id="second")
    assert [rows_of(each) for each in (first, second)] == [[{"x": 1}], [{"x": 2}]]


def test_vectors_and_views_become_lists_and_texts(model, tmp_path):
    code = """
    import pyarrow as pa

    TYPES = {
        "vector": pa.list_(pa.float32(), 2), "text": pa.string_view(), "bytes": pa.binary_view(),
        "texts": pa.list_(pa.string_view()), "large": pa.large_string(),
        "uuid": pa.uuid(), "coded": pa.dictionary(pa.int32(), pa.string()),
    }
    ROW = {
        "vector": [1.0, 2.5], "text": "ü", "bytes": b"b", "texts": ["a", None], "large": "l",
        "uuid": b"0123456789abcdef", "coded": "c",
    }

    def rows(window, connection):
        columns = {name: pa.array([ROW[name], None], kind) for name, kind in TYPES.items() if name != "uuid"}
        uuids = pa.array([ROW["uuid"], None], pa.binary(16))
        return pa.table({**columns, "uuid": pa.ExtensionArray.from_storage(pa.uuid(), uuids)})
    """
    data, folder = DATA.model_copy(update={"time_column": ""}), model(code)
    whole, missing = rows_of(download(SOURCE, tmp_path, START, END, data=data, model_folder=folder))
    assert whole == module_of(folder).ROW and set(missing.values()) == {None}


def test_the_connection_reaches_the_function(model, tmp_path):
    code = """
    import pyarrow as pa

    def rows(window, connection):
        return pa.table({"secret": [str(len(connection.password.get_secret_value()))]})
    """
    fetched = download(SOURCE, tmp_path, START, END, model_folder=model(code), connection=Connection(password="four"))
    assert rows_of(fetched)[0] == {"secret": "4"}


def test_an_error_is_one_sentence_with_the_line_and_a_traceback_in_the_log(model, tmp_path, caplog):
    code = """
    import pyarrow as pa

    def rows(window, connection):
        yield pa.table({"x": [1]})
        helper()

    def helper():
        {}["price"]
    """
    with pytest.raises(FunctionError, match=r"source.py, line 9, in helper: KeyError: 'price'$") as error:
        download(SOURCE, tmp_path, START, END, model_folder=model(code))
    assert error.value.__suppress_context__ and "Traceback" in caplog.text
    assert not list(tmp_path.glob("bodies/*"))


FAULTS = {
    "def rows(window):\n    return []": "TypeError: rows() takes 1 positional argument but 2 were given",
    "import nowhere_at_all": "line 1, in <module>: ModuleNotFoundError",
    "def rows(window, connection) return": "SyntaxError",
    "def row(window, connection):\n    return []": "has no function 'rows'; did you mean 'row'?",
    "def rows(window, connection):\n    return 7": "rows returns int, and not pyarrow.RecordBatch or pyarrow.Table",
    "def rows(window, connection):\n    yield {'a': [1]}": "rows yields dict, and not",
    "def rows(window, connection):\n    yield None": "rows yields NoneType, and not",
    "import pandas\n\ndef rows(window, connection):\n    return pandas.DataFrame({'a': [1]})": "from_pandas",
    "import pyarrow as pa\n\ndef rows(w, c):\n    yield pa.table({'a': [1]})\n    yield pa.table({'a': ['x']})": (
        "batch 2 of rows has a as string, and the first has it as int64"
    ),
    "import pyarrow as pa\n\ndef rows(w, c):\n    yield pa.table({'a': [1]})\n    yield pa.table({'b': [1]})": (
        "batch 2 of rows has no column a, unlike the first"
    ),
    "import pyarrow as pa\n\ndef rows(w, c):\n    yield pa.table({'place': [{'city': 'Bonn'}]})": (
        "the column 'place' of rows is struct<city: string>, and a column holds values or lists of values"
    ),
    "import pyarrow as pa\n\ndef rows(w, c):\n    yield pa.table({'places': [[{'city': 'B'}]]})": "the column 'places'",
    "def parts(window, connection):\n    return {'a': 1}\n\ndef rows(*_):\n    return []": "give a dict of name",
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_faulty_module_is_one_sentence(model, tmp_path, code):
    with pytest.raises(SourceError) as error:
        download(SOURCE, tmp_path, START, END, model_folder=model(code))
    assert FAULTS[code] in str(error.value) and "source.py" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_rows_is_no_file_and_no_module_is_one_sentence(model, tmp_path):
    folder = model("def rows(window, connection):\n    return []\n")
    assert download(SOURCE, tmp_path, START, END, model_folder=folder).files == []
    with pytest.raises(RefusedError, match=r"other.py does not exist: write a function rows\(window, connection\)"):
        download(PythonSource(function="other:rows"), tmp_path, START, END, model_folder=folder)


def test_many_rows_need_little_memory(model, tmp_path):
    code = """
    import pyarrow as pa

    def rows(window, connection):
        for number in range(200):
            yield pa.table({"x": [f"{number} " + 1000 * "a"] * 1000})
    """
    data = DATA.model_copy(update={"time_column": ""})
    folder, before = model(code), pa.default_memory_pool().max_memory()
    fetched = download(SOURCE, tmp_path, START, END, data=data, model_folder=folder)
    assert len(fetched.files) == 1
    assert pa.default_memory_pool().max_memory() - before < 100 << 20  # of 200 MB in all
