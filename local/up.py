"""Airflow and a model server in the foreground, for a person: python -m local.up [PORT]

Airflow is on PORT, or on 8080, or on a free port if that is taken; the model server on 8500 and 8501 likewise.
"""

import argparse
import sys

from local.airflow import AirflowDidNotStart, LocalAirflow, free_port
from local.serving import LocalModelServer, ModelServerDidNotStart
from nightly.cli.arguments import port
from nightly.io.paths import Paths


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser("python -m local.up", description=__doc__)
    parser.add_argument("port", type=port, nargs="?", help="of Airflow (8080, or a free one)")
    return parser


def main() -> int:
    airflow_port = parser().parse_args().port or free_port(preferred=8080)
    paths = Paths.from_environment()
    ports = {"port": free_port(preferred=8500), "rest_api_port": free_port(preferred=8501)}
    print("starting the model server and Airflow …", flush=True)
    try:
        with (
            LocalModelServer.of_releases(paths, paths.var / "serving.log", **ports).running() as server,
            LocalAirflow(paths.var / "airflow", server.environment, airflow_port).running() as airflow,
        ):
            print(f"\n  Airflow        {airflow.url}\n  log in         admin / {airflow.password}")
            print(f"  model server   REST {server.rest}, gRPC {server.grpc}")
            print(f"  logs           {airflow.log}, {server.log}\n\nCtrl-C stops it.", flush=True)
            airflow.wait()
    except (AirflowDidNotStart, ModelServerDidNotStart) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
