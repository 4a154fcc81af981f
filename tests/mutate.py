"""Every file that minidl writes and reads again, damaged in every way, before each of its readers.

    python -m tests.mutate --n 10000 --seed 7

A try is one mutation of one file, read by one program. It must come out right: with the same bits as from the sound
file, or refused in one line, or put right with a note; a file that was edited and signed again may give another answer,
but no traceback and no hang. All else is a fault. What is flipped, cut, exchanged or edited is drawn from the seed.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import io
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from minidl import compare, load_run, report, train
from minidl.data import load_mnist, read_idx, write_idx
from minidl.data.proof import signed
from minidl.nn import Linear
from minidl.predict import main as predict
from minidl.study import STUDIES
from minidl.study.runs import perform
from minidl.study.store import PACK, Store
from minidl.study.study import Plan
from minidl.trace import __main__ as trace
from minidl.trace.pack import pack, unpack
from minidl.trace.page import _BLOB
from minidl.training.checkpoint import load_checkpoint, save_checkpoint
from minidl.training.config import Config, prepare
from minidl.training.run import Options, Run
from minidl.training.tried import Tried
from minidl.weights import CHECKSUM, HEADER, read_tensors, save_weights
from tests.commands import tiny_dataset, without_times

SECONDS = 60  # longer counts as hanging, on a busy machine too
SEARCH = "0123456789abcdef"  # the id of a search
NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1, 1.5, 10**7, 10**30, -(10**400), 1e308, float("nan"), float("inf"), "", "x", "x" * 5000, "🦊",
    [], [[]], {}, {"": 0}, [None] * 3,
)  # fmt: skip


# ---- mutations ----


def flip(data: bytes, rng: random.Random) -> bytes:
    """One to eight bits."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def splice(data: bytes, rng: random.Random) -> bytes:
    """Bytes overwritten, put in, left out, or moved."""
    a, n = rng.randrange(len(data)), rng.choice((1, 2, 4, 8, 100))
    noise = rng.choice((bytes(n), rng.randbytes(n), data[rng.randrange(len(data)) :][:n]))
    return rng.choice((data[:a] + noise + data[a + n :], data[:a] + noise + data[a:], data[:a] + data[a + n :]))


def cut(data: bytes, rng: random.Random) -> bytes:
    """Other lengths."""
    at = rng.randrange(len(data))
    return rng.choice((b"", data[:at], data[at:], data + data, data + bytes(rng.choice((1, 8, 999))), data[:8]))


def word(data: bytes, rng: random.Random) -> bytes:
    """One character of the text at the beginning, where headers are, becomes another that is plausible there."""
    for _ in range(100):
        at = rng.randrange(min(len(data), 6000))
        if 32 < data[at] < 127:
            return data[:at] + rng.choice("0123456789-.eE\"',:{}[]aFI").encode() + data[at + 1 :]
    return flip(data, rng)


def edited(value: Any, rng: random.Random) -> Any:
    """A JSON value with one place changed, removed or added."""
    value = deepcopy(value)
    spots = list(places(value))
    if not spots:
        return rng.choice(NASTY)
    holder, key = rng.choice(spots)
    old = holder[key]
    how = rng.randrange(4)
    if how == 0 and isinstance(holder, dict):
        del holder[key]
    elif how == 1 and isinstance(old, (int, float)) and not isinstance(old, bool):
        holder[key] = old + rng.choice((1, -1, 0.001, old, 1000))
    elif how == 2 and isinstance(holder, dict):
        holder[rng.choice(("x", "", "steps", "__class__"))] = rng.choice(NASTY)
    else:
        holder[key] = rng.choice(NASTY)
    return value


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside a JSON value; of long lists only the first and the last."""
    keys: list[Any] = list(value) if isinstance(value, dict) else []
    if isinstance(value, list):
        keys = sorted({0, len(value) - 1}) if value else []
    for key in keys:
        yield value, key
        yield from places(value[key])


def other_array(array: Any, rng: random.Random) -> Any:
    """An array of another dtype or shape, or with another number in it."""
    how = rng.randrange(5)
    if how == 0:
        return array.astype(rng.choice((np.int32, np.int8, np.float16, np.float64, np.uint8, bool)))
    if how == 1 and array.ndim:
        return array[: rng.randrange(len(array) + 1)]
    if how == 2:
        return array.reshape(1, *array.shape)
    array = np.array(array)
    if array.size:
        number = rng.choice((np.nan, np.inf, 1e30, -1, 0))
        with np.errstate(all="ignore"):
            array.reshape(-1)[rng.randrange(array.size)] = np.array(number).astype(array.dtype)
    return array


# ---- kinds of files ----


class JsonFile:
    """A file of JSON, with or without a checksum of its own."""

    def edit(self, data: bytes, sign: bool, rng: random.Random) -> bytes:
        content = edited(json.loads(data), rng)
        if sign and isinstance(content, dict) and "sha256" in json.loads(data):
            content = signed(content)
        return json.dumps(content).encode()


class JsonLines:
    """A file with a JSON object a line."""

    def edit(self, data: bytes, sign: bool, rng: random.Random) -> bytes:
        lines = data.splitlines() or [b"{}"]
        at = rng.randrange(len(lines))
        how = rng.randrange(4)
        lines[at] = json.dumps(edited(json.loads(lines[at]), rng)).encode()
        if how == 0:
            del lines[at]
        if how == 1:
            lines.append(lines[0])
        return b"\n".join(lines)


class CheckpointFile:
    """A checkpoint: safetensors with JSON in its metadata."""

    def edit(self, data: bytes, sign: bool, rng: random.Random) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "c"
            path.write_bytes(data)
            header, tensors = read_tensors(path)
            state = json.loads(header[HEADER])
            if rng.random() < 0.4:
                name = rng.choice(sorted(tensors))
                tensors[name] = other_array(tensors[name], rng)
            else:
                state = edited(state, rng)
            if not sign:
                return save(tensors, metadata={HEADER: json.dumps(state), CHECKSUM: header[CHECKSUM]})
            checkpoint = load_checkpoint(path)
            weights = {name: tensors[name] for name in checkpoint.model}
            vectors = {name[10:]: value for name, value in tensors.items() if name.startswith("optimizer.")}
            scalars = state.pop("optimizer", {})
            save_checkpoint(path, weights, {"vectors": vectors, "scalars": scalars}, state)
            return path.read_bytes()


class WeightsFile:
    """Safetensors without JSON."""

    def edit(self, data: bytes, sign: bool, rng: random.Random) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "w"
            path.write_bytes(data)
            header, tensors = read_tensors(path)
            name = rng.choice(sorted(tensors))
            tensors[name] = other_array(tensors[name], rng)
            if sign:
                save_weights(path, tensors)
                return path.read_bytes()
            return save(tensors, metadata=header)


class PackFile:
    """A study's pack: compressed, a signed record a line."""

    def edit(self, data: bytes, sign: bool, rng: random.Random) -> bytes:
        content = edited(json.loads(gzip.decompress(data)), rng)
        if sign and isinstance(content, dict):
            content = signed(content)
        return gzip.compress(json.dumps(content).encode() + b"\n")


class PageFile:
    """A replay page: recordings in HTML."""

    def edit(self, data: bytes, sign: bool, rng: random.Random) -> bytes:
        text = data.decode()
        (blob,) = _BLOB.findall(text)
        if not sign:
            at = rng.randrange(len(blob))
            return text.replace(blob, blob[:at] + rng.choice("Aa+/=!\n") + blob[at + 1 :]).encode()
        packed = pack(edited(unpack(base64.b64decode(blob)), rng))
        return text.replace(blob, base64.b64encode(packed).decode()).encode()


def dtype(data: bytes, rng: random.Random) -> bytes:
    """Another dtype in a safetensors header."""
    spots = [i for i in range(min(len(data), 20_000)) if data.startswith(b'"dtype":"', i)]
    if not spots:
        return word(data, rng)
    at = rng.choice(spots) + 9
    end = data.index(b'"', at)
    name = rng.choice(("I32", "U32", "F16", "BF16", "F64", "I8", "BOOL", "F8_E4M3", "F8_E5M2", "I64", "X", ""))
    found = data[:at] + name.encode() + data[end:]
    longer = len(found) - len(data)
    return (int.from_bytes(data[:8], "little") + longer).to_bytes(8, "little") + found[8:]


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, splice, cut, word, dtype)


# ---- readers ----


def study_record(bench: Bench, folder: str = "study") -> tuple[int, str, str]:
    """(status, what it holds, what is said) of the study's store."""
    store = Store(bench.root / folder)
    said = "".join(f"study: error: {line}\n" for line in store.damaged[:1])  # a line for each that is damaged
    return int(bool(said)), json.dumps(store.all(), sort_keys=True), said


def weights(bench: Bench) -> tuple[int, str, str]:
    """The same of a file of weights alone, which a model loads."""
    model = Linear(3, 2)
    try:
        model.load(bench.root / "net.safetensors")
    except (ValueError, KeyError, TypeError) as error:
        return 2, "", f"load: error: {error}"
    return 0, repr([(name, array.dtype, array.tolist()) for name, array in model.state_dict().items()]), ""


def loaded(bench: Bench) -> tuple[int, str, str]:
    """The same of a run in Python: its probabilities, its record, and the numbers of its Trainer."""
    try:
        run = load_run(bench.root / "a")
        answer = [run.predict(read_idx(bench.digits)).tolist(), run.metrics, run.summary, run.trainer.evaluate()]
    except ValueError as error:
        return 2, "", f"load_run: error: {error}"
    return 0, repr(answer), ""


def compared(bench: Bench) -> tuple[int, str, str]:
    """The same of minidl.compare; its notes on files that say something else are no answer."""
    status, out, err = run(compare.main, bench.root / "a", bench.root / "b")
    return status, "\n".join(line for line in out.splitlines() if not line.startswith("note")), err


def reported(bench: Bench) -> tuple[int, str, str]:
    """The same of minidl.report: the page but for its notes."""
    page = bench.root / "report.html"
    page.unlink(missing_ok=True)
    status, _, err = run(report.main, bench.root / "a", "--out", page)
    lines = page.read_text().splitlines() if page.exists() else []
    return status, "\n".join(line for line in lines if "Note: " not in line), err


def tuned(bench: Bench) -> tuple[int, str, str]:
    """The same of what a search has tried, as tune takes it."""
    try:
        tried = Tried(bench.root / "tried.json", SEARCH, named=True)
    except ValueError as error:
        return 2, "", f"tune: error: {error}"
    return 0, repr(tried._done), ""


DIRECT: dict[str, Callable[[Bench], tuple[int, str, str]]] = {
    "study": study_record, "pack": lambda bench: study_record(bench, "packed"), "weights": weights, "loaded": loaded,
    "compare": compared, "report": reported, "tune": tuned,
}  # fmt: skip


class Hang(BaseException):
    """A program that has taken too long."""


def run(main: Callable[[list[str]], int], *args: object) -> tuple[int, str, str]:
    """(status, stdout, stderr) of a command, in this process."""
    out, err = io.StringIO(), io.StringIO()

    def too_long(number: int, frame: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            try:
                status = main([str(a) for a in args])
            except SystemExit as end:
                status = int(end.code or 0)
    finally:
        signal.alarm(0)
    return status, out.getvalue(), err.getvalue()


def made_folder(path: Path) -> Path:
    """The folder, made."""
    path.mkdir()
    return path


class Bench:
    """Two finished runs, one that was cut off, their pages and weights; what is mutated is put back after each try."""

    def __init__(self, root: Path) -> None:
        self.root = root
        data = tiny_dataset(root / "data", 60)
        self.digits = root / "digits.idx"
        write_idx(self.digits, load_mnist(name=str(data)).test_images[:3])
        common = ["--dataset", data, "--model", "linear", "--epochs", 2, "--batch-size", 30, "--no-fast"]
        for name, seed in (("a", 0), ("b", 1)):
            options = ["--seed", seed, "--switch", "step:2", "--lr-after", "projected", "--out", root / name]
            status, out, err = run(train.main, *common, *options, "--trace", root / f"{name}.html")
            assert status == 0, out + err
        self.cut_off("a", "half")
        self.cut_off("b", "half-b")
        self.reference = {name: self.outcome(name) for name in ("a", "half")}
        self.predicted = run(predict, root / "a", self.digits)
        assert self.predicted[0] == 0, self.predicted
        Linear(3, 2, rng=np.random.default_rng(0)).save(root / "net.safetensors")
        Linear(3, 2, rng=np.random.default_rng(1)).save(root / "net-b.safetensors")
        self.make_study()
        Store(self.root / "study").pack().replace(made_folder(self.root / "packed") / PACK)
        Store(self.root / "study-b").pack().replace(made_folder(self.root / "packed-b") / PACK)
        for name, search in (("tried", SEARCH), ("tried-b", SEARCH[::-1])):
            tried = Tried(root / f"{name}.json", search)
            for lr in (0.1, 0.01):
                tried.put({"lr": lr, "lr_sgd": None, "switch_at": 0.5}, 2, 0.75, 0.5 + lr)
        self.direct = {name: reader(self) for name, reader in DIRECT.items()}
        assert not any(status for status, _, _ in self.direct.values()), self.direct
        self.kept = root / "kept"
        for name in ("a", "half"):
            shutil.copytree(root / name, self.kept / name)

    def cut_off(self, name: str, half: str) -> None:
        """The same run, as it stood after its third step."""
        source = load_checkpoint(self.root / name / "checkpoint.safetensors").state
        job = prepare(Config(**source["config"]))
        made = Run.create(job, self.root / half, Options(no_fast=True))
        steps = job.trainer.steps()
        next(steps)
        made.save()

    def make_study(self) -> None:
        """A study's folder with one record, and another record beside it."""
        store, other = Store(self.root / "study"), Store(self.root / "study-b")
        plan = Plan(STUDIES["quick"], load_mnist(name="mnist5k"), store)
        small = {"train_images": 60, "val_images": 60, "epochs": 1, "filters": (), "hidden": (4,), "looks": 2}
        first, second = (replace(trial, **small, seed=seed) for seed, trial in enumerate(plan.missing()[:2]))
        store.put(first, perform(first))
        other.put(second, perform(second))
        (self.root / "study" / "runs" / f"{first.key}.json").rename(self.root / "record.json")
        (self.root / "study" / "runs" / f"{first.key}.json").symlink_to(self.root / "record.json")
        (self.root / "study-b" / "runs" / f"{second.key}.json").rename(self.root / "record-b.json")

    def outcome(self, name: str) -> dict[str, Any]:
        """All of a run's folder but times, after it was resumed."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "r"
            shutil.copytree(self.root / name, copy)
            status, out, err = run(train.main, "--resume", copy)
            assert status == 0, out + err
            return self.content(copy)

    def content(self, folder: Path) -> dict[str, Any]:
        """What a run's folder says."""
        c = load_checkpoint(folder / "checkpoint.safetensors")
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return {
            "weights": {name: array.tobytes() for name, array in c.model.items()},
            "metrics": [without_times(json.loads(line)) for line in lines],
            "summary": without_times(json.loads((folder / "summary.json").read_text())),
            "config": json.loads((folder / "config.json").read_text()),
        }

    def restore(self) -> None:
        for name in ("a", "half"):
            shutil.rmtree(self.root / name)
            shutil.copytree(self.kept / name, self.root / name)


def refused(status: int, err: str) -> bool:
    """One line of error, or two where the second points into the first."""
    lines = err.strip().splitlines()
    return status in (1, 2) and 1 <= len(lines) <= 2 and ": error: " in lines[0] and "Traceback" not in err


def judge(bench: Bench, reader: str, sign: bool) -> str:
    """What came of it: "exact", "refused", "put right", "another answer" (where signed); or a fault, in words."""
    if reader == "predict":
        status, out, err = run(predict, bench.root / "a", bench.digits)
        right = (status, out) == bench.predicted[:2]
    elif reader in bench.direct:
        status, out, err = DIRECT[reader](bench)
        right = (status, out, err) == bench.direct[reader]
    elif reader == "trace":
        status, out, err = run(
            trace.main, bench.root / "a.html", bench.root / "b.html", "--out", bench.root / "both.html"
        )
        right = status == 0 and (bench.root / "both.html").exists()
    else:
        name = "a" if reader == "finished" else "half"
        status, out, err = run(train.main, "--resume", bench.root / name)
        right = status == 0 and bench.content(bench.root / name) == bench.reference[name]
    if refused(status, err):
        return "refused"
    if "Traceback" in err or status not in (0, 1, 2):
        return f"fault: status {status}: {err[-300:]}"
    if right:
        return "put right" if "rewritten from the checkpoint" in out else "exact"
    return "another answer" if sign and status == 0 else f"fault: silently another answer: {out[-300:]}{err[-200:]}"


FILES: dict[str, tuple[Any, str, str, tuple[str, ...]]] = {  # kind, file, another one, readers
    "checkpoint": (CheckpointFile(), "a/checkpoint.safetensors", "b/checkpoint.safetensors",
        ("predict", "finished", "loaded", "compare", "report")),
    "checkpoint of a run that was cut off": (
        CheckpointFile(), "half/checkpoint.safetensors", "half-b/checkpoint.safetensors", ("resume",),
    ),
    "summary.json": (JsonFile(), "a/summary.json", "b/summary.json", ("finished", "compare", "report", "loaded")),
    "config.json": (JsonFile(), "a/config.json", "b/config.json", ("finished", "predict")),
    "metrics.jsonl": (JsonLines(), "a/metrics.jsonl", "b/metrics.jsonl", ("finished", "compare", "report")),
    "study's record": (JsonFile(), "record.json", "record-b.json", ("study",)),
    "study's pack": (PackFile(), "packed/runs.jsonl.gz", "packed-b/runs.jsonl.gz", ("pack",)),
    "tune's results": (JsonFile(), "tried.json", "tried-b.json", ("tune",)),
    "weights alone": (WeightsFile(), "net.safetensors", "net-b.safetensors", ("weights",)),
    "replay page": (PageFile(), "a.html", "b.html", ("trace",)),
}  # fmt: skip


def one_try(bench: Bench, name: str, rng: random.Random) -> tuple[str, str]:
    """(how it was mutated, what came of it)."""
    kind, path, other, readers = FILES[name]
    file = bench.root / path
    whole = file.read_bytes()
    how = rng.choice((*BYTES, "swapped", "edited", "signed", "signed", "missing"))
    sign = how == "signed"
    told = how if isinstance(how, str) else how.__name__
    try:
        if how == "missing":
            file.unlink()
            sign = name.startswith(("study's", "tune's"))  # it is made again
        elif how == "swapped":
            file.write_bytes((bench.root / other).read_bytes())
            sign = any(
                word in name for word in ("checkpoint", "page", "weights", "pack")
            )  # whole: it answers as that one does
        else:
            file.write_bytes(kind.edit(whole, sign, rng) if isinstance(how, str) else how(whole, rng))
        sign = sign or name == "replay page"  # what of a page is not the recording is for the eye
        verdict = judge(bench, rng.choice(readers), sign)
    except Hang:
        verdict = f"fault: no end after {SECONDS} s"
    except Exception:
        verdict = f"fault: {traceback.format_exc()[-1500:]}"
    finally:
        file.write_bytes(whole)
        bench.restore()
    return told, verdict


def mutate(n: int, seed: int, root: Path, files: tuple[str, ...] = tuple(FILES)) -> tuple[Counter[str], list[str]]:
    """n tries in turn over the files; returns how often each outcome came, and the faults."""
    bench, counts, faults = Bench(root), Counter[str](), list[str]()
    for i in range(n):
        name = files[i % len(files)]
        how, verdict = one_try(bench, name, random.Random(f"{seed}-{i}"))
        outcome = verdict.split(":")[0]
        counts[f"{name}, {how}: {outcome}"] += 1
        counts[outcome] += 1
        if outcome == "fault":
            faults.append(f"try {i}: {name}, {how}: {verdict}")
    return counts, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="how many tries (default: 10000)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="which ones (default: others each time)")
    parser.add_argument("--file", choices=FILES, action="append", help="this kind of file only")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts, faults = mutate(options.n, options.seed, Path(folder), tuple(options.file or FILES))
    for outcome, count in sorted(counts.items()):
        print(f"{count:8} {outcome}")
    print(f"{options.n} tries in {time.perf_counter() - started:.0f} s, seed {options.seed}: {len(faults)} faults")
    print("\n".join(faults[:20]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
