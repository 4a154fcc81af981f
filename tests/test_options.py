"""An option is one field: its place on the command line, its check and its documentation follow from it."""

import argparse
from dataclasses import dataclass, fields

import pytest

from minidl.train import make_parser
from minidl.training.config import OPTIMIZER_OPTIONS, Config
from minidl.training.options import add_options, at_least, check_options, documented, option, positive, share
from minidl.training.presets import DEFAULTS, decided
from minidl.training.run import Options


@dataclass(frozen=True)
class Cake:
    """A cake."""

    eggs: int = option(3, "how many", group="dough", metavar="N", check=at_least(1, "egg"))
    flour_kg: float | None = option(None, "how much (default: 100 % of it)", group="dough", check=positive)
    glaze: float = option(0.5, "share of it that shines", group="top", check=share)
    candles: bool = option(False, "with candles", group="top")
    name: str = option("", "who gets it", group="top")
    hidden: int = 7

    def __post_init__(self) -> None:
        check_options(self)


documented(Cake)


def parse(*words, **how):
    parser = argparse.ArgumentParser("cake", exit_on_error=False)
    add_options(parser, Cake, **how)
    return parser, vars(parser.parse_args(words))


def test_what_is_not_given_is_not_set():
    assert parse()[1] == {}
    _, given = parse("--eggs", "4", "--flour-kg", "1.5", "--candles")
    assert given == {"eggs": 4, "flour_kg": 1.5, "candles": True}
    assert Cake(**given).hidden == 7


def test_the_help_has_groups_and_defaults():
    text = parse()[0].format_help().partition("--help")[2]
    assert text.index("dough:") < text.index("--eggs N") < text.index("top:") < text.index("--candles")
    assert "how many (default: 3)" in text
    assert "how much (default: 100 % of it)" in text
    assert "--hidden" not in text
    assert "--glaze" not in parse(only=("eggs",))[0].format_help()


def test_the_docstring_has_them_too():
    lines = Cake.__doc__.splitlines()
    assert lines[0] == "A cake."
    assert "    eggs      how many (default: 3)" in lines
    epochs = "    epochs        passes over the training split (default: 10, on mnist5k 20; race: 1, on mnist5k 15)"
    assert epochs in Config.__doc__.splitlines()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eggs": 0}, "--eggs must be at least 1 egg, got 0"),
        ({"flour_kg": float("nan")}, "--flour-kg must be a positive number, got nan"),
        ({"flour_kg": 0.0}, "--flour-kg must be a positive number, got 0"),
        ({"glaze": 1.0}, "--glaze must be between 0 and 1, got 1"),
        ({"name": "n" * 5000}, "--name has 5,000 characters: at most 4,096 are allowed"),
    ],
)
def test_a_check_names_the_option(given, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        Cake(**given)
    assert str(caught.value) == message


@pytest.mark.parametrize("rate", [0, 0.0, -1.0, float("inf")])
def test_a_rate_after_the_switch_moves_the_weights_like_lr_and_lr_sgd(rate):
    for name in ("lr", "lr_sgd", "lr_after"):
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} must be a positive number, got {rate:g}"):
            Config(opt="hybrid", **{name: rate})
    assert Config(opt="hybrid", lr_after="matched").lr_after == "matched"


def test_every_field_of_a_run_is_on_the_command_line():
    text = make_parser().format_help()
    for each in (*fields(Config), *fields(Options)):
        assert f"--{each.name.replace('_', '-')}" in text


def test_defaults_are_options():
    for opt, defaults in DEFAULTS.items():
        assert set(defaults) <= set(OPTIMIZER_OPTIONS)
        assert set(decided(opt, {})) <= set(OPTIMIZER_OPTIONS)
        assert decided(opt, {"lr": 0.7, "momentum": None})["lr"] == 0.7
