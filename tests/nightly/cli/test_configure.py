"""What the model server is configured by, written from the release records, and read back by the server's readers."""

from pathlib import Path

from nightly.io.paths import Paths
from nightly.models import model_names
from nightly.release.store import ReleaseStore
from nightly.serving import server_files
from nightly_server import config
from tests.support.releases import NOW, export, release


def served(paths: Paths) -> dict[str, object]:
    models, *_ = server_files.write(paths, "/models")
    read = config.read_model_config(str(models))
    config.validate(read)
    return {model.name: model for model in read.model_config_list.config}


def test_every_model_of_the_project_is_served_once_it_is_released(paths, tmp_path):
    assert model_names() and served(paths) == {}  # TensorFlow Serving would wait for a model without a version
    for count, name in enumerate(model_names()):
        store = ReleaseStore(paths.serving, paths.releases, name)
        release(store, export(tmp_path / name), now=NOW + count)
        model = served(paths)[name]
        assert model.base_path == f"/models/{name}"
        assert model.model_platform == "tensorflow"
        assert model.model_version_policy.latest.num_versions == 2
        assert dict(model.version_labels) == {"stable": NOW + count}
    assert sorted(served(paths)) == sorted(model_names())


def test_the_files_are_in_step_again_when_they_were_lost(paths, tmp_path):
    release(ReleaseStore(paths.serving, paths.releases, "taxi"), export(tmp_path / "export"))
    before = {path: path.read_bytes() for path in server_files.write(paths, "/models")}
    assert [path.name for path in before] == ["models.config", "batching.config", "monitoring.config"]
    for path in before:
        path.unlink()
    assert {path: path.read_bytes() for path in server_files.write(paths, "/models")} == before


def test_no_list_of_models_is_kept_in_the_tree():
    """It would be out of step with the next model that is added."""
    settings = Path(config.__file__).parent.glob("*.config")
    assert {path.name for path in settings} == set(server_files.SETTINGS)


def test_batching_and_monitoring_are_understood(paths):
    _, batching, monitoring = server_files.write(paths, "/models")
    parameters = config.read_batching_parameters(str(batching))
    assert parameters.max_batch_size == 128
    assert parameters.batch_timeout_micros == 0  # a single client waits for nobody
    assert config.read_prometheus_path(str(monitoring)) == "/monitoring/prometheus/metrics"
