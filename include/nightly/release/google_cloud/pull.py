"""Update a serving machine's volume to the current version in a bucket. The command is nightly.cli.pull.

The current version's predecessor stays. Versions that were rolled back are moved out of the server's sight once the
current version is there. Needs only google-cloud-storage and pydantic.
"""

from pathlib import Path

from nightly.records.release import ReleaseRecord
from nightly.release.errors import ReleaseError
from nightly.release.google_cloud.gcs import GcsReleases
from nightly.release.volume import Volume


def pull(bucket: GcsReleases, into: Path) -> ReleaseRecord:
    """Bring the current version in `bucket` into the volume `into`, unless it is there; return its record.

    Raises ReleaseError, with nothing changed that the server sees.
    """
    releases = bucket.releases()
    if not releases:
        raise ReleaseError(f"nothing is released at {bucket.address}")
    volume = Volume(into, bucket.model)
    volume.add(releases[-1:], bucket)
    volume.remove({*volume.present()} - {record.version for record in releases[-2:]})
    return releases[-1]
