"""Airflow in the foreground, for a person: python -m local.up [PORT]; 8080, or a free one where that is taken."""

import sys

from include.contracts.places import Places
from local.airflow import AirflowDidNotStart, LocalAirflow, free_port


def main() -> int:
    asked = int(sys.argv[1]) if sys.argv[1:] else 0
    airflow = LocalAirflow(Places.from_environment().var / "airflow", port=asked or free_port(preferred=8080))
    print("starting Airflow …", flush=True)
    try:
        with airflow.running():
            print(f"\n  Airflow   {airflow.url}\n  log in    admin / {airflow.password}\n  log       {airflow.log}")
            print("\nCtrl-C stops it.", flush=True)
            airflow.wait()
    except AirflowDidNotStart as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
