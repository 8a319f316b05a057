"""Write the model server's configuration into the serving volume, and print the files.

They are models.config, batching.config, monitoring.config and, if the environment names a server, server.json.
Run it before the server's first start, and after a change of the settings in server/nightly_server.
"""

import argparse
import sys
from collections.abc import Sequence

from nightly.cli.errors import Parser, command
from nightly.io.paths import Paths
from nightly.serving.server_files import write_all

COMMAND = "python -m nightly.cli.configure"


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    return Parser(COMMAND, description=__doc__)


@command(COMMAND)
def main(args: Sequence[str] | None = None) -> int:
    parser().parse_args(args)
    for path in write_all(Paths.from_environment()):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
