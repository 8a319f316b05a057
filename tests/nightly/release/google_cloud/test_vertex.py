"""Releases in Vertex AI's registry: Google's client against a local server that speaks its REST."""

from collections.abc import Iterator
from typing import Any

import pytest

from nightly.records.config import ModelConfig
from nightly.release.errors import NotPublished
from nightly.release.targets import publish, retire
from tests.support.buckets import config
from tests.support.releases import NOW
from tests.support.vertex_server import Registry, serving

NAME = "projects/retail/locations/europe-west4/models/taxi"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as registry:
        yield registry


@pytest.fixture
def both(bucket: str, registry: Registry) -> ModelConfig:
    """Releases go to the bucket, and from there to the registry."""
    return config(bucket, project="retail", region="europe-west4", image="a/serving:1", endpoint=registry.endpoint)


def put(project: Any, config: ModelConfig, i: int) -> Any:
    record = project.release(i)
    project.store.retain(config.release.keep)
    return publish(config, project.store, record)


def versions(registry: Registry) -> dict[str, list[str]]:
    return {version["versionId"]: version["versionAliases"] for version in registry.models[NAME]}


def test_the_first_release_creates_the_model_and_the_next_a_version_that_becomes_default(both, registry, project):
    first, second = put(project, both, 0), put(project, both, 1)

    assert versions(registry) == {"1": [], "2": ["default"]}
    assert second.details["vertex"] == {"model": NAME, "version": "2"}
    assert registry.uploads[0]["modelId"] == "taxi" and registry.uploads[1]["parentModel"] == NAME
    model = registry.models[NAME][0]
    assert model["artifactUri"] == first.details["gcs"]["uri"]
    assert model["containerSpec"]["imageUri"] == "a/serving:1"
    assert model["labels"] == {"nightly_version": str(NOW)}


def test_publishing_again_uploads_nothing(both, registry, project):
    record = put(project, both, 0)
    assert publish(both, project.store, record).details == record.details
    assert len(registry.uploads) == 1


def test_an_upload_that_outlived_its_killed_step_leaves_no_second_version(both, registry, project):
    record = put(project, both, 0)
    registry.upload("", {"parentModel": NAME, "model": registry.uploads[0]["model"]})
    publish(both, project.store, record)
    assert versions(registry) == {"1": ["default"]}


def test_a_failed_upload_fails_the_step_with_its_reason_and_a_retry_goes_on(both, registry, project):
    registry.fail_with = {"code": 3, "message": "the image cannot be pulled"}
    with pytest.raises(NotPublished, match=r"models/taxi: .*the image cannot be pulled.*the serving volume stands"):
        put(project, both, 0)
    assert project.store.disk.production() == NOW and list(project.store.disk.record(NOW).details) == ["gcs"]
    registry.fail_with = None
    assert "vertex" in publish(both, project.store, project.store.disk.record(NOW)).details


def test_a_rollback_moves_the_default_back_and_keeps_the_version_to_be_looked_at(both, registry, project):
    for i in range(2):
        put(project, both, i)
    project.store.roll_back(NOW, "worse")
    retire(both, project.store)
    assert versions(registry) == {"1": ["default"], "2": []}


def test_retention_deletes_old_versions_but_none_that_is_deployed(both, registry, project, caplog):
    registry.deployed.add(f"{NAME}@1")
    for i in range(4):
        put(project, both, i)
    assert list(versions(registry)) == ["1", "3", "4"]
    assert f"{NAME}@1 stays in Vertex AI" in caplog.text


def test_a_server_that_does_not_answer_fails_the_step(bucket, project):
    with serving() as registry:
        endpoint = registry.endpoint
    nowhere = config(bucket, project="retail", region="europe-west4", image="i", endpoint=endpoint)
    with pytest.raises(NotPublished, match=NAME):
        put(project, nowhere, 0)
