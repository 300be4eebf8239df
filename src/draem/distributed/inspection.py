"""Inspect images on a Ray cluster: Ray Data reads them, and a pool of actors runs the model."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from draem.errors import ImageError, InputError, OutputError, missing_dependency
from draem.files import make_folder
from draem.imaging.decode import IMAGE_SUFFIXES, decode_image
from draem.imaging.encode import encode_png, map_to_uint16
from draem.inspection.folder import result_line
from draem.inspection.inspector import Inspection, Inspector
from draem.inspection.loading import load, model_path
from draem.model_file import read_verified_card

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

_BATCH = 16
_MEMORY = Path("/dev/shm")
_BLOCK = 64
_MOST_BLOCKS = 4096
_SHARE = 0.9
"""Of a CPU that a thread of a worker is counted as; the rest is for reading and writing."""
_KEPT = 0.05
_WAITS = {"num_cpus": 0.1}
"""Reading and writing mostly wait; a whole CPU for each, Ray's default, would cost a worker."""


def image_files(paths: str | Sequence[str]) -> Dataset:
    """Read image files from folders or object storage.

    Args:
        paths: Files or folders: paths that every node sees, or URLs such as `s3://parts/line-1/`
            that pyarrow or fsspec opens.

    Returns:
        A data set with the columns `path` and `bytes`; files of other kinds are left out.

    Raises:
        MissingDependencyError: Ray is not installed.
    """
    data = _ray_data()
    endings = [suffix[1:] for suffix in IMAGE_SUFFIXES]
    extensions = [*endings, *map(str.upper, endings)]
    read: Dataset = data.read_binary_files(
        paths,
        include_paths=True,
        file_extensions=extensions,
        ignore_missing_paths=False,
        ray_remote_args=_WAITS,
    )
    return read


def inspect(
    dataset: Dataset,
    model: str | Path,
    *,
    workers: int | None = None,
    threads: int = 1,
    min_area: int = 0,
    maps: bool = False,
) -> Dataset:
    """Inspect images on the cluster that this process is connected to.

    Each worker is a process with a model of its own. What a lost worker or node had not finished is
    inspected by another, so that each image has exactly one row.

    Args:
        dataset: Images: a column `bytes` with files as they are, and `path` with their names; or
            `path` alone, with files that every node can open.
        model: A model file, or the folder of a run, at a path that every node sees.
        workers: How many; as many as there is work and room for if omitted.
        threads: CPU threads of each; the cluster counts them as its CPUs.
        min_area: As in `load`.
        maps: Add the column `map`: the anomaly map as a 16-bit PNG file, 65535 standing for 1.

    Returns:
        A data set, computed when it is read or written: `image`, `anomaly_score`, `threshold`,
        `is_anomalous`, `decision`, `regions` and `error`, as `inspect_files` writes them. An image
        that cannot be read has an error, and nothing else.

    Raises:
        InputError: The data set has neither column, or a number is out of range.
        ModelFileError: There is no such model, or it is damaged.
        MissingDependencyError: Ray is not installed.
    """
    data = _ray_data()
    if threads < 1 or (workers is not None and workers < 1):
        raise InputError("the number of workers and threads must be positive")
    known = dataset.schema(fetch_if_missing=False)
    if known is not None and not {"bytes", "path"} & set(known.names):
        raise InputError(
            "the data set has no images",
            expected="a column `bytes`, or `path`",
            found=", ".join(known.names),
        )
    file = model_path(model).resolve()
    read_verified_card(file)
    most = workers or max(1, _cpus() // threads)
    inspected: Dataset = dataset.map_batches(
        _Worker,
        fn_constructor_args=(str(file), threads, min_area, maps),
        batch_size=_BATCH,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=_SHARE * threads,
        compute=data.ActorPoolStrategy(min_size=workers or 1, initial_size=most, max_size=most),
    )
    return inspected


class _Worker:
    """One of the pool: a model, and batches of images for it.

    Args:
        model: The model file.
        threads: How many it may use.
        min_area: As in `load`.
        maps: Whether rows have maps.
    """

    def __init__(self, model: str, threads: int, min_area: int, maps: bool) -> None:
        self._inspector: Inspector = load(model, threads=threads, min_area=min_area)
        self._maps = maps

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Inspect a batch; a row for each image, in order."""
        rows = batch.to_pylist()
        images = [_decoded(row) for row in rows]
        usable = [image for image in images if not isinstance(image, str)]
        found = iter(self._inspector.inspect(usable))
        lines = [
            _line(row, image if isinstance(image, str) else next(found), self._maps)
            for row, image in zip(rows, images, strict=True)
        ]
        return _table(lines, self._maps)


def _decoded(row: dict[str, Any]) -> NDArray[np.uint8] | str:
    """A row's image, or why it cannot be read."""
    name, content = str(row.get("path", "")), row.get("bytes")
    try:
        if content is None:
            return decode_image(Path(name))
        with TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
            path = Path(folder) / f"image{Path(name).suffix}"
            path.write_bytes(content)
            try:
                return decode_image(path)
            except ImageError as error:
                return str(error).replace(str(path), name)
    except ImageError as error:
        return str(error)


def _line(row: dict[str, Any], found: Inspection | str, maps: bool) -> dict[str, object]:
    line: dict[str, object] = {"image": str(row.get("path", ""))}
    if isinstance(found, str):
        return line | {"error": found}
    line |= result_line(found)
    if maps:
        line["map"] = encode_png(map_to_uint16(found.anomaly_map))
    return line


def _table(lines: list[dict[str, object]], maps: bool) -> pa.Table:
    """Rows of one type whatever is in them, so that all files of a result have one schema."""
    import pyarrow as pa

    region = pa.struct(
        [
            ("box", pa.list_(pa.int32())),
            ("area", pa.int64()),
            ("peak", pa.float64()),
            ("mean", pa.float64()),
            ("contour", pa.list_(pa.list_(pa.float64()))),
        ]
    )
    fields = [
        ("image", pa.string()),
        ("anomaly_score", pa.float64()),
        ("threshold", pa.float64()),
        ("is_anomalous", pa.bool_()),
        ("decision", pa.string()),
        ("regions", pa.list_(region)),
        ("error", pa.string()),
        *([("map", pa.binary())] if maps else []),
    ]
    return pa.Table.from_pylist(lines, pa.schema(fields))


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a set of images.

    Attributes:
        results: Folder of Parquet files, with a row per image.
        images: Images in all.
        anomalous: Images found anomalous; 0 if the model has no threshold.
        failures: Images that could not be read.
    """

    results: Path
    images: int
    anomalous: int
    failures: int


def inspect_to_parquet(
    images: Sequence[str | Path],
    model: str | Path,
    out: str | Path,
    *,
    address: str = "local",
    threads: int = 1,
    min_area: int = 0,
) -> Counts:
    """Inspect images on a cluster and write a row per image into `out/results`.

    Args:
        images: Files that every node sees, or URLs of files and folders; not both.
        model: As in `inspect`.
        out: A folder that every node sees; `results` in it must not be there yet.
        address: Of the cluster, as `ray.init` takes it; `local` starts one on this machine, and
            `auto` finds the one that this machine belongs to.
        threads: As in `inspect`.
        min_area: As in `inspect`.

    Raises:
        InputError: As in `inspect`, or files and URLs are mixed.
        OutputError: The results are there already, or cannot be written.
        ModelFileError: As in `inspect`.
        MissingDependencyError: Ray is not installed.
    """
    data = _ray_data()
    import ray

    results = Path(out).resolve() / "results"
    if results.exists():
        raise OutputError("is there already", path=results, hint="Give another folder with --out")
    urls = [str(image) for image in images if "://" in str(image)]
    if urls and len(urls) < len(images):
        raise InputError("files and URLs are mixed", hint="Give them to two commands")
    make_folder(results.parent)
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, log_to_driver=False)
    try:
        rows = [{"path": str(Path(image).resolve())} for image in images]
        blocks = min(math.ceil(len(rows) / _BLOCK), _MOST_BLOCKS)
        read = image_files(urls) if urls else data.from_items(rows, override_num_blocks=blocks)
        inspected = inspect(read, model, threads=threads, min_area=min_area)
        # Ray would keep half of the cluster for whichever step may need it; the workers need it.
        inspected.context.op_resource_reservation_ratio = _KEPT
        inspected.write_parquet(str(results), ray_remote_args=_WAITS)
    finally:
        if started:
            ray.shutdown()
    return _counted(results)


def _counted(results: Path) -> Counts:
    from pyarrow import parquet

    found = parquet.read_table(results, columns=["is_anomalous", "error"])
    anomalous = sum(bool(value) for value in found["is_anomalous"].to_pylist())
    return Counts(results, len(found), anomalous, len(found) - found["error"].null_count)


def _cpus() -> int:
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return int(resources.get("CPU", os.cpu_count() or 1))


def _ray_data() -> Any:
    try:
        import ray.data
    except ImportError as error:
        raise missing_dependency(error, "inspecting on a cluster", "ray", "ray[data]") from error
    return ray.data
