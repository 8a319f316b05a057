"""Write TensorFlow Serving's configuration files from the project's models: `python -m include.serving.configure`.

Run it again when a model is added. The files serve the container, whose serving volume is mounted at /models, and the
embedded server, with --base_path for its own folder.
"""

import argparse
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from include.contracts.base import write_atomically
from include.contracts.config import model_names
from include.serving.config import PLATFORM

HEADER = "# Written by `python -m include.serving.configure`: change that, not this.\n"

MODELS_HEADER = (
    HEADER
    + """#
# The newest two versions of each model are loaded: requests without a version or label go to the newest, and the one
# before stays at hand for a label (stable, canary) and for a rollback without a load. A label can only be given to a
# version that is AVAILABLE, so labels are not written here but sent to the running server once there are versions.
#
# TensorFlow Serving does not listen before every model here has a version that loaded.
"""
)

BATCHING = (
    HEADER
    + """#
# Used with --enable_batching. Batching trades a little latency for throughput; it pays when many requests come at once.

# Rows in one run of the model. Larger batches use wide CPUs and GPUs better; beyond some size latency grows as fast as
# throughput. A request with more rows than this is refused.
max_batch_size { value: 128 }

# How long the first request of a batch waits for company. 0 runs what is there as soon as a thread is free, which is
# right where requests are many; a millisecond or two lets batches form where they are few.
batch_timeout_micros { value: 1000 }

# Batches that may wait, per version and signature; when they are full a request fails with UNAVAILABLE (503). This is
# what keeps a slow model from building up a queue that nobody waits for any more.
max_enqueued_batches { value: 100 }

# Batches that run at the same time: about the number of CPU cores, or 1 to 2 for each GPU.
num_batch_threads { value: 4 }

# Batches are filled up to one of these sizes with copies of a row. Worth it where each new size costs a compilation
# (GPU with XLA or TensorRT); on a CPU it is only work thrown away. The last must be max_batch_size.
# allowed_batch_sizes: [8, 32, 128]

# Whether rows of different lengths may share a batch, filled up with their first value. Only for models that are told
# the true length otherwise; ours take serialized tf.Examples, which all have the same shape.
pad_variable_length_inputs: false
"""
)

MONITORING = (
    HEADER
    + """
# On the REST port, where Prometheus looks for it with `metrics_path`.
prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }
"""
)


def models_config(
    names: list[str], base_path: str = "/models", labels: dict[str, dict[str, int]] | None = None
) -> model_server_config_pb2.ModelServerConfig:
    """The configuration of `names`, each under `base_path`/NAME. `labels`: model -> label -> version."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.SetInParent()
    for name in names:
        model = config.model_config_list.config.add(
            name=name, base_path=f"{base_path.rstrip('/')}/{name}", model_platform=PLATFORM
        )
        model.model_version_policy.latest.num_versions = 2
        for label, version in (labels or {}).get(name, {}).items():
            model.version_labels[label] = version
    return config


def files(names: list[str], base_path: str = "/models") -> dict[str, str]:
    """File name -> text, for the models named."""
    return {
        "models.config": MODELS_HEADER + text_format.MessageToString(models_config(names, base_path)),
        "batching.config": BATCHING,
        "monitoring.config": MONITORING,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m include.serving.configure", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="the folder to write to")
    parser.add_argument(
        "--base_path", default="/models", help="the folder of the models' folders, as the server sees it"
    )
    flags = parser.parse_args(arguments)
    for name, text in files(model_names(), flags.base_path).items():
        write_atomically(flags.out / name, text.encode())
        print(flags.out / name)


if __name__ == "__main__":
    main()
