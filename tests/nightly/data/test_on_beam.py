"""On a Beam runner: the same results as in process, and a Dataflow job as it would be submitted, without a cloud."""

import pytest

from nightly.data import convert, convert_on_beam, dry_run, statistics, statistics_on_beam
from nightly.engines.beam import BeamOptionsError
from tests.support.data import TAXI
from tests.support.statistics import assert_same, examples, write

pytestmark = pytest.mark.slow

TWO_PROCESSES = ["--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
DATAFLOW = [
    "--runner=DataflowRunner",
    "--project=my-project",
    "--region=europe-west4",
    "--temp_location=gs://bucket/tmp",
    "--sdk_container_image=europe-docker.pkg.dev/my-project/ml/nightly:1",
    "--job_name=trips",
    "--num_workers=3",
    "--max_num_workers=9",
    "--machine_type=n2-standard-4",
    "--service_account_email=nightly@my-project.iam.gserviceaccount.com",
    "--subnetwork=regions/europe-west4/subnetworks/ml",
    "--network=ml",
    "--no_use_public_ips",
    "--labels=team=ml",
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The trips in two files; in the first, fares of cents only, so that their types differ."""
    folder = tmp_path_factory.mktemp("parts")
    header, *lines = TAXI.read_text().splitlines(keepends=True)
    fare = header.split(",").index("fare")
    whole = [line for line in lines if "." not in line.split(",")[fare] or line.split(",")[fare].endswith(".0")]
    write(folder / "a.csv", header + "".join(whole[:500]))
    write(folder / "b.csv", header + "".join(line for line in lines if line not in set(whole[:500])))
    return folder


def test_two_processes_measure_the_same(parts):
    assert_same(statistics_on_beam(parts, TWO_PROCESSES), statistics(parts), quantiles=False)


def test_two_processes_convert_the_same(parts, tmp_path):
    how = {"split": {"train": 80, "eval": 20}, "id_columns": ["trip_start_timestamp"], "gzip": True}
    expected = convert(parts, tmp_path / "here", **how)
    assert convert_on_beam(parts, tmp_path / "beam", TWO_PROCESSES, shards=2, **how) == expected
    for split in ("train", "eval"):
        there = tmp_path / f"beam/Split-{split}"
        assert len(list(there.iterdir())) == 2
        assert sorted(examples(there)) == sorted(examples(tmp_path / f"here/Split-{split}"))


def test_nothing_is_there_when_a_job_fails(tmp_path):
    path = write(tmp_path / "in/a.csv", "a,b\n1,2\n3\n4,5\n")
    with pytest.raises(Exception, match=r"(?s)cannot be read.*a\.csv:3"):
        convert_on_beam(path, tmp_path / "out", ["--runner=DirectRunner"])
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "var") == ["in"]


def test_a_dataflow_job_says_what_was_asked_for():
    told = dry_run("gs://bucket/trips-*.csv", DATAFLOW)
    job = told["job"]
    (pool,) = job["environment"]["worker_pools"]
    assert (told["project"], told["region"]) == ("my-project", "europe-west4")
    assert (job["name"], job["type_"], job["labels"]) == ("trips", "JOB_TYPE_BATCH", {"team": "ml"})
    assert job["environment"]["temp_storage_prefix"].startswith("storage.googleapis.com/bucket/tmp/trips.")
    assert job["environment"]["service_account_email"] == "nightly@my-project.iam.gserviceaccount.com"
    assert (pool["num_workers"], pool["machine_type"]) == (3, "n2-standard-4")
    assert pool["autoscaling_settings"]["max_num_workers"] == 9
    assert (pool["network"], pool["subnetwork"]) == ("ml", "regions/europe-west4/subnetworks/ml")
    assert pool["ip_configuration"] == "WORKER_IP_PRIVATE"
    assert pool["worker_harness_container_image"] == "europe-docker.pkg.dev/my-project/ml/nightly:1"
    assert told["steps"] == ["Columns", "Features", "Files", "Infer", "Read", "Statistics", "Write"]


def test_a_dataflow_conversion_writes_each_split():
    told = dry_run("gs://b/*.parquet", DATAFLOW, out="gs://b/out", split={"train": 80, "eval": 20}, model="taxi")
    assert {"Writetrain", "Writeeval", "Encode"} <= set(told["steps"])


@pytest.mark.parametrize("option", ["--project", "--region", "--temp_location", "--sdk_container_image"])
def test_dataflow_is_refused_before_anything_starts_where_an_option_is_missing(option):
    with pytest.raises(BeamOptionsError, match=option):
        dry_run("gs://bucket/trips-*.csv", [word for word in DATAFLOW if not word.startswith(option)])


def test_dataflow_is_refused_files_that_its_workers_cannot_see(tmp_path):
    with pytest.raises(BeamOptionsError, match="its workers see gs:// only"):
        dry_run(TAXI, DATAFLOW)
    with pytest.raises(BeamOptionsError, match="its workers see gs:// only"):
        dry_run("gs://bucket/trips-*.csv", DATAFLOW, out=tmp_path / "out")
