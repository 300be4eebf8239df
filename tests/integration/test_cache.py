from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import draem
from draem.datasets.image_cache import Cache
from draem.model_file import read_model
from draem.training.images import RunImages, read_run_images, resolve_recipe
from draem.training.recipe import make_recipe

Cli = Callable[..., object]

MEMORY = """
import sys, threading, time
from pathlib import Path
import numpy as np
import torch
from draem.datasets.image_cache import Cache
from draem.simulation import device_images as module
from draem.simulation.factory import make_simulator
from draem.training.images import read_run_images
from draem.training.recipe import make_recipe

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

highest = 0
def watch():
    global highest
    while True:
        highest = max(highest, anonymous())
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()

module._CHUNK = 2**20  # a small part of either set
data, folder, textures = sys.argv[1:]
recipe = make_recipe("compact", overrides={
    "network": {"image_size": (256, 256)},
    "simulation": {"textures": textures},
}).resolve()
images = read_run_images(data, recipe, None, Cache("always", Path(folder)))
for pictures in (images.training, images.held_out):
    simulator = make_simulator(
        pictures, images.textures, recipe.simulation, 0, torch.ones(256, 256).bool()
    )
    assert simulator.foreground is not None
    for step in range(4):
        simulator.batch(step, 16)
print(len(images.training), max(highest, anonymous()))
"""


def equal(first: RunImages, second: RunImages) -> bool:
    return (
        np.array_equal(first.held_out[:], second.held_out[:])
        and np.array_equal(first.training[:], second.training[:])
        and np.array_equal(first.textures[:], second.textures[:])
        and first.fingerprint == second.fingerprint
        and first.full_fingerprint == second.full_fingerprint
        and first.count == second.count
        and first.held_out_grids == second.held_out_grids
    )


@pytest.mark.parametrize("network", [{"image_size": (64, 96)}, {"tile": 32, "overlap": 8}])
def test_a_run_finds_the_same_images_in_the_cache(
    shared_category: Path, tmp_path: Path, network: dict[str, object]
) -> None:
    def read(cache: Cache | None, seed: int = 0) -> RunImages:
        training = {"seed": seed, "held_out_share": 0.3}
        recipe = make_recipe("compact", overrides={"network": network, "training": training})
        return read_run_images(
            shared_category, resolve_recipe(recipe, shared_category), None, cache
        )

    always = Cache("always", tmp_path)
    for seed in (0, 0, 1):
        cached = read(always, seed)
        plain = read(None, seed)
        assert equal(cached, plain)
        assert cached.training.folder is not None
        for first, second in zip(cached.whole_held_out(), plain.whole_held_out(), strict=True):
            np.testing.assert_array_equal(first, second)
    # Another seed holds out other images of the same cache.
    assert len(list(tmp_path.iterdir())) == 1
    assert read(Cache("never", tmp_path)).training.folder is None


@pytest.mark.parametrize("tiled", [False, True])
def test_training_from_the_cache_ends_with_the_same_model(
    tiled: bool, shared_category: Path, tiny_recipe: Path, tmp_path: Path, draem_cli: Cli
) -> None:
    options = ["--tile", 32, "--overlap", 8] if tiled else []
    if tiled:
        text = tiny_recipe.read_text(encoding="utf-8")
        tiny_recipe.write_text(text.replace("image_size = [32, 64]\n", ""), encoding="utf-8")
    errors = {}
    for mode in ("always", "never"):
        ended = draem_cli(
            *("train", shared_category, "--out", tmp_path / mode, "--recipe", tiny_recipe),
            *("--device", "cpu", "--cache", mode, "--cache-dir", tmp_path / "cache", *options),
        )
        assert ended.status == 0, ended.err  # type: ignore[attr-defined]
        errors[mode] = ended.err  # type: ignore[attr-defined]
    (store,) = (tmp_path / "cache").iterdir()
    assert f"Decoded images are kept in {store} (0.00 GB)." in errors["always"]
    assert "kept in" not in errors["never"]
    first, second = (read_model(tmp_path / mode / "model.safetensors") for mode in errors)
    assert first[0].calibration == second[0].calibration
    assert first[0].training_set == second[0].training_set
    assert first[0].figures == second[0].figures
    assert all(torch.equal(value, second[1][name]) for name, value in first[1].items())


def test_without_a_word_large_sets_go_to_the_cache_and_small_ones_do_not(
    shared_category: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAEM_CACHE", str(tmp_path / "cache"))
    recipe = make_recipe(file=tiny_recipe)
    size, found = 10 * 32 * 64 * 3, set()
    told = "draem.datasets.image_cache.available_memory"
    for memory, used in ((4 * size, False), (4 * size - 1, True)):
        monkeypatch.setattr(told, lambda memory=memory: memory)
        result = draem.train(shared_category, tmp_path / str(memory), recipe, device="cpu")
        assert (tmp_path / "cache").exists() == used
        found.add(result.card.fingerprint)
    assert len(found) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what memory is whose")
def test_memory_stays_the_same_however_many_images_there_are(
    tmp_path: Path, run_python: Callable[..., object]
) -> None:
    rng = np.random.default_rng(0)
    textures = tmp_path / "textures"
    textures.mkdir()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(textures / "a.png")
    peaks = []
    for count in (100, 1100):
        data = tmp_path / f"{count} parts"
        data.mkdir()
        part = np.full((256, 256, 3), 20, np.uint8)
        for number in range(count):
            part[60:160, 80:180] = 100 + number % 100
            part[100, 100] = number % 256, number // 256, 0
            Image.fromarray(part).save(data / f"{number}.bmp")
        ended = run_python(MEMORY, data, tmp_path / "cache", textures)
        assert ended.returncode == 0, ended  # type: ignore[attr-defined]
        trained, peak = map(int, ended.stdout.split())  # type: ignore[attr-defined]
        assert trained == 0.9 * count
        peaks.append(peak)
    decoded = 1000 * 256 * 256 * 3  # 197 MB more, and a third of it for where the parts lie
    assert peaks[1] - peaks[0] < 0.2 * decoded, peaks
