"""Verify that a released version answers correctly on the model server that clients use.

The same client speaks to TensorFlow Serving and to the embedded server.
"""

import base64
import itertools
import logging
import math
import time
from pathlib import Path

from nightly.records.golden import GOLDEN, Api, Golden
from nightly.records.night import utc_now
from nightly.records.release import Verification
from nightly.release.errors import NotLoadedInTime, ReleaseError, ReleaseNotVerified, ServerNotReached
from nightly_client import Client, ServingError
from nightly_client.protos import Example, features

log = logging.getLogger("nightly")

POLL_SECONDS = 0.2
REACH_SECONDS = 30.0  # how long to wait for a server that is restarting
LATENCY_REQUESTS = 200  # to each of the two versions in turn, so that other load affects both
LATENCY_SECONDS = 20.0
LATENCY_ROUNDS = 3  # a version fails only if it is too slow in every round, because other load may slow down one
LATENCY_SLACK_MS = 5.0  # a difference below this is noise
NOT_REACHED = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
# No fault of the version. Without memory, disk or file handles a load or a request is RESOURCE_EXHAUSTED.
SERVER_FAULTS = (*NOT_REACHED, "CANCELLED", "ABORTED", "RESOURCE_EXHAUSTED")
NOT_LOADED = "Servable not found"  # TensorFlow Serving's text, also for a version that was just unloaded


def read_golden(version: Path) -> Golden:
    """Return the golden predictions in a version's folder. Raises ReleaseNotVerified if there are none."""
    try:
        return Golden.load(version / GOLDEN)
    except FileNotFoundError:
        raise ReleaseNotVerified(
            f"{version} has no {GOLDEN} to compare the server's answers with: write it in run_fn, with "
            "nightly.training.samples.add_samples"
        ) from None


def verify_release(
    rest: Client,
    grpc: Client,
    model: str,
    version: int,
    golden: Golden,
    *,
    tolerance: float,
    previous: int | None = None,
    latency_factor: float = math.inf,
    timeout: float = 180,
) -> Verification:
    """Wait until the server has loaded `version`, and compare its answers with the golden predictions.

    :param tolerance: the largest difference allowed
    :param previous: the version whose latency is the reference
    :param latency_factor: the largest p99 allowed, as a multiple of the previous version's
    :param timeout: seconds until the version must be AVAILABLE
    :raises ReleaseNotVerified: with the server's own text, or the values
    :raises ServerNotReached: if the server was away, which says nothing about the version
    """
    began = time.monotonic()
    wait_until_available(grpc, model, version, timeout)
    _state_over_rest(rest, model, version)
    seconds = time.monotonic() - began
    log.info("%s %s is AVAILABLE after %.1f s", model, version, seconds)
    differences = []
    for client, api in itertools.product((rest, grpc), (None, *golden.apis)):
        differences.append(largest_difference(client, model, version, golden, api))
        if not differences[-1] <= tolerance:  # NaN too
            raise ReleaseNotVerified(
                f"golden predictions of {model} {version} by {api or golden.signature} over {client.address} differ by "
                f"{differences[-1]:.3g} from the offline predictions; {tolerance:.3g} is allowed"
            )
    p99, previous_p99 = compare_latency(grpc, model, version, previous, golden, latency_factor)
    verification = Verification(
        server=grpc.address,
        golden_examples=len(golden.examples),
        largest_difference=max(differences),
        tolerance=tolerance,
        p99_ms=round(p99, 3),
        previous_p99_ms=None if previous_p99 is None else round(previous_p99, 3),
        seconds=round(seconds, 2),
        verified_at=utc_now(),
    )
    log.info(
        "%s %s answers as offline by %s (%d examples, largest difference %.2g); p99 %.1f ms, before %s",
        model,
        version,
        ", ".join(golden.signatures),
        verification.golden_examples,
        verification.largest_difference,
        p99,
        "nothing" if previous_p99 is None else f"{previous_p99:.1f} ms",
    )
    return verification


def wait_until_available(client: Client, model: str, version: int, timeout: float) -> None:
    """Wait until the version is AVAILABLE, at most `timeout` seconds.

    Raises ReleaseNotVerified if the version failed to load, else NotLoadedInTime or ServerNotReached.
    """
    end = time.monotonic() + timeout
    give_up = time.monotonic() + min(REACH_SECONDS, timeout / 2)
    state = "not known to the server"
    while time.monotonic() < end:
        try:
            status = client.status(model, version)[version]
            state = status.state
            if state == "AVAILABLE":
                return
            if state == "END" and status.error:
                text = f"the model server could not load {model} {version}: {status.error}"
                raise _refusal(ServingError(status.code, status.error), text)
        except ServingError as error:
            if error.code in NOT_REACHED and time.monotonic() > give_up:
                raise ServerNotReached(f"the model server does not answer at {client.address}: {error}") from None
            if error.code not in (*NOT_REACHED, "NOT_FOUND"):  # the status call itself failed: no fault of the version
                raise ServerNotReached(f"{client.address} gave no status of {model} {version}: {error}") from None
            reached = error.code == "NOT_FOUND"
        else:
            reached = True
        if reached:
            give_up = time.monotonic() + min(REACH_SECONDS, timeout / 2)
        time.sleep(POLL_SECONDS)
    raise NotLoadedInTime(
        f"{model} {version} is not AVAILABLE after {timeout:.0f} s, but {state}. Does the server watch this serving "
        "volume, and load this version? release.timeout_seconds in the model's config.toml says how long to wait."
    )


def _state_over_rest(rest: Client, model: str, version: int) -> None:
    try:
        state = rest.status(model, version)[version].state
    except ServingError as error:
        raise ServerNotReached(f"{model} {version} is AVAILABLE over gRPC, but over REST: {error}") from None
    if state != "AVAILABLE":
        raise ServerNotReached(f"{model} {version} is AVAILABLE over gRPC, but {state} over REST: is it one server?")


def largest_difference(client: Client, model: str, version: int, golden: Golden, api: Api | None = None) -> float:
    """Return the largest difference of the version's answers from the golden predictions; NaN if any answer is NaN.

    Raises ReleaseNotVerified or ServerNotReached if the version does not answer.

    :param api: of golden.apis; None: Predict
    """
    examples = [base64.b64decode(example.example_base64) for example in golden.examples]
    try:
        if api is None:
            answers = client.predict(model, examples, signature=golden.signature, version=version).values
        else:
            ask = {"classify": client.classify, "regress": client.regress}[api]
            answers = ask(model, list(map(_features, examples)), signature=api, version=version).values
    except ServingError as error:
        signature = api or golden.signature
        text = f"{model} {version} does not answer the golden requests by {signature} over {client.address}: {error}"
        raise _refusal(error, text) from None
    try:
        differences = [row.difference(answer, api) for row, answer in zip(golden.examples, answers, strict=True)]
    except ValueError as error:
        raise ReleaseNotVerified(f"{model} {version} over {client.address}: {error}") from None
    return math.nan if any(map(math.isnan, differences)) else max(differences)


def _features(example: bytes) -> dict[str, list]:
    """Return the values of a serialized example's features, as `classify` and `regress` take them."""
    return {name: values for name, values in features(Example.FromString(example)).items() if values}


def _refusal(error: ServingError, text: str) -> ReleaseError:
    """Return ServerNotReached if the server was away or had no memory left, else ReleaseNotVerified."""
    away = error.code in SERVER_FAULTS or (error.code == "NOT_FOUND" and NOT_LOADED in str(error))
    return ServerNotReached(text) if away else ReleaseNotVerified(text)


def compare_latency(
    client: Client, model: str, version: int, previous: int | None, golden: Golden, factor: float
) -> tuple[float, float | None]:
    """Return both versions' p99 of single golden requests, in ms. Raises ReleaseNotVerified if the new is too slow."""
    for round_ in range(1, LATENCY_ROUNDS + 1):
        p99, previous_p99 = measure_latency(client, model, version, previous, golden)
        if previous_p99 is None or p99 <= max(previous_p99 * factor, previous_p99 + LATENCY_SLACK_MS):
            return p99, previous_p99
        log.warning("p99 of %s %s is %.1f ms, before %.1f ms (round %d)", model, version, p99, previous_p99, round_)
    raise ReleaseNotVerified(
        f"{model} {version} is too slow: p99 {p99:.1f} ms, and {previous_p99:.1f} ms of {previous}, measured in turn "
        f"{LATENCY_ROUNDS} times; release.latency_factor allows {factor:g} times as much"
    )


def measure_latency(
    client: Client, model: str, version: int, previous: int | None, golden: Golden
) -> tuple[float, float | None]:
    """Return each version's p99 of single requests, in ms, sent in turn; None if the previous one is not loaded."""
    examples = [base64.b64decode(example.example_base64) for example in golden.examples]
    measured = [version, *([previous] if previous is not None else [])]
    durations: dict[int, list[float]] = {each: [] for each in measured}
    end = time.monotonic() + LATENCY_SECONDS
    for number in range(LATENCY_REQUESTS):
        for each in list(durations):
            began = time.perf_counter()
            try:
                client.predict(model, [examples[number % len(examples)]], signature=golden.signature, version=each)
            except ServingError as error:
                if each == version:
                    raise _refusal(error, f"{model} {version} failed in request {number}: {error}") from None
                log.warning("%s %s is not compared with %s: %s", model, version, each, error)
                del durations[each]
                continue
            if number > 0:  # the first request also fetches the signature
                durations[each].append(time.perf_counter() - began)
        if time.monotonic() > end:
            break
    p99_ms = {each: _p99(seconds) * 1e3 for each, seconds in durations.items() if seconds}
    return p99_ms.get(version, 0.0), p99_ms.get(previous) if previous is not None else None


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]
