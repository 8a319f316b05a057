"""bin/new: what it finds out about data, what it writes, and what it refuses."""

import datetime as dt
import json
import logging
import random
import re
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightly.cli import new as new_command
from nightly.io.errors import UserError
from nightly.models import load_config, model_names
from nightly.new_model.creating import create, source_of
from nightly.new_model.proposal import Wishes
from nightly.new_model.questions import Questions
from nightly.new_model.tables import read_table
from nightly.new_model.times import time_of, times_of
from nightly.new_model.writing import publish
from nightly.records.columns import CuratedSchema
from nightly.snapshots.readers import bodies
from tests.nightly.new_model.data import rentals
from tests.support.data import TAXI


@pytest.fixture
def new(tmp_path, monkeypatch):
    """Write a model from CSV text or a file; return what was created, and its config as a dictionary."""
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    models, dags = tmp_path / "models", tmp_path / "dags"
    models.mkdir(), dags.mkdir()

    def run(data, *, name="bikes", yes=True, read=None, data_format="", **wishes):
        if not isinstance(data, Path):
            (tmp_path / "data.csv").write_bytes(data.encode(errors="surrogateescape"))
            data = tmp_path / "data.csv"
        questions = Questions(yes, read is not None, read or input, lambda line: None)
        source = source_of(str(data), file_format=data_format)
        created = create(name, source, Wishes(**wishes), questions, origin="data.csv", models=models, dags=dags)
        return created, tomllib.loads((models / name / "config.toml").read_text())

    run.models, run.dags = models, dags
    return run


def refused(new, data, match, **wishes):
    with pytest.raises(UserError, match=match) as error:
        new(data, **wishes)
    assert "\n" not in str(error.value)
    assert not list(new.models.iterdir()) and not list(new.dags.iterdir()), "all or nothing"


def test_a_model_has_every_file_and_loads(new):
    created, config = new(rentals(), label="returned_late")
    loaded = load_config("bikes", models=new.models)
    assert loaded.data.time_format == "%Y-%m-%d %H:%M:%S" and loaded.data.id_columns == ["rental_id"]
    assert loaded.data.label.kind == "binary" and loaded.data.label.positive == ["yes"]
    assert config["data"]["ignore"] == ["rental_id", "started_at"]
    assert config["source"]["ended_on"] == dt.date(2026, 4, 11)
    assert created.proposal.roles.groups == {"categories": ["station"], "numbers": ["planned_minutes"]}
    files = {file.name for file in (new.models / "bikes").iterdir()}
    assert files == {"__init__.py", "config.toml", "schema.pbtxt", "features.py", "preprocessing.py", "model.py"}
    assert 'retrain_dag("bikes")' in (new.dags / "bikes_retrain.py").read_text()
    assert model_names(new.models) == ["bikes"], "the staging folder is gone"
    schema_file = new.models / "bikes/schema.pbtxt"
    schema = CuratedSchema(schema_file, schema_file.read_text())
    assert list(schema.features) == ["returned_late", "station", "planned_minutes"]
    assert schema.values("station") == ["Harbour", "Market", "Park"]


def test_the_same_data_gives_the_same_files(new):
    texts = []
    for name in ("bikes_a", "bikes_b"):
        new(rentals(), name=name, label="returned_late")
        files = sorted((new.models / name).iterdir())
        texts.append([file.read_text().replace(name, "NAME") for file in files])
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_thresholds_are_measured_on_past_windows(new):
    created, config = new(rentals(6000), label="returned_late")
    assert "measured over 6 windows" in created.history.measured
    gate = config["data_gate"]
    assert 0.025 <= gate["max_label_change"] < 0.2, "half of the default or more"
    assert 2000 < gate["min_rows"] < 3600
    assert 0.05 <= created.history.thresholds["drift.station"] < 0.2


def test_columns_that_give_the_label_away_are_left_out_with_the_reason(new):
    chance = random.Random(2)
    created, config = new(
        rentals(
            fee=lambda number, late: chance.uniform(5, 9) if late else chance.uniform(0, 4),
            reason=lambda number, late: chance.choice(["flat", "rain"]) if late else "",
            remark=lambda number, late: f"r{chance.randrange(10**9)}",
            country=lambda number, late: "DE",
        ),
        label="returned_late",
    )
    left = created.proposal.roles.ignored
    assert "AUC of 1.000" in left["fee"] and "AUC of 1.000" in left["reason"]
    assert "different texts" in left["remark"] and left["country"] == "it is always 'DE'"
    assert {"fee", "reason", "remark", "country"} <= set(config["data"]["ignore"])
    text = (new.models / "bikes/config.toml").read_text()
    assert "# fee: alone it predicts the label with an AUC of 1.000" in text


def test_a_column_that_is_known_only_later_is_left_out(new):
    lines = rentals(settled=lambda number, late: 1 if number < 1000 else "").splitlines()
    lines = [line.rsplit(",", 1)[0] + "," if n > 1000 else line for n, line in enumerate(lines)]
    created, _ = new("\n".join(lines) + "\n", label="returned_late")
    assert "only where the label has one" in created.proposal.roles.ignored["settled"]


def test_numbers_and_classes_are_told_apart(new):
    chance = random.Random(3)
    fees = rentals(fee=lambda number, late: round(chance.expovariate(0.1), 2))
    stars = rentals(stars=lambda number, late: chance.randrange(1, 6))
    _, config = new(fees, name="fees", label="fee")
    assert config["data"]["label"]["kind"] == "number" and "mean_absolute_error" in config["model_gate"]["metrics"]
    _, config = new(stars, name="stars", label="stars")
    assert config["data"]["label"] == {"kind": "classes", "column": "stars", "classes": "schema"}
    _, config = new(stars, name="stations", label="station")
    assert config["data"]["label"]["kind"] == "classes" and "accuracy" in config["model_gate"]["metrics"]


def test_real_trips(new, tmp_path):
    lines = TAXI.read_text().splitlines(keepends=True)
    (tmp_path / "trips.csv").write_text("".join(lines[:1] + lines[-1500:]))
    created, config = new(tmp_path / "trips.csv", label="big_tipper")
    assert config["data"]["time_format"] == "epoch_s"
    assert "has a value in" in created.proposal.roles.ignored["pickup_census_tract"]
    assert any(doubt.startswith("tips: alone it predicts the label") for doubt in created.proposal.doubts)


def test_lists_and_vectors_of_parquet(new, tmp_path):
    rows, chance = 400, random.Random(4)
    days = [dt.datetime(2026, 1, 1) + dt.timedelta(days=n // 10) for n in range(rows)]
    pq.write_table(
        pa.table(
            {
                "day": pa.array(days, pa.timestamp("us")),
                "vector": [[chance.random() for _ in range(4)] for _ in range(rows)],
                "tags": [chance.sample(["a", "b", "c"], 2) for _ in range(rows)],
                "label": [n % 2 for n in range(rows)],
            }
        ),
        tmp_path / "rows.parquet",
    )
    created, config = new(tmp_path / "rows.parquet", label="label")
    assert created.proposal.roles.groups == {"vectors": ["vector"], "category_lists": ["tags"]}
    assert config["data"]["time_column"] == "day"


def test_data_without_a_time(new):
    chance = random.Random(5)
    text = "a,b,target\n" + "".join(f"{chance.random()},{chance.randrange(3)},{n % 2}\n" for n in range(300))
    _, config = new(text)
    assert config["data"]["time_column"] == "" and config["data"]["label"]["column"] == "target"
    assert "look_back_days" not in config["data"] and "max_age_days" not in config["data_gate"]


def test_a_column_of_ids_or_times_is_no_label_even_if_it_is_the_last(new):
    lines = [f"{n % 7},{n * n % 5},{n},2026-01-{1 + n % 28:02}T00:00:00" for n in range(300)]
    created, _ = new("\n".join(["size,grade,ticket_id,sold_at", *lines]) + "\n")
    assert (created.proposal.label.column, created.proposal.time.column) == ("grade", "sold_at")


def test_questions_are_asked_with_the_proposal_as_default(new):
    asked = []

    def read(prompt):
        asked.append(prompt)
        return "" if len(asked) == 1 else "nonsense" if len(asked) == 2 else ""

    both = rentals(opened_on=lambda number, late: f"2026-02-{1 + number % 28:02}")
    created, _ = new(both, yes=False, read=read)
    assert created.proposal.label.column == "returned_late" and "[returned_late]" in asked[0]
    assert created.proposal.time.column == "started_at" and len(asked) == 3, "a wrong answer is asked for again"


def test_without_a_person_what_is_not_certain_needs_an_option(new):
    refused(new, rentals(), "the label: likely 'returned_late' .*--label COLUMN.*--yes", yes=False)


@pytest.mark.parametrize(
    ("data", "wishes", "match"),
    [
        pytest.param("a\n1\n" * 60, {}, "one column", id="one column"),
        pytest.param("a;b\n1;2\n" + "1;2\n" * 60, {}, "separated by commas", id="semicolons"),
        pytest.param("a,b\n", {}, "0 rows", id="no rows"),
        pytest.param(rentals(20), {}, "20 rows", id="few rows"),
        pytest.param("", {}, "empty|header", id="empty"),
        pytest.param("5.1,3.5,1\n" * 60, {}, "there twice|looks like a row", id="no header"),
        pytest.param("5.1,3.5,1\n" + "5,3,0\n" * 60, {}, "looks like a row", id="header of numbers"),
        pytest.param(rentals(same=lambda n, late: 1), {"label": "same"}, "every row has '1'", id="constant label"),
        pytest.param(rentals(), {"label": "returnd_late"}, "did you mean 'returned_late'", id="misspelt label"),
        pytest.param(
            rentals(code=lambda n, late: f"k{n % 1000}"),
            {"label": "code"},
            "1,000 different values",
            id="1,000 classes",
        ),
        pytest.param(rentals(), {"label": "station", "kind": "number"}, "has text", id="text is no number"),
        pytest.param(rentals(), {"label": "returned_late", "time": "station"}, "no format of times", id="no time"),
        pytest.param(rentals(), {"label": "returned_late", "weight": "station"}, "numbers, 0 or more", id="weight"),
        pytest.param(rentals(), {"label": "returned_late", "name": "My Bikes"}, "as in 'my_bikes'", id="name"),
        pytest.param(rentals(), {"label": "returned_late", "name": "class"}, "not a valid model name", id="keyword"),
        pytest.param(rentals(), {"label": "returned_late", "name": "x" * 300}, "300 characters", id="long name"),
        pytest.param(rentals().partition("\n")[2], {}, "looks like a row", id="no header, with a date"),
        pytest.param("no,Park\n" * 60, {}, "the first line is no, Park, which looks", id="no header, of text"),
        pytest.param(rentals().replace("Park", "Park\udcf6"), {}, r"csv:\d+, station: .*as UTF-8", id="Latin-1"),
        pytest.param(rentals().replace("Station", "Gr\udcf6\udcdfe"), {}, "the header .*as UTF-8", id="Latin-1 header"),
        pytest.param(rentals() + "1,2026-05", {}, "is truncated: its last row has 2 fields", id="truncated"),
        pytest.param(
            rentals(speed=lambda n, late: n / 7 if n % 9 else "nan"),
            {"label": "speed"},
            "numbers, but also 'nan'",
            id="label with nan",
        ),
        pytest.param(
            rentals(speed=lambda n, late: n * 1e300),
            {"label": "speed"},
            "beyond 1e\\+38",
            id="label beyond float32",
        ),
        pytest.param(
            rentals(4000, code=lambda n, late: f"k{n % 200}"),
            {"label": "code"},
            "no two of them have 20 rows of those that a night trains on",
            id="classes too rare in a window",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(new, data, wishes, match):
    refused(new, data, match, **wishes)


def test_the_kind_of_a_file_may_be_named(new, tmp_path):
    data = tmp_path / "rentals.txt"
    data.write_text(rentals())
    refused(new, data, "--format of bin/new")
    _, config = new(data, data_format="csv", label="returned_late")
    assert config["source"]["format"] == "csv"
    assert load_config("bikes", models=new.models).source.format == "csv"


def test_the_format_is_of_files_and_not_of_a_table():
    with pytest.raises(UserError, match="--format csv: it is for files"):
        source_of("", "lake", "rentals", "csv")


def test_the_secrets_of_a_connection_are_in_no_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    monkeypatch.setattr("nightly.io.secrets._hidden", set())
    extra = {"headers": {"X-Api-Key": "planted"}}
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http", "password": "planted", "extra": extra}))

    def refuse(*_, **__):
        raise UserError("GET /rows?key=planted failed")

    monkeypatch.setattr("nightly.new_model.creating.fetch", refuse)
    assert new_command.main(["leaking", "--connection", "api", "--table", "trips"]) == 2
    assert "GET /rows?key=*** failed" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_one_sentence(new, tmp_path):
    refused(new, tmp_path / "nothing.csv", "nothing.csv")


def test_the_retries_of_a_server_that_does_not_answer_are_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    monkeypatch.setattr("nightly.sources.http.download.FIRST_WAIT_SECONDS", 0)
    levels = {name: logging.getLogger(name).level for name in ("nightly", "nightly.sources")}
    try:
        assert new_command.main(["bikes", "http://127.0.0.1:9/rows.csv", "--yes"]) == 2
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    shown = capsys.readouterr().err
    assert "failure 1 of 5" in shown and shown.splitlines()[-1].startswith("bin/new: error: http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("address", "match"),
    [
        ("ftp://host/rows.csv", "ftp:// cannot be read: copy"),
        ("s3://", "names no bucket"),
        ("https://me:secret@host/rows.csv", "has a user or password"),
    ],
)
def test_an_address_that_no_source_reads_is_one_sentence(tmp_path, monkeypatch, address, match):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    with pytest.raises(UserError, match=match) as error:
        create("bikes", source_of(address), Wishes(), Questions(True), origin=address, models=tmp_path)
    assert "\n" not in str(error.value) and "secret" not in str(error.value)


def test_two_columns_of_one_name_in_parquet_are_one_sentence(new, tmp_path):
    numbers = list(range(60))
    pq.write_table(pa.table([numbers, numbers, numbers], names=["a", "a", "b"]), tmp_path / "rows.parquet")
    refused(new, tmp_path / "rows.parquet", "the header 'a' is there twice")


def test_an_id_that_is_named_twice_counts_once(new):
    created, _ = new(rentals(), label="returned_late", ids=["rental_id", "rental_id"])
    assert created.proposal.roles.ids == ["rental_id"]


def test_folders_of_partitions_are_columns_and_no_label(new, tmp_path):
    first, *lines = rentals().splitlines(keepends=True)
    for shop in ("north", "south"):
        (tmp_path / f"rows/shop={shop}").mkdir(parents=True)
        (tmp_path / f"rows/shop={shop}/rows.csv").write_text(first + "".join(lines[shop == "south" :: 2]))
    created, _ = new(tmp_path / "rows")
    assert created.proposal.label.column == "returned_late"
    assert "shop" in created.proposal.roles.groups["categories"]


def test_a_column_gets_another_name_if_no_signature_can_take_its_own(new):
    columns = {"self": lambda n, late: n % 5, "Class": lambda n, late: n % 4, "1st": lambda n, late: n % 3}
    _, config = new(rentals(**columns), label="returned_late")
    assert config["data"]["rename"] == {"self": "self_2", "Class": "class_2", "1st": "column_1st"}
    _, config = new(rentals(**columns), label="class", name="grades")
    assert config["data"]["label"]["column"] == "class", "a label may have any name"
    _, config = new("from,class\n" + "1,a\n2,b\n1,b\n2,a\n" * 50, name="proposed")
    assert config["data"]["label"]["column"] == "class" and config["data"]["rename"] == {"from": "from_2"}
    with pytest.raises(UserError, match="no feature can have the name 'class': with --label label"):
        new("class,label\n" + "1,a\n2,b\n1,b\n2,a\n" * 50, name="both")


@pytest.mark.slow
def test_numbers_that_a_network_cannot_read_are_left_out_with_the_reason(new):
    created, _ = new(
        rentals(
            mass=lambda n, late: n * 1e300,
            fee=lambda n, late: f'"${n},000.50"' if n < 1000 else "$5",
            rise=lambda n, late: f"{n}%",
        ),
        label="returned_late",
    )
    left = created.proposal.roles.ignored
    assert "beyond 1e+38" in left["mass"] and "signs, such as" in left["fee"] and "signs, such as" in left["rise"]


def test_spellings_of_two_values_are_one_binary_label(new):
    spelled = {True: ["Yes", "yes", "YES "], False: ["No", "no", "no"]}
    _, config = new(rentals(late=lambda n, late: spelled[late][n % 3]), label="late")
    assert config["data"]["label"] == {"kind": "binary", "column": "late", "positive": ["YES ", "Yes", "yes"]}


def test_one_beside_two_is_a_code_and_not_a_yes(new):
    codes = rentals(code=lambda n, late: 1 if n % 3 else 2)
    refused(new, codes, "counts as 1: likely '2'", label="code", yes=False)
    created, _ = new(codes, label="code")
    assert created.proposal.label.positive == ("2",) and "the rarer one" in created.proposal.label.why


@pytest.mark.parametrize(
    ("columns", "label", "doubt"),
    [
        ({"ok": lambda n, late: int(n == 7)}, "ok", "1 of 1,200 rows have its rarer value"),
        ({"size": lambda n, late: ["S", "s", "M", "L"][n % 4]}, "size", "'S' and 's' are two classes"),
    ],
)
def test_what_is_in_doubt_is_said(new, columns, label, doubt):
    created, _ = new(rentals(**columns), label=label)
    assert any(doubt in text for text in created.proposal.doubts)


@pytest.mark.slow
def test_times_that_no_night_reads_are_in_doubt(new):
    later = [line.replace("2026-01-01", "9999-12-31") for line in rentals().splitlines(keepends=True)]
    created, config = new("".join(later), name="later", label="returned_late")
    assert "1.0% of the rows are later than now" in created.proposal.doubts[0]
    assert config["data"]["time_column"] == "started_at"
    weeks = [re.sub(r"2026-(\d\d)-\d\d [\d:]+", r"2026-W\1", line) for line in rentals().splitlines(keepends=True)]
    created, config = new("".join(weeks), name="weeks", label="returned_late")
    assert created.proposal.doubts == ["started_at may have times, in no format that is known here: '2026-W01'"]


def test_files_of_other_columns_are_in_doubt(new, tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/a.csv").write_text(rentals())
    (tmp_path / "rows/b.csv").write_text("name,age\n" + "x,1\n" * 60)
    created, _ = new(tmp_path / "rows", label="returned_late")
    assert "a.csv lacks columns that other files have: name, age" in created.proposal.doubts[0]


def test_an_existing_model_is_never_overwritten(new):
    new(rentals(), label="returned_late")
    before = (new.models / "bikes/config.toml").read_text()
    with pytest.raises(UserError, match="exists and may have been edited"):
        new(rentals(), label="station")
    assert (new.models / "bikes/config.toml").read_text() == before


def test_a_dag_that_cannot_be_written_leaves_no_folder(tmp_path):
    staged, models = tmp_path / "staging/bikes", tmp_path / "models"
    staged.mkdir(parents=True), models.mkdir()
    (tmp_path / "dags").write_text("a file")
    with pytest.raises(OSError):
        publish("bikes", staged, models, tmp_path / "dags")
    assert not list(models.iterdir()) and staged.exists()


def test_numbers_with_odd_values_among_them_are_named(new):
    created, _ = new(
        rentals(
            speed=lambda number, late: "nan" if number % 50 == 0 else number % 97 / 7,
            age=lambda number, late: "" if number < 900 else number % 60,
        ),
        label="returned_late",
    )
    assert created.proposal.roles.ignored["speed"].startswith("numbers, but also 'nan'")
    assert "age" in created.proposal.roles.groups["numbers"]


def test_headers_that_give_the_same_name_are_renamed(new):
    text = rentals(**{"Fee ($)": lambda n, late: n % 7, "Fee (%)": lambda n, late: n % 5})
    created, config = new(text, label="returned_late")
    assert config["data"]["rename"] == {"Fee (%)": "fee_2"}
    assert {"fee", "fee_2"} <= set(created.proposal.roles.names)


def test_headers_in_other_letters_than_ascii_have_names_that_can_be_read(new):
    text = rentals(
        **{"Größe": lambda n, late: n % 7, "年龄": lambda n, late: n % 5, "späte Rückgabe": lambda n, late: late}
    )
    created, config = new(text, label="späte Rückgabe", time="Started At", ids=["Rental ID"])
    rename = {"Größe": "grosse", "年龄": "nianling", "späte Rückgabe": "spate_ruckgabe"}
    assert config["data"]["rename"] == rename
    assert config["data"]["label"]["column"] == "spate_ruckgabe"
    assert {"grosse", "nianling"} <= set(created.proposal.roles.names)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2016-03-01", "2016-12-31"], "%Y-%m-%d"),
        (["2016-03-01T10:00:00Z", "2016-12-31T23:59:59+02:00"], "%Y-%m-%dT%H:%M:%S%z"),
        (["2016-03-01 10:00:00.5", "2016-12-31 10:00:00.123"], "%Y-%m-%d %H:%M:%S.%f"),
        (["31.12.2016 10:15", "01.02.2016 09:00"], "%d.%m.%Y %H:%M"),
        (["Jun 12 1998", "Aug 3 2001"], "%b %d %Y"),
        (["12/31/16", "01/02/16"], "%m/%d/%y"),
        (["1456790400", "1483056000"], "epoch_s"),
        (["1456790400000", "1483056000000"], "epoch_ms"),
        (["20160301", "20161231"], "%Y%m%d"),
        (["1.5", "2.5"], None),
        (["Harbour 2016", "Park 17"], None),
    ],
)
def test_formats_of_times(tmp_path, values, expected):
    (tmp_path / "rows.csv").write_text("time,x\n" + "".join(f"{values[n % 2]},{n}\n" for n in range(60)))
    time = time_of(read_table(bodies(tmp_path / "rows.csv"), "rows.csv").columns["time"])
    assert (time and time.format) == expected


def test_a_large_table_is_sampled_evenly_and_counted_exactly(tmp_path):
    rows = 250_000
    table = pa.table({"n": pa.array(range(rows)), "text": pa.array([None if n % 4 == 0 else "x" for n in range(rows)])})
    pq.write_table(table, tmp_path / "rows.parquet")
    read = read_table(bodies(tmp_path / "rows.parquet"), "rows")
    assert read.rows == rows and read.columns["text"].missing == rows // 4 and read.columns["n"].high == rows - 1
    assert 50_000 <= read.sample.num_rows <= 100_000
    mean = sum(map(int, read.sample["n"].to_pylist())) / read.sample.num_rows
    assert abs(mean / rows - 0.5) < 0.01
    assert not times_of(read)


def test_equal_rows_of_a_table_without_id_and_time_are_kept(new):
    answers = "".join(f"{n % 5},{'no' if n % 3 else 'yes'}\n" for n in range(600))  # a survey: 15 kinds of rows
    _, config = new(f"children,moved\n{answers}", label="moved")
    assert config["data"]["id_columns"] == [] and config["data"]["equal_rows"] == "keep"
    assert config["data_gate"]["min_rows"] == 300 and "max_duplicate_share" not in config["data_gate"]


def test_equal_rows_of_a_table_with_a_time_count_once(new):
    days = "".join(f"2026-01-{1 + n % 20:02},{n % 2},{'no' if n % 3 else 'yes'}\n" for n in range(600))
    _, config = new(f"day,open,late\n{days}", label="late", time="day")
    assert "equal_rows" not in config["data"]
    assert config["data_gate"]["min_rows"] <= 30, "half of the 60 rows that differ"
