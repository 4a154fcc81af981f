"""The front door, `python -m minidl.train`, used as a user would: as a command, on real digits."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from minidl.cli.closing import plot_curves
from minidl.data import load_mnist, write_idx
from minidl.predict import make_parser
from minidl.training.checkpoint import load_checkpoint
from tests.commands import ROOT, command, fails

PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A data set of your own: the embedded digits, a few hundred of them, cut to 20x16 pixels and 4 classes."""
    digits = load_mnist(name="mnist5k")
    path = tmp_path_factory.mktemp("own")
    for part, images, labels in (
        ("train", digits.train_images, digits.train_labels),
        ("t10k", digits.test_images, digits.test_labels),
    ):
        few = labels < 4
        write_idx(path / f"{part}-images-idx3-ubyte.gz", images[few, 4:24, 6:22][:600])
        write_idx(path / f"{part}-labels-idx1-ubyte", labels[few][:600].astype(np.uint8))
    return path


@pytest.fixture(scope="session")
def finished(folder, tmp_path_factory) -> Path:
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    result = command("--dataset", folder, "--epochs", 3, "--switch", "step:7", "--out", out)
    assert result.returncode == 0, result.stderr
    return out


# ---- what a run leaves behind ----


def test_a_name_with_dollars_is_no_formula_in_the_picture(folder, tmp_path):
    named = tmp_path / r"a$\frac$b"
    named.symlink_to(folder)
    result = command("--dataset", named, "--epochs", 1, "--out", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "curves.png").exists()


@pytest.mark.parametrize("epochs", [1, 2, 200])
def test_epochs_are_whole_numbers_in_the_picture(finished, tmp_path, monkeypatch, epochs):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **how: drawn.append(figure))
    first = json.loads((finished / "metrics.jsonl").read_text().splitlines()[0])
    metrics = [{**first, "epoch": k + 1, "step": 10 * (k + 1)} for k in range(epochs)]
    summary = json.loads((finished / "summary.json").read_text())
    plot_curves(metrics, {**summary, "switch": None}, tmp_path / "curves.png")
    for axes in drawn[0].axes:
        shown = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
        assert shown
        assert shown == [round(tick) for tick in shown]


def test_the_run_folder_is_as_promised(finished):
    assert {f.name for f in finished.iterdir()} == {
        "config.json", "metrics.jsonl", "summary.json", "curves.png", "checkpoint.safetensors",
    }  # fmt: skip
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert all(
        list(line) == [
            "epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "phase", "seconds",
            "run",
        ]
        for line in lines
    )  # fmt: skip
    assert [line["phase"] for line in lines] == ["adam", "sgd", "sgd"]
    summary = json.loads((finished / "summary.json").read_text())
    assert list(summary) == [
        "dataset", "source", "device", "model", "parameters", "optimizer", "seed", "epochs", "steps", "train_loss",
        "train_accuracy", "val_accuracy", "test_loss", "test_accuracy", "switch", "run", "bits", "fast",
        "seconds", "samples_per_second",
    ]  # fmt: skip
    config = json.loads((finished / "config.json").read_text())
    state = load_checkpoint(finished / "checkpoint.safetensors").state
    assert {each["run"] for each in (summary, config, state, *lines)} == {summary["run"]}  # another's file is known
    assert summary["switch"]["step"] == 7
    assert summary["switch"]["condition"] == "step:7"
    assert summary["switch"].keys() == {"step", "epoch", "lr", "condition"}
    assert summary["steps"] == 3 * 5  # 540 training images, 128 at a time
    assert summary["parameters"] == 320 * 256 + 256 + 256 * 128 + 128 + 128 * 4 + 4
    assert 0.8 < summary["test_accuracy"] <= 1
    assert json.loads((finished / "config.json").read_text())["switch"] == "step:7"


def test_the_summarys_accuracies_are_those_of_the_saved_weights(finished, folder):
    """Recomputed with NumPy alone, from the checkpoint's arrays and the files' bytes."""
    w = load_checkpoint(finished / "checkpoint.safetensors").model
    digits = load_mnist(name=str(folder))
    x = digits.test_images.reshape(len(digits.test_labels), -1) / 255
    for name in ("1", "3", "5"):
        x = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        x = np.maximum(x, 0) if name != "5" else x
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["test_accuracy"] == pytest.approx((x.argmax(1) == digits.test_labels).mean(), abs=1e-9)
    log_p = x - np.log(np.exp(x).sum(1, keepdims=True))
    expected = -log_p[np.arange(len(x)), digits.test_labels].mean()
    assert summary["test_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_log_has_a_line_per_epoch_the_switch_and_the_table_but_no_bar(folder, tmp_path):
    result = command("--dataset", folder, "--epochs", 2, "--switch", "epoch:1", "--out", tmp_path / "r")
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert sum(line.startswith("switch to sgd after step 5") for line in lines) == 1
    assert re.search(r"accuracy  train [\d.]+   validation [\d.]+   test [\d.]+", result.stdout)
    assert "\r" not in result.stdout


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(folder, tmp_path):
    weights = []
    for i, seed in enumerate((5, 5, 6)):
        args = ("--dataset", folder, "--epochs", 1, "--seed", seed, "--model", "goodfit", "--out", tmp_path / str(i))
        assert command(*args).returncode == 0
        weights.append(load_checkpoint(tmp_path / str(i) / "checkpoint.safetensors").model)
    a, b, c = weights
    assert all(a[k].tobytes() == b[k].tobytes() for k in a)
    assert any(a[k].tobytes() != c[k].tobytes() for k in a)


def test_test_every_epoch_prints_the_test_accuracy(folder, tmp_path):
    args = ("--dataset", folder, "--epochs", 1, "--out", tmp_path / "r")
    assert "| test accuracy" in command(*args, "--test-every-epoch").stdout


def test_threads_are_limited_to_what_is_asked_for(folder, tmp_path):
    script = (
        "import sys; from minidl import train; from minidl.fast.threads import threads\n"
        "after = train.Display.after_step; seen = set()\n"
        "def look(self, step):\n"
        "    after(self, step); seen.add(threads())\n"
        "train.Display.after_step = look; train.main(sys.argv[1:]); print('threads', seen)"
    )
    for n in (1, 2, 4):
        args = ["--dataset", str(folder), "--epochs", "1", "--threads", str(n), "--out", str(tmp_path / str(n))]
        result = subprocess.run([sys.executable, "-c", script, *args], cwd=ROOT, capture_output=True, text=True)
        assert f"threads {{{n}}}" in result.stdout, result.stdout + result.stderr


def test_help_names_every_group_and_examples():
    text = command("--help").stdout
    for part in ("data and model", "optimizer", "hybrid switch", "run:", "examples:", "swats:rtol", "default: 128"):
        assert part in text


# ---- bad input: one or two lines, status 2 ----


def broken(folder: Path, to: Path, part: str, content: bytes) -> Path:
    """A copy of a data set with one file replaced."""
    to.mkdir()
    for file in folder.iterdir():
        if not file.name.startswith(part):
            (to / file.name).write_bytes(file.read_bytes())
    (to / f"{part}.gz").write_bytes(content)
    return to


def test_a_missing_folder(tmp_path):
    assert "there is no data set" in fails("--dataset", tmp_path / "nowhere")


def test_a_truncated_file(folder, tmp_path):
    whole = (folder / f"{PARTS[0]}.gz").read_bytes()
    message = fails("--dataset", broken(folder, tmp_path / "d", PARTS[0], whole[: len(whole) // 2]))
    assert PARTS[0] in message


def test_an_html_page_named_gz(folder, tmp_path):
    page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    assert "HTML" in fails("--dataset", broken(folder, tmp_path / "d", PARTS[0], page))


def test_a_wrong_magic_number(folder, tmp_path):
    content = gzip.compress(b"\x00\x00\x07\x03" + bytes(12))
    message = fails("--dataset", broken(folder, tmp_path / "d", PARTS[0], content))
    assert "at byte 2" in message
    assert "found 07" in message


def test_image_and_label_counts_that_differ(folder, tmp_path):
    write_idx(tmp_path / "labels.gz", np.zeros(17, np.uint8))
    bad = broken(folder, tmp_path / "d", PARTS[1], (tmp_path / "labels.gz").read_bytes())
    message = fails("--dataset", bad)
    assert "600 images" in message
    assert "17 labels" in message


def test_names_are_suggested():
    assert "did you mean 'adam'?" in fails("--opt", "addam")
    assert "did you mean 'mlp'?" in fails("--model", "mpl")
    assert "did you mean --epochs?" in fails("--ep", "1")
    assert "did you mean --batch-size?" in fails("--batchsize", "1")
    assert "did you mean --opt or --out?" in fails("--o", "x")
    assert "did you mean" not in fails("--zz", "1")


def test_a_training_that_was_lost_says_so(tmp_path):
    """The loss stayed finite, so that it is no divergence; a Trainer warns of it too."""
    args = ("--dataset", "mnist5k", "--epochs", "1", "--opt", "adam", "--lr", "30", "--out")
    assert "note: the training loss was " in command(*args, tmp_path / "a").stdout
    assert "note: the training loss" not in command(*args, tmp_path / "b", "--model", "linear", "--lr", "0.01").stdout


def test_a_malformed_switch_shows_the_position():
    message = fails("--dataset", "mnist5k", "--switch", "step:100 | epoc:3")
    assert "epoch" in message
    assert "^" in message or "position" in message


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("--lr", "-0.1"), "--lr must be a positive number, got -0.1"),
        (("--lr", "nan"), "--lr must be a positive number, got nan"),
        (("--lr", "fast"), "'fast'"),
        (("--epochs", "0"), "--epochs must be at least 1, got 0"),
        (("--batch-size", "0"), "--batch-size must be at least 1, got 0"),
        (("--val-fraction", "1.5"), "--val-fraction must be between 0 and 1, got 1.5"),
        (("--val-fraction", "-0.1"), "--val-fraction must be between 0 and 1, got -0.1"),
        (("--val-fraction", "0.0001"), "choose a larger fraction, or 0 to set none aside"),
        (("--val-fraction", "0.9999"), "choose a smaller fraction, or 0 to set none aside"),
        (("--betas", "0.9"), "give two numbers, as in 0.9,0.999, not '0.9'"),
        (("--opt", "adam", "--betas", "0.9,1"), "betas[1] must be in [0, 1), got 1.0"),
        (
            ("--opt", "sgd", "--betas", "0.9,0.99"),
            "betas does not apply to 'sgd': it is an option of adam, adamw",
        ),
        (("--schedule", "onecycl"), "did you mean 'onecycle'?"),
        (("--schedule", "exponential"), "'exponential' needs gamma=G"),
        (("--schedule-sgd", "linear:end=1"), "unknown argument of 'linear' 'end'"),
        (("--opt", "swats", "--schedule", "linear"), "schedule does not apply to 'swats'"),
        (("--resume", "nowhere", "--schedule", "onecycle"), "leave out --schedule"),
        (("--seed", "-1"), "--seed must be 0 or more, got -1"),
        (("--checkpoint-every", "0"), "--checkpoint-every must be at least 1 step, got 0"),
        (("--threads", "0"), "--threads must be at least 1, got 0"),
        (("--device", "tpu"), "unknown device 'tpu'"),
        (("--resume", "nowhere"), "there is no run folder nowhere"),
        (("--resume", "nowhere", "--lr", "0.1"), "leave out --lr"),
        (("--optimizer", "adam"), "unrecognized arguments: --optimizer"),
        (("--out=",), "--out= has no value: is a shell variable unset?"),
        (("--schedule=",), "--schedule= has no value"),
    ],
)
def test_bad_values(args, part):
    assert part in fails("--dataset", "mnist5k", *args) if args[0] != "--resume" else part in fails(*args)


def test_an_unusable_gpu_names_the_install_line():
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount():
            pytest.skip("this machine has a usable GPU")
    except ImportError:
        pass
    message = fails("--device", "gpu")
    assert 'pip install "cupy-cuda12x[ctk]"' in message


def test_a_folder_with_a_run_in_it_is_not_overwritten(finished):
    before = {f.name: f.read_bytes() for f in finished.iterdir()}
    assert f"--resume {finished}" in fails("--dataset", "mnist5k", "--out", finished)
    assert before == {f.name: f.read_bytes() for f in finished.iterdir()}


def test_divergence_is_explained_and_the_last_checkpoint_stays(folder, tmp_path):
    out = tmp_path / "r"
    message = fails(
        "--dataset", folder, "--opt", "sgd", "--lr", "1e9", "--checkpoint-every", "1", "--out", out, status=1
    )
    assert re.search(r"diverged at step \d+: the loss is (nan|inf), learning rate 1e\+09", message)
    assert "layer" in message
    assert all(np.isfinite(v).all() for v in load_checkpoint(out / "checkpoint.safetensors").model.values())


# ---- predict ----


def test_predict_classifies_png_and_idx(finished, folder, tmp_path):
    from matplotlib.image import imsave

    digits = load_mnist(name=str(folder))
    labels = [int(k) for k in digits.test_labels[:20]]
    write_idx(tmp_path / "some.idx", digits.test_images[:20])
    from_idx = command(finished, tmp_path / "some.idx", module="minidl.predict").stdout.splitlines()
    guesses = [int(re.match(r".*some\.idx\[\d+\]: (\d) \(\d+\.\d%; next", line)[1]) for line in from_idx]
    assert sum(a == b for a, b in zip(guesses, labels, strict=True)) >= 15
    imsave(tmp_path / "plain.png", digits.test_images[0], cmap="gray", vmin=0, vmax=255)
    big = np.kron(255 - digits.test_images[0], np.ones((4, 4), np.uint8))
    imsave(tmp_path / "paper.png", big, cmap="gray", vmin=0, vmax=255)
    plain, paper = command(
        finished, tmp_path / "plain.png", tmp_path / "paper.png", module="minidl.predict"
    ).stdout.splitlines()
    assert paper.endswith("  [dark on light: inverted, resized from 80x64]")
    answers = [re.search(r": (\d) \((\d+\.\d)%", line).groups() for line in (from_idx[0], plain, paper)]
    assert len({digit for digit, _ in answers}) == 1
    percent = [float(p) for _, p in answers]
    assert max(percent) - min(percent) < 0.15  # the last digit shown may be rounded otherwise


def test_names_with_a_dash_follow_two_dashes():
    args = make_parser().parse_intermixed_args(["run", "--as-is", "--", "-1.png", "2.png", "--x="])
    assert list(map(str, args.images)) == ["-1.png", "2.png", "--x="]  # Path drops the ./
    assert str(make_parser().parse_intermixed_args(["--", "-run", "2.png"]).run) == "-run"


def test_predict_meets_bad_input(finished, folder, tmp_path):
    (tmp_path / "no.png").write_bytes(b"not a picture")
    assert "can't be read as a PNG" in fails(finished, tmp_path / "no.png", module="minidl.predict")
    assert "missing.png" in fails(finished, tmp_path / "missing.png", module="minidl.predict")
    assert f"{tmp_path} has no checkpoint" in fails(tmp_path, tmp_path / "no.png", module="minidl.predict")
    assert f"as {finished}" in fails(finished.parent, "x.png", module="minidl.predict")
    assert f"give its folder, {finished}" in fails(
        finished / "checkpoint.safetensors", "x.png", module="minidl.predict"
    )
    assert f"give its folder, {finished}" in fails("--resume", finished / "summary.json")
    assert "save the image and give that file" in fails(finished, "https://example.org/3.png", module="minidl.predict")
    labels = folder / "t10k-labels-idx1-ubyte"
    assert "uint8 images of 20x16" in fails(finished, labels, module="minidl.predict")


def test_one_step_and_tf32_on_a_processor(folder, tmp_path):
    """What is said before a run counts in words, and names an option that changes nothing."""
    result = command("--dataset", folder, "--epochs", 1, "--batch-size", 9999, "--tf32", "--out", tmp_path / "r")
    assert "1 epoch of 1 step\n" in result.stdout
    assert "note: --tf32 is for GPUs: it has no effect on the CPU\n" in result.stdout
