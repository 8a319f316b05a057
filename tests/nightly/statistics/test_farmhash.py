"""pyproject.toml overrides the version of pyfarmhash that TFDV asks for: the fingerprints must be the same."""

import random

import farmhash
import tensorflow as tf


def test_the_fingerprints_are_those_of_tensorflows_own_farmhash():
    choose = random.Random(7)
    texts = ["".join(chr(choose.randrange(1, 0x2FFF)) for _ in range(length)) for length in range(200)]
    expected = tf.fingerprint([text.encode() for text in texts], method="farmhash64").numpy().view("<u8").ravel()
    assert [farmhash.fingerprint64(text) for text in texts] == expected.tolist()


def test_short_fingerprints_are_those_that_the_version_tfdv_asks_for_computes():
    texts = ["", "fare", "trip_seconds", "Größe", "a name of more than twenty-four characters"]
    expected = [3696677242, 3196161433, 149621138, 3944153852, 3281743899]
    assert [farmhash.fingerprint32(text) for text in texts] == expected
