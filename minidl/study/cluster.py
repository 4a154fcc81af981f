"""Beyond one machine: the same runs on a Dask cluster, whose workers need minidl and the data set.

A worker that dies costs only the time of its own runs: the scheduler hands them to another.
"""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import ExitStack

PATIENCE = 10  # seconds to wait for the scheduler


def connect(address: str, stack: ExitStack) -> tuple[Executor, int]:
    """The cluster's executor, and how many runs to hand to it at a time; the connection is closed with the stack.

    Raises ValueError if the extra is missing, the address is none, or no scheduler answers.
    """
    try:
        from distributed import Client
        from distributed.comm.addressing import get_address_host_port
    except ImportError as error:
        raise ValueError(f'--cluster needs Dask ({error}): pip install "minidl[cluster]"') from error
    try:  # before a Client, which would wait and print a traceback of its own
        get_address_host_port(address if "://" in address else f"tcp://{address}", strict=True)  # type: ignore[no-untyped-call, unused-ignore]
    except ValueError as error:
        message = f"--cluster {address} is not a scheduler's address ({error}): give it as tcp://HOST:PORT"
        raise ValueError(message) from error
    try:
        client = stack.enter_context(Client(address, timeout=PATIENCE, set_as_default=False))  # type: ignore[no-untyped-call, unused-ignore]
    except (OSError, TimeoutError, ValueError) as error:
        message = f"no Dask scheduler answers at {address} ({error}): start one with `dask scheduler`"
        raise ValueError(message) from error
    threads = sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())
    return client.get_executor(pure=False), 2 * max(1, threads)  # the next run is already there when one is done
