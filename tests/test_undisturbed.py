"""What a program does between two steps of a training changes no bit of the next: looking, failing, copying, Ctrl-C."""

from __future__ import annotations

import contextvars
import copy
import dis
import gc
import inspect
import io
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest

from minidl import Tensor, Trainer, backend, evaluate, gradcheck, load_run, nn, ops, optim, use_threads
from minidl.data.batches import batches
from minidl.data.splits import Examples
from minidl.evaluation import predict
from minidl.fast import blas, threads
from minidl.module import evaluating
from minidl.tensor import record

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (120, 28, 28), np.uint8), RNG.integers(0, 10, 120)


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 32, rng=0), nn.Dropout(0.2, rng=5), nn.BatchNorm1d(32), nn.Linear(32, 10, rng=2)
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, rng=0), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3, rng=7), nn.Flatten(),
        nn.Linear(4 * 13 * 13, 10, rng=3),
    )  # fmt: skip


class Training:
    """A bare loop; a new one has the same weights."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self.model = make()
        self.optimizer = optim.Hybrid(
            self.model.parameters(),
            first=optim.Adam(),
            then=optim.SGD(lr=0.05, momentum=0.9),
            switch=optim.AfterSteps(2),
        )
        self.done = 0

    def step(self) -> bytes:
        here = slice(self.done % 3 * 40, self.done % 3 * 40 + 40)
        x = Tensor(IMAGES[here, None].astype(np.float32) / 255)
        self.done += 1
        self.optimizer.zero_grad()
        ops.cross_entropy(self.model(x), LABELS[here]).backward()
        self.optimizer.step()
        state = self.model.state_dict()
        return b"".join(state[name].tobytes() for name in sorted(state))


# ---- what is done between two steps of a training ----


def looks(t: Training) -> None:
    evaluate(t.model, Examples(IMAGES, LABELS))
    predict(t.model, IMAGES[:7])
    evaluate(cnn(), Examples(IMAGES, LABELS))
    repr(t.model), repr(t.optimizer), t.optimizer.state_dict(), t.optimizer.verdict()


def fails_to_look(t: Training) -> None:
    small = np.zeros((3, 5, 5), np.uint8)
    with pytest.raises(ValueError, match=r"784|676"):
        evaluate(t.model, Examples(small, np.zeros(3, np.int64)))
    with pytest.raises(ValueError, match=r"784|676"):
        predict(t.model, small)


def interrupts_an_evaluation(t: Training) -> None:
    def stop(name: str, layer: nn.Module, y: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), t.model.watched(stop):
        evaluate(t.model, Examples(IMAGES, LABELS))


def interrupts_a_backward(t: Training) -> None:
    """In the middle: the gradients of the last layer are there, those of the first are not."""
    t.model.eval()  # so that nothing but the gradients is begun

    def stop(g: Any) -> Any:
        raise KeyboardInterrupt

    x = Tensor(IMAGES[:40, None].astype(np.float32) / 255)
    with t.model.watched(lambda name, layer, y: record("stop", y.data, (y, stop)) if name == "2" else y):
        loss = ops.cross_entropy(t.model(x), LABELS[:40])
    with pytest.raises(KeyboardInterrupt):
        loss.backward()
    t.model.train()


def checks_a_gradient(t: Training) -> None:
    gradcheck(lambda a: (a @ a.T).tanh(), [np.ones((3, 4))])


def trains_another_in_a_thread(t: Training) -> None:
    thread = threading.Thread(target=Training(cnn).step)
    thread.start()
    thread.join()


def trains_copies(t: Training) -> None:
    for other in (copy.deepcopy(t), pickle.loads(pickle.dumps(t))):
        other.step()


def uses_other_forms(t: Training) -> None:
    for forms in (backend.no_fast, backend.reference_only):
        with forms():
            Training(mlp).step()


def writes_into_a_gradient(t: Training) -> None:
    """A vjp of your own, that changes the array that it is given."""

    def doubled(g: Any) -> Any:
        g *= 2
        return g

    x = Tensor(np.float32(3.0), requires_grad=True)
    for _ in range(2):
        x.grad = None
        record("doubled", x.data * 2, (x, doubled)).backward()
        assert x.grad == 2
    ops.sum(x).backward()
    assert x.grad == 3


BETWEEN = (
    looks, fails_to_look, interrupts_an_evaluation, interrupts_a_backward, checks_a_gradient,
    trains_another_in_a_thread, trains_copies, uses_other_forms, writes_into_a_gradient,
)  # fmt: skip


@pytest.mark.parametrize("between", BETWEEN, ids=lambda f: f.__name__)
@pytest.mark.parametrize("make", [mlp, cnn])
def test_what_is_done_between_two_steps_changes_no_bit(make: Any, between: Callable[[Training], None]) -> None:
    alone, disturbed = Training(make), Training(make)
    for _ in range(4):
        assert disturbed.step() == alone.step()
        with redirect_stdout(io.StringIO()):
            between(disturbed)


@pytest.mark.parametrize("make", [mlp, cnn])
def test_a_copy_goes_on_with_the_same_bits(make: Any) -> None:
    first = Training(make)
    first.step()
    others = [copy.deepcopy(first), pickle.loads(pickle.dumps(first))]
    for _ in range(3):
        bits = first.step()
        assert all(other.step() == bits for other in others)


@pytest.mark.parametrize("look", [lambda net: evaluate(net, (IMAGES, LABELS)), lambda net: predict(net, IMAGES)])
def test_to_evaluate_leaves_each_layer_in_its_mode(look: Any) -> None:
    """A batch norm that is held in evaluation mode, as in fine-tuning, stays so."""
    net = mlp()
    net[3].eval()
    before = [module.training for _, module in net.named_modules()]
    look(net)
    assert [module.training for _, module in net.named_modules()] == before
    assert before.count(False) == 1


def test_evaluations_may_end_in_any_order_and_in_any_thread() -> None:
    """As those that generators hold open: each ends itself, and no other."""

    def held(net: nn.Module) -> Iterator[None]:
        with evaluating(net):
            yield

    first, second = mlp(), mlp()
    begun = [held(first), held(second), held(first)]
    for each in begun:
        next(each)
    for each, want in zip(begun, [(False, False), (False, True), (True, True)], strict=True):
        thread = threading.Thread(target=each.close)
        thread.start()
        thread.join()
        assert (first.training, second.training) == want
    with evaluating(first):
        first.train()
        with evaluating(first):
            assert not first.training
        assert first.training


def test_an_evaluation_that_ctrl_c_cuts_off_before_its_end_puts_no_later_network_in_eval_mode() -> None:
    """What is left of it went by the modules' ids, which those of later networks take over."""

    def interrupt(frame: FrameType, event: str, arg: Any) -> Any:
        if (event, frame.f_code.co_name, frame.f_lineno) == ("line", "evaluating", last):
            raise KeyboardInterrupt
        return interrupt

    def evaluated() -> bool:
        sys.settrace(interrupt)
        try:
            evaluate(mlp(), (IMAGES, LABELS))
        except KeyboardInterrupt:
            return False
        finally:
            sys.settrace(tracing)
        return True

    lines, first = inspect.getsourcelines(evaluating)
    last = first + next(i for i, line in enumerate(lines) if "mine.clear()" in line)
    tracing = sys.gettrace()

    def modes() -> list[bool]:
        assert not any(evaluated() for _ in range(20))
        gc.collect()
        later = [nn.Dropout() for _ in range(5000)]
        return [module.training for module in later]

    assert all(contextvars.copy_context().run(modes))


def test_threads_may_predict_with_one_model_in_training_mode_while_it_learns() -> None:
    """Each prediction is in eval mode, and no step is: a mode that threads shared would get lost between them."""
    alone, watched = Training(mlp), Training(mlp)
    steps = [alone.step() for _ in range(60)]
    server = mlp()
    want, state = predict(server, IMAGES).tobytes(), server.state_dict()
    wrong, enough, interval = [], threading.Event(), sys.getswitchinterval()

    def serve() -> None:
        while not enough.is_set():
            wrong.append(predict(server, IMAGES).tobytes() != want)
            predict(watched.model, IMAGES)

    servers = [threading.Thread(target=serve) for _ in range(4)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in servers:
            thread.start()
        assert [watched.step() for _ in range(60)] == steps
    finally:
        enough.set()
        for thread in servers:
            thread.join()
        sys.setswitchinterval(interval)
    assert wrong
    assert not any(wrong)
    assert all(module.training for _, module in server.named_modules())
    assert all(value.tobytes() == state[name].tobytes() for name, value in server.state_dict().items())


def test_a_class_that_has_a_mode_of_its_own_gets_it_back_too() -> None:
    class Own(nn.Dropout):
        training = True

    net = nn.Sequential(nn.Flatten(), Own(0.5, rng=0), nn.Linear(784, 10, rng=0))
    assert predict(net, IMAGES).tobytes() == predict(net, IMAGES).tobytes()
    assert net[1].training


# ---- Ctrl-C, or a signal's handler that computes, while BLAS is being held, or helpers compute ----

HOLDING = (
    backend._SameBits.__enter__, backend._SameBits.__exit__, blas._Blas.hold, blas._Blas._hold, blas._Blas.release,
    blas._Blas._restore, blas._Blas.own.fget,
)  # fmt: skip


def ctrl_c() -> None:
    raise KeyboardInterrupt


def interrupted(run: Callable[[], Any], n: int, handler: Callable[[], None] = ctrl_c, inside_of: Any = HOLDING) -> bool:
    """run(), with a signal at the n-th moment when it can come inside HOLDING; False where there are not so many.

    Python looks for signals where a function begins and where a call has returned.
    """
    names = {f.__code__: {i.offset: i.opname for i in dis.get_instructions(f)} for f in inside_of}
    before: dict[FrameType, str] = {}
    moments = 0

    def inside(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal moments
        if event == "opcode":
            moments += before.get(frame) in ("CALL", "RESUME", "CALL_FUNCTION", "CALL_METHOD", "CALL_KW")
            before[frame] = names[frame.f_code][frame.f_lasti]
            if moments == n:
                moments += 1
                handler()
        return inside

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        code: CodeType = frame.f_code
        frame.f_trace_opcodes = code in names
        return inside if code in names else None

    tracing = sys.gettrace()
    try:
        if sys.version_info >= (3, 12):  # only the next settrace shows what a frame was asked for
            moments = -(10**9)
            sys.settrace(enter)
            run()
            sys.settrace(tracing)
            moments = 0
        sys.settrace(enter)
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracing)
    return moments > n


@pytest.fixture(params=["process", "thread"])
def limited(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """BLAS with one limit for the process, as it is here, or with one for each thread, as on OpenMP."""
    if request.param == "thread":
        own = threading.local()
        limit = blas.Limit(lambda: getattr(own, "limit", 2), lambda n: setattr(own, "limit", n), each=True)
        monkeypatch.setattr(blas.blas, "libraries", [limit])
        monkeypatch.setattr(blas.blas, "each", True)


@contextmanager
def limited_to_two() -> Iterator[Callable[[], int]]:
    """BLAS may use two threads; gives the function that reads its limit."""
    with backend.same_bits:
        if not blas.blas.libraries:
            pytest.skip("a BLAS without a limit")
    get, set_to, _ = blas.blas.libraries[0]
    limit = get()
    set_to(2)
    try:
        if get() < 2:
            pytest.skip("a BLAS of one thread")
        yield get
    finally:
        set_to(limit)


@pytest.mark.usefixtures("limited")
def test_ctrl_c_at_any_moment_leaves_blas_held_where_minidl_computes() -> None:
    with limited_to_two() as get:
        a, n = Tensor(np.ones((4, 4), np.float32)), 1
        while interrupted(lambda: ops.matmul(a, a), n):
            with backend.same_bits:
                assert get() == 1, f"not held after an interrupt at moment {n}"
            n += 1
            blas._here.depth = 0  # for the next moment as if nothing had been
            blas.blas.users.clear()
            blas.blas._restore()
            assert get() == 2
        assert n > 8


@pytest.mark.usefixtures("limited")
def test_the_handler_of_a_signal_may_compute_at_any_moment() -> None:
    """It must neither wait for its own thread, nor leave BLAS free for what it came between."""
    a, n = Tensor(np.ones((4, 4), np.float32)), 1

    def handler() -> None:
        assert blas.blas.lock.acquire(timeout=1), f"the handler would wait for itself at moment {n}"
        blas.blas.lock.release()
        with backend.same_bits:
            assert get() == 1
        ops.matmul(a, a)

    def run() -> None:
        with backend.same_bits:
            assert get() == 1, f"not held after a signal at moment {n}"

    with limited_to_two() as get:
        while interrupted(run, n, handler):
            assert get() == 2, f"not free again after a signal at moment {n}"
            n += 1
        assert n > 8


def test_ctrl_c_waits_for_what_helpers_have_begun() -> None:
    """They write into arrays of the program, which goes on after it."""
    begun, ended = [], []

    def work(start: int, stop: int) -> None:
        begun.append(start)
        time.sleep(0.01)
        ended.append(start)

    n = 1
    with use_threads(2):
        while interrupted(lambda: threads.split(work, 2), n, inside_of=(threads._Job.lead, threads._Team.share)):
            assert len(begun) == len(ended), f"a helper goes on after an interrupt at moment {n}"
            n += 1
            threads._here.at_work = False  # for the next moment as if nothing had been
    assert n > 8


def test_without_another_thread_one_computes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container allows no more, or Python is ending."""

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    team = threads._Team()
    monkeypatch.setattr(threads, "_team", team)
    with use_threads(3):
        assert threads.split(lambda start, stop: (start, stop), 6) == [(0, 2), (2, 4), (4, 6)]
    assert team.jobs.empty()  # nobody would ever take them


# ---- any float dtype ----


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_trainer_computes_in_the_dtype_of_its_weights_and_goes_on_in_it(dtype: str, tmp_path: Path) -> None:
    """Against a bare loop; and a folder that is loaded goes on with the bits of a training that was never left."""

    def trainer(**more: Any) -> Trainer:
        net = cnn().to(dtype=dtype)
        return Trainer(net, optim.Adam(net.parameters(), eps=1e-4), (IMAGES, LABELS), batch_size=40, seed=3, **more)

    whole, first = trainer(), trainer(folder=tmp_path / "run")
    whole.fit(2, verbose=False)
    first.fit(1, verbose=False)
    loaded = load_run(tmp_path / "run", data=(IMAGES, LABELS))
    loaded.fit(1, verbose=False)
    bare = cnn().to(dtype=dtype)
    adam = optim.Adam(bare.parameters(), eps=1e-4)
    for epoch in range(2):
        for x, y in batches(IMAGES, LABELS, 40, np.random.default_rng([3, 1, epoch]), dtype=dtype):
            adam.zero_grad()
            ops.cross_entropy(bare(x), y).backward()
            adam.step()
    for name, value in bare.state_dict().items():
        assert value.dtype == dtype or name == "1.num_batches_tracked"
        for model in (whole.model, loaded.model):
            assert model.state_dict()[name].tobytes() == value.tobytes()
    assert predict(loaded.model, IMAGES[:3]).dtype == dtype


@pytest.mark.parametrize("at", [4, 6])
@pytest.mark.parametrize("read_every", [1, 3])
def test_a_step_that_failed_and_is_taken_again_counts_once(read_every: int, at: int) -> None:
    """An error or a second Ctrl-C in the update, when the loss of the step is known already."""

    class FailsOnce(optim.SGD):
        fails = False

        def step(self) -> None:
            if self.fails and self.t == at - 1:
                self.fails = False
                raise KeyboardInterrupt
            super().step()

    def trainer() -> Trainer:
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, rng=0))
        return Trainer(model, FailsOnce(model.parameters(), lr=0.1), (IMAGES, LABELS), 20, read_every=read_every)

    undisturbed, disturbed = trainer(), trainer()
    undisturbed.train_to(1)
    disturbed.optimizer.fails = True
    with pytest.raises(KeyboardInterrupt):
        disturbed.train_to(1)
    assert disturbed.progress.step == at - 1
    disturbed.train_to(1)
    for name in ("train_loss", "train_accuracy"):
        assert disturbed.metrics[0][name] == undisturbed.metrics[0][name], name


def test_a_folder_named_relatively_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a notebook's %cd has it: before fit, and after loading."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, rng=0))
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    there.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(there)
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.1), (IMAGES, LABELS), folder="runs/a")
    monkeypatch.chdir(elsewhere)
    trainer.fit(1, verbose=False)
    monkeypatch.chdir(there)
    loaded = load_run("runs/a", data=(IMAGES, LABELS))
    monkeypatch.chdir(elsewhere)
    loaded.fit(1, verbose=False)
    assert loaded.save() == there / "runs" / "a"
    assert not list(elsewhere.iterdir())
    assert len(load_run(there / "runs" / "a", data=(IMAGES, LABELS)).metrics) == 2
