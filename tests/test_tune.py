"""tune: the plan of its rounds, a search on real digits, bad input."""

import re
import signal
from pathlib import Path

import numpy as np
import pytest

from minidl import tune
from minidl.data import load_mnist, write_idx
from minidl.training.config import Config
from minidl.training.loader import UserError
from tests.commands import SIGNALS, command, fails


def test_each_round_has_half_the_settings_for_twice_as_long():
    assert tune.rounds(24, 10) == [(24, 2), (12, 5), (6, 10)]
    assert tune.rounds(24, 20) == [(24, 5), (12, 10), (6, 20)]
    assert tune.rounds(24, 1) == [(24, 1)]


def test_the_better_half_goes_on(monkeypatch):
    """With accuracies made up beforehand: the best setting wins, and only the better half is tried for longer."""
    tried = []

    def try_out(setting, base, dataset, epochs):
        tried.append((setting, epochs))
        return tune.Score(setting, val_accuracy=1 - abs(setting.lr_sgd - 0.03) - setting.lr, val_loss=1.0)

    monkeypatch.setattr(tune, "try_out", try_out)
    rounds = list(tune.search(Config(), None, 8))
    assert [epochs for epochs, _ in rounds] == [2, 4, 8]
    assert [len(results) for _, results in rounds] == [24, 12, 6]
    ranked = [result.setting for result in rounds[0][1]]
    assert [setting for setting, epochs in tried if epochs == 4] == ranked[:12]
    assert (rounds[-1][1][0].setting.lr, rounds[-1][1][0].setting.lr_sgd) == (3e-4, 0.03)


def test_a_best_rate_at_an_end_of_the_grid_is_said():
    said = [*tune.at_an_end(tune.Setting(3e-3, 0.003, 0.3), tune.settings())]
    assert said == [
        "--lr 0.003 is the largest value tried: a larger one may be better still",
        "--lr-sgd 0.003 is the smallest value tried: a smaller one may be better still",
    ]
    assert not [*tune.at_an_end(tune.Setting(1e-3, 0.03, 0.6), tune.settings())]
    own = [tune.Setting(rate) for rate in (0.01, 0.1, 1.0)]
    assert [len([*tune.at_an_end(each, own)]) for each in own] == [1, 0, 1]


def test_a_setting_that_diverges_is_the_worst():
    result = tune.try_out(tune.Setting(1e30, 1e30, 0.3), Config(model="mlp"), tiny(), 1)
    assert (result.val_accuracy, result.val_loss) == (0, np.inf)


def tiny():
    digits = load_mnist(name="mnist5k")
    return type(digits)(
        "tiny", "here", digits.train_images[:300], digits.train_labels[:300], digits.test_images[:50],
        digits.test_labels[:50], 10, "",
    )  # fmt: skip


def write(folder: Path) -> Path:
    """The tiny data set as a folder."""
    folder.mkdir()
    digits = tiny()
    for part, images, labels in (
        ("train", digits.train_images, digits.train_labels),
        ("t10k", digits.test_images, digits.test_labels),
    ):
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))
    return folder


@pytest.mark.parametrize("number", SIGNALS)
def test_a_search_that_is_stopped_goes_on_to_the_same_end(tmp_path, monkeypatch, capsys, number):
    """What was found is kept, one line says where, and nothing is tried twice."""
    args = ["--model", "linear", "--dataset", str(write(tmp_path / "data")), "--epochs", "2", "--no-fast", "--out"]
    assert tune.main([*args, str(tmp_path / "whole.json")]) == 0
    whole = capsys.readouterr().out
    file, calls, original = tmp_path / "kept.json", [], tune.try_out

    def try_out(*given):
        calls.append(given[0])
        if len(calls) == 31:
            signal.raise_signal(number)
        return original(*given)

    monkeypatch.setattr(tune, "try_out", try_out)
    assert tune.main([*args, str(file)]) == 128 + number
    said = f"stopped by {number.name}; 30 results are saved in {file}: the same command resumes"
    assert capsys.readouterr().err.splitlines()[-1] == f"minidl.tune: {said}"
    assert tune.main([*args, str(file)]) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[0] == f"resuming from {file}: 30 results are saved there"
    assert output.splitlines()[1:] == whole.splitlines()
    assert len(calls) == 31 + 24 + 12 - 30


def test_results_of_another_search_or_damaged_ones_are_not_taken(tmp_path, capsys, monkeypatch):
    args = ["--model", "linear", "--dataset", str(write(tmp_path / "data")), "--epochs", "1", "--no-fast", "--out"]
    file = tmp_path / "kept.json"
    assert tune.main([*args, str(file)]) == 0
    first, whole = capsys.readouterr().out, file.read_text()
    (tmp_path / "sound.json").write_text(whole)
    file.write_text(whole.replace('"val_accuracy": 0.', '"val_accuracy": 0.9', 1))
    damaged = file.read_bytes()
    other = "with other options, data or versions"
    for path, more, says in ((file, [], "is damaged"), (tmp_path / "sound.json", ["--seed", "1"], other)):
        assert tune.main([*args, str(path), *more]) == 2
        message = capsys.readouterr().err
        assert says in message
        assert "It is not overwritten: remove it, or give another --out" in message
    assert file.read_bytes() == damaged
    assert (tmp_path / "sound.json").read_text() == whole
    monkeypatch.chdir(tmp_path)
    for note in (False, True):  # where nobody has named the file, the same line makes it anew
        assert tune.main(args[:-1]) == 0
        output = capsys.readouterr().out.splitlines()
        assert output[note:] == first.splitlines()
        assert not note or (": the search starts again" in output[0] and "is damaged" in output[0])
        (kept,) = Path("runs").glob("tune-linear-data-*.json")
        kept.write_text(kept.read_text().replace('"val_accuracy": 0.', '"val_accuracy": 0.9', 1))
    assert tune.main([*args, str(tmp_path / "data")]) == 2  # a folder


def test_the_command_prints_flags_that_work(tmp_path):
    data, kept = write(tmp_path / "data"), tmp_path / "kept.json"
    result = command("--model", "linear", "--dataset", data, "--epochs", 2, "--out", kept, module="minidl.tune")
    assert result.returncode == 0, result.stderr
    flags = re.search(r"^  python -m minidl\.train (.*)$", result.stdout, re.MULTILINE)[1]
    assert "switch to sgd after step" in command(*flags.split(), "--out", tmp_path / "run").stdout


def test_the_flags_are_those_that_were_searched_for(capsys):
    """A rate for batches of 10, and a switch at a share of that run, mean nothing at another size or length."""
    base = Config(model="linear", dataset="tiny", epochs=1, batch_size=10, val_fraction=0.5, seed=3, opt="hybrid")
    tune.search_and_print(base, tiny(), 1, None)
    said = capsys.readouterr().out
    assert "settings to try: 24 for 1 epoch\nafter 1 epoch, the best of 24:" in said
    words = said.splitlines()[-1].split()
    found = dict(zip(words[3::2], words[4::2], strict=True))
    assert {"--batch-size": "10", "--val-fraction": "0.5", "--seed": "3"}.items() <= found.items()
    assert found["--switch"] in ("step:4", "step:9"), "0.3 or 0.6 of the 15 steps"
    assert tune.flags(Config(model="linear")) == []


def test_nothing_is_advised_where_all_diverged(monkeypatch):
    monkeypatch.setattr(tune, "try_out", lambda setting, *_: tune.Score(setting, 0.0, np.inf))
    with pytest.raises(UserError, match="every setting of hybrid diverged, even the smallest learning rate"):
        tune.search_and_print(Config(model="linear", opt="hybrid"), tiny(), 1, None)


def test_settings_that_diverge_late_are_not_said_to_be_all(monkeypatch):
    """Large rates are ahead in the short rounds; that these diverge in the whole run says nothing of smaller ones."""

    def late(setting, base, dataset, epochs):
        return tune.Score(setting, 0.0, np.inf) if epochs == 4 else tune.Score(setting, setting.lr, 1.0)

    monkeypatch.setattr(tune, "try_out", late)
    with pytest.raises(UserError, match=r"the 6 settings that were best after 2 epochs diverged later.* --epochs 2"):
        tune.search_and_print(Config(model="linear", opt="hybrid"), tiny(), 4, None)


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("--model", "mpl"), "'mlp'"),
        (("--dataset", "nowhere"), "nowhere"),
        (("--epochs", "0"), "got 0"),
        (("--val-fraction", "0"), "give a --val-fraction above 0"),
    ],
)
def test_bad_input(args, part):
    assert part in fails(*args, module="minidl.tune")


def test_the_help_names_each_group_once(capsys):
    with pytest.raises(SystemExit):
        tune.main(["--help"])
    assert capsys.readouterr().out.count("\nrun:\n") == 1
