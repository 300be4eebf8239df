from __future__ import annotations

import runpy
import time
import tomllib
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from draem.config import SECTIONS, UPSTREAM, VARIED, parse_image_size
from draem.errors import OutputError, RecipeError
from draem.training.recipe import make_recipe, write_recipe


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    """Writes a recipe file."""

    def write(text: str) -> Path:
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def lengths_of(recipe: Any) -> tuple:
    return recipe.training.epochs, recipe.training.steps, recipe.training.minutes


def test_pretrained_is_the_default() -> None:
    assert make_recipe() == make_recipe("pretrained")
    assert make_recipe().preset == "pretrained"


def test_compact_is_small() -> None:
    recipe = make_recipe("compact")
    assert recipe.preset == "compact"
    network = recipe.network
    assert (network.reconstructive_width, network.discriminative_width) == (32, 16)
    assert (network.architecture, network.interpolation) == ("compact", "area")
    assert network.image_size == "auto"
    assert recipe.simulation.profile == "varied"
    assert lengths_of(recipe) == (None, 1650, None)
    training = recipe.training
    assert (training.init, training.batch_size) == ("warm", 16)
    assert (training.optimizer, training.weight_decay) == ("adamw", 0.01)
    assert (training.learning_rate, training.schedule) == (2e-3, "cosine")
    assert (training.ssim_of, training.focal_gamma, training.average_decay) == ("mean", 1, 0.995)


def test_full_is_the_papers() -> None:
    recipe = make_recipe("full")
    network, training = recipe.network, recipe.training
    assert (network.reconstructive_width, network.discriminative_width) == (128, 64)
    assert (network.image_size, network.interpolation) == ((256, 256), "bilinear")
    assert network.architecture == "published"
    assert recipe.simulation.profile == "paper"
    assert lengths_of(recipe) == (700, None, None)
    assert (training.batch_size, training.learning_rate) == (8, 1e-4)
    assert training.schedule == "paper"
    assert (training.init, training.optimizer) == ("scratch", "adam")
    assert (training.ssim_of, training.focal_gamma) == ("channels", 2)


def test_published_is_the_published_codes() -> None:
    recipe = make_recipe("published").resolve()
    network, simulation, training = recipe.network, recipe.simulation, recipe.training
    assert (network.reconstructive_width, network.discriminative_width) == (128, 64)
    assert (network.image_size, network.interpolation) == ((256, 256), "bilinear")
    assert (network.architecture, network.smoothing, network.scales) == ("published", 21, 1)
    asked = {"texture_interpolation": "bilinear", "with_replacement": True}
    assert simulation == UPSTREAM.replace(**asked)
    assert lengths_of(recipe) == (700, None, None)
    assert (training.batch_size, training.learning_rate) == (8, 1e-4)
    assert (training.optimizer, training.schedule, training.init) == ("adam", "upstream", "scratch")
    assert (training.ssim_of, training.focal_gamma) == ("channels", 2)
    assert (training.l2_weight, training.ssim_weight, training.focal_weight) == (1, 1, 1)
    assert (training.average_decay, training.precision) == (0, "32")
    assert training.held_out_share == 0


def test_a_recipe_that_names_a_profile_alone_means_what_it_meant(toml: Any) -> None:
    for profile in ("paper", "upstream", "varied"):
        file = toml(f'[simulation]\nprofile = "{profile}"\n')
        simulation = make_recipe(file=file).simulation
        assert simulation.texture_interpolation == "area"
        assert simulation.with_replacement is False


def test_another_profile_drops_what_the_preset_says_of_its_own() -> None:
    simulation = make_recipe(
        "pretrained", overrides={"simulation": {"profile": "paper"}}
    ).simulation
    assert simulation == make_recipe("full").simulation
    with pytest.raises(RecipeError, match="the profile `paper` has no `crop`"):
        make_recipe("pretrained", overrides={"simulation": {"profile": "paper", "crop": 64}})


def test_the_preset_yields_to_the_file_and_the_file_to_the_options(toml: Any) -> None:
    file = toml(
        "[network]\nreconstructive_width = 24\ndiscriminative_width = 32\n[training]\nseed = 5\n"
    )
    recipe = make_recipe("compact", file, {"network": {"discriminative_width": 40}})
    assert recipe.network.reconstructive_width == 24
    assert recipe.network.discriminative_width == 40
    assert recipe.training.seed == 5
    assert recipe.training.learning_rate == make_recipe("compact").training.learning_rate
    assert make_recipe("compact") != recipe, "the preset itself must not have changed"


def test_the_preset_of_an_option_yields_to_none_and_that_of_a_file_to_an_option(toml: Any) -> None:
    file = toml('preset = "full"\n')
    assert make_recipe(file=file) == make_recipe("full")
    assert make_recipe("compact", file) == make_recipe("compact")
    assert make_recipe(file=str(file)).preset == "full"
    by_option: Any = {"preset": "full"}
    assert make_recipe(overrides=by_option) == make_recipe("full")


def test_an_option_of_none_is_left_out(toml: Any) -> None:
    file = toml("[training]\nsteps = 7\nseed = 5\n")
    none = {"training": {"seed": None, "epochs": None, "minutes": None, "steps": None}}
    assert make_recipe(file=file, overrides=none) == make_recipe(file=file)


@pytest.mark.parametrize("preset", ["compact", "full", "published"])
@pytest.mark.parametrize(
    ("length", "expected"),
    [
        ({"epochs": 3}, (3, None, None)),
        ({"steps": 4}, (None, 4, None)),
        ({"minutes": 0.5}, (None, None, 0.5)),
    ],
)
def test_a_length_takes_the_place_of_the_presets(
    toml: Any, preset: str, length: dict[str, float], expected: tuple
) -> None:
    assert lengths_of(make_recipe(preset, overrides={"training": length})) == expected
    ((key, value),) = length.items()
    file = toml(f"[training]\n{key} = {value}\n")
    assert lengths_of(make_recipe(preset, file)) == expected
    # An option takes the place of the file's, whatever its kind.
    options = {"training": {"steps": 9}}
    assert lengths_of(make_recipe(preset, file, options)) == (None, 9, None)


@pytest.mark.parametrize(
    "lengths", [{"epochs": 1, "steps": 2}, {"epochs": 1, "minutes": 2, "steps": 3}]
)
def test_two_lengths_are_refused(lengths: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match="exactly one of epochs, steps and minutes"):
        make_recipe(overrides={"training": lengths})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nepoch = 1", r"`epoch` in \[training\] is unknown\. Did you mean `epochs`\?$"),
        ("[training]\nlerning_rate = 1", "Did you mean `learning_rate`"),
        ("[trainig]\nepochs = 1", "`trainig` is unknown. Did you mean `training`"),
        ("epochs = 1", r"`epochs` is unknown. `epochs` belongs under \[training\]"),
        ("image_size = [64, 64]", r"belongs under \[network\]"),
        ("[network]\nepochs = 1", r"`epochs` in \[network\] .*belongs under \[training\]"),
        ("[training]\ntextures = 'a'", r"belongs under \[simulation\]"),
        ("[training]\nqqqq = 1", "Known keys: epochs, steps, minutes"),
        ("qqqq = 1", "Known keys: preset, network, simulation, training"),
        ("training = 5", r"`training` is a section of the recipe. Expected \[training\]"),
        ("[[training]]\nepochs = 5", "`training` is a section"),
    ],
)
def test_an_unknown_key_is_named_with_what_was_meant(toml: Any, text: str, message: str) -> None:
    file = toml(text)
    with pytest.raises(RecipeError, match=message) as raised:
        make_recipe(file=file)
    assert raised.value.path == file


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epochs": 10}, r"belongs under \[training\]"),
        ({"training": 10}, "is a section of the recipe"),
        ({"training": {"width": 1}}, r"`width` in \[training\] is unknown"),
    ],
)
def test_wrong_options_are_refused_and_not_blamed_on_the_file(
    toml: Any, overrides: Any, message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as raised:
        make_recipe(file=toml("[training]\nsteps = 3\n"), overrides=overrides)
    assert raised.value.path is None


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("network", "reconstructive_width", -1),
        ("network", "reconstructive_width", 5000),
        ("network", "discriminative_width", 0),
        ("network", "discriminative_width", "wide"),
        ("network", "architecture", "large"),
        ("network", "image_size", 256),
        ("network", "image_size", [256]),
        ("network", "image_size", [256, 256.5]),
        ("network", "image_size", "automatic"),
        ("network", "image_size", "256x256"),
        ("network", "interpolation", "cubic"),
        ("simulation", "profile", "mine"),
        ("simulation", "rotation_degrees", -1),
        ("simulation", "rotation_degrees", 200),
        ("simulation", "clean_share", 1.5),
        ("simulation", "opacity", [0.1]),
        ("simulation", "opacity", [0.9, 0.1]),
        ("simulation", "opacity", [0.1, 1.1]),
        ("simulation", "threshold", [-0.1, 0.5]),
        ("simulation", "threshold", [0.5, 0.4]),
        ("simulation", "crop", 16),
        ("simulation", "crop", 100),
        ("simulation", "zoom", 0.9),
        ("simulation", "shapes", [1, 1]),
        ("simulation", "shapes", [0, 0, 0]),
        ("simulation", "shapes", [1, -1, 1]),
        ("simulation", "fills", [1, 1, 1, 1]),
        ("simulation", "fills", [0, 0, 0, 0, 0]),
        ("simulation", "fills", [1, 1, 1, 1, float("inf")]),
        ("simulation", "layers", 0),
        ("simulation", "layers", 5),
        ("simulation", "textures", 5),
        ("training", "epochs", 0),
        ("training", "epochs", 1.5),
        ("training", "steps", -3),
        ("training", "minutes", 0),
        ("training", "minutes", float("inf")),
        ("training", "minutes", float("nan")),
        ("training", "init", "cold"),
        ("training", "optimizer", "sgd"),
        ("training", "weight_decay", -0.1),
        ("training", "ssim_of", "channel"),
        ("training", "batch_size", 0),
        ("training", "batch_size", 10**12),
        ("training", "epochs", 10**12),
        ("training", "steps", 10**12),
        ("training", "minutes", 1e12),
        ("training", "learning_rate", 1e6),
        ("training", "checkpoint_seconds", 1e300),
        ("training", "l2_weight", 1e300),
        ("training", "group_by", "x" * 1001),
        ("network", "image_size", (10**9, 64)),
        ("network", "tile", 32 * 10**9),
        ("network", "discriminative_width", 10**9),
        ("simulation", "fills", [1e300] * 5),
        ("simulation", "textures", "x" * 5000),
        ("simulation", "profile", []),
        ("region_of_interest", "mask", "x" * 5000),
        ("training", "batch_size", "many"),
        ("training", "learning_rate", 0),
        ("training", "learning_rate", float("nan")),
        ("training", "learning_rate", float("inf")),
        ("training", "schedule", "linear"),
        ("training", "focal_gamma", -1),
        ("training", "average_decay", 1),
        ("training", "seed", -1),
        ("training", "precision", "8"),
        ("training", "held_out_share", 1),
        ("training", "false_reject_rate", 0),
        ("training", "false_reject_rate", 1),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_range_is_refused_by_name(
    section: str, key: str, value: object
) -> None:
    asked = {section: {key: value}}
    key = "image_size" if key == "tile" and value == 32 * 10**9 else key  # which it sets
    with pytest.raises(RecipeError, match=rf"cannot be used. Found {section}\.{key}"):
        make_recipe(overrides=asked)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = " + "[" * 100_000, "recursion"),
        ("a = " + "{a = " * 100_000, "recursion"),
        ("[training]\nseed = " + "9" * 5000, "4300 digits"),
        ("[training]\nseed = 0x" + "f" * 50_000, r"training\.seed"),
        ("[training]\n" + "k" * 100_000 + " = 1", r"k{200}\.\.\. \(100000 characters\).*unknown"),
        (".".join("a" * 50_000) + " = 1", "a key of too many parts"),
        ("[" + " . ".join("a" * 50_000) + "]", "a key of too many parts"),
        ("x = {" + ".".join(['"a"', "'b'"] * 25_000) + " = 1}", "a key of too many parts"),
        ("-" * 100_000, "cannot be read"),
        ('"' * 99_999, "cannot be read"),
        ("x" * (2**20 + 1), "too large.*at most 1048576 bytes"),
        ('preset = "' + "x" * 100_000 + '"', r"no preset `x{200}\.\.\. \(100000 characters\)`"),
        ("\n".join(f"a{number} = 1" for number in range(50_000)), "`a0` is unknown"),
        (
            "[region_of_interest]\npolygons = [[" + "[7, 0.5]," * 20_000 + "]]",
            r"polygons\.0\.0\.0: .*; and \d+ more\.",
        ),
    ],
)
def test_a_hostile_file_is_refused_at_once(toml: Any, text: str, problem: str) -> None:
    file = toml(text)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(RecipeError, match=problem) as raised:
        make_recipe(file=file)
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert raised.value.path == file
    assert len(str(raised.value)) < 2000
    assert seconds < 5
    assert peak < 200 * 2**20


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(RecipeError, match="too large"):
        make_recipe(file="/dev/zero")


def test_long_texts_and_numbers_are_no_long_keys(toml: Any) -> None:
    corners = ", ".join("[0.25, 0.75]" for _ in range(1000))
    text = (
        '[simulation]\ntextures = "a/b.c/../../d"\n[training]\n'
        f"group_by = '^(................)'\n[region_of_interest]\npolygons = [[{corners}]]\n"
    )
    recipe = make_recipe(file=toml(text))
    assert recipe.simulation.textures == "a/b.c/../../d"
    assert recipe.training.group_by == "^(................)"
    assert len(recipe.region_of_interest.polygons[0]) == 1000


@pytest.mark.parametrize(("batch", "side"), [(2**15, 256), (2**13, 512)])
def test_batches_larger_than_any_machine_holds_are_refused(batch: int, side: int) -> None:
    asked = {"training": {"batch_size": batch}, "network": {"image_size": (side, side)}}
    assert make_recipe("published", overrides=asked).resolve().training.batch_size == batch
    asked["training"]["batch_size"] = batch + 1
    recipe = make_recipe("published", overrides=asked)
    with pytest.raises(RecipeError, match=f"{batch + 1} samples of {side}x{side} is more than"):
        recipe.resolve()


def test_images_are_grouped_by_a_word_or_a_regular_expression(toml: Any) -> None:
    text = """[training]
group_by = 'lot(\\d+)'
"""
    assert make_recipe(file=toml(text)).training.group_by == r"lot(\d+)"
    assert make_recipe().training.group_by == "auto"
    with pytest.raises(RecipeError, match=r"`group_by` cannot.*folder or a regular expression"):
        make_recipe(overrides={"training": {"group_by": "lot("}})


def test_all_wrong_values_are_named_at_once(toml: Any) -> None:
    file = toml('[training]\nbatch_size = 0\nseed = "x"\n[network]\nimage_size = 3\n')
    with pytest.raises(RecipeError) as raised:
        make_recipe(file=file)
    assert raised.value.path == file
    for name in ("training.batch_size", "training.seed", "network.image_size"):
        assert name in str(raised.value)


@pytest.mark.parametrize("name", ["ful", "compactt", "Full"])
def test_an_unknown_preset_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(RecipeError, match=r"one of compact, full.*Did you mean") as raised:
        make_recipe(name)
    assert raised.value.path is None


@pytest.mark.parametrize("value", ['"fast"', '""', "3", '["full"]', "true", "{ name = 1 }"])
def test_an_unknown_preset_in_a_file_is_refused(toml: Any, value: str) -> None:
    file = toml(f"preset = {value}\n")
    with pytest.raises(RecipeError, match=r"there is no preset .*one of compact, full") as raised:
        make_recipe(file=file)
    assert raised.value.path == file


RECIPES: list[tuple[str, dict[str, dict[str, Any]]]] = [
    ("compact", {}),
    ("full", {}),
    ("published", {}),
    ("compact", {"training": {"steps": 12, "learning_rate": 0.1 + 0.2, "seed": 2**40}}),
    ("full", {"training": {"minutes": 1 / 3, "average_decay": 1 - 1e-9, "l2_weight": 0}}),
    ("compact", {"network": {"image_size": (64, 96)}, "simulation": {"opacity": (0.1, 1)}}),
    ("compact", {"network": {"image_size": "auto"}, "training": {"init": "scratch"}}),
    ("full", {"training": {"optimizer": "adamw", "weight_decay": 0.05, "ssim_of": "mean"}}),
    (
        "compact",
        {"simulation": {"crop": 64, "shapes": (0, 0.2, 1), "fills": (0, 0, 0, 0, 3), "layers": 1}},
    ),
    # The profile's usual value, which is not the preset's.
    ("pretrained", {"simulation": {"crop": 128}}),
    ("compact", {"region_of_interest": {"polygons": [[(0, 0), (1, 0), (0.5, 1 / 3)]] * 2}}),
    ("full", {"region_of_interest": {"mask": "a mask.png"}}),
    ("full", {"simulation": {"textures": 'C:\\my "textures"\\ö 名\n', "clean_share": 0.0}}),
]


@pytest.mark.parametrize(("preset", "overrides"), RECIPES)
def test_a_written_recipe_is_read_as_it_was(
    tmp_path: Path, preset: str, overrides: dict[str, dict[str, Any]]
) -> None:
    recipe = make_recipe(preset, overrides=overrides).resolve()
    write_recipe(recipe, tmp_path / "recipe.toml")
    assert make_recipe(file=tmp_path / "recipe.toml").resolve() == recipe
    read = tomllib.loads((tmp_path / "recipe.toml").read_text(encoding="utf-8"))
    assert read["preset"] == preset
    assert type(recipe).model_validate(recipe.model_dump(mode="json")) == recipe


def test_a_recipe_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        write_recipe(make_recipe().resolve(), tmp_path / "missing" / "recipe.toml")


def test_a_recipe_cannot_be_changed() -> None:
    recipe = make_recipe()
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.seed = 3  # type: ignore[misc]


def test_an_empty_file_and_one_with_a_byte_order_mark_are_read(toml: Any) -> None:
    assert make_recipe(file=toml("")) == make_recipe()
    assert make_recipe(file=toml("\ufeff[training]\nsteps = 3\n")).training.steps == 3


def test_a_file_that_cannot_be_read_is_named(toml: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe file"):
        make_recipe(file=tmp_path / "missing.toml")
    with pytest.raises(RecipeError, match="Is a directory"):
        make_recipe(file=tmp_path)
    with pytest.raises(RecipeError, match=r"cannot be read .*line 2.*a TOML file") as raised:
        make_recipe(file=toml("[training]\nsteps 3\n"))
    assert raised.value.path == tmp_path / "recipe.toml"
    with pytest.raises(RecipeError, match="cannot be read"):
        make_recipe(file=toml("[training]\nsteps = 3\nsteps = 4\n"))
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(RecipeError, match=r"latin\.toml: the recipe cannot be read"):
        make_recipe(file=tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256", (256, 256)),
        ("256x320", (256, 320)),
        ("64X96", (64, 96)),
        ("0032", (32, 32)),
    ],
)
def test_an_image_size_is_understood(text: str, size: tuple[int, int]) -> None:
    assert parse_image_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "x", "256x", "x256", "1x2x3", "-32", "256.0", "a", "256 x 320", "٢٥٦", "²", "1e3", "1_0"],
)
def test_what_is_no_image_size_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="N or HxW") as raised:
        parse_image_size(text)
    assert raised.value.found == text


def test_an_image_size_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"N or HxW.*9{200}\.\.\. \(5000 characters\)"):
        parse_image_size("9" * 5000)


@pytest.mark.parametrize("preset", ["compact", "full"])
def test_auto_in_a_file_stays_auto_and_an_option_fixes_it(toml: Any, preset: str) -> None:
    file = toml('[network]\nimage_size = "auto"\n')
    assert make_recipe(preset, file).network.image_size == "auto"
    fixed = make_recipe(preset, file, {"network": {"image_size": (64, 96)}})
    assert fixed.resolve().network.image_size == (64, 96)


def test_the_profile_takes_what_the_recipe_states_and_keeps_the_rest() -> None:
    assert make_recipe("compact").resolve([(300, 300)]).simulation == VARIED
    stated = {"crop": 64, "shapes": (0, 0, 1), "fills": (0, 1, 0, 0, 0), "on_part": False}
    profile = make_recipe("compact", overrides={"simulation": stated}).simulation
    assert (profile.crop, profile.shapes, profile.fills) == (64, (0, 0, 1), (0, 1, 0, 0, 0))
    assert profile.on_part is False
    assert (profile.layers, profile.clean_share) == (VARIED.layers, VARIED.clean_share)
    other = make_recipe("compact", overrides={"simulation": {"profile": "upstream"}})
    assert other.resolve().simulation == UPSTREAM


@pytest.mark.parametrize(
    ("profile", "key", "value"),
    [
        ("paper", "crop", 64),
        ("upstream", "fills", [1, 0, 0, 0, 0]),
        ("upstream", "on_part", False),
        ("varied", "mask_shape", "rectangle"),
    ],
)
def test_settings_of_another_profile_are_refused(profile: str, key: str, value: object) -> None:
    with pytest.raises(RecipeError, match=f"the profile `{profile}` has no `{key}`"):
        make_recipe("compact", overrides={"simulation": {"profile": profile, key: value}})


def test_the_guide_lists_every_option() -> None:
    """Run `python docs/options.py` after a change of an option."""
    options = runpy.run_path(str(Path(__file__).parents[3] / "docs" / "options.py"))
    guide = options["GUIDE"].read_text(encoding="utf-8")

    assert guide == options["with_table"](guide)
    for config in SECTIONS.values():
        assert all(f"| `{key}` |" in guide for key in config.model_fields)
        assert all(field.description for field in config.model_fields.values())


def test_a_region_of_interest_of_one_kind_takes_the_place_of_the_other(toml: Any) -> None:
    file = toml("[region_of_interest]\npolygons = [[[0, 0], [1, 0], [0.5, 1]]]\n")
    polygons = make_recipe(file=file).region_of_interest
    assert polygons.polygons == (((0, 0), (1, 0), (0.5, 1)),)
    asked = {"region_of_interest": {"mask": "mask.png"}}
    mask = make_recipe(file=file, overrides=asked).region_of_interest
    assert (mask.mask, mask.polygons) == ("mask.png", None)
    nothing = {"region_of_interest": {"mask": None}}
    assert make_recipe(file=file, overrides=nothing).region_of_interest == polygons
    assert make_recipe(overrides=nothing) == make_recipe()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("polygons = [[[0, 0], [1, 1]]]", r"region_of_interest\.polygons\.0: .*at least 3"),
        ("polygons = []", r"region_of_interest\.polygons: .*at least 1"),
        (
            "polygons = [[[0, 0], [1, 0], [1, 1.01]]]",
            r"polygons\.0\.2\.1: .*less than or equal to 1",
        ),
        ("polygons = [[[0, 0], [1, 0], [-0.5, 1]]]", r"polygons\.0\.2\.0: .*greater than or equal"),
        ("polygons = [[[0, 0], [1, 0], [1]]]", r"polygons\.0\.2\.1: .*required"),
        ("polygons = [[[0, 0], [nan, 0], [1, 1]]]", r"polygons\.0\.1\.0: .*finite"),
        ("mask = 3", r"region_of_interest\.mask: .*string"),
        ("mask = 'm'\npolygons = [[[0, 0], [1, 0], [1, 1]]]", "only one of mask and polygons"),
        ("masks = 'm'", r"`masks` in \[region_of_interest\] is unknown.*Did you mean `mask`"),
    ],
)
def test_what_is_no_region_of_interest_is_refused(toml: Any, options: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe(file=toml(f"[region_of_interest]\n{options}\n"))


@pytest.mark.parametrize("preset", ["compact", "full"])
def test_tiles_set_the_image_size(preset: str, toml: Any) -> None:
    recipe = make_recipe(preset, overrides={"network": {"tile": 512}})
    assert recipe.network.image_size == (512, 512)
    assert recipe.network.overlap == 64
    stated = make_recipe(preset, overrides={"network": {"tile": 96, "overlap": 0}})
    assert (stated.network.image_size, stated.network.overlap) == ((96, 96), 0)
    # A recipe that was written down is the same recipe.
    path = toml("")
    write_recipe(stated.resolve(), path)
    assert make_recipe(file=path).resolve() == stated.resolve()
    assert make_recipe(preset).network.tile is make_recipe(preset).network.overlap is None


@pytest.mark.parametrize(
    ("network", "found"),
    [
        ({"tile": 100}, "network.tile: .*multiple of 32"),
        ({"tile": 0}, "network.tile"),
        ({"tile": "large"}, "network.tile"),
        ({"tile": 64, "overlap": -1}, "network.overlap"),
        ({"tile": 64, "overlap": 33}, "an overlap of 33 pixels is more than half of a tile of 64"),
        ({"overlap": 8}, "an overlap needs `tile`"),
        ({"tile": 64, "image_size": (64, 96)}, r"tiles of 64 pixels.*\(64, 96\) contradict"),
        ({"tile": 64, "image_size": 64}, "network.image_size"),
        ({"tile": 64, "image_size": "large"}, "network.image_size"),
    ],
)
def test_tiles_that_cannot_be_used_are_refused(network: dict[str, object], found: str) -> None:
    with pytest.raises(RecipeError, match=found):
        make_recipe("compact", overrides={"network": network})


def test_tiles_on_the_command_line_win_over_a_recipes_size(toml: Any) -> None:
    path = toml("[network]\nimage_size = [64, 96]\n")
    recipe = make_recipe(file=path, overrides={"network": {"tile": 128, "overlap": 16}})
    assert (recipe.network.image_size, recipe.network.overlap) == ((128, 128), 16)
    with pytest.raises(RecipeError, match="contradict"):
        make_recipe(file=path, overrides={"network": {"image_size": (64, 96), "tile": 128}})


def test_tiles_and_a_region_of_interest_are_not_trained_together() -> None:
    asked = {"network": {"tile": 64}, "region_of_interest": {"mask": "mask.png"}}
    with pytest.raises(RecipeError, match=r"cannot be trained with on tiles.*draem inspect"):
        make_recipe(overrides=asked)
