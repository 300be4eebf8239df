"""What a tiled run does with whole images."""

from __future__ import annotations

from rich.console import Console

from draem.config import ResolvedRecipe
from draem.inspection.runtime import Runtime
from draem.inspection.scoring import smoothing_size
from draem.inspection.tiling import run_tiles
from draem.progress import file_progress
from draem.training.images import RunImages


def tiled_scores(
    runtime: Runtime, images: RunImages, recipe: ResolvedRecipe, console: Console
) -> list[float]:
    """Scores of the whole held-out images, as an Inspector finds them.

    Args:
        runtime: The trained network.
        images: Those of the run.
        recipe: Says how large tiles are and how they overlap.
        console: Where progress is shown.
    """
    size = recipe.network.image_size
    side, overlap = smoothing_size(*size, recipe.network.smoothing), recipe.network.overlap or 0
    scores = []
    with file_progress(console) as progress:
        for image in images.whole_held_out():
            output = run_tiles(runtime.run, image, size, overlap, side)
            scores.append(float(output.anomaly_scores[0]))
            progress("Calibrating", len(scores), len(images.held_out_grids))
    return scores
