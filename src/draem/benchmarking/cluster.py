"""The runs of a benchmark on a Ray cluster, each on a worker of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from draem.benchmarking.runs import Plan, Run, perform
from draem.errors import TrainingInterrupted, missing_dependency

Result = dict[str, Any]


def perform_on_cluster(
    runs: Sequence[Run], plan: Plan, address: str
) -> Iterator[tuple[Run, Result | None]]:
    """Perform runs in whatever order the cluster does; one whose worker or node dies goes on.

    Args:
        runs: Which.
        plan: Its folders are paths that every node sees.
        address: As `ray.init` takes it.

    Yields:
        A run that waits or is under way, with None; and each run once with its result.

    Raises:
        MissingDependencyError: Ray is not installed.
        TrainingInterrupted: Ctrl-C was pressed; the runs can be gone on with.
    """
    try:
        import ray
        from ray.exceptions import RayError
    except ImportError as error:
        raise missing_dependency(error, "a benchmark on a cluster", "ray", "ray[data]") from error
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, log_to_driver=False)
    # A process performs one run, so that its memory can be told.
    task = ray.remote(
        num_cpus=1, num_gpus=int(plan.device.startswith("cuda")), max_calls=1, max_retries=3
    )(perform)
    waiting = {task.remote(run, plan): run for run in runs}
    try:
        while waiting:
            yield next(iter(waiting.values())), None
            (done, *_), _ = ray.wait(list(waiting))
            run = waiting.pop(done)
            try:
                yield run, ray.get(done)
            except RayError as error:
                reason = str(error).strip().splitlines()[-1]
                yield run, asdict(run) | {"status": "failed", "error": f"on the cluster: {reason}"}
    except KeyboardInterrupt:
        raise TrainingInterrupted(
            "the benchmark was stopped", hint="Start it again with the same command"
        ) from None
    finally:
        for left in waiting:
            ray.cancel(left, force=True)
        if started:
            ray.shutdown()
