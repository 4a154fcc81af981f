"""Threads that share compiled loops: each part is done exactly once, whoever comes late, leads beside, or sleeps."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason='the extra "fast" is not installed')

from llvmlite import binding as llvm
from llvmlite import ir

from minidl.backend import same_bits
from minidl.fast.loops import team as teams
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.team import ALONE_UNTIL, AWAKE, _Team, _team, now, ready, share
from minidl.fast.loops.words import copy, entry, pause, store, ticks
from minidl.fast.threads import use_threads
from tests.sizes import ROOT


@part
def count_part(i, parts, done, waste):
    done[i] += 1
    begin = ticks()
    while ticks() - begin < waste:
        pause()


@loop
def count(team, parts, done, waste):
    share(team, parts, entry(count_part, (parts, done, waste)))


@part
def failing_part(i, big):
    np.empty(big if i == 2 else 1, np.float64)[0] = 1


@loop
def failing(team, big):
    share(team, 4, entry(failing_part, (big,)))


@part
def list_part(i, order):
    order[0] += 1
    order[order[0]] = i


@loop
def taken(board, word, job, helps, order):
    code, args = entry(list_part, (order,))
    store(board, teams.CODE, code)
    store(board, teams.ARGS, args)
    store(board, teams.PARTS, len(order) - 1)
    store(board, teams.TAKEN, word)
    teams.take(board, job, helps)


@loop
def first(to, source, n):
    copy(to, source, n)


def jobs(threads: int, seed: int, n: int = 2000) -> list[int]:
    """The numbers of jobs of which a part was not done, or twice."""
    rng, wrong = np.random.default_rng(seed), []
    with use_threads(threads):
        for job in range(n):
            parts = int(rng.integers(1, 17))
            done = np.zeros(parts, np.int64)
            count(ready(), parts, done, int(rng.integers(0, 3000)))
            if (done != 1).any():
                wrong.append(job)
    return wrong


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_each_part_is_done_once(threads: int) -> None:
    assert jobs(threads, threads) == []


@pytest.mark.parametrize(
    ("job", "front", "back", "helps", "expected"),
    [
        (7, 0, 0, False, [0, 1, 2, 3, 4]),
        (7, 0, 0, True, [4, 3, 2, 1, 0]),
        (7, 2, 1, False, [2, 3]),  # two are taken from the front, and one from the back
        (7, 2, 1, True, [3, 2]),
        (7, 2, 3, True, []),
        (7, teams.MOST, 0, True, []),  # the job is closed
        (8, 0, 0, False, []),  # another job
    ],
)
def test_a_leader_takes_from_the_front_and_a_helper_from_the_back(
    job: int, front: int, back: int, helps: bool, expected: list[int]
) -> None:
    order, word = np.zeros(6, np.int64), (job << teams.BITS) + (back << teams.HALF) + front
    taken(np.zeros(teams.SIZE, np.int64), word, 7, helps, order)
    assert order[1 : 1 + order[0]].tolist() == expected


def test_more_parts_than_the_board_can_count() -> None:
    done = np.zeros(teams.MOST + 1, np.int64)
    with use_threads(2):
        count(ready(), len(done), done, 0)
    assert (done == 1).all()


def test_several_may_lead() -> None:
    found: list[list[int]] = []
    leaders = [threading.Thread(target=lambda seed=seed: found.append(jobs(3, seed))) for seed in range(4)]
    for leader in leaders:
        leader.start()
    for leader in leaders:
        leader.join()
    assert found == [[]] * 4


def test_helpers_do_something_and_go_to_sleep() -> None:
    done, until, helped = np.zeros(32, np.int64), time.monotonic() + 30, False
    with use_threads(2):
        while not helped and time.monotonic() < until:  # on a busy machine a leader goes on alone for a while
            count(ready(), 16, done, 20_000)
            helped = bool(_team.words[AWAKE])
    assert helped
    time.sleep(0.5)
    assert _team.words[AWAKE] == 0  # nobody looks at the board any more


def test_who_has_waited_long_works_alone_for_a_while() -> None:
    with use_threads(2):
        count(ready(), 4, np.zeros(8, np.int64), 1)
        time.sleep(0.2)
        _team.board[ALONE_UNTIL] = now() + 10**12
        try:
            assert ready()[1] == 0
        finally:
            _team.board[ALONE_UNTIL] = 0
        assert ready()[1] == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_a_part_that_fails_is_an_error_and_the_team_goes_on(threads: int) -> None:
    with use_threads(threads):
        with pytest.raises(MemoryError):
            failing(ready(), 1 << 58)
        failing(ready(), 1)
    assert jobs(threads, 0, 50) == []


def test_copy() -> None:
    for n in range(20):
        to, source = np.zeros(20, np.float32), np.arange(1, 21, dtype=np.float32)
        first(to, source, n)
        assert to.tolist() == [*range(1, n + 1), *[0] * (20 - n)]


@pytest.mark.parametrize("system", ["aarch64-unknown-linux-gnu", "arm64-apple-darwin", "aarch64-pc-windows-msvc"])
@pytest.mark.parametrize(("what", "made_of"), [(pause, "isb"), (ticks, "cntvct_el0")])
def test_on_arm64(what: Any, made_of: str, system: str) -> None:
    """Without inline assembly: numba loads no parser for it there, so it ended the process."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module()
    module.triple = system
    signature, generate = what._defn(None)
    kind = ir.VoidType() if what is pause else ir.IntType(64)
    builder = ir.IRBuilder(ir.Function(module, ir.FunctionType(kind, []), "made").append_basic_block())
    result = generate(SimpleNamespace(get_dummy_value=lambda: None), builder, signature, ())
    builder.ret_void() if what is pause else builder.ret(result)
    assert " asm " not in str(module)
    machine = llvm.Target.from_triple(system).create_target_machine()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    assert made_of in machine.emit_assembly(parsed).lower()
    assert machine.emit_object(parsed)


FORK = """
import os
from tests.test_team import jobs
assert jobs(2, 1, 20) == []
child = os.fork()
if child == 0:
    os._exit(0 if jobs(2, 2, 200) == [] else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_a_team_of_its_own() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], cwd=ROOT, check=True)


def test_same_bits_holds_blas_meanwhile() -> None:
    with same_bits, use_threads(2):
        assert jobs(2, 3, 20) == []


def test_without_another_thread_one_computes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    team = _Team()
    with use_threads(3):
        done = np.zeros(6, np.int64)
        count(team.ready(), 6, done, 0)
    assert done.tolist() == [1] * 6
