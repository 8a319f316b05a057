"""Run one step of a night in a session of its own: python -m nightly.runtime.step STEP MODEL RUN_ID RESULT_FILE

For a host where no task has opened a session, as in a pod: it needs only the environment that names the state.
"""

import sys
from pathlib import Path

from nightly.io.paths import safe_name
from nightly.runtime import worker


def main(step: str, model: str, run_id: str, result_file: str) -> int:
    """Run the step, write its result or error to `result_file`, and return the exit status."""
    return worker.run(step, Path(model, safe_name(run_id)), Path(result_file))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
