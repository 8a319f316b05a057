"""Releases in Vertex AI's Model Registry: each is a version of one model, and the current one has the alias `default`.

Vertex AI numbers versions itself (1, 2, 3), so a label names the release. A killed upload continues on Google's side,
where the retry cannot see it yet. If two versions are the same release, the lower number stays.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google.auth
from google.api_core.exceptions import BadRequest, GoogleAPIError, NotFound, from_http_response
from google.api_core.operation import Operation
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from google.cloud.aiplatform_v1.services.model_service import ModelServiceClient
from google.cloud.aiplatform_v1.services.model_service.transports import ModelServiceRestTransport
from google.cloud.aiplatform_v1.types import Model, ModelContainerSpec, UploadModelRequest, UploadModelResponse
from google.longrunning import operations_pb2
from google.protobuf import json_format
from google.protobuf.empty_pb2 import Empty

from nightly.records.config import Vertex
from nightly.records.release import ReleaseRecord
from nightly.release.errors import NotPublished

log = logging.getLogger("nightly")

LABEL = "nightly_version"
DEFAULT = "default"  # Vertex AI's own alias: the version that is used when a request names none


class VertexModel:
    """One model in the registry of a project and region.

    :param artifacts: returns a release's folder in Google Cloud Storage
    """

    name = "vertex"

    def __init__(self, config: Vertex, model: str, *, artifacts: Callable[[ReleaseRecord], str]) -> None:
        self._config, self._artifacts = config, artifacts
        self._parent = f"projects/{config.project}/locations/{config.region}"
        self.address = f"{self._parent}/models/{model}"
        self._endpoint = config.endpoint or f"https://{config.region}-aiplatform.googleapis.com"
        scheme, _, host = self._endpoint.partition("://")
        with self._reported():
            if scheme == "http":
                credentials = AnonymousCredentials()
            else:
                credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        transport = ModelServiceRestTransport(host=host, url_scheme=scheme, credentials=credentials)
        self._client = ModelServiceClient(transport=transport)
        self._session = AuthorizedSession(credentials)

    def publish(self, record: ReleaseRecord, folder: Path) -> dict[str, Any]:
        """Register the release and move the alias `default` to it. See ReleaseTarget."""
        with self._reported():
            versions = self._versions()
            if not self._versions_of(record, versions):
                self._upload(record, exists=bool(versions))
            first, *twins = self._versions_of(record, self._versions())
            self._make_default(first)
            for twin in twins:
                self._delete(twin)
        return {"model": self.address, "version": first.version_id}

    def retire(self, records: list[ReleaseRecord]) -> list[int]:
        """Move `default` to the release in production, and delete removed versions. See ReleaseTarget.

        A quarantined version only loses the alias, as its files stay in the serving volume too.
        """
        with self._reported():
            versions = self._versions()
            current = [r for r in records if r.state == "released" and self._versions_of(r, versions)][-1:]
            for record in current:
                self._make_default(self._versions_of(record, versions)[0])
            if versions and not current:
                raise NotPublished(
                    f"no release in production is registered as a version of {self.address}, so the alias {DEFAULT} "
                    "cannot be moved to one: do that by hand, or release again"
                )
            kept = {version.version_id for version in versions[-2:]}
            removed = [r for r in records if r.state == "removed"]
            old = [(r.version, v) for r in removed for v in self._versions_of(r, versions) if v.version_id not in kept]
            return [number for number, version in old if self._delete(version)]

    def _upload(self, record: ReleaseRecord, *, exists: bool) -> None:
        target = {"parent_model": self.address} if exists else {"model_id": self.address.rpartition("/")[2]}
        started = self._client.upload_model(
            UploadModelRequest(
                parent=self._parent,
                model=Model(
                    display_name=record.model,
                    version_description=f"run {record.run_id}, snapshot {record.snapshot_id}",
                    labels={LABEL: str(record.version)},
                    artifact_uri=self._artifacts(record),
                    container_spec=ModelContainerSpec(image_uri=self._config.image),
                ),
                **target,
            )
        )
        log.info("Vertex AI registers %s %s (%s)", record.model, record.version, started.operation.name)
        self._wait_for(started.operation, UploadModelResponse)

    def _versions(self) -> list[Model]:
        """Return all versions, oldest first; [] before the first upload."""
        try:
            return sorted(self._client.list_model_versions(name=self.address), key=lambda v: int(v.version_id))
        except NotFound:
            return []

    def _versions_of(self, record: ReleaseRecord, versions: list[Model]) -> list[Model]:
        return [version for version in versions if version.labels.get(LABEL) == str(record.version)]

    def _make_default(self, version: Model) -> None:
        if DEFAULT not in version.version_aliases:
            self._client.merge_version_aliases(name=self._name(version), version_aliases=[DEFAULT])

    def _delete(self, version: Model) -> bool:
        try:
            self._wait_for(self._client.delete_model_version(name=self._name(version)).operation, Empty)
        except BadRequest as error:  # a failed precondition, as REST reports it: the version is deployed
            log.warning("%s stays in Vertex AI: %s", self._name(version), error.message)
            return False
        except NotFound:
            return False
        return True

    def _wait_for(self, started: operations_pb2.Operation, result: type) -> None:
        """Wait until the operation has ended. The client's own polling supports no http, and uses /ui/, not /v1/."""

        @Retry()
        def refresh() -> operations_pb2.Operation:
            answer = self._session.get(f"{self._endpoint}/v1/{started.name}", timeout=60)
            if answer.status_code != 200:
                raise from_http_response(answer)
            return json_format.Parse(answer.text, operations_pb2.Operation())

        Operation(started, refresh, cancel=None, result_type=result).result(timeout=self._config.timeout_seconds)

    def _name(self, version: Model) -> str:
        return f"{self.address}@{version.version_id}"

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (GoogleAPIError, GoogleAuthError, OSError, TimeoutError) as error:
            raise NotPublished(
                f"{self.address}: {error}. The release in the serving volume stands; a retry continues from here."
            ) from error
