"""Every layout gives the right images, labels and masks from a made-up tree of its structure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draem.datasets.layouts.category import Category
from draem.datasets.layouts.registry import LAYOUTS, as_category, open_dataset
from draem.errors import DatasetError, InputError
from draem.imaging.mask import read_masks

SIZE = (20, 24)

Write = Callable[..., Path]
Expected = dict[str, tuple[list[str], dict[str, tuple[str, list[str]]]]]
"""By category: what is learned from, and by test image its defect and its masks."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes an image, or a mask that marks 6x6 pixels with a level, under the test's folder."""

    def make(name: str, level: int | None = None, size: tuple[int, int] = SIZE) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros(size, np.uint8)
        if level is None:
            pixels = np.random.default_rng(len(name)).integers(60, 90, (*size, 3), np.uint8)
        else:
            pixels[4:10, 5:11] = level
        Image.fromarray(pixels).save(path, "jpeg" if path.suffix.lower() == ".jpg" else "png")
        return path

    return make


def mvtec_ad(_root: Path, write: Write) -> Expected:
    for name in ("train/good/000", "train/good/001", "test/good/000", "test/crack/000"):
        write(f"bottle/{name}.png")
    write("bottle/ground_truth/crack/000_mask.png", 255)
    for name in ("train/good/000", "test/good/000"):
        write(f"cable/{name}.png")
    (_root / "cable/ground_truth").mkdir()
    return {
        "bottle": (
            ["bottle/train/good/000.png", "bottle/train/good/001.png"],
            {
                "bottle/test/crack/000.png": (
                    "crack",
                    ["bottle/ground_truth/crack/000_mask.png"],
                ),
                "bottle/test/good/000.png": ("normal", []),
            },
        ),
        "cable": (["cable/train/good/000.png"], {"cable/test/good/000.png": ("normal", [])}),
    }


def mvtec_ad_2(_root: Path, write: Write) -> Expected:
    for name in (
        *("train/good/000_regular", "validation/good/000_regular"),
        *("test_public/good/000_regular", "test_public/bad/000_regular"),
        *("test_private/000", "test_private_mixed/000"),
    ):
        write(f"can/{name}.png")
    write("can/test_public/ground_truth/bad/000_regular_mask.png", 255)
    return {
        "can": (
            ["can/train/good/000_regular.png"],
            {
                "can/test_public/bad/000_regular.png": (
                    "bad",
                    ["can/test_public/ground_truth/bad/000_regular_mask.png"],
                ),
                "can/test_public/good/000_regular.png": ("normal", []),
            },
        )
    }


def mvtec_loco(_root: Path, write: Write) -> Expected:
    for name in (
        *("train/good/000", "validation/good/000", "test/good/000"),
        *("test/logical_anomalies/000", "test/structural_anomalies/000"),
    ):
        write(f"pushpins/{name}.png")
    truth = "pushpins/ground_truth"
    for name, level in (
        ("logical_anomalies/000/000", 255),
        ("logical_anomalies/000/001", 251),
        ("structural_anomalies/000/000", 249),
    ):
        write(f"{truth}/{name}.png", level)
    return {
        "pushpins": (
            ["pushpins/train/good/000.png"],
            {
                "pushpins/test/good/000.png": ("normal", []),
                "pushpins/test/logical_anomalies/000.png": (
                    "logical_anomalies",
                    [f"{truth}/logical_anomalies/000/{n}.png" for n in ("000", "001")],
                ),
                "pushpins/test/structural_anomalies/000.png": (
                    "structural_anomalies",
                    [f"{truth}/structural_anomalies/000/000.png"],
                ),
            },
        )
    }


def mvtec_3d_ad(root: Path, write: Write) -> Expected:
    for name in ("train/good/rgb/000", "test/good/rgb/000", "test/hole/rgb/000"):
        write(f"bagel/{name}.png")
    write("bagel/test/good/gt/000.png", 0)
    write("bagel/test/hole/gt/000.png", 255)
    for name in ("train/good", "test/good", "test/hole"):
        (root / "bagel" / name / "xyz").mkdir()
        (root / "bagel" / name / "xyz" / "000.tiff").write_bytes(b"heights")
    return {
        "bagel": (
            ["bagel/train/good/rgb/000.png"],
            {
                "bagel/test/good/rgb/000.png": ("normal", []),
                "bagel/test/hole/rgb/000.png": ("hole", ["bagel/test/hole/gt/000.png"]),
            },
        )
    }


def visa(root: Path, write: Write) -> Expected:
    images = "candle/Data/Images"
    for name in ("Normal/0000", "Normal/0001", "Anomaly/000"):
        write(f"{images}/{name}.JPG")
    write("candle/Data/Masks/Anomaly/000.png", 3)
    rows = [
        "object,split,label,image,mask",
        f"candle,train,normal,{images}/Normal/0000.JPG,",
        f"candle,test,normal,{images}/Normal/0001.JPG,",
        f"candle,test,anomaly,{images}/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
    ]
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(rows), encoding="utf-8")
    return {
        "candle": (
            [f"{images}/Normal/0000.JPG"],
            {
                f"{images}/Normal/0001.JPG": ("normal", []),
                f"{images}/Anomaly/000.JPG": ("anomaly", ["candle/Data/Masks/Anomaly/000.png"]),
            },
        )
    }


def btad(_root: Path, write: Write) -> Expected:
    for name in ("train/ok/0000", "test/ok/0001", "test/ko/0002"):
        write(f"01/{name}.bmp")
    write("01/ground_truth/ko/0002.png", 255)
    return {
        "01": (
            ["01/train/ok/0000.bmp"],
            {
                "01/test/ko/0002.bmp": ("ko", ["01/ground_truth/ko/0002.png"]),
                "01/test/ok/0001.bmp": ("normal", []),
            },
        )
    }


def kolektor_sdd(_root: Path, write: Write) -> Expected:
    for folder in ("kos01", "kos02", "kos03", "kos04"):
        for part in range(2):
            write(f"{folder}/Part{part}.jpg")
            bad = (folder, part) in {("kos01", 1), ("kos04", 0)}
            write(f"{folder}/Part{part}_label.bmp", 255 if bad else 0)
    return {
        "kolektor_sdd": (
            [
                *("kos01/Part0.jpg", "kos02/Part0.jpg", "kos02/Part1.jpg"),
                *("kos03/Part0.jpg", "kos03/Part1.jpg"),
            ],
            {
                "kos01/Part1.jpg": ("anomalous", ["kos01/Part1_label.bmp"]),
                "kos04/Part0.jpg": ("anomalous", ["kos04/Part0_label.bmp"]),
                "kos04/Part1.jpg": ("normal", []),
            },
        )
    }


def kolektor_sdd_2(_root: Path, write: Write) -> Expected:
    for name, level in (
        *(("train/10000", 0), ("train/10001", 255)),
        *(("test/20000", 0), ("test/20001", 255)),
    ):
        write(f"{name}.png")
        write(f"{name}_GT.png", level)
    return {
        "kolektor_sdd_2": (
            ["train/10000.png"],
            {
                "test/20000.png": ("normal", []),
                "test/20001.png": ("anomalous", ["test/20001_GT.png"]),
            },
        )
    }


def dagm(root: Path, write: Write) -> Expected:
    for folder, number in (("Train", 2), ("Train", 3), ("Test", 1), ("Test", 4)):
        write(f"Class10/{folder}/{number:04d}.PNG")
    for folder, number in (("Train", 3), ("Test", 4)):
        write(f"Class10/{folder}/Label/{number:04d}_label.PNG", 255)
        (root / "Class10" / folder / "Label" / "Labels.txt").write_text("1\n")
    return {
        "Class10": (
            ["Class10/Train/0002.PNG"],
            {
                "Class10/Test/0001.PNG": ("normal", []),
                "Class10/Test/0004.PNG": ("anomalous", ["Class10/Test/Label/0004_label.PNG"]),
            },
        )
    }


def magnetic_tile(_root: Path, write: Write) -> Expected:
    # Three quarters are three pictures; the fourth shows the same tile as the third.
    for number in ("exp1_num_100", "exp2_num_300", "exp1_num_500", "exp2_num_504", "exp1_num_900"):
        write(f"MT_Free/Imgs/{number}.jpg")
        write(f"MT_Free/Imgs/{number}.png", 0)
    write("MT_Break/Imgs/exp1_num_7.jpg")
    write("MT_Break/Imgs/exp1_num_7.png", 255)
    free = "MT_Free/Imgs"
    return {
        "magnetic_tile": (
            [
                *(f"{free}/exp1_num_100.jpg", f"{free}/exp2_num_300.jpg"),
                *(f"{free}/exp1_num_500.jpg", f"{free}/exp2_num_504.jpg"),
            ],
            {
                f"{free}/exp1_num_900.jpg": ("normal", []),
                "MT_Break/Imgs/exp1_num_7.jpg": ("break", ["MT_Break/Imgs/exp1_num_7.png"]),
            },
        )
    }


def real_iad(root: Path, write: Write) -> Expected:
    at = "realiad_1024/audiojack"
    (root / "realiad_256" / "audiojack").mkdir(parents=True)
    for name in ("OK/S0001/a.jpg", "OK/S0002/b.jpg", "NG/BX/S0003/c.jpg"):
        write(f"{at}/{name}")
    write(f"{at}/NG/BX/S0003/c.png", 255)
    entry = {"category": "audiojack", "anomaly_class": "OK", "mask_path": None}
    split = {
        "meta": {"prefix": "audiojack/", "normal_class": "OK"},
        "train": [entry | {"image_path": "OK/S0001/a.jpg"}],
        "test": [
            entry | {"image_path": "OK/S0002/b.jpg"},
            {
                "category": "audiojack",
                "anomaly_class": "BX",
                "image_path": "NG/BX/S0003/c.jpg",
                "mask_path": "NG/BX/S0003/c.png",
            },
        ],
    }
    folder = root / "realiad_jsons" / "realiad_jsons"
    folder.mkdir(parents=True)
    (folder / "audiojack.json").write_text(json.dumps(split))
    return {
        "audiojack": (
            [f"{at}/OK/S0001/a.jpg"],
            {
                f"{at}/OK/S0002/b.jpg": ("normal", []),
                f"{at}/NG/BX/S0003/c.jpg": ("BX", [f"{at}/NG/BX/S0003/c.png"]),
            },
        )
    }


TREES = (
    *(mvtec_ad, mvtec_ad_2, mvtec_loco, mvtec_3d_ad, visa, btad, kolektor_sdd, kolektor_sdd_2),
    *(dagm, magnetic_tile, real_iad),
)


def content(category: Category, root: Path) -> tuple[list[str], dict[str, tuple[str, list[str]]]]:
    def named(path: Path) -> str:
        return path.relative_to(root).as_posix()

    samples = category.test_samples()
    assert all((sample.defect == "normal") == (sample.label == 0) for sample in samples)
    return [named(path) for path in category.normal_images()], {
        named(sample.image): (sample.defect, [named(mask) for mask in sample.masks])
        for sample in samples
    }


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.__name__)
def test_a_published_structure_is_recognised(
    tree: Callable[[Path, Write], Expected], tmp_path: Path, write: Write
) -> None:
    expected = tree(tmp_path, write)
    found = open_dataset(tmp_path)
    assert found.layout == tree.__name__
    assert {name: content(each, tmp_path) for name, each in found.categories.items()} == expected
    asked = open_dataset(tmp_path, tree.__name__)
    assert list(asked.categories) == list(expected)
    for category in found.categories.values():
        for sample in category.test_samples():
            if sample.masks:
                marked = read_masks(sample.masks, numbered=sample.numbered) >= 128
                assert marked.sum() == 36
                assert marked[4:10, 5:11].all()


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        (
            kolektor_sdd,
            "1 anomalous, 6 next to an image whose masks they are, such as Part0_label.bmp",
        ),
        (
            kolektor_sdd_2,
            "1 anomalous, 2 next to an image whose masks they are, such as 10000_GT.png",
        ),
        (dagm, "1 .txt, 1 anomalous, 1 in `Label`"),
        (magnetic_tile, "5 with the masks (.png)"),
    ],
)
def test_what_is_not_learned_from_is_told(
    tree: Callable[[Path, Write], Expected],
    told: str,
    tmp_path: Path,
    write: Write,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tree(tmp_path, write)
    with caplog.at_level("INFO", "draem"):
        as_category(tmp_path).normal_images(log=True)
    assert f"Left out: {told}." in caplog.text


def test_every_layout_is_tested() -> None:
    assert {tree.__name__ for tree in TREES} == LAYOUTS.keys() - {"manifest"}


@pytest.mark.parametrize(
    ("tree", "name"), [(mvtec_ad, "bottle"), (mvtec_ad_2, "can"), (visa, "candle"), (btad, "01")]
)
def test_the_folder_of_one_category_is_recognised(
    tree: Callable[[Path, Write], Expected], name: str, tmp_path: Path, write: Write
) -> None:
    expected = tree(tmp_path, write)
    found = as_category(tmp_path / name)
    assert (found.name, found.layout) == (name, tree.__name__)
    assert content(found, tmp_path) == expected[name]


def test_one_of_several_categories_must_be_named(tmp_path: Path, write: Write) -> None:
    expected = mvtec_ad(tmp_path, write)
    with pytest.raises(DatasetError, match="has 2 categories") as caught:
        as_category(tmp_path)
    assert "bottle, cable" in str(caught.value)
    assert "--category" in str(caught.value)
    assert content(as_category(tmp_path, "cable"), tmp_path) == expected["cable"]
    with pytest.raises(DatasetError, match="no category 'cork'"):
        as_category(tmp_path, "cork")


def test_an_unknown_folder_is_refused_with_what_it_holds(tmp_path: Path, write: Write) -> None:
    write("photos/a.png")
    with pytest.raises(DatasetError, match="not in any layout") as caught:
        open_dataset(tmp_path)
    assert "photos" in str(caught.value)
    assert "manifest" in str(caught.value)
    with pytest.raises(DatasetError, match="not in the layout of VisA"):
        open_dataset(tmp_path, "visa")
    with pytest.raises(InputError, match="layout is unknown"):
        open_dataset(tmp_path, "imagenet")
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")


def test_visa_without_its_split_is_refused(tmp_path: Path, write: Write) -> None:
    write("candle/Data/Images/Normal/0000.JPG")
    with pytest.raises(DatasetError, match="VisA without its split"):
        open_dataset(tmp_path)


def manifest(root: Path, text: str, encoding: str = "utf-8") -> Path:
    path = root / "parts.csv"
    path.write_text(text, encoding=encoding)
    return path


ROWS = """image,label,split,mask,category
a.png,good,train,,nut
b.png,0,test,,nut
c.png,scratch,test,c_mask.png,nut
d.png,1,test,,bolt
e.png,normal,train,,bolt
f.png,normal,later,,bolt
"""


@pytest.mark.parametrize(
    ("change", "encoding"),
    [
        (str, "utf-8"),
        (lambda text: text.replace(",", ";"), "utf-8-sig"),
        (lambda text: text.replace(",", "\t").upper().replace(".PNG", ".png"), "utf-8"),
    ],
)
def test_a_manifest(
    change: Callable[[str], str], encoding: str, tmp_path: Path, write: Write
) -> None:
    text = change(ROWS)
    for name in "abcdefABCDEF":
        write(f"{name}.png")
    write("c_mask.png", 255)
    write("C_MASK.png", 255)
    found = open_dataset(manifest(tmp_path, text, encoding))
    assert found.layout == "manifest"
    nut, bolt = (content(found[name], tmp_path) for name in found.categories)
    case = str.upper if "A.png" in text else str
    stem = {name: f"{case(name)}.png" for name in "abcde"}
    assert nut == (
        [stem["a"]],
        {
            stem["b"]: ("normal", []),
            stem["c"]: (case("scratch"), [f"{case('c_mask')}.png"]),
        },
    )
    assert bolt == ([stem["e"]], {stem["d"]: ("anomalous", [])})


def test_a_manifest_in_parquet(tmp_path: Path, write: Write) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    write("a.png")
    write("c.png")
    table = pyarrow.table(
        {
            "image": ["a.png", "c.png"],
            "label": [0, 1],
            "split": ["train", "test"],
            "mask": [None] * 2,
        }
    )
    parquet.write_table(table, tmp_path / "parts.parquet")
    found = as_category(tmp_path / "parts.parquet")
    assert found.name == "parts"
    assert content(found, tmp_path) == (["a.png"], {"c.png": ("anomalous", [])})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.png,good\n", "line 2 has no `split`"),
        ("image,label,split\na.png,,train\n", "line 2 has no `label`"),
        ("a.png,good,train\n", "not in any layout"),
        ("image,label,split\ngone.png,good,train\n", "gone.png: does not exist"),
    ],
)
def test_a_manifest_that_lacks_something_says_where(
    text: str, message: str, tmp_path: Path
) -> None:
    path = manifest(tmp_path, text)
    with pytest.raises(DatasetError) as caught:
        as_category(path).normal_images()
    assert message in str(caught.value)


def test_masks_of_another_size_and_missing_ones_are_all_listed(
    tmp_path: Path, write: Write
) -> None:
    rows = ["image,label,split,mask"]
    for name in "abc":
        write(f"{name}.png")
        rows.append(f"{name}.png,dent,test,{name}_mask.png")
    write("a_mask.png", 255, (30, 30))
    write("b_mask.png", 255)
    with pytest.raises(DatasetError, match="2 problems") as caught:
        as_category(manifest(tmp_path, "\n".join(rows))).test_samples()
    assert "a_mask.png: the mask has another size" in str(caught.value)
    assert "c_mask.png: does not exist" in str(caught.value)
