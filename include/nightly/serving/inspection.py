"""Describe a released version: its signatures, files, record and predictions. The command is nightly.cli.show."""

import base64
import json
from collections.abc import Collection, Sequence
from pathlib import Path

from nightly.io.tables import aligned, shown
from nightly.records.golden import GOLDEN, Api, Golden
from nightly.records.label_spec import LABEL_SPEC, LabelSpec
from nightly.records.release import ReleaseRecord
from nightly.release.errors import ReleaseError

SHOWN = 4  # numbers of a golden example's output


def describe(folder: Path, record: ReleaseRecord) -> list[str]:
    """Return lines that describe the version's files, signatures and record."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    lines = [f"{record.model} {record.version}: {record.state}" + (f" ({record.why})" if record.why else "")]
    facts = {
        "files": f"{folder}: {len(files)}, {sum(files.values()) / 1e6:.2f} MB",
        "released": f"{record.released_at:%Y-%m-%d %H:%M:%S %Z} by {record.requested_by}, run {record.run_id}",
        "made of": f"snapshot {record.snapshot_id[:12]}, code {record.code_version}",
        "predicts": _predicts(folder),
        "metrics": ", ".join(f"{name} {value:.4g}" for name, value in sorted(record.metrics.items())),
        "verified": _verified(record),
        "before it": str(record.previous_version or "nothing"),
    }
    lines += _indented([(name, value) for name, value in facts.items() if value])
    for meta_graph in saved.meta_graphs:
        release = meta_graph.meta_info_def.tensorflow_version
        lines.append(f"\ntags {', '.join(sorted(meta_graph.meta_info_def.tags))}; TensorFlow {release}")
        for name, signature in sorted(meta_graph.signature_def.items()):
            if name.startswith("__saved_model"):  # a TF2 export's own bookkeeping
                continue
            lines.append(f"  {name}  ({signature.method_name})")
            tensors = [
                (direction, key, _tensor(info))
                for direction, infos in (("in", signature.inputs), ("out", signature.outputs))
                for key, info in sorted(infos.items())
            ]
            lines += _indented(tensors, spaces=4)
    lines.append("\nassets")
    assets = [(name, f"{size:,} bytes") for name, size in sorted(files.items()) if name.startswith("assets")]
    lines += _indented(assets, right=(1,)) or ["  none"]
    return lines


def _indented(rows: Sequence[Sequence[str]], right: Collection[int] = (), spaces: int = 2) -> list[str]:
    return [" " * spaces + line for line in aligned(rows, right)]


def _verified(record: ReleaseRecord) -> str:
    verification = record.verification
    if verification is None:
        return "its files only, by no model server"
    previous = verification.previous_p99_ms
    before = "" if previous is None else f" (before: {previous:.1f} ms)"
    return (
        f"by the server at {verification.server}: {verification.golden_examples} golden examples, largest difference "
        f"{verification.largest_difference:.2g}; p99 {verification.p99_ms:.1f} ms{before}"
    )


def _tensor(info) -> str:
    import tensorflow as tf

    shape = tf.TensorShape(info.tensor_shape)
    return f"{tf.as_dtype(info.dtype).name} {'of any rank' if shape.rank is None else shape}  {info.name}"


def ask(folder: Path, record: ReleaseRecord, request: Path | None) -> list[str]:
    """Return lines with the version's answer to the file `request`, or to its golden examples if that is None.

    Raises ReleaseError if the version refuses the request, and OSError.
    """
    import tensorflow as tf

    from nightly_server import inference, json_requests, json_responses
    from nightly_server.errors import ServingError
    from nightly_server.monitoring import Metrics
    from nightly_server.servable import Servable

    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    servable = Servable(record.model, record.version, str(folder), metrics=Metrics(), batching=None)

    def answer(document: dict) -> str:
        name = document.get("signature_name") or "serving_default"
        if name not in servable.signatures:
            raise ReleaseError(f"there is no signature {name!r}; there are: {', '.join(sorted(servable.signatures))}")
        inputs, rows = json_requests.predict_inputs(document, servable.signatures[name].inputs)
        return json_responses.predictions(inference.predict(servable, name, inputs), rows)

    if request is not None:
        try:
            return ["", answer(json_requests.parse(request.read_bytes()))]
        except ServingError as error:
            raise ReleaseError(f"{record.model} {record.version} does not answer {request}: {error}") from error
    golden = Golden.load(folder / GOLDEN)
    document = {
        "signature_name": golden.signature,
        "instances": [{"b64": example.example_base64} for example in golden.examples],
    }
    rows, worst = [("golden", "now", "features")], dict.fromkeys(golden.signatures, 0.0)
    for example, row in zip(golden.examples, json.loads(answer(document))["predictions"], strict=True):
        worst[golden.signature] = max(worst[golden.signature], example.difference(row))
        now = row[golden.output] if isinstance(row, dict) else row
        features = ", ".join(f"{k}={shown(v)}" for k, v in example.features.items() if v is not None)
        rows.append((_numbers(example.outputs[golden.output]), _numbers(now), features[:90]))
    for api in golden.apis:
        answers = _by(api, servable, [base64.b64decode(example.example_base64) for example in golden.examples])
        worst[api] = max(row.difference(now, api) for row, now in zip(golden.examples, answers, strict=True))
    return [
        "",
        *_indented(rows),
        *(f"  largest difference by {name} {difference:.3g}" for name, difference in worst.items()),
    ]


def _by(api: Api, servable, serialized: list[bytes]) -> list[list[float]]:
    """Return what Classify or Regress answers to each example: the scores, or a number."""
    from tensorflow_serving.apis import classification_pb2, regression_pb2

    from nightly_server import inference

    messages = {"classify": classification_pb2.ClassificationRequest, "regress": regression_pb2.RegressionRequest}
    request = messages[api]()
    request.model_spec.signature_name = api
    for example in serialized:
        request.input.example_list.examples.add().ParseFromString(example)
    if api == "classify":
        result = inference.classification_response(servable, request).result
        return [[entry.score for entry in row.classes] for row in result.classifications]
    return [[row.value] for row in inference.regression_response(servable, request).result.regressions]


def _numbers(values: float | list[float]) -> str:
    """Return the first numbers of an output's row, and how many more there are."""
    values = values if isinstance(values, list) else [values]
    more = f" +{len(values) - SHOWN}" if len(values) > SHOWN else ""
    return " ".join(f"{value:.6g}" for value in values[:SHOWN]) + more


def _predicts(folder: Path) -> str:
    """Return what the version predicts, by its label.json; "" if it is of an older release."""
    if not (folder / LABEL_SPEC).exists():
        return ""
    label = LabelSpec.load(folder / LABEL_SPEC)
    kind = f"one of {len(label.classes)} classes" if label.kind == "classes" else label.kind
    return f"{label.column} ({kind}), trained on {label.rows:,} labelled rows"
