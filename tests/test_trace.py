"""What a Recorder records, beside the same training watched by hand."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidl import nn
from minidl.backend import CPU
from minidl.fast import compiled
from minidl.fast.fuse import Fused
from minidl.module import watchers
from minidl.nn import Conv2d, Linear, ReLU
from minidl.optim import Adam, Hybrid
from minidl.trace import PageError, Recorder, page, read, write
from minidl.trace.choose import DENSE, SCHEDULE, grid, spread, wanted
from minidl.trace.keep import LOST, SHADES, histogram, sample, shades
from minidl.trace.pack import pack, unpack
from minidl.trainer import Trainer
from minidl.training.config import Config, prepare
from minidl.training.divergence import Diverged
from minidl.training.observer import Observer, Step
from tests.commands import tiny_dataset

SWITCHING = Config(opt="hybrid", switch="step:13", epochs=3, batch_size=16, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def trainer_of(data: Path, config: Config = SWITCHING, **changes: Any) -> Trainer:
    return prepare(replace(config, dataset=str(data), **changes)).trainer


def recorded(trainer: Trainer, epochs: int = 3) -> dict[str, Any]:
    """The recording of a run, as the page has it."""
    recorder = Recorder(trainer, "a test")
    trainer.train_to(epochs, [recorder])
    return unpack(pack(recorder.recording()))


class ByHand:
    """The same training, each step looked at from outside: w, g and the state vectors, the batch, the logits."""

    def __init__(self, trainer: Trainer, epochs: int) -> None:
        self.steps: dict[int, dict[str, Any]] = {}
        step, flat = trainer.train_step, trainer.optimizer.flat

        def watched(x, labels):
            rule, now = trainer.optimizer.active, {"x": x.data.copy(), "labels": labels.copy(), "w_old": flat.w.copy()}
            vectors = {name: getattr(rule, name) for name in rule.vectors}
            now |= {f"{name}_old": vector.copy() for name, vector in vectors.items()}
            now["lr"], now["logits"] = rule.lr, trainer.model(x).data.copy()
            y = x
            for name, layer in trainer.model.named_children():
                y = layer(y)
                now[name] = y.data.copy()
            logits, loss = step(x, labels)
            now |= {name: vector.copy() for name, vector in vectors.items()}
            now |= {"w": flat.w.copy(), "g": flat.g.copy(), "loss": float(loss.data)}
            self.steps[trainer.progress.step + 1] = now
            return logits, loss

        trainer.train_step = watched
        trainer.train_to(epochs)


def places(trainer: Trainer, recording: dict[str, Any]) -> np.ndarray:
    """Where in the flat vector the weights under the lens lie, from their names, shapes and indices."""
    start, found = 0, []
    sizes = {name: p.shape for name, p in trainer.model.named_parameters()}
    for weights in recording["weights"]:
        shape = sizes[weights["name"]]
        assert list(shape) == weights["shape"]
        index = np.arange(math.prod(shape)).reshape(shape[0], -1)
        found.append(start + index[weights["outputs"]][:, weights["inputs"]].reshape(-1))
        start += math.prod(shape)
    return np.concatenate(found)


# ---- what is recorded is what happened ----


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_the_lens_has_the_numbers_of_the_run(data, model):
    recording, trainer = recorded(trainer_of(data, model=model)), trainer_of(data, model=model)
    by_hand, where = ByHand(trainer, 3), places(trainer, recording)
    assert {f["step"] for f in recording["frames"]} >= {*range(1, 14), *range(14, 24)}
    symbols = set()
    for frame in recording["frames"]:
        now = by_hand.steps[frame["step"]]
        terms = {term["symbol"]: term["value"] for term in frame["terms"]}
        for name in {"w_old", "w", "g", "m_old", "m", "v_old", "v"} & terms.keys():
            np.testing.assert_array_equal(terms[name], now[name][where])
            symbols.add((name, frame["step"] <= 13))
        assert terms["lr"] == now["lr"]
        # Of a run in float32, p is known from outside only as a difference.
        np.testing.assert_allclose(terms["p"], now["w"][where] - now["w_old"][where], atol=1e-6)
    assert symbols == {(name, before) for name in ("w_old", "w", "g", "v_old", "v") for before in (True, False)} | {
        ("m_old", True), ("m", True),
    }  # fmt: skip


def test_losses_rates_and_phases_of_every_step(data):
    recording, by_hand = recorded(trainer_of(data)), ByHand(trainer_of(data), 3)
    last = max(by_hand.steps)
    assert (recording["first"], recording["last"]) == (1, last)
    assert recording["loss"].tolist() == [np.float32(by_hand.steps[k]["loss"]) for k in range(1, last + 1)]
    assert recording["lr"].tolist() == [by_hand.steps[k]["lr"] for k in range(1, last + 1)]
    assert recording["phases"] == [[1, "adam"], [14, "sgd"]]


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_minibatch_pictures_and_dead_units(data, model):
    recording, by_hand = recorded(trainer_of(data, model=model)), ByHand(trainer_of(data, model=model), 3)
    layers = dict(trainer_of(data, model=model).model.named_children())
    for frame in (f for f in recording["frames"] if f["layers"]):
        now, batch = by_hand.steps[frame["step"]], frame["batch"]
        logits = now["logits"].astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        loss = -np.log(p[np.arange(len(p)), now["labels"]])
        order, n = batch["order"], len(batch["labels"])
        assert sorted(order) == list(range(len(p)))
        assert (np.diff(loss[order]) <= 1e-6).all()
        np.testing.assert_allclose(batch["loss"], loss[order[:n]], rtol=1e-4, atol=1e-6)
        assert batch["labels"].tolist() == now["labels"][order[:n]].tolist()
        assert batch["predicted"].tolist() == p.argmax(1)[order[:n]].tolist()
        assert batch["correct"] == (p.argmax(1) == now["labels"]).sum()
        np.testing.assert_array_equal(batch["images"], np.round(now["x"][order[:n], 0] * 255))
        for about, seen in zip(recording["layers"], frame["layers"], strict=True):
            output, shown = now[about["name"]], seen["output"]["picture"]
            assert about["shape"] == list(output.shape[1:])
            truth = output[order[0]].reshape(shown["pixels"].shape[0] if output.ndim < 3 else len(output[0]), -1)
            pixels = shown["pixels"].reshape(len(shown["pixels"]), -1)
            values = shown["low"] + pixels * (shown["high"] - shown["low"]) / (SHADES - 1)
            half = (shown["high"] - shown["low"]) / (SHADES - 1) / 2 + 1e-6
            np.testing.assert_allclose(values, truth[: len(values)], atol=half)
            if isinstance(layers[about["name"]], ReLU):
                axes = tuple(i for i in range(output.ndim) if i != 1)
                assert seen["dead"] == (output == 0).all(axis=axes).sum()
            else:
                assert seen["dead"] is None


def test_gradients_that_come_back_to_a_layer(data):
    """The gradient of the loss by the logits is (softmax - truth) / n."""
    recording, by_hand = recorded(trainer_of(data)), ByHand(trainer_of(data), 3)
    for frame in (f for f in recording["frames"] if f["layers"]):
        now, shown = by_hand.steps[frame["step"]], frame["layers"][-1]["gradient"]["picture"]
        p = np.exp(now["logits"].astype(np.float64))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(p)), now["labels"]] -= 1
        wanted = p[frame["batch"]["order"][0]] / len(p)
        values = shown["low"] + shown["pixels"].reshape(-1) * (shown["high"] - shown["low"]) / (SHADES - 1)
        np.testing.assert_allclose(values, wanted, atol=(shown["high"] - shown["low"]) / (SHADES - 1) / 2 + 1e-6)


def test_the_geometry_is_that_of_the_whole_vectors(data):
    recording, by_hand = recorded(trainer_of(data)), ByHand(trainer_of(data), 3)
    for frame in (f for f in recording["frames"] if f["geometry"]):
        now, found = by_hand.steps[frame["step"]], frame["geometry"]
        p, g = (now["w"] - now["w_old"]).astype(np.float64), now["g"].astype(np.float64)
        assert found["p"] == pytest.approx(np.linalg.norm(p), rel=1e-4)
        assert found["g"] == pytest.approx(np.linalg.norm(g), rel=1e-6)
        assert found["cos"] == pytest.approx(-p @ g / np.linalg.norm(p) / np.linalg.norm(g), rel=1e-3)
        assert found["gamma"] == pytest.approx(p @ p / -(p @ g), rel=1e-3)
        assert math.cos(math.radians(found["degrees"])) == pytest.approx(found["cos"])


def test_the_switch_is_told_as_the_optimizer_knows_it(data):
    trainer = trainer_of(data, switch="swats:rtol=0.5,window=2 & step:9 | plateau:patience=3")
    recording = recorded(trainer)
    switch, event, projection = recording["switch"], trainer.optimizer.switch_event, trainer.optimizer.projection
    assert switch["event"] == event._asdict()
    assert event.step < recording["last"]
    assert switch["verdict"] == trainer.optimizer.verdict()
    np.testing.assert_array_equal(switch["projection"]["gamma"], projection.gammas)
    np.testing.assert_array_equal(switch["projection"]["lambda"], projection.lambdas)
    means = [np.mean(projection.gammas[k - 1 : k + 1]) for k in range(1, len(projection.gammas))]
    np.testing.assert_allclose(switch["projection"]["compared"][1:], means)
    np.testing.assert_allclose(switch["projection"]["tolerance"], 0.5 * np.abs(projection.lambdas))
    assert [c["condition"] for c in switch["conditions"]] == [
        "swats:rtol=0.5,window=2", "step:9", "plateau:patience=3",
    ]  # fmt: skip
    assert recording["history"][-1]["step"] == event.step
    met = [s["met"] for s in recording["history"][-1]["standings"]]
    assert met == [True, True, False]
    assert f"step {event.step} of 9" in recording["history"][-1]["words"]
    steps = [f["step"] for f in recording["frames"]]
    assert set(range(event.step - 8, event.step + DENSE + 1)) & set(range(1, recording["last"] + 1)) <= set(steps)


def test_a_run_that_never_switches_and_one_that_has_no_switch(data):
    assert recorded(trainer_of(data, switch="step:9999"))["switch"]["event"] is None
    assert "never switched" in recorded(trainer_of(data, switch="step:9999"))["switch"]["verdict"]
    assert recorded(trainer_of(data, opt="adam", switch=None))["switch"] is None


# ---- it changes nothing ----


@pytest.mark.parametrize("model", ["goodfit", "cnn"])
def test_recording_changes_no_bit(data, model):
    plain, watched = trainer_of(data, model=model), trainer_of(data, model=model)
    plain.train_to(3)
    recording = recorded(watched)
    assert recording["layers"]
    assert plain.optimizer.flat.w.tobytes() == watched.optimizer.flat.w.tobytes()
    assert plain.state()["generators"] == watched.state()["generators"]
    same = [{k: v for k, v in record.items() if k != "seconds"} for record in plain.progress.metrics]
    assert same == [{k: v for k, v in record.items() if k != "seconds"} for record in watched.progress.metrics]
    assert not watchers.get()
    assert not any("forward" in vars(layer) for _, layer in watched.model.named_modules())


def test_an_earlier_recording_is_gone_on_with(data):
    trainer = trainer_of(data)
    first = recorded(trainer, 1)
    nothing_new = Recorder(trainer, "a test", first).recording()
    assert {k for k in first if not same(nothing_new[k], first[k])} <= {"left_out"}
    second = Recorder(trainer, "a test", first)
    trainer.train_to(3, [second])
    whole = recorded(trainer_of(data))
    for name in ("first", "last", "phases", "history", "switch", "layers", "loss", "lr"):
        assert same(second.recording()[name], whole[name])
    missing = {f["step"] for f in whole["frames"]} - {f["step"] for f in second.recording()["frames"]}
    assert all(first["last"] - 8 < step <= first["last"] for step in missing)  # of the steps just before the switch


def test_a_recorder_that_missed_steps_or_is_given_another_trainers_says_so(data):
    """Its page showed the losses of later steps, or of the other Trainer, as those of the steps after its last."""
    trainer, other = trainer_of(data), trainer_of(data)
    recorder = Recorder(trainer)
    trainer.train_to(1, [recorder])
    other.train_to(1)
    with pytest.raises(RuntimeError, match=r"those to 13, its Trainer has taken 12, and it is given step 14"):
        other.train_to(2, [recorder])
    trainer.train_to(2)
    with pytest.raises(
        RuntimeError, match=r"has taken 24, and it is given step 25: make a new one, Recorder\(trainer\)"
    ):
        trainer.train_to(3, [recorder])
    recorder = Recorder(trainer)
    trainer.train_to(3, [recorder])
    assert len(recorder.recording()["loss"]) == 12


def test_two_recorders_at_a_time(data):
    """Several observers look on at once, and each sees what it would see alone."""
    trainer = trainer_of(data)
    both = [Recorder(trainer, "a test") for _ in range(2)]
    trainer.train_to(3, both)
    alone = recorded(trainer_of(data))
    for recorder in both:
        found = unpack(pack(recorder.recording()))
        assert not {k for k in alone if not same(without_seconds(found[k]), without_seconds(alone[k]))}


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if k != "seconds"}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def test_a_run_that_diverges_is_recorded_to_its_last_step(data):
    trainer = trainer_of(data, opt="sgd", switch=None, lr=1e20)
    recorder = Recorder(trainer)
    with np.errstate(all="ignore"), pytest.raises(Diverged):
        trainer.train_to(3, [recorder])
    recording = unpack(pack(recorder.recording()))
    last = recording["frames"][-1]
    assert last["terms"] == []
    assert last["geometry"] is None
    assert any(layer["output"]["histogram"]["lost"] > 0 for layer in last["layers"])
    assert len(last["layers"]) == len(recording["frames"][0]["layers"]), "not those seen in search of the first NaN"
    lost = np.isnan(last["batch"]["loss"])
    assert lost.any()
    assert (last["batch"]["predicted"][lost] == -1).all()
    assert last["batch"]["correct"] <= (~lost).sum() + len(last["batch"]["order"]) - len(lost)
    assert recording["frames"][-2]["terms"]
    assert "NaN" not in page([recording]).split("<script")[0]


def test_layers_that_are_done_together_are_watched_only_for_a_picture(data, monkeypatch):
    """And a step that fails between two pictures is computed once more, to see where."""
    trainer, done = trainer_of(data, model="cnn", opt="sgd", switch=None, batch_size=2), set()
    kernels = compiled() or CPU.kernels
    fused = kernels["Sequential.forward"]
    noted = {kinds: lambda *args: done.add(trainer.progress.step + 1) or NotImplemented for kinds in fused.forms}
    monkeypatch.setitem(kernels, "Sequential.forward", Fused(noted))
    assert trainer.steps_per_epoch > 13

    class BreakAfter12(Observer):
        def after_step(self, step: Step) -> None:
            if step.number == 12:
                next(trainer.model.parameters()).data[...] = np.nan

    recorder = Recorder(trainer)
    with np.errstate(all="ignore"), pytest.raises(Diverged):
        trainer.train_to(1, [recorder, BreakAfter12()])
    assert done == {k for k in range(1, 14) if not wanted(k, None, False)} == {11, 13}
    frames = recorder.recording()["frames"]
    assert frames[-1]["step"] == 13
    assert len(frames[-1]["layers"]) == len(frames[0]["layers"]) == len(trainer.model)


# ---- what is chosen ----


def test_steps_are_dense_at_the_start_and_after_the_switch():
    steps = [k for k in range(1, 4221) if wanted(k, None, k % 422 == 0)]
    assert steps[:12] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14]
    assert {422 * k for k in range(1, 11)} <= set(steps)
    assert len(steps) < 60
    after = [k for k in range(1001, 4221) if wanted(k, 1000, False)]
    assert after[:11] == [*range(1001, 1011), 1012]
    assert max(b / a for a, b in zip(sorted(SCHEDULE)[9:60], sorted(SCHEDULE)[10:61], strict=True)) <= 1.21


@pytest.mark.parametrize(
    ("shape", "whole"),
    [((256, 784), False), ((256,), False), ((10, 128), False), ((10,), True), ((16, 1, 3, 3), True),
     ((32, 16, 3, 3), False), ((128, 1568), False), ((64, 3, 11, 11), False), ((6, 784), False), ((1, 1), True)],
)  # fmt: skip
def test_weights_under_the_lens_are_spread_over_a_parameter(shape, whole):
    found = grid("w", shape, (28, 28))
    assert len(set(found.places)) == len(found.places)
    assert found.places.max() < math.prod(shape)
    assert (len(found.places) == math.prod(shape)) == whole
    assert len(found.places) <= 600
    if len(shape) == 4 and shape[2] == 3:  # whole kernels
        assert len(found.inputs) % 9 == 0


def test_spread():
    assert spread(3, 16).tolist() == [0, 1, 2]
    assert spread(28, 6, inner=True).tolist() == [4, 8, 12, 15, 19, 23]
    assert spread(256, 16)[[0, -1]].tolist() == [0, 255]


def test_histograms_and_shades():
    values = np.random.default_rng(0).normal(size=1000)
    found = histogram(np.concatenate([values, np.zeros(1000), [np.nan, np.inf]]))
    counts, _ = np.histogram(values, 32)
    np.testing.assert_allclose(found["bars"] / 255, counts / counts.max(), atol=1 / 255)
    assert (found["low"], found["high"]) == (values.min(), values.max())
    assert found["zero"] == 1000 / 2002
    assert found["lost"] == 2 / 2002
    assert found["mean"] == pytest.approx(values.sum() / 2000)
    assert all(histogram(np.append(np.ones(n), 2.0))["bars"].max() == 255 for n in range(1, 3000))
    assert histogram(np.full(5, np.nan))["lost"] == 1
    assert histogram(np.zeros(5))["bars"].sum() == 0
    assert shades(np.array([0.0, 1.0, np.nan, 0.5]))["pixels"].tolist() == [0, SHADES - 1, LOST, 32]
    assert shades(np.full(3, 7.0))["pixels"].tolist() == [0, 0, 0]


def test_a_large_arrays_sample_is_drawn_from_all_of_it():
    array = np.arange(100_000.0).reshape(100, 10, 10, 10).transpose(0, 3, 1, 2)  # as channels-last images lie
    found = sample(array)
    assert len(found) == 4096
    assert abs(found.mean() - array.mean()) < 2000
    assert np.array_equal(found, sample(array))


# ---- packing and the page ----


def test_pack_keeps_everything():
    value = {
        "f4": np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32),
        "f8": np.array([1e-300, math.pi, math.nan, -math.inf]),
        "u1": np.arange(7, dtype=np.uint8),
        "i4": np.zeros((0, 2), np.int32),
        "nested": [1, 2.5, None, True, "λ <script>", {"nan": math.nan, "inf": -math.inf, "np": np.float32(0.5)}],
    }
    found = unpack(pack(value))
    for name in ("f4", "f8", "u1", "i4"):
        assert found[name].dtype == value[name].dtype
        assert found[name].shape == value[name].shape
        assert found[name].tobytes() == value[name].tobytes()
    assert found["nested"][:5] == value["nested"][:5]
    assert math.isnan(found["nested"][5]["nan"])
    assert found["nested"][5]["inf"] == -math.inf
    assert pack(value) == pack(value)
    with pytest.raises(TypeError, match="float16"):
        pack(np.zeros(3, np.float16))
    for broken in (b"", b"junk", pack(value)[:-20]):
        with pytest.raises(ValueError, match="no recording"):
            unpack(broken)


def same(a: Any, b: Any) -> bool:
    if isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(b, dict):
        return isinstance(a, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in b)
    if isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(b, float) and math.isnan(b) and math.isnan(a))


def test_a_page_holds_the_recording_to_the_last_bit_and_nothing_from_elsewhere(data, tmp_path):
    trainer = trainer_of(data)
    recorder = Recorder(trainer, 'title with <b> & "quotes" </script>')
    trainer.train_to(3, [recorder])
    recorder.save(tmp_path / "replay.html")
    (found,) = read(tmp_path / "replay.html")
    assert same(found, recorder.recording())
    text = (tmp_path / "replay.html").read_text()
    assert len(text) < 8e6
    assert "http://www.w3.org/2000/svg" in text
    assert text.count("://") == 1  # the name of SVG's format: nothing is fetched
    assert "<b>" not in text.split("<style>")[0]
    assert "srcdoc=" in recorder._repr_html_()


def test_a_page_that_would_be_too_large_leaves_out_sparse_steps_and_says_so(data, tmp_path):
    recorder = Recorder(trainer_of(data, batch_size=4))
    recorder.trainer.train_to(3, [recorder])
    recording = recorder.recording()
    limit = len(page([recording])) - 100_000
    write(tmp_path / "small.html", page([recording], limit))
    (found,) = read(tmp_path / "small.html")
    assert (tmp_path / "small.html").stat().st_size <= limit
    steps, all_steps = ({f["step"] for f in r["frames"]} for r in (found, recording))
    assert steps < all_steps
    event = recording["switch"]["event"]["step"]
    assert {*range(1, 11), *range(event - 8, event + 11), recording["last"]} & all_steps <= steps
    assert any("to keep the page small" in words for words in found["left_out"])


def test_what_is_no_page_is_said(tmp_path):
    (tmp_path / "other.html").write_text("<html></html>")
    (tmp_path / "bytes.html").write_bytes(b"\xff\xfe\x00")
    broken = '<script type="text/plain" class="recording">AAAA</script>'
    (tmp_path / "broken.html").write_text(broken)
    for name in ("other.html", "bytes.html", "broken.html", "missing.html"):
        with pytest.raises(PageError, match=name):
            read(tmp_path / name)


def test_models_of_ones_own(data):
    """One layer only; and one whose output is no row of logits for each example."""

    splits = trainer_of(data).splits
    model = nn.Sequential(Conv2d(1, 4, 3, rng=0), nn.Flatten(), Linear(8 * 6 * 4, splits.classes, rng=0))
    trainer = Trainer(model, Adam(model.parameters()), splits, 32)
    recording = recorded(trainer, 1)
    assert [layer["kind"] for layer in recording["layers"]] == ["Conv2d", "Flatten", "Linear"]
    assert recording["frames"][0]["filters"]["pixels"].shape == (4, 3, 3)
    assert recording["switch"] is None
    assert not isinstance(trainer.optimizer, Hybrid)


# ---- on a device that is not the CPU ----


def test_a_device_gives_the_same_recording_and_is_left_alone_between_recorded_steps(data, device):
    recordings = {
        where: recorded(trainer_of(data, model="cnn", device=where, switch="step:5"), 1)
        for where in ("cpu", "counting")
    }
    for a, b in zip(recordings["cpu"]["frames"], recordings["counting"]["frames"], strict=True):
        assert a["step"] == b["step"]
        assert [t["symbol"] for t in a["terms"]] == [t["symbol"] for t in b["terms"]]
        for s, t in zip(a["terms"], b["terms"], strict=True):
            np.testing.assert_allclose(s["value"], t["value"], rtol=1e-2, atol=1e-5)
        assert [layer["dead"] for layer in a["layers"]] == [layer["dead"] for layer in b["layers"]]
    trainer, reads = trainer_of(data, device="counting", opt="adam", switch=None, batch_size=2), {}

    class Reads(Observer):
        def before_step(self, step: Step) -> None:
            self.before = replace(device.traffic)

        def after_step(self, step: Step) -> bool:
            reads[step.number] = device.traffic.since(self.before).downloads
            return step.number == 40

    trainer.train_to(1, [Recorder(trainer), Reads()])
    assert {step for step, n in reads.items() if n > 0} <= {k for k in reads if wanted(k, None, False)}
    assert max(reads.values()) < 100


class Residual(nn.Module):
    """A network that calls operations as functions: a ReLU, and the sum of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.first, self.second, self.last = nn.Flatten(), Linear(64, 8, rng=0), Linear(8, 8, rng=1), ReLU()
        self.out = Linear(8, 3, rng=2)

    def forward(self, x):
        x = self.first(self.flat(x)).relu()
        return self.out(self.last(x + self.second(x)))


def test_what_a_model_calls_as_a_function_is_named_before_the_layer_that_takes_it():
    from minidl import Tensor
    from minidl.trace.layers import describe, watched_layers

    model = Residual()
    with watched_layers(model) as seen:
        model(Tensor(np.ones((2, 1, 8, 8), np.float32)))
    called = {one.name: describe(one)["called"] for one in seen}
    assert called == {"flat": [], "first": [], "second": ["relu"], "last": ["add"], "out": []}


@pytest.mark.parametrize("layer", [nn.GELU(), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Conv2d(1, 2, 3, rng=0)], ids=str)
def test_so_it_is_before_each_of_the_librarys_layers(layer):
    from minidl import Tensor
    from minidl.trace.layers import watched_layers

    class Net(nn.Module):
        def __init__(self):
            self.layer = layer

        def forward(self, x):
            return self.layer(x.tanh())

    model = Net()
    with watched_layers(model) as seen:
        model(Tensor(np.ones((1, 1, 4, 4), np.float32), requires_grad=True))
    assert [one.called for one in seen] == [["tanh"]]
