from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draem.datasets.folders import find_images, search_images
from draem.datasets.mvtec import gather_good_images, gather_images, read_normal_images
from draem.datasets.samples import Sample, is_good, read_test_samples
from draem.errors import DatasetError
from draem.imaging.decode import IMAGE_SUFFIXES, decode_image

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Writes a small grey image under the test's folder."""

    def write(name: str, size: tuple[int, int] = (20, 16)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(path)
        return path

    return write


@pytest.fixture
def category(tmp_path: Path, draw: Draw) -> Path:
    for name in ("000", "001", "002"):
        draw(f"train/good/{name}.png")
    for name in ("000", "001"):
        draw(f"test/good/{name}.png")
        draw(f"test/scratch/{name}.png")
        draw(f"ground_truth/scratch/{name}_mask.png")
    draw("test/dent/000.png")
    draw("ground_truth/dent/000_mask.png")
    return tmp_path


def names(paths: tuple[Path, ...], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_images_are_found_in_one_order_and_hidden_ones_passed_over(tmp_path, draw):
    for name in ("b.png", "a.JPG", "B.bmp", "10.webp", "9.tif", "sub/c.tiff", "sub/a.png"):
        draw(name)
    for name in ("._b.png", ".hidden.png", ".cache/x.png", "sub/._c.png"):
        draw(name)
    for name in ("notes.txt", "Thumbs.db", "sub/list.csv"):
        (tmp_path / name).touch()

    expected = ["10.webp", "9.tif", "B.bmp", "a.JPG", "b.png", "sub/a.png", "sub/c.tiff"]
    assert names(find_images(tmp_path), tmp_path) == expected
    found = search_images(str(tmp_path))
    assert names(found.images, tmp_path) == expected
    assert found.left_out == {"hidden": 4, ".txt": 1, ".db": 1, ".csv": 1}


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_kind_that_is_found_is_decoded(tmp_path, draw, suffix):
    lower, upper = draw(f"a{suffix}"), draw(f"b{suffix.upper()}")

    assert find_images(tmp_path) == (lower, upper)
    assert {decode_image(path).shape for path in (lower, upper)} == {(16, 20, 3)}


def test_the_first_picture_of_a_gif_counts(tmp_path):
    frames = [Image.new("L", (20, 20), level) for level in (90, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])

    assert (decode_image(tmp_path / "a.gif") == 90).all()


def test_grey_values_of_12_bits_in_a_pgm_mean_what_they_say(tmp_path):
    levels = np.full((20, 24), 4095, ">u2")
    levels[:10] = 2048
    (tmp_path / "a.pgm").write_bytes(b"P5 24 20 4095\n" + levels.tobytes())

    pixels = decode_image(tmp_path / "a.pgm")

    assert (pixels[10:] == 255).all()
    assert (pixels[:10] == 128).all()


def test_thumbnails_are_left_out_and_counted(tmp_path, draw):
    for name in ("a.png", "@eaDir/a.png/thumb.jpg", "b/@eaDir/c.png", "__MACOSX/a.png"):
        draw(name)

    found = search_images(tmp_path)

    assert names(found.images, tmp_path) == ["a.png"]
    assert sum(found.left_out.values()) == 3
    assert all("thumbnails" in reason for reason in found.left_out)


@pytest.mark.parametrize(
    "mask", ["{}_mask.png", "{}_label.bmp", "{}_GT.png", "mask_{}.png", "{}-Mask.PNG", "gt_{}.tif"]
)
def test_masks_next_to_their_image_are_left_out(tmp_path, draw, mask):
    for stem in ("Part0", "Part1"):
        draw(f"kos01/{stem}.jpg")
        draw("kos01/" + mask.format(stem))

    found = search_images(tmp_path)

    assert names(found.images, tmp_path) == ["kos01/Part0.jpg", "kos01/Part1.jpg"]
    (reason,) = found.left_out
    assert found.left_out[reason] == 2
    assert mask.format("Part0") in reason
    for read in (read_normal_images, lambda root: gather_images([root])):
        assert read(tmp_path) == found.images


def test_what_is_called_like_a_mask_without_an_image_is_an_image(tmp_path, draw):
    for name in ("a_label.png", "b/c_mask.png", "b/label.png"):
        draw(name)

    assert len(find_images(tmp_path)) == 3


def test_what_was_taken_is_logged_in_one_line(tmp_path, draw, caplog):
    for name in ("a.png", "b/c.png", "b/d.JPG", ".x.png", "b/notes.txt", "b/d_mask.png"):
        draw(name) if not name.endswith("txt") else (tmp_path / name).touch()

    with caplog.at_level("INFO", "draem"):
        read_normal_images(tmp_path, log=True)

    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith(f"3 images taken from 1 in {tmp_path}; 2 in {tmp_path / 'b'} (")
    assert "1 .jpg, 2 .png" in line
    assert "1 .txt" in line
    assert "1 hidden" in line
    assert "d_mask.png" in line


def test_a_hidden_folder_named_on_purpose_is_searched(tmp_path, draw):
    draw(".data/a.png")

    assert names(find_images(tmp_path / ".data"), tmp_path) == [".data/a.png"]


def test_links_to_files_and_folders_are_followed_and_loops_end(tmp_path, draw):
    elsewhere = draw("elsewhere/a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.png").symlink_to(elsewhere)
    (root / "folder").symlink_to(elsewhere.parent)
    (root / "again").symlink_to(root)

    assert names(find_images(root), root) == ["folder/a.png", "link.png"]


def test_a_link_to_nothing_is_kept_for_the_decoder_to_name(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")

    assert names(find_images(tmp_path), tmp_path) == ["a.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DatasetError, match="cannot be read") as raised:
        find_images(tmp_path / "missing")

    assert raised.value.path == tmp_path / "missing"


def test_normal_images_of_a_category(category):
    found = read_normal_images(category)

    assert names(found, category) == [f"train/good/00{i}.png" for i in range(3)]


def test_normal_images_directly_in_a_folder_and_in_its_folders(tmp_path, draw):
    for name in ("b.png", "a.png", "older/c.png"):
        draw(name)

    assert names(read_normal_images(tmp_path), tmp_path) == ["a.png", "b.png", "older/c.png"]


def test_folders_in_train_good_are_read(tmp_path, draw):
    for name in ("a.png", "batch2/b.png", "rgb/c/d.png"):
        draw(f"train/good/{name}")

    found = names(read_normal_images(tmp_path), tmp_path / "train/good")

    assert found == ["a.png", "batch2/b.png", "rgb/c/d.png"]


def test_normal_images_in_folders_of_a_folder(tmp_path, draw):
    for name in ("monday/b.png", "sunday/a.png", "monday/late/a.png"):
        draw(name)

    expected = ["monday/b.png", "monday/late/a.png", "sunday/a.png"]
    assert names(read_normal_images(str(tmp_path)), tmp_path) == expected


def test_the_train_folder_of_a_category_may_be_named(category):
    assert len(read_normal_images(category / "train")) == 3
    assert len(read_normal_images(category / "train" / "good")) == 3


def test_normal_images_from_nothing(tmp_path, draw):
    image = draw("somewhere/a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "papers" / "old").mkdir(parents=True)
    (tmp_path / "papers" / "a.txt").touch()
    (tmp_path / "papers" / "old" / "b.psd").touch()
    (tmp_path / "category" / "train" / "good").mkdir(parents=True)
    expected = {
        tmp_path / "missing": "does not exist. Expected a folder of images of good parts",
        image: "is not a folder",
        tmp_path / "empty": "holds no images.*Found an empty folder",
        tmp_path / "papers": r"holds no images.*\.bmp, .*\.webp.*Found 2 other files",
        tmp_path / "category": r"train/good: holds no images",
    }
    for path, problem in expected.items():
        with pytest.raises(DatasetError, match=problem) as raised:
            read_normal_images(path)
        assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize("folder", ["test", "ground_truth", "Test"])
@pytest.mark.parametrize("beside", ["train/a.png", "a.png", "train/parts/a.png"])
def test_a_category_without_train_good_is_not_swept(tmp_path, draw, folder, beside):
    draw(f"{folder}/scratch/a.png")
    draw(beside)

    with pytest.raises(DatasetError, match="no train/good, so anomalous images might") as raised:
        read_normal_images(tmp_path)

    assert raised.value.path == tmp_path


def test_an_empty_test_folder_is_a_warning_sign_too(tmp_path, draw):
    (tmp_path / "test").mkdir()
    draw("train/a.png")

    with pytest.raises(DatasetError, match="a folder `test`"):
        read_normal_images(tmp_path)


def test_a_folder_of_categories_is_not_swept(tmp_path, draw):
    for product in ("bottle", "cable"):
        draw(f"{product}/train/good/a.png")
        draw(f"{product}/test/dent/a.png")

    with pytest.raises(DatasetError, match=r"a folder `test`.*or one category"):
        read_normal_images(tmp_path)


def test_good_beside_other_folders_is_not_swept(category):
    with pytest.raises(DatasetError, match="a folder `dent` next to `good`") as raised:
        read_normal_images(category / "test")

    assert raised.value.path == category / "test"


def test_samples_of_a_category(category):
    samples = read_test_samples(category)

    truth = category / "ground_truth"
    test = category / "test"
    assert samples == (
        Sample(test / "dent/000.png", 1, "dent", (truth / "dent/000_mask.png",)),
        Sample(test / "good/000.png", 0, "normal"),
        Sample(test / "good/001.png", 0, "normal"),
        Sample(test / "scratch/000.png", 1, "scratch", (truth / "scratch/000_mask.png",)),
        Sample(test / "scratch/001.png", 1, "scratch", (truth / "scratch/001_mask.png",)),
    )


@pytest.mark.parametrize(
    "mask", ["007_mask.png", "007.png", "007_mask.bmp", "007.tif", "007_mask.PNG"]
)
def test_masks_are_found_under_every_accepted_name(tmp_path, draw, mask):
    draw("test/dent/007.jpg")
    path = draw(f"ground_truth/dent/{mask}")
    draw("ground_truth/dent/008_mask.png")

    assert [sample.masks for sample in read_test_samples(tmp_path)] == [(path,)]


def test_the_mvtec_name_wins(tmp_path, draw):
    draw("test/dent/007.png")
    for name in ("007.png", "007_mask.bmp", "007_mask.png"):
        draw(f"ground_truth/dent/{name}")

    assert read_test_samples(tmp_path)[0].masks == (tmp_path / "ground_truth/dent/007_mask.png",)


@pytest.mark.parametrize(
    "mask",
    [
        *("{}_mask.png", "{}.png", "mask_{}.png", "{}_gt.png", "{}_label.bmp", "{}_Mask.PNG"),
        *("{}/000.png", "{}/mask.png", "GT_{}.png", "{}_ground_truth.tif"),
    ],
)
def test_masks_of_other_tools_are_found(tmp_path, draw, mask):
    for stem in ("007", "008"):
        draw(f"test/dent/{stem}.png")
        draw("ground_truth/dent/" + mask.format(stem))

    found = [sample.masks for sample in read_test_samples(tmp_path)]

    assert found == [(tmp_path / "ground_truth/dent" / mask.format(s),) for s in ("007", "008")]


def test_folders_of_a_defect_are_read_with_their_masks(tmp_path, draw):
    for name in ("a/0.png", "b/0.png", "1.png"):
        draw(f"test/dent/{name}")
        draw(f"ground_truth/dent/{name.replace('.png', '_mask.png')}")

    found = read_test_samples(tmp_path)

    assert [names((s.image, *s.masks), tmp_path) for s in found] == [
        ["test/dent/1.png", "ground_truth/dent/1_mask.png"],
        ["test/dent/a/0.png", "ground_truth/dent/a/0_mask.png"],
        ["test/dent/b/0.png", "ground_truth/dent/b/0_mask.png"],
    ]


@pytest.mark.parametrize(
    "masks",
    [
        ("007/000.png", "007/001.png"),
        ("007/mask.png", "007/007.png"),
        ("007_mask_1.png", "007_mask_2.png"),
        ("007_gt1.png", "007_gt2.png", "007_gt3.png"),
        ("007_MASK-1.bmp", "007_mask-2.png"),
    ],
)
def test_several_masks_of_an_image_are_all_its_masks(tmp_path, draw, masks):
    draw("test/dent/007.png")
    expected = {draw(f"ground_truth/dent/{name}") for name in masks}

    (sample,) = read_test_samples(tmp_path)

    assert len(sample.masks) == len(masks)
    assert set(sample.masks) == expected


@pytest.mark.parametrize(
    "masks",
    [
        ("007_gt.png", "007_label.png"),
        ("007_mask.bmp", "007_mask.tif"),
        ("007_mask_1.png", "007_label_1.png"),
        ("007_gt.png", "007/000.png"),
    ],
)
def test_several_masks_that_nothing_chooses_from_are_refused(tmp_path, draw, masks):
    draw("test/dent/007.png")
    for name in masks:
        draw(f"ground_truth/dent/{name}")

    with pytest.raises(DatasetError, match="has several masks") as caught:
        read_test_samples(tmp_path)
    for name in masks:
        assert name in str(caught.value)


@pytest.mark.parametrize("folder", ["Ground_Truth", "groundtruth", "masks", "GT", "labels"])
def test_other_folders_of_masks_are_found(tmp_path, draw, folder):
    draw("test/good/000.png")
    draw("test/dent/007.png")
    path = draw(f"{folder}/dent/007_mask.png")

    assert [sample.masks for sample in read_test_samples(tmp_path)] == [(path,), ()]


def test_two_folders_of_masks_are_refused_unless_one_is_ground_truth(tmp_path, draw):
    draw("test/dent/007.png")
    draw("masks/dent/007.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "007.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert read_test_samples(tmp_path)[0].masks == (tmp_path / "masks/dent/007.png",)
    draw("gt/dent/007.png")
    with pytest.raises(DatasetError, match=r"several folders that may hold its masks.*gt, masks"):
        read_test_samples(tmp_path)
    path = draw("ground_truth/dent/007.png")
    assert read_test_samples(tmp_path)[0].masks == (path,)


def test_masks_without_folders_of_defects(tmp_path, draw):
    for name in ("dent/007", "dent/008", "scratch/008", "scratch/009", "good/007"):
        draw(f"test/{name}.png")
    for name in ("007", "dent_008_mask", "scratch_008_gt", "009_mask"):
        draw(f"ground_truth/{name}.png")

    found = {s.image.stem + s.defect: s.masks for s in read_test_samples(tmp_path) if s.label}

    assert {name: masks[0].stem for name, masks in found.items()} == {
        "007dent": "007",
        "008dent": "dent_008_mask",
        "008scratch": "scratch_008_gt",
        "009scratch": "009_mask",
    }


def test_a_mask_that_may_be_of_two_images_is_of_none(tmp_path, draw):
    for name in ("dent/007", "scratch/007"):
        draw(f"test/{name}.png")
    draw("ground_truth/007_mask.png")

    with pytest.raises(DatasetError, match="2 problems") as caught:
        read_test_samples(tmp_path)
    assert str(caught.value).count("has no mask") == 2


@pytest.mark.parametrize(
    "name",
    [
        *("good", "Good", "GOODS", "normal", "ok", "OK", "pass", "defect_free", "Defect-Free"),
        *("no defect", "nodefect", "non_defective", "0_good", "00-ok"),
    ],
)
def test_folders_of_good_parts_have_many_names(name: str, tmp_path, draw):
    assert is_good(name)
    image = draw(f"train/{name}/000.png")
    draw("train/bad/001.png")
    draw(f"test/{name}/000.png")

    assert read_normal_images(tmp_path) == (image,)
    assert [(s.label, s.defect) for s in read_test_samples(tmp_path)] == [(0, "normal")]


@pytest.mark.parametrize(
    "name", ["bad", "not_ok", "good_scratch", "ok2", "nok", "abnormal", "0", ""]
)
def test_other_folders_are_of_defects(name: str):
    assert not is_good(name)


def test_two_folders_of_good_parts_to_learn_from_are_refused(tmp_path, draw):
    draw("train/OK/000.png")
    draw("train/normal/001.png")
    with pytest.raises(DatasetError, match=r"several folders of good parts.*OK, normal"):
        read_normal_images(tmp_path)
    image = draw("train/good/002.png")
    assert read_normal_images(tmp_path) == (image,)


@pytest.mark.parametrize("folder", ["ok", "OK", "Good", "normal", "PASS"])
def test_good_parts_have_many_names(tmp_path, draw, folder):
    draw(f"test/{folder}/0.png")

    assert [sample.label for sample in read_test_samples(tmp_path)] == [0]


def test_only_good_or_only_anomalous_images_are_allowed(tmp_path, draw):
    draw("one/test/good/a.png")
    draw("two/test/dent/a.png")
    draw("two/ground_truth/dent/a_mask.png")
    draw("three/test/normal/a.png")

    assert [s.label for s in read_test_samples(tmp_path / "one")] == [0]
    assert [s.label for s in read_test_samples(tmp_path / "two")] == [1]
    assert [s.defect for s in read_test_samples(tmp_path / "three")] == ["normal"]


def test_all_problems_are_listed_in_one_error(category, draw):
    draw("test/scratch/002.png")
    draw("test/scratch/003.png")
    draw("ground_truth/scratch/003_mask.png", size=(20, 17))
    draw("test/scratch/004.png")
    (category / "ground_truth/scratch/004_mask.png").write_text("no image")
    draw("test/stain/000.png")
    draw("test/stain/001.png")
    draw("test/loose.png")

    with pytest.raises(DatasetError) as raised:
        read_test_samples(category)

    lines = str(raised.value).splitlines()
    assert lines[0].startswith(f"{category}: the test images have 5 problems")
    wanted = [
        ("test/loose.png", "is directly in `test`"),
        ("test/scratch/002.png", "has no mask. Expected", "ground_truth/scratch/002_mask.png"),
        ("ground_truth/scratch/003_mask.png", "another size", "Expected 20x16", "Found 20x17"),
        ("ground_truth/scratch/004_mask.png", "is not an image"),
        ("ground_truth/stain", "the masks of 2 images in test/stain are missing", "test/good"),
    ]
    assert len(lines) == 1 + len(wanted)
    for line, parts in zip(lines[1:], wanted, strict=True):
        assert all(part in line for part in parts), line
        assert line.endswith(".")
        assert not line.endswith("..")


def test_a_mask_is_compared_with_the_upright_image(tmp_path, draw):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = draw("test/dent/a.jpg")
    Image.new("L", (30, 20)).save(image, exif=exif)
    draw("ground_truth/dent/a_mask.png", size=(20, 30))

    assert len(read_test_samples(tmp_path)) == 1


def test_test_images_from_nothing(tmp_path, draw):
    image = draw("normal/a.png")
    (tmp_path / "empty" / "test").mkdir(parents=True)
    (tmp_path / "hollow" / "test" / "good").mkdir(parents=True)
    draw("hidden/test/.cache/a.png")
    expected = {
        tmp_path / "missing": "does not exist.*test/good and test/<defect>",
        image: "is not a folder",
        tmp_path / "normal": "there is no folder `test` in it. Expected test/good",
        tmp_path / "empty": "test: holds no test images. Expected test/good",
        tmp_path / "hollow": "test: holds no test images",
        tmp_path / "hidden": "test: holds no test images",
    }
    for path, problem in expected.items():
        with pytest.raises(DatasetError, match=problem) as raised:
            read_test_samples(path)
        assert str(raised.value).startswith(str(path))


def test_gathering_keeps_the_order_named_and_drops_duplicates(tmp_path, draw, monkeypatch):
    for name in ("z.png", "a.png", "box/b.png", "box/deep/c.png"):
        draw(name)
    (tmp_path / "raw.data").touch()
    monkeypatch.chdir(tmp_path)

    found = gather_images(["z.png", Path("box"), tmp_path / "z.png", "raw.data", "box/../a.png"])

    assert [path.as_posix() for path in found] == [
        "z.png",
        "box/b.png",
        "box/deep/c.png",
        "raw.data",
        "box/../a.png",
    ]
    assert gather_images([".", "a.png"]) == find_images(".")
    assert gather_images([]) == ()


def test_gathering_keeps_links_apart(tmp_path, draw):
    image = draw("a.png")
    (tmp_path / "b.png").symlink_to(image)

    assert names(gather_images([tmp_path]), tmp_path) == ["a.png", "b.png"]


def test_gathering_from_nothing(tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(DatasetError, match=r"gone\.png: does not exist"):
        gather_images([tmp_path / "gone.png"])
    with pytest.raises(DatasetError, match="empty: holds no images"):
        gather_images([tmp_path / "empty"])


def test_gathering_good_images_takes_files_and_folders_once_each(tmp_path, draw):
    for name in (
        "z.png",
        "box/b.png",
        "box/a.png",
        "tray/1/c.png",
        "tray/2/c.png",
        "box/deep/d.png",
    ):
        draw(name)

    found = gather_good_images([tmp_path / "z.png", tmp_path / "box", str(tmp_path / "tray")])

    assert names(found, tmp_path) == [
        *("z.png", "box/a.png", "box/b.png", "box/deep/d.png", "tray/1/c.png", "tray/2/c.png")
    ]
    assert gather_good_images([tmp_path / "box", tmp_path / "box/a.png"]) == found[1:4]


def test_gathering_good_images_refuses_a_category_and_takes_its_folders_by_name(category):
    for missing in ("ground_truth", "train"):
        with pytest.raises(DatasetError, match=r"is a category.*not trained on.*other good images"):
            gather_good_images([category])
        (category / missing).rename(category / f"no {missing}")
    (category / "no train").rename(category / "train")
    (category / "test").rename(category / "testing")
    with pytest.raises(DatasetError, match="is a category"):
        gather_good_images([category])

    assert len(gather_good_images([category / "testing" / "good"])) == 2
    assert len(gather_good_images([category / "train" / "good"])) == 3


def test_gathering_good_images_refuses_bad_ones_and_nothing(tmp_path, draw):
    draw("parts/ok/a.png")
    draw("parts/nok/a.png")
    (tmp_path / "empty").mkdir()

    with pytest.raises(DatasetError, match="folder `nok` in it"):
        gather_good_images([tmp_path / "parts"])
    with pytest.raises(DatasetError, match="empty: holds no images"):
        gather_good_images([tmp_path / "empty"])
    with pytest.raises(DatasetError, match="gone: does not exist"):
        gather_good_images([tmp_path / "gone"])


@pytest.mark.parametrize("folder", ["ground_truth", "ground_truth/scratch"])
def test_masks_are_not_taken_for_good_parts(tiny_category: Path, folder: str) -> None:
    with pytest.raises(DatasetError, match="`ground_truth` holds masks"):
        read_normal_images(tiny_category / folder)
    with pytest.raises(DatasetError, match="`ground_truth` holds masks"):
        gather_good_images([tiny_category / folder])


def test_a_category_without_any_masks_has_labels_alone(category):
    shutil.rmtree(category / "ground_truth")
    samples = read_test_samples(category)
    assert {sample.masks for sample in samples} == {()}
    assert {sample.label for sample in samples} == {0, 1}
