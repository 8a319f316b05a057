"""Zero, negative and other numbers that make no sense are refused by every command, before it does anything."""

import argparse

import pytest

from nightly.cli import arguments, night, pull, snapshots


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "", "nan"])
@pytest.mark.parametrize("kind", [arguments.positive_int, arguments.port])
def test_a_whole_number_is_1_or_more(kind, text):
    assert kind("1") == 1
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number: give 1 "):
        kind(text)


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "x"])
def test_a_number_is_above_0(text):
    assert arguments.positive_number("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number above 0"):
        arguments.positive_number(text)


def test_a_port_ends_at_65535():
    assert arguments.port("65535") == 65535
    with pytest.raises(argparse.ArgumentTypeError, match="1 to 65535"):
        arguments.port("65536")


@pytest.mark.parametrize("number", ["0", "-5"])
@pytest.mark.parametrize(
    ("main", "words"),
    [
        (night.main, ["taxi", "--train-steps"]),
        (snapshots.main, ["show", "taxi", "latest", "--rows"]),
        (pull.main, ["taxi", "--gcs", "gs://models/production", "--into", "/nowhere", "--watch"]),
    ],
)
def test_a_command_refuses_zero_and_less_before_it_begins(main, words, number, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*words[:-1], f"{words[-1]}={number}"])
    assert ended.value.code == 2
    assert f"argument {words[-1]}: '{number}' is no" in capsys.readouterr().err
