"""`python -m minidl.fast` compiles all loops beforehand; and a run says whether it computes in them."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minidl import Examples, Splits, Trainer, fast, load_run, nn, no_fast, trainer
from minidl.data import write_idx
from minidl.fast.gpu.products import using_tf32
from minidl.optim import SGD
from minidl.training.config import Config, prepare
from minidl.training.run import Run

ROOT = Path(__file__).parents[1]


def run(*words, **env):
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=900)


# ---- compiling beforehand ----


def digits(folder):
    """A data set of random images."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 300), ("t10k", 20)):
        write_idx(folder / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28), np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte", rng.integers(0, 10, n).astype(np.uint8))
    return folder


def nothing_is_left(folder):
    """In a process of its own: after everything, no preset has a loop to compile, every kernel and loop was called."""
    from minidl.fast.__main__ import everything, train
    from minidl.fast.loops import compiler, team
    from minidl.fast.loops.kernels import KERNELS
    from minidl.predict import main as predict
    from minidl.train import main
    from minidl.training.build import NAMES
    from minidl.training.models import MODELS

    looked_for, answered = [], set()
    load = compiler._Cache.load_overload

    def noted(self, sig, context):
        looked_for.append((self._name, sig))
        return load(self, sig, context)

    def counted(name, kernel):
        def call(*args, **kwargs):
            result = kernel(*args, **kwargs)
            if result is not NotImplemented:
                answered.add(name)
            return result

        return call

    compiler._Cache.load_overload = noted
    KERNELS.update({name: counted(name, kernel) for name, kernel in KERNELS.items()})
    for model, rule, loss in everything():
        train(model, rule, loss, np.dtype("float32"))
    assert set(KERNELS) == answered, set(KERNELS) - answered
    modules = [module for name, module in sys.modules.items() if name.startswith("minidl.fast.loops.")]
    loops = {thing for module in modules for thing in vars(module).values() if type(thing) is type(team.now)}
    loops = {each for each in loops if isinstance(each._cache, compiler._Cache)}
    assert len(loops) > 30
    uncalled = [each.py_func.__qualname__ for each in loops if not each.signatures]
    assert uncalled == [], uncalled
    before = len(looked_for)
    team._team.words[team.ALONE_UNTIL] = 1  # a helper was late, as on a busy machine
    time.sleep(0.1)  # until the helpers sleep
    team.ready()
    for i, (model, opt) in enumerate([*((m, "hybrid") for m in MODELS), *(("linear", o) for o in NAMES)]):
        args = [
            "--dataset",
            str(folder),
            "--epochs",
            "2",
            "--model",
            model,
            "--opt",
            opt,
            "--out",
            str(folder / str(i)),
        ]
        assert main(args) == 0
    assert predict([str(folder / "0"), str(folder / "t10k-images-idx3-ubyte")]) == 0
    assert looked_for[before:] == []


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
def test_nothing_is_left_to_compile(tmp_path):
    done = run("tests.test_fast_command", str(digits(tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
def test_clear(tmp_path):
    first = run("minidl.fast", "--clear", NUMBA_CACHE_DIR=str(tmp_path))
    folder = next(tmp_path.iterdir())
    for name in ("a.nbi", "a.1.nbc", "kept.txt"):
        (folder / name).touch()
    second = run("minidl.fast", "--clear", NUMBA_CACHE_DIR=str(tmp_path))
    assert first.stdout == f"0 files removed from {folder}\n", first.stderr
    assert second.stdout == f"2 files removed from {folder}\n", second.stderr
    assert [file.name for file in folder.iterdir()] == ["kept.txt"]


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
def test_loops_of_older_sources_count_as_compiled(tmp_path, monkeypatch, capsys):
    """After an upgrade it took a minute and said "0 compiled, 73 were cached already": they replace the older files."""
    command = importlib.import_module("minidl.fast.__main__")
    for name in ("older.nbc", "kept.nbc"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    monkeypatch.setattr(command, "everything", lambda: [(None, None, None)])
    monkeypatch.setattr(command, "train", lambda *_: [(tmp_path / name).touch() for name in ("older.nbc", "new.nbc")])
    assert command.compile_all(tmp_path, ["float32"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 compiled in 0 s, 1 were cached already; folder: ")


def asked(*lines, **env):
    """What a program that calls one loop says on stderr."""
    code = "\n".join([*lines, "from minidl.fast.loops.team import now", "now()"])
    there = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | env
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
def test_loops_compiled_with_a_read_only_installation_are_used(tmp_path):
    """An image of a container: compiled while it was built, started by another user or with a read-only disk."""
    beside = str(ROOT / "minidl" / "fast" / "loops")
    asked()  # compiled, and kept beside the source
    read_only = f"""import tempfile, errno
def refuse(dir=None, make=tempfile.TemporaryFile, **more):
    if str(dir).startswith(({beside!r}, CLOSED)):
        raise OSError(errno.EROFS, "read-only")
    return make(dir=dir, **more)
tempfile.TemporaryFile = refuse"""
    home = tmp_path / "home"
    for closed in ("nowhere", str(tmp_path)):  # the user's own folder can be written to, or neither can
        assert asked(f"CLOSED = {closed!r}", read_only, HOME=str(home), XDG_CACHE_HOME=str(home)) == ""


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
def test_loops_that_cannot_be_kept_are_no_error(tmp_path):
    full = """import errno
from numba.core.caching import IndexDataCacheFile
def refuse(*_):
    raise OSError(errno.ENOSPC, "No space left on device")
IndexDataCacheFile._open_for_write = refuse"""
    for _ in range(2):
        assert asked(full, NUMBA_CACHE_DIR=str(tmp_path)).startswith("minidl compiles its loops")
    assert not list(tmp_path.rglob("*.nbc"))


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
@pytest.mark.parametrize("damage", [lambda data: data[:1000], lambda data: b"", lambda data: bytes(len(data))])
def test_a_loop_whose_file_is_damaged_is_compiled_again(tmp_path, damage):
    """As after a power failure: numba does not flush what it writes."""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    asked(**cache)
    assert asked(**cache) == ""
    for file in (file for file in tmp_path.rglob("*") if file.is_file()):
        file.write_bytes(damage(file.read_bytes()))
    assert asked(**cache).startswith("minidl compiles its loops")
    assert asked(**cache) == ""


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
def test_processes_that_compile_at_the_same_time_keep_their_loops_apart(tmp_path, monkeypatch):
    """As an array job does, on different processors with one home folder."""
    from minidl.fast.loops.compiler import _Files

    first, second, other = (_Files(str(tmp_path), "loop", sources) for sources in ("same", "same", "other"))
    opened = first._open_for_write

    def meanwhile(path):
        second.save("avx512", 512)
        return opened(path)

    monkeypatch.setattr(first, "_open_for_write", meanwhile)
    first.save("avx2", 2)
    for each in (first, second):
        assert [each.load(key) for key in ("avx2", "avx512", "sse")] == [2, 512, None]
    assert other.load("avx2") is None


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
def test_where_numba_compiles_nothing_numpy_computes():
    done = run("minidl.fast", NUMBA_DISABLE_JIT="1")
    assert done.stderr == "minidl.fast: error: nothing to compile: NUMBA_DISABLE_JIT is set\n"


def test_without_numba():
    code = "import sys; sys.modules['numba'] = None; from minidl.fast.__main__ import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    wanted = 'minidl.fast: error: nothing to compile: numba is not installed: pip install "minidl[fast]"\n'
    assert done.stderr == wanted
    assert (
        run("minidl.fast", MINIDL_NO_FAST="1").stderr
        == "minidl.fast: error: nothing to compile: MINIDL_NO_FAST is set\n"
    )


# ---- what a run says ----


def trained(folder, *words, **env):
    done = run("minidl.train", *words, **env)
    assert done.returncode == 0, done.stderr
    begun, ended = (json.loads((folder / name).read_text())["fast"] for name in ("config.json", "summary.json"))
    assert begun == ended
    return done.stdout, ended


def test_a_run_says_what_it_computed_with(tmp_path):
    new = ["--dataset", str(digits(tmp_path)), "--epochs", "1", "--model", "linear", "--device", "cpu", "--out"]
    said, used = trained(tmp_path / "a", *new, str(tmp_path / "a"))
    if fast.version() is None:
        assert said.startswith("fast: no (")
        assert used is None
    else:
        assert said.startswith(f"fast: {fast.version()}\n")
        assert used == fast.version()
    said, used = trained(tmp_path / "b", *new, str(tmp_path / "b"), "--no-fast")
    assert said.startswith("fast: no (--no-fast)\n" if fast.version() else "fast: no (")
    assert used is None
    _, used = trained(tmp_path / "c", *new, str(tmp_path / "c"), MINIDL_NO_FAST="1")
    assert used is None
    said = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "minidl.train", *new, str(tmp_path / "d"), "--no-fast"],
        cwd=ROOT, capture_output=True, text=True, timeout=100,
    ).stderr  # fmt: skip
    assert "minidl.trainer" in said
    assert "numba" not in said, "what is not used is not loaded: it takes half a second and 100 MB"
    for name in "bc":  # begun without: goes on without
        said, used = trained(tmp_path / name, "--resume", str(tmp_path / name))
        assert "\nnote: " not in said
        assert used is None


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
def test_a_run_that_goes_on_without_says_so(tmp_path):
    new = ["--dataset", str(digits(tmp_path)), "--epochs", "1", "--model", "linear", "--out", str(tmp_path / "a")]
    trained(tmp_path / "a", *new)
    said, _ = trained(tmp_path / "a", "--resume", str(tmp_path / "a"))
    assert "note: started with" not in said
    said, used = trained(tmp_path / "a", "--resume", str(tmp_path / "a"), MINIDL_NO_FAST="1")
    assert f"'fast': '{fast.version()}'" in said
    assert "the last digits may differ" in said
    assert used == fast.version()  # it was done, so nothing has changed


def begun(folder):
    """A Trainer with a run's folder, and the splits it is on."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((300, 1, 8, 8), dtype=np.float32), rng.integers(0, 3, 300)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32, rng=1), nn.ReLU(), nn.Linear(32, 3, rng=2))
    parts = [Examples(images[part], labels[part]) for part in np.split(np.arange(300), [200, 250])]
    data = Splits(*parts, 3, (8, 8))
    return Trainer(net, SGD(net.parameters(), lr=0.1), data, 50, folder=folder), data


def by_hand(trainer):
    """An epoch, its steps driven one by one. Between two of them the caller computes as before."""
    before = fast.version(), using_tf32()
    for _ in trainer.steps():
        assert (fast.version(), using_tf32()) == before
    trainer.finish_epoch()


WAYS = {  # to train one more epoch
    "fit": lambda trainer: trainer.fit(1, verbose=False),
    "train_to": lambda trainer: trainer.train_to(trainer.progress.epoch + 1),
    "steps": by_hand,
}


def computing(monkeypatch, what):
    """A set, to which each training step and each evaluation adds what `what()` says inside of it."""
    seen = set()

    def noted(function):
        def call(*args):
            seen.add(what())
            return function(*args)

        return call

    monkeypatch.setattr(Trainer, "train_step", noted(Trainer.train_step))
    monkeypatch.setattr(trainer, "measure", noted(trainer.measure))
    return seen


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
@pytest.mark.parametrize("way", WAYS)
def test_from_python_too_a_run_begun_with_numpy_goes_on_with_numpy(way, tmp_path, monkeypatch):
    with no_fast():
        whole, data = begun(tmp_path / "whole")
        whole.fit(2, verbose=False)
        begun(tmp_path / "half")[0].fit(1, verbose=False)
    seen = computing(monkeypatch, fast.version)
    loaded = load_run(tmp_path / "half", data=data)
    WAYS[way](loaded.trainer)
    assert seen == {None}
    assert fast.version() is not None  # as before: the block has ended
    assert str(loaded.metrics[-1]["train_loss"]) == str(whole.metrics[-1]["train_loss"])
    for name, weights in whole.model.state_dict().items():
        np.testing.assert_array_equal(loaded.model.state_dict()[name], weights)


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
def test_a_run_begun_inside_a_block_of_no_fast_computes_so_behind_it(tmp_path, monkeypatch):
    with no_fast():
        made, _ = begun(tmp_path / "run")
    seen = computing(monkeypatch, fast.version)
    made.fit(1, verbose=False)
    assert seen == {None}
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["fast"] is None


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
def test_from_python_too_a_run_that_goes_on_without_says_so(tmp_path):
    trainer, data = begun(tmp_path / "run")
    trainer.fit(1, verbose=False)
    with no_fast(), pytest.warns(UserWarning, match="started with .*: the last digits may differ"):
        load_run(tmp_path / "run", data=data).fit(1, verbose=False)
    load_run(tmp_path / "run", data=data).fit(1, verbose=False)  # as it was begun: nothing to say


@pytest.mark.parametrize("way", WAYS)
def test_from_python_too_products_are_rounded_as_the_run_was_begun(way, tmp_path, monkeypatch):
    config = Config(dataset=str(digits(tmp_path)), model="linear", epochs=1, device="cpu", tf32=True)
    Run.create(prepare(config), tmp_path / "run")
    seen = computing(monkeypatch, using_tf32)
    WAYS[way](load_run(tmp_path / "run").trainer)
    assert seen == {True}
    assert not using_tf32()


if __name__ == "__main__":
    nothing_is_left(Path(sys.argv[1]))
