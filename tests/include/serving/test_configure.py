"""The configuration files of the tree: read back by the server's own readers, and in step with the models."""

from google.protobuf import text_format

from include.contracts.config import model_names
from include.serving import config, configure


def test_the_files_in_the_tree_are_in_step_with_the_models():
    for name, text in configure.files(model_names()).items():
        path = configure.Path(configure.__file__).parent / name
        assert path.read_text() == text, f"{path} is not up to date: run `python -m include.serving.configure`"


def test_every_model_is_served_from_its_folder(tmp_path):
    configure.main(["--out", str(tmp_path), "--base_path", "/srv/models/"])
    read = config.read_model_config(str(tmp_path / "models.config"))
    config.validate(read)
    models = read.model_config_list.config
    assert [model.name for model in models] == model_names()
    for model in models:
        assert model.base_path == f"/srv/models/{model.name}"
        assert model.model_platform == "tensorflow"
        assert model.model_version_policy.latest.num_versions == 2
        assert not model.version_labels


def test_labels_are_written_when_there_are_versions():
    written = configure.models_config(["a", "b"], labels={"a": {"stable": 1, "canary": 2}})
    read = text_format.Parse(text_format.MessageToString(written), type(written)())
    assert dict(read.model_config_list.config[0].version_labels) == {"stable": 1, "canary": 2}
    assert not read.model_config_list.config[1].version_labels


def test_batching_and_monitoring_are_understood(tmp_path):
    configure.main(["--out", str(tmp_path)])
    parameters = config.read_batching_parameters(str(tmp_path / "batching.config"))
    assert parameters.max_batch_size == 128
    assert parameters.batch_timeout_micros == 1000
    assert config.read_prometheus_path(str(tmp_path / "monitoring.config")) == "/monitoring/prometheus/metrics"


def test_no_models_is_a_valid_configuration():
    config.validate(configure.models_config([]))
    assert configure.models_config([]).WhichOneof("config") == "model_config_list"
