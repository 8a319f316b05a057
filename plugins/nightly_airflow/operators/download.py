"""Downloads the night's rows from the model's source."""

from __future__ import annotations

import base64
import shutil
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from nightly.io.paths import safe_name
from nightly.models import config_of, window_end
from nightly.records.source_config import ComplaintsApiSource, FilesSource
from nightly_airflow.operators.base import NightOperator

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

KEEP = 3  # downloads of finished nights that stay for inspection; the snapshots hold their rows


class DownloadOperator(NightOperator):
    """Downloads the files of the night's window and writes download.json (contract Download)."""

    def perform(self, context: Context) -> dict[str, Any]:
        from nightly.sources import fetch

        night = self.night()
        source = config_of(night).source
        address, headers = self._connection(source)
        downloads = self.paths.downloads / self.model
        download = fetch(
            source,
            address=address,
            headers=headers,
            window_start=night.window_start,
            window_end=window_end(night),
            folder=downloads / safe_name(self.run_id),
        )
        download.save(self.folder / "download.json")
        for file in download.files:
            self.log.info("%s bytes from %s, sha256 %s", f"{file.bytes:,}", file.origin, file.sha256)
        self.log.info("%d files for %s to %s", len(download.files), night.window_start, window_end(night))
        self._remove_old()
        return {"files": len(download.files), "bytes": sum(file.bytes for file in download.files)}

    def _connection(self, source: FilesSource | ComplaintsApiSource) -> tuple[str | None, dict[str, str] | None]:
        """Return the address and headers from the source's Airflow connection, each None if not set."""
        if not source.connection:
            return None, None
        try:
            connection = BaseHook.get_connection(source.connection)
        except AirflowNotFoundException:
            self.log.info("there is no connection %r: using the address of the model's config", source.connection)
            return None, None
        if isinstance(source, FilesSource):
            return connection.extra_dejson.get("path") or None, None
        return url_of(connection, source.url), headers_of(connection)

    def _remove_old(self) -> None:
        """Remove all but the last few downloads of finished nights; a night without a verdict keeps its own."""
        nights = self.paths.nights / self.model
        finished = [
            folder
            for folder in (self.paths.downloads / self.model).glob("*")
            if (nights / folder.name / "verdict.json").exists() and (nights / folder.name / "download.json").exists()
        ]
        finished.sort(key=lambda folder: (nights / folder.name / "download.json").stat().st_mtime)
        for folder in finished[:-KEEP]:
            self.log.info("removing the old download %s", folder)
            shutil.rmtree(folder, ignore_errors=True)


def url_of(connection: Connection, default: str) -> str | None:
    """Return the connection's URL, with missing parts from `default`; None if the connection has no host."""
    if not connection.host:
        return None
    if "://" in connection.host:
        return connection.host
    parts = urlsplit(default)
    host = f"{connection.host}:{connection.port}" if connection.port else connection.host
    path = connection.extra_dejson.get("path", parts.path)
    return f"{connection.schema or parts.scheme}://{host}/{path.lstrip('/')}"


def headers_of(connection: Connection) -> dict[str, str] | None:
    """Return Basic authorization for a login and password, a bearer token for a password alone, or None."""
    if not connection.password:
        return None
    if connection.login:
        pair = base64.b64encode(f"{connection.login}:{connection.password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {"Authorization": f"Bearer {connection.password}"}
