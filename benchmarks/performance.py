"""Write docs/performance.md and its plots from the files in benchmarks/results.

    python benchmarks/performance.py

Nothing is measured here: every figure is read from the JSON that a benchmark wrote, and the page
names the command that measures it again. A part whose file is missing is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter, ScalarFormatter

from machine import RESULTS

DOCS = Path(__file__).parents[1] / "docs"
PLOTS = DOCS / "performance"
_FEW_TICKS = 8
Document = dict[str, Any]
Series = dict[str, tuple[list[float], list[float]]]

INTRODUCTION = """# Performance

What draem costs in time and memory, next to its peers if they do the same. This page is made by
`python benchmarks/performance.py` from the files in
[`benchmarks/results`](https://github.com/draem/draem/tree/main/benchmarks/results). Below each
title stands the command that measures it again. Times are medians of several rounds in which all
sides take turns. Compare figures of one table; two tables may come from different runs.

For inference see also [Deploy](deploy.md), for accuracy [Results](results.md).
"""


def main() -> None:
    """Write the page."""
    PLOTS.mkdir(exist_ok=True)
    # Without these, an unchanged plot would be another file every time.
    mpl.rcParams["svg.hashsalt"] = "draem"
    parts = [INTRODUCTION]
    for name, write in PARTS.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            document = json.loads(path.read_text(encoding="utf-8"))
            parts.append("\n\n".join(write(document)) + "\n\n" + _machine(document) + "\n")
    page = DOCS / "performance.md"
    page.write_text("\n".join(parts), encoding="utf-8")
    print(page)


def _simulation(document: Document) -> list[str]:
    samples, floor = document["samples"], document["floor"]
    floors = "; ".join(
        f"`{row['profile']}` {row['floor_ms']:.2f} ms, of which we take "
        f"{row['times_the_floor']:.1f} times as long"
        for row in floor["profiles"]
    )
    return [
        "## Simulation",
        "`python benchmarks/simulation.py --peer anomalib=PYTHON --peer upstream=PYTHON,CHECKOUT`",
        (
            f"One sample of {document['size']}x{document['size']}, in batches of "
            f"{document['batch']}, "
            "from decoded images; of `varied` a window "
            "of 128x128. The target is 2.5 ms on one thread."
        ),
        _table(
            ("", "threads", "ms", "lowest", "highest", "times our `upstream` on as many"),
            [
                (
                    row["name"] if "peer" in row["name"] else f"`{row['name']}`",
                    str(row["threads"]),
                    *(_number(row[f"{which}_ms"]) for which in ("median", "lowest", "highest")),
                    _number(row["times_ours"]),
                )
                for row in samples
            ],
        ),
        "Where the time goes, on one thread:",
        _table(
            ("profile", "ms a sample"),
            [
                (
                    f"`{profile}`",
                    ", ".join(
                        f"{row['stage']} {row['mean_ms']:.2f}"
                        for row in document["stages"]
                        if row["profile"] == profile
                    ),
                )
                for profile in dict.fromkeys(row["profile"] for row in document["stages"])
            ],
        ),
        (
            "The floor: one pass over the pixels that reads a uint8 image and a texture and writes "
            f"two float32 images and a mask, at the {floor['copy_gb_per_s']:.1f} GB/s that this "
            "memory "
            "copies, or the arithmetic of rotation, noise and blending at the "
            f"{floor['multiplications_g_per_s']:.1f} G operations a second of one thread, "
            "whichever "
            f"is longer: {floors}."
        ),
        _plot(
            "simulation-size",
            _by_profile(document["against_size"], "size"),
            ("side of the image, pixels", "ms a sample"),
            "a simulated sample against the image's side",
        ),
        _plot(
            "simulation-batch",
            _by_profile(document["against_batch"], "batch"),
            ("samples in a batch", "ms a sample"),
            "a simulated sample against the size of the batch",
        ),
    ]


def _training_step(document: Document) -> list[str]:
    written = [
        "## Training step",
        "`python benchmarks/training_step.py --peer upstream=CHECKOUT`",
        (
            "`draem` simulates its batches; with ready-made ones only the networks are measured. "
            "`upstream` is the published loop (losses, optimiser, order of work) with our networks "
            "and ready-made batches, as if its loader cost nothing. Peak memory is that of the "
            "process."
        ),
    ]
    for case in document["cases"]:
        stages = case["stages_ms"]
        total = sum(stages.values())
        upstream = next((row for row in case["rows"] if row["side"] == "upstream"), None)
        written += [
            (
                f"**`{case['preset']}`, batch {case['batch']}, window {case['window']}, "
                f"{case['threads']} threads, {case['device']}**"
            ),
            _table(
                ("", "images/s", "ms a step", "lowest", "highest", "peak MB", "times upstream"),
                [
                    (
                        row["side"],
                        _number(row["images_per_s"]),
                        *(_number(row[f"{which}_ms"]) for which in ("median", "lowest", "highest")),
                        "" if row["peak_mb"] is None else _number(row["peak_mb"]),
                        ""
                        if upstream is None
                        else f"{row['images_per_s'] / upstream['images_per_s']:.2f}",
                    )
                    for row in case["rows"]
                ],
            ),
            "A step of draem: "
            + ", ".join(f"{name} {taken:.0f} ms" for name, taken in stages.items())
            + f"; simulation is {stages['simulation'] / total:.0%}. "
            + f"{case['gflop_per_step']:.1f} GFLOP a step at {case['gflop_per_s']:.0f} GFLOP/s, "
            + f"{case['share_of_matmul']:.0%} of what matrix products reach here.",
        ]
    return written


def _metrics(document: Document) -> list[str]:
    rows, floor = document["rows"], document["floor"]
    kept = {
        library: [row for row in document["memory"] if row["library"] == library]
        for library in dict.fromkeys(row["library"] for row in document["memory"])
    }
    return [
        "## Pixel metrics",
        "`python benchmarks/metrics.py --peer anomalib=PYTHON`",
        (
            f"Pixel AUROC, AP, F1-max and AUPRO over {document['images']} images of "
            f"{document['side']}x{document['side']}; scikit-learn computes the first two alone."
        ),
        _table(
            ("", "s", "times draem", "largest difference of a metric from draem's"),
            [
                (
                    row["library"],
                    _number(row["median_s"]),
                    (
                        f"{_number(row['times_draem'])} ({_number(row['times_draem_lowest'])} to "
                        f"{_number(row['times_draem_highest'])})"
                    ),
                    f"{max(row['difference'].values()):.1g}",
                )
                for row in rows
            ],
        ),
        (
            f"The floor is to read {floor['bytes'] / 1e6:.0f} MB of scores and masks "
            f"({1000 * floor['read_s']:.1f} ms) and to count each pixel once "
            f"({1000 * floor['count_s']:.0f} ms); draem takes {floor['times_floor']:.1f} times as "
            "long."
        ),
        "What a process grows by, in MB:",
        _table(
            ("", "images: MB"),
            [
                (
                    library,
                    ", ".join(f"{row['images']:,}: {_number(row['grown_mib'])}" for row in grown),
                )
                for library, grown in kept.items()
            ],
        ),
        _plot(
            "metrics",
            _by_size(document["sizes"]),
            ("images; side in pixels; regions an image", "ns a pixel"),
            "the four metrics against the number of images, their side and their regions",
        ),
    ]


def _startup(document: Document) -> list[str]:
    return [
        "## Start-up",
        "`python benchmarks/startup.py --peer anomalib=PYTHON`",
        (
            "Each in a process of its own. The first result is the first line of `results.jsonl`, "
            "map "
            f"and overlay written, of photographs of {document['side']}x{document['side']} and a "
            f"`{document['model']}` model in ONNX Runtime."
        ),
        _table(
            ("", "s", "target", "times draem"),
            [
                (
                    f"`{row['case']}`",
                    f"{row['median_s']:.3f}",
                    "" if row["target_s"] is None else f"{row['target_s']:g}",
                    f"{row['times_draem']:.0f} (of `{row['against']}`)" if "against" in row else "",
                )
                for row in document["rows"]
            ],
        ),
    ]


def _cache(document: Document) -> list[str]:
    columns = {
        "images": "images",
        "cache_gb": "GB",
        "images_per_s": "decoded a second",
        "second_start_s": "second start, s",
        "step_ms": "ms a step",
        "mb_first_start": "MB while decoding",
        "mb_preparing": "while preparing",
        "mb_training": "while training",
    }
    asked = " ".join(str(row["images"]) for row in document["rows"])
    return [
        "## Data sets larger than memory",
        f"`python benchmarks/cache.py --images {asked}`",
        (
            f"JPEG files of {document['side']}x{document['side']}, decoded into a mapped file. "
            "Memory is the peak of anonymous pages, which the system cannot drop; it does not grow "
            "with the number of images."
        ),
        _table(
            columns.values(),
            [[_number(row[name]) for name in columns] for row in document["rows"]],
        ),
    ]


def _machine(document: Document) -> str:
    facts = document.get("machine") or document["cases"][-1]["machine"]
    where = facts.get("gpu") or f"{facts['processor']}, {facts['cores']} cores"
    versions = ", ".join(f"{name} {facts[name]}" for name in ("torch", "numpy") if facts.get(name))
    return f"*{where}; {versions}.*"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = ["| " + " | ".join(row) + " |" for row in (titles, ["---"] * len(titles), *rows)]
    return "\n".join(lines)


def _number(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _by_size(rows: Iterable[Document]) -> Series:
    """Nanoseconds a pixel against each quantity that was varied."""
    series: Series = {}
    for varied, name in {"images": "images", "pixels": "side", "regions": "regions"}.items():
        chosen = sorted((row for row in rows if row["varied"] == varied), key=lambda row: row[name])
        x, y = [row[name] for row in chosen], [row["ns_a_pixel"] for row in chosen]
        series[name] = (x, y)
    return series


def _by_profile(rows: Iterable[Document], against: str) -> Series:
    series: Series = {}
    for row in rows:
        x, y = series.setdefault(row["profile"], ([], []))
        x.append(row[against])
        y.append(row["median_ms"])
    return series


def _plot(name: str, series: Series, axes_names: tuple[str, str], words: str) -> str:
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for label, (x, y) in series.items():
        axes.plot(x, y, marker="o", label=label)
    axes.set(xlabel=axes_names[0], ylabel=axes_names[1], xscale="symlog", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    places = {place for x, _ in series.values() for place in x}
    if len(places) <= _FEW_TICKS:
        axes.set_xticks(sorted(places))
    steps = [step * 10**power for power in range(-1, 4) for step in (1, 2, 5)]
    low, high = axes.get_ylim()
    axes.set_yticks([step for step in steps if low <= step <= high])
    axes.set_ylim(low, high)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    path = PLOTS / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return f"![{words}](performance/{path.name})"


PARTS: dict[str, Callable[[Document], list[str]]] = {
    "simulation": _simulation,
    "training-step": _training_step,
    "metrics": _metrics,
    "startup": _startup,
    "cache": _cache,
}


if __name__ == "__main__":
    main()
