"""What does work leave that is killed, or whose disk is full?

    python benchmarks/faults.py [--times 200] [--only train inspect ...]

Each task runs on tiny data in a forked process. The process is killed with SIGKILL at a random
moment of its usual time, or its disk, a small tmpfs or a limit on the size of files, has room for
a random part of what it writes. Then what it left is checked, the task runs again undisturbed, and
the result is checked. A row of the table counts how the tasks ended and what was wrong. The JSON
keeps the rows of tasks that were not run. Linux only.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from draem.errors import DraemError
from fault_tasks import TASKS, Task, make_inputs
from machine import earlier, machine, write_result

ENDED, REFUSED, CRASHED = 0, 3, 4
"""How a task may end: done, with an error of draem's, or with any other."""
_SLOWEST = 120
"""Seconds after which a task hangs."""


def main() -> None:
    """Disturb every task, print and write the table."""
    arguments = _arguments()
    random.seed(arguments.seed)
    print(f"{'fault':<10}{'task':<12}{'times':>6}{'ended':>7}{'stopped':>9}{'wrong':>7}")
    rows: dict[str, dict[str, Any]] = earlier("faults", "rows") or {}
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        inputs = make_inputs(Path(folder) / "inputs")
        for name in arguments.only or TASKS:
            task = TASKS[name](inputs)
            seconds, nbytes = _undisturbed(task, Path(folder) / "first")
            for fault, times in (("kill", arguments.times), ("disk full", arguments.full)):
                row = _row(fault, name, task, Path(folder), seconds, nbytes, times)
                wrong += len(row["wrong"])
                rows[f"{name}, {fault}"] = row
                write_result("faults", {"benchmark": "faults", "rows": rows, "machine": machine()})
    sys.exit(bool(wrong))


def _row(
    fault: str, name: str, task: Task, folder: Path, seconds: float, nbytes: int, times: int
) -> dict[str, Any]:
    ended: Counter[str] = Counter()
    wrong: list[str] = []
    started = time.perf_counter()
    for number in range(times):
        place = folder / "work"
        try:
            place.mkdir(parents=True)
            if fault == "kill":
                task.prepare(place)
                ended["ended" if _killed(task, place, seconds) else "stopped"] += 1
                task.check(place, whole=False)
            else:
                with _small_disk(task, place, random.randrange(2 * nbytes)) as limit:
                    status = _forked(task, place, limit)
                    ended["ended" if status == ENDED else "stopped"] += 1
                    if status not in (ENDED, REFUSED):
                        raise AssertionError(f"ended with {status}, not with an error of draem's")
                    task.check(place, whole=status == ENDED)
                    shutil.copytree(place, folder / "copy")  # on a disk with room
                place = folder / "copy"
            if _forked(task, place) != ENDED:
                raise AssertionError("the next start fails")
            task.check(place, whole=True)
        except Exception:
            wrong.append(f"{number}: {traceback.format_exc(limit=1)}")
        for each in ("work", "copy"):
            shutil.rmtree(folder / each, ignore_errors=True)
    print(
        f"{fault:<10}{name:<12}{times:>6}{ended['ended']:>7}{ended['stopped']:>9}{len(wrong):>7}"
        f"   {time.perf_counter() - started:.0f} s",
        flush=True,
    )
    for text in wrong[:3]:
        print(text, file=sys.stderr)
    return {
        "times": times,
        "ended": ended["ended"],
        "stopped": ended["stopped"],
        "wrong": wrong,
    }


def _undisturbed(task: Task, place: Path) -> tuple[float, int]:
    """Seconds that a task takes, the second time, and bytes that are there then."""
    for _ in range(2):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        task.prepare(place)
        started = time.perf_counter()
        if _forked(task, place) != ENDED:
            raise SystemExit("the task fails without any fault")
        seconds = time.perf_counter() - started
    task.check(place, whole=True)
    task.remember(place)
    nbytes = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    return seconds, nbytes


def _start(task: Task, place: Path, limit: int | None = None) -> int:
    """Run a task in a process of its own; returns its number."""
    process = os.fork()
    if process:
        return process
    status = CRASHED
    try:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        tempfile.tempdir = str(place)
        task.run(place)
        status = ENDED
    except DraemError:
        status = REFUSED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _forked(task: Task, place: Path, limit: int | None = None) -> int:
    """Run a task in a process of its own; returns how it ended."""
    process, started = _start(task, place, limit), time.perf_counter()
    while time.perf_counter() - started < _SLOWEST:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise AssertionError(f"still running after {_SLOWEST} s")


def _killed(task: Task, place: Path, seconds: float) -> bool:
    """Kill a task at a random moment; whether it had ended before."""
    process = _start(task, place)
    time.sleep(random.uniform(0, 1.05 * seconds))
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status) == ENDED


@contextmanager
def _small_disk(task: Task, place: Path, nbytes: int) -> Iterator[int | None]:
    """A prepared place with room for so many bytes more.

    Gives a limit on the size of files if no disk can be mounted.
    """
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        task.prepare(place)
        yield nbytes
        return
    try:
        task.prepare(place)
        size = shutil.disk_usage(place).used + nbytes
        subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)
        yield None
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=200, help="kills of each task")
    parser.add_argument("--full", type=int, default=40, help="full disks of each task")
    parser.add_argument("--only", nargs="+", choices=TASKS)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
