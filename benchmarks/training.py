"""Compares the Trainer's training step, from TFRecords, with a bare Keras loop over arrays in memory.

Both have the same network, transformed rows and batch size, and take turns. The time is measured from the end of a
round's first execution, to exclude tracing and opening files, to the end of its last.
"""

import statistics
import time
from pathlib import Path

from benchmarks import steps
from benchmarks.common import Goal, Result, forked, interleaved, main, say, spread, warm
from nightly.nights.steps import DATA_STEPS

SIZES = {100_000: 7, 1_000_000: 5}  # rows -> rounds
QUICK = {10_000: 3}
STEPS, QUICK_STEPS = 150, 20
TO_TRANSFORM = (*DATA_STEPS, "transform")


def run(quick: bool, folder: Path) -> Result:
    warm()
    goals, table, runs = [], [], []
    for rows, rounds in (QUICK if quick else SIZES).items():
        size_folder = folder / str(rows)
        steps.run(size_folder, steps.planned(size_folder, rows, STEPS), TO_TRANSFORM)
        transformed = steps.paths_of(size_folder).pipeline / "complaints/transform"
        steps_each = QUICK_STEPS if quick else STEPS
        seconds = forked(_compare, transformed, steps_each, rounds, log=size_folder / "training.log").value
        runs += [{"rows": rows, "side": side, "seconds_a_step": values} for side, values in seconds.items()]
        # Neighbouring rounds see the same machine: the ratio of each pair, then their median.
        ratio = statistics.median(a / b for a, b in zip(seconds["ours"], seconds["bare"], strict=True))
        say("%s rows: %.3f", f"{rows:,}", ratio)
        goals.append(Goal(f"training step at {rows:,} rows, of a bare loop's", round(ratio, 3), "×", at_most=1.05))
        table.append(
            {
                "rows": f"{rows:,}",
                "Trainer, ms a step": spread([value * 1000 for value in seconds["ours"]]),
                "bare loop, ms a step": spread([value * 1000 for value in seconds["bare"]]),
                "ratio": round(ratio, 3),
            }
        )
    return Result(goals, {f"Training, {STEPS} steps of 512 a round": table}, runs)


def _compare(transformed: Path, number: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds for each step of both sides, by round."""
    import keras
    import numpy as np
    import tensorflow_transform as tft

    from include.models.complaints.model import build_model
    from nightly.models import load_config
    from nightly.training.inputs import evaluation_batches, training_batches
    from nightly.training.run import Progress, fit

    settings = load_config("complaints").training
    output = tft.TFTransformOutput(str(next(transformed.glob("transform_graph/*"))))
    patterns = [f"{transformed}/transformed_examples/*/Split-train/*"]
    models = {side: build_model(output, settings.hyperparameters) for side in ("ours", "bare")}
    size, rows_needed = settings.batch_size, number * settings.batch_size

    features, labels, rows_read = [], [], 0
    for batch, label in evaluation_batches(patterns, output, size):  # every row once
        features.append({name: value.numpy() for name, value in batch.items()})
        labels.append(label.numpy())
        rows_read += len(label)
        if rows_read >= rows_needed:
            break
    repeats = -(-rows_needed // rows_read)
    arrays = {
        name: np.tile(np.concatenate([batch[name] for batch in features]), (repeats, 1))[:rows_needed]
        for name in features[0]
    }
    targets = np.tile(np.concatenate(labels), (repeats, 1))[:rows_needed]

    class Clock(keras.callbacks.Callback):
        """Records the end of each execution, with the number of its last step."""

        def on_train_begin(self, logs=None):
            self.ends = []

        def on_train_batch_end(self, batch, logs=None):
            self.ends.append((batch, time.perf_counter()))

        @property
        def seconds_a_step(self) -> float:
            (first, began), (last, ended) = self.ends[0], self.ends[-1]
            return (ended - began) / (last - first)

    def ours(_: int) -> float:
        clock = Clock()
        fit(models["ours"], training_batches(patterns, output, size, seed=0), number, [Progress(number, size), clock])
        return clock.seconds_a_step

    def bare(_: int) -> float:
        clock = Clock()
        models["bare"].fit(arrays, targets, batch_size=size, shuffle=False, verbose=0, callbacks=[clock])
        return clock.seconds_a_step

    ours(0), bare(0)  # traces the step
    return interleaved(rounds, ours=ours, bare=bare)


if __name__ == "__main__":
    main(run)
