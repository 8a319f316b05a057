"""Train a real night on virtual devices: python -m tests.support.virtual_devices FOLDER MODEL AS_OF GPUS…

It is a process of its own, because TensorFlow divides the processor before it is first used. Prints a line of JSON: for
each number of devices the metrics on the eval split, and what the exported model answers.
"""

import json
import logging
import re
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from nightly.training import devices
from nightly.training.run import run_fn
from tests.support.trial_night import night

ROWS = 200
STEPS = 100


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main(folder: Path, model: str, as_of: str, numbers: list[str]) -> dict[str, dict]:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    devices.KIND = "CPU"
    log = logging.getLogger("nightly")
    log.setLevel(logging.INFO)
    fn_args = night(model, as_of, folder)
    fn_args.train_steps = STEPS
    results = {}
    for number in numbers:
        log.addHandler(lines := Lines())
        fn_args.serving_model_dir = str(folder / f"model-{number}")
        fn_args.custom_config = {**fn_args.custom_config, "gpus": number if number == "all" else int(number)}
        run_fn(fn_args)
        log.removeHandler(lines)
        metrics = next(line for line in lines.lines if line.startswith("on the eval split: "))
        results[number] = {
            "metrics": {name: float(value) for name, value in re.findall(r"(\w+) (-?[\d.]+)", metrics)},
            "answers": answers(fn_args.serving_model_dir, folder / "raw/Split-eval"),
            "devices": next((line for line in lines.lines if line.startswith("training on ")), ""),
        }
    return results


def answers(exported: str, examples: Path) -> list[float]:
    files = tf.io.gfile.glob(f"{examples}/*")
    kind = "GZIP" if files[0].endswith(".gz") else ""
    rows = [row.numpy() for row in tf.data.TFRecordDataset(files, compression_type=kind).take(ROWS)]
    predict = tf.saved_model.load(exported).signatures["serving_default"]
    (output,) = (v for v in predict(examples=tf.constant(rows)).values() if v.dtype.is_floating)
    return np.asarray(output).reshape(-1).astype(float).tolist()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])))
