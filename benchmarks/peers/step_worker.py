"""What every side of `training_step.py` shares: a process that makes training steps when asked.

Needs torch alone, so that a peer's interpreter can run it. A command is a line on standard input,
its answer a line of JSON on standard output.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Json = dict[str, Any]


def options() -> Json:
    """What the benchmark asks for; sets the threads, too."""
    asked: Json = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    torch.backends.cudnn.benchmark = asked["cudnn_benchmark"]
    return asked


def serve(asked: Json, step: Callable[[], object], more: dict[str, Callable[[], Json]]) -> None:
    """Answer `steps` (their seconds), `memory` (peak since the start), `tensors` and `more`.

    Args:
        asked: From `options`.
        step: Makes one training step.
        more: Further commands.
    """
    device = torch.device(asked["device"])
    before = _start_of_memory(device)

    def steps() -> Json:
        taken = []
        for _ in range(asked["steps"]):
            synchronise(device)
            started = time.perf_counter()
            step()
            synchronise(device)
            taken.append(time.perf_counter() - started)
        return {"seconds": taken}

    commands = {
        "steps": steps,
        "memory": lambda: _memory(device, before),
        "tensors": lambda: {"peak": _peak_of_tensors(step)},
        **more,
    }
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(commands[line.strip()]()), flush=True)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_pictures(count: int, side: int) -> torch.Tensor:
    """Smooth random pictures, (count, 3, side, side) uint8."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 1)
    return (255 * smooth).to(torch.uint8)


def _start_of_memory(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    # What loading and preparing have freed goes back, and Linux forgets the peak so far.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _resident("VmRSS")


def _memory(device: torch.device, before: int) -> Json:
    """The peak, and by how much it lies above what was there before the first step, in bytes."""
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")
    return {"peak": peak, "above_start": peak - before}


def _peak_of_tensors(step: Callable[[], object]) -> int:
    """The most bytes that tensors made in one step take on the CPU at the same time."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    events = [
        each for each in profile.profiler.kineto_results.events() if each.name() == "[memory]"
    ]
    held = peak = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))
