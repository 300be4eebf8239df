from __future__ import annotations

import os
import struct
import threading
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from draem.errors import ImageError
from draem.imaging.decode import (
    IMAGE_SUFFIXES,
    decode_image,
    decode_mask,
    is_image_path,
    read_size,
)
from draem.imaging.limits import MAX_PIXELS
from draem.imaging.opening import MIN_SIDE

HEIGHT, WIDTH = 24, 36


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def rgb(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def smooth_image(side: int = 200) -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def png_bytes(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """A PNG built from its specification; kind 0 grey, 2 RGB, 4 grey with alpha."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.TIFF"])
def test_lossless_formats_give_the_pixels_that_were_written(tmp_path, rgb, name):
    path = tmp_path / name
    cv2.imwrite(str(path), rgb[..., ::-1])

    decoded = decode_image(path)

    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, rgb)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp"])
def test_lossy_formats_come_close(tmp_path, name):
    image = smooth_image(64)
    cv2.imwrite(str(tmp_path / name), image[..., ::-1])

    difference = decode_image(tmp_path / name).astype(int) - image

    assert np.abs(difference).mean() < 4


def test_the_content_decides_and_not_the_name(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.jpg", format="PNG")

    np.testing.assert_array_equal(decode_image(tmp_path / "a.jpg"), rgb)


def test_grey_and_one_bit_images_become_rgb(tmp_path, rgb):
    grey = rgb[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey > 127).save(tmp_path / "bits.png")

    np.testing.assert_array_equal(decode_image(tmp_path / "grey.png"), np.dstack([grey] * 3))
    bits = np.where(grey > 127, 255, 0)
    np.testing.assert_array_equal(decode_image(tmp_path / "bits.png"), np.dstack([bits] * 3))


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_alpha_is_ignored(tmp_path, rng, rgb, name):
    alpha = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / name)
    np.testing.assert_array_equal(decode_image(tmp_path / name), rgb)

    Image.fromarray(np.dstack([rgb[..., 0], alpha])).save(tmp_path / f"grey_{name}")
    grey = decode_image(tmp_path / f"grey_{name}")
    np.testing.assert_array_equal(grey, np.dstack([rgb[..., 0]] * 3))


@pytest.mark.skipif(
    (b"II", 1, (1,), 1, (8, 8), (1,)) not in TiffImagePlugin.OPEN_INFO,
    reason="this Pillow refuses such files",
)
def test_grey_multiplied_by_its_alpha(tmp_path):
    path = tmp_path / "a.tiff"
    stored = np.dstack([np.full((20, 20), 50, np.uint8), np.full((20, 20), 100, np.uint8)])
    Image.fromarray(stored).save(path)
    # Tag 338, one SHORT: from 2 (alpha apart) to 1 (already multiplied in).
    apart, multiplied = (struct.pack("<HHIH", 338, 3, 1, kind) for kind in (2, 1))
    assert path.read_bytes().count(apart) == 1
    path.write_bytes(path.read_bytes().replace(apart, multiplied))

    np.testing.assert_allclose(decode_image(path), round(50 * 255 / 100), atol=1)


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(16))])
def test_palette_images(tmp_path, rng, transparency):
    palette = rng.integers(0, 256, (16, 3), dtype=np.uint8)
    indices = rng.integers(0, 16, (HEIGHT, WIDTH), dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a.png", **options)

    np.testing.assert_array_equal(decode_image(tmp_path / "a.png"), palette[indices])


def test_cmyk_images(tmp_path):
    cmyk = Image.new("CMYK", (WIDTH, HEIGHT), (0, 255, 255, 0))
    cmyk.save(tmp_path / "a.tiff")
    cmyk.save(tmp_path / "a.jpg", quality=100)

    np.testing.assert_array_equal(decode_image(tmp_path / "a.tiff")[0, 0], [255, 0, 0])
    np.testing.assert_allclose(decode_image(tmp_path / "a.jpg")[0, 0], [255, 0, 0], atol=3)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_is_divided_by_257_and_rounded(tmp_path, rng, suffix):
    levels = rng.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    levels[0, :6] = [0, 128, 129, 257, 65406, 65535]
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), levels)

    decoded = decode_image(tmp_path / f"a.{suffix}")

    assert decoded[0, :6, 0].tolist() == [0, 0, 1, 1, 254, 255]
    np.testing.assert_array_equal(decoded, np.dstack([np.round(levels / 257)] * 3))


def test_a_dark_16_bit_image_stays_dark(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((HEIGHT, WIDTH), 514, np.uint16))

    assert np.all(decode_image(tmp_path / "a.png") == 2)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_comes_within_one_level_of_division_by_257(tmp_path, rng, suffix, channels):
    levels = rng.integers(0, 65536, (HEIGHT, WIDTH, channels), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), levels)

    decoded = decode_image(tmp_path / f"a.{suffix}")

    expected = np.round(levels[..., 2::-1] / 257)
    assert np.abs(decoded - expected).max() <= 1


def test_16_bit_grey_with_alpha(tmp_path, rng):
    levels = rng.integers(0, 65536, (HEIGHT, WIDTH, 2), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    (tmp_path / "a.png").write_bytes(png_bytes(WIDTH, HEIGHT, 16, 4, rows))

    decoded = decode_image(tmp_path / "a.png")

    assert np.abs(decoded - np.round(levels[..., :1] / 257)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
def test_exif_orientation_is_honoured(tmp_path, orientation, suffix):
    path = tmp_path / f"a.{suffix}"
    image = Image.fromarray(smooth_image(48)[:32])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))

    np.testing.assert_array_equal(decode_image(path), expected)
    assert read_size(path) == expected.shape[:2]
    assert read_size(path) == ((48, 32) if orientation >= 5 else (32, 48))


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_damaged_exif_block_does_not_cost_the_image(tmp_path, rgb, exif, suffix):
    Image.fromarray(rgb).save(tmp_path / f"a.{suffix}", exif=exif, quality=95)

    assert decode_image(tmp_path / f"a.{suffix}").shape == rgb.shape
    assert read_size(tmp_path / f"a.{suffix}") == (HEIGHT, WIDTH)


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_that_does_not_exist_is_passed_over(tmp_path, rgb, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=exif)

    np.testing.assert_array_equal(decode_image(tmp_path / "a.png"), rgb)
    assert read_size(tmp_path / "a.png") == (HEIGHT, WIDTH)


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_the_first_picture_of_an_animation_counts(tmp_path, rgb, name):
    first, second = Image.fromarray(rgb), Image.new("RGB", (WIDTH, HEIGHT))
    first.save(tmp_path / name, save_all=True, append_images=[second], lossless=True)

    np.testing.assert_array_equal(decode_image(tmp_path / name), rgb)
    assert read_size(tmp_path / name) == (HEIGHT, WIDTH)


@pytest.mark.parametrize(("mode", "name"), [("F", "floating-point"), ("I", "signed")])
@pytest.mark.parametrize("read", [decode_image, decode_mask, read_size])
def test_values_without_a_known_range_are_refused(tmp_path, mode, name, read):
    Image.new(mode, (WIDTH, HEIGHT)).save(tmp_path / "a.tiff")

    with pytest.raises(ImageError, match=rf"a\.tiff: .*holds {name} .*Convert it to 8 or 16 bits"):
        read(tmp_path / "a.tiff")


@pytest.mark.parametrize("name", ["two words.png", "größe 部品.png", "-dash.png", "%d*[a].png"])
def test_any_file_name_works(tmp_path, rgb, name, monkeypatch):
    Image.fromarray(rgb).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)

    np.testing.assert_array_equal(decode_image(name), rgb)
    assert read_size(Path(name)) == (HEIGHT, WIDTH)


def test_a_link_works_as_a_file(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")

    np.testing.assert_array_equal(decode_image(tmp_path / "link.png"), rgb)


def test_is_image_path():
    assert all(is_image_path(f"x{suffix.upper()}") for suffix in IMAGE_SUFFIXES)
    assert not is_image_path("x.psd")
    assert not is_image_path("png")


READERS = [decode_image, decode_mask, read_size]


@pytest.mark.parametrize("read", READERS)
def test_what_is_not_an_image_file_is_named(tmp_path, read):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image at all")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "picture.tga")
    expected = {
        tmp_path / "missing.png": "does not exist",
        tmp_path / "dangling.png": "does not exist",
        tmp_path / "text.png" / "x.png": "cannot be read",
        tmp_path / ("n" * 300): "cannot be read",
        tmp_path: "is a folder",
        tmp_path / "pipe.png": "is not a regular file",
        tmp_path / "empty.png": "is an empty file",
        tmp_path / "text.png": "is not an image that draem can read",
        tmp_path / "picture.tga": "is not an image that draem can read",
    }
    for path, problem in expected.items():
        with pytest.raises(ImageError) as raised:
            read(path)
        assert raised.value.path == path
        assert problem in str(raised.value)


def test_a_name_that_no_file_can_have_is_an_image_error():
    with pytest.raises(ImageError, match="null"):
        decode_image("a\0b.png")


def test_a_file_that_may_not_be_read_is_named(tmp_path, rgb, monkeypatch):
    def refuse(*_args: object, **_keywords: object) -> None:
        raise PermissionError(13, "Permission denied")

    Image.fromarray(rgb).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", refuse)

    with pytest.raises(ImageError, match=r"a\.png: cannot be read \(Permission denied\)"):
        decode_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("png", {}),
        ("jpg", {}),
        ("jpg", {"progressive": True}),
        ("webp", {}),
        ("webp", {"lossless": True}),
        ("bmp", {}),
        ("tiff", {}),
        ("tiff", {"compression": "tiff_lzw"}),
        ("tiff", {"compression": "tiff_deflate"}),
        ("tiff", {"compression": "jpeg"}),
    ],
)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_an_error(tmp_path, suffix, options, share):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(smooth_image()).save(path, **options)
    assert decode_image(path).shape == (200, 200, 3)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    for decode in (decode_image, decode_mask):
        with pytest.raises(ImageError, match=rf"a\.{suffix}: is (damaged|not an image)"):
            decode(path)


def test_opencv_would_hide_a_truncated_jpeg(tmp_path, capfd):
    """Why Pillow decodes: OpenCV fills what is missing with grey and reports nothing."""
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth_image()).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    picture = cv2.imread(str(path))

    assert picture is not None
    assert np.all(picture[-40:] == picture[-1, -1])
    with pytest.raises(ImageError):
        decode_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
def test_damaged_bytes_give_an_image_or_an_image_error(tmp_path, rng, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(smooth_image(64)).save(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(150):
        damaged = whole.copy()
        places = rng.integers(0, min(len(whole), 400), 4)
        damaged[places] = rng.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        try:
            assert decode_image(path).ndim == 3
        except ImageError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(("width", "height"), [(1, 1), (MIN_SIDE - 1, 100), (100, MIN_SIDE - 1)])
@pytest.mark.parametrize("read", READERS)
def test_tiny_images_are_refused(tmp_path, width, height, read):
    Image.new("L", (width, height)).save(tmp_path / "a.png")

    with pytest.raises(ImageError, match=rf"a\.png: is too small.*Found {width}x{height} "):
        read(tmp_path / "a.png")


def test_the_smallest_image_is_read(tmp_path):
    Image.new("L", (MIN_SIDE, MIN_SIDE)).save(tmp_path / "a.png")

    assert decode_image(tmp_path / "a.png").shape == (MIN_SIDE, MIN_SIDE, 3)


@pytest.mark.parametrize("width", [100_000, MAX_PIXELS // 16_384 + 1])
@pytest.mark.parametrize("read", READERS)
def test_a_header_that_claims_too_much_is_refused_before_decoding(tmp_path, width, read):
    height = 100_000 if width == 100_000 else 16_384
    (tmp_path / "a.png").write_bytes(png_bytes(width, height, 8, 2, b"\0" * 1000))

    tracemalloc.start()
    with pytest.raises(ImageError, match=rf"a\.png: is too large.*at most {MAX_PIXELS} pixels"):
        read(tmp_path / "a.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 10_000_000


def test_sizes_that_pillow_alone_would_refuse_are_read(tmp_path, monkeypatch):
    # Pillow's own limit is 178,956,970 pixels, less than a line-scan camera's image may have.
    monkeypatch.setenv("DRAEM_MAX_PIXELS", str(2**28))
    (tmp_path / "a.png").write_bytes(png_bytes(16_384, 16_384, 1, 0, b"\0"))

    assert read_size(tmp_path / "a.png") == (16_384, 16_384)


def test_running_out_of_memory_is_an_image_error(tmp_path, rgb, monkeypatch):
    def exhausted(*_: object) -> None:
        raise MemoryError

    Image.fromarray(rgb).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", exhausted)

    with pytest.raises(ImageError, match=r"a\.png: does not fit in memory"):
        decode_image(tmp_path / "a.png")


def test_the_settings_of_the_process_stay_as_they_were(tmp_path, rgb):
    """Also where many threads decode at once, some of them in vain."""
    Image.fromarray(rgb).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("bad")
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    start = threading.Barrier(8)

    def decode(thread: int) -> None:
        start.wait()
        for turn in range(30):
            if (turn + thread) % 3:
                decode_image(tmp_path / "good.png")
            else:
                with pytest.raises(ImageError):
                    decode_image(tmp_path / "bad.png")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, range(8)))

    assert limit == Image.MAX_IMAGE_PIXELS
    assert filters == list(warnings.filters)


def test_masks_keep_their_grey_levels(tmp_path, rng):
    grey = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")

    mask = decode_mask(tmp_path / "a.png")

    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, grey)


def test_masks_in_every_common_form_mean_the_same(tmp_path, rng):
    inside = rng.random((HEIGHT, WIDTH)) > 0.7
    expected = np.where(inside, 255, 0).astype(np.uint8)
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[inside] = (255, 0, 0)
    palette = Image.fromarray(inside.astype(np.uint8))
    palette.putpalette([0, 0, 0, 255, 255, 255])
    forms = {
        "bits": Image.fromarray(inside),
        "zero and one": Image.fromarray(inside.astype(np.uint8)),
        "grey": Image.fromarray(expected),
        "rgb": Image.fromarray(np.dstack([expected] * 3)),
        "red": Image.fromarray(red),
        "palette": palette,
        "16 bit": Image.fromarray(np.where(inside, 65535, 0).astype(np.uint16)),
        "16 bit, 8 used": Image.fromarray(expected.astype(np.uint16)),
        "16 bit, zero and one": Image.fromarray(inside.astype(np.uint16)),
    }
    for form, image in forms.items():
        image.save(tmp_path / f"{form}.png")
        np.testing.assert_array_equal(decode_mask(tmp_path / f"{form}.png"), expected, form)


def test_16_bit_masks_are_scaled(tmp_path):
    levels = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    cv2.imwrite(str(tmp_path / "a.png"), levels)

    np.testing.assert_array_equal(decode_mask(tmp_path / "a.png"), np.round(levels / 257))


def test_an_empty_mask_stays_empty(tmp_path):
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "a.png")

    assert not decode_mask(tmp_path / "a.png").any()


def test_read_size_does_not_decode(tmp_path):
    Image.fromarray(smooth_image()[:120]).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])

    assert read_size(tmp_path / "a.png") == (120, 200)


@pytest.mark.parametrize("suffix", ["tif", "bmp", "png"])
def test_no_file_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    # The system ends a process whose mapped file shrinks.
    levels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    Image.fromarray(levels).save(tmp_path / f"a.{suffix}")
    monkeypatch.setattr(Image.core, "map_buffer", None)
    assert np.array_equal(decode_image(tmp_path / f"a.{suffix}")[..., 0], levels)
