"""Every kind of TIFF gives the right pixels or an error that names what the file holds."""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from draem.errors import ImageError
from draem.imaging.decode import decode_image, decode_mask, read_size
from draem.imaging.tiff_header import TiffContent, read_tiff_content

HEIGHT, WIDTH = 35, 37
COLOURS = {"minisblack": 1, "miniswhite": 1, "rgb": 3, "separated": 4, "ycbcr": 3, "cielab": 3}
# Others need a codec library that tifffile does not come with; Pillow writes them below.
COMPRESSIONS = (None, "zlib", "lzma")
SAMPLES = ("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8")


def kinds() -> Iterator[dict[str, object]]:
    """A random part of the whole grid, more of it where draem must read the file."""
    rng = np.random.default_rng(0)
    names = ("photometric", "extras", "dtype", "planarconfig", "compression", "pages", "tile")
    names += ("byteorder", "bigtiff", "predictor", "extra_kind")
    grid = itertools.product(
        COLOURS,
        range(4),
        SAMPLES,
        ("contig", "separate"),
        COMPRESSIONS,
        (1, 3),
        (None, (16, 16)),
        "<>",
        (False, True),
        (False, True),
        ("unassalpha", "unspecified"),
    )
    for values in grid:
        kind = dict(zip(names, values, strict=True))
        if rng.random() < (0.15 if must_be_read(kind) else 0.004):
            yield kind


def write(path: Path, kind: dict[str, object], rng: np.random.Generator) -> np.ndarray:
    """Write random values of a kind; returns them, (H, W, channels)."""
    options = dict(kind)
    colour, extras, pages = (options.pop(key) for key in ("photometric", "extras", "pages"))
    dtype, extra_kind = np.dtype(options.pop("dtype")), options.pop("extra_kind")
    bigtiff, order = options.pop("bigtiff"), options.pop("byteorder")
    shape = (pages, HEIGHT, WIDTH, COLOURS[colour] + extras)
    if dtype.kind == "f":
        values = rng.random(shape).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        values = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if shape[-1] == 1:
        options["planarconfig"] = None
    if extras:
        options["extrasamples"] = [extra_kind] + ["unspecified"] * (extras - 1)
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=order) as file:
        for page in values:
            picture = page[..., 0] if shape[-1] == 1 else page
            if options["planarconfig"] == "separate":
                picture = np.moveaxis(picture, 2, 0)
            options["predictor"] = bool(kind["predictor"] and kind["compression"]) or None
            file.write(picture, photometric=colour, metadata=None, rowsperstrip=None, **options)
    return values[0]


def expected_pixels(colour: str, values: np.ndarray) -> np.ndarray:
    """RGB by the specification: scaled to 8 bits, white-is-zero inverted, inks subtracted."""
    levels = np.round(values / (np.iinfo(values.dtype).max / 255))
    if colour == "rgb":
        return levels[..., :3]
    if colour == "separated":
        ink, black = levels[..., :3], levels[..., 3:4]
        return (255 - ink) * (255 - black) / 255
    grey = levels[..., :1] if colour == "minisblack" else 255 - levels[..., :1]
    return np.repeat(grey, 3, axis=2)


def must_be_read(kind: dict[str, object]) -> bool:
    if kind["pages"] != 1 or (kind["bigtiff"] and kind["byteorder"] == ">"):
        return False
    if kind["compression"] == "lzma":
        return False
    depths = {"minisblack": ("u1", "u2"), "miniswhite": ("u1",), "rgb": ("u1", "u2")}
    depths["separated"] = ("u1",)
    if kind["dtype"] not in depths.get(str(kind["photometric"]), ()):
        return False
    alpha = kind["photometric"] == "rgb" and kind["extras"] == 1
    return kind["extras"] == 0 or alpha


def named(kind: dict[str, object]) -> set[str]:
    """Words of which a refusal must say one."""
    words = {"u4": "32-bit", "i": "signed", "f": "floating-point"}
    found = {words.get(str(kind["dtype"])[0], ""), words.get(str(kind["dtype"]), "")}
    if kind["pages"] != 1:
        found.add(f"{kind['pages']} pages")
    if kind["extras"]:
        found.add(f"{COLOURS[str(kind['photometric'])] + int(str(kind['extras']))} channels of")
    if kind["compression"] == "lzma":
        found.add("LZMA")
    if kind["bigtiff"]:
        found.add("BigTIFF")
    if kind["dtype"] == "u2":
        found.add("16-bit")
    found.add({"cielab": "CIELAB", "ycbcr": "YCbCr"}.get(str(kind["photometric"]), ""))
    return found - {""}


def decoded_or_problem(path: Path) -> tuple[np.ndarray | None, str]:
    try:
        return decode_image(path), ""
    except ImageError as error:
        return None, error.problem


def test_every_kind_gives_the_right_pixels_or_is_named(tmp_path):
    rng = np.random.default_rng(1)
    outcomes: Counter[str] = Counter()
    path = tmp_path / "a.tif"
    for kind in kinds():
        try:
            values = write(path, kind, rng)
            stored = tifffile.imread(path, key=0)
        except (ValueError, KeyError, NotImplementedError, tifffile.TiffFileError):
            outcomes["not written"] += 1
            continue
        if stored.shape != values.shape:
            stored = stored.reshape(HEIGHT, WIDTH, -1) if stored.ndim == 2 else stored
            stored = np.moveaxis(stored, 0, 2) if stored.shape != values.shape else stored
        np.testing.assert_array_equal(stored, values)
        decoded, problem = decoded_or_problem(path)
        if decoded is None:
            assert not must_be_read(kind), (kind, problem)
            assert "it holds" in problem, (kind, problem)
            assert any(word in problem for word in named(kind)), (kind, problem)
            with pytest.raises(ImageError, match="it holds"):
                read_size(path)
            outcomes["refused"] += 1
            continue
        assert np.dtype(str(kind["dtype"])).kind == "u", kind
        assert kind["pages"] == 1, kind
        difference = np.abs(decoded - expected_pixels(str(kind["photometric"]), stored)).max()
        assert difference <= 1, (kind, difference)
        assert read_size(path) == (HEIGHT, WIDTH)
        outcomes["right"] += 1
    assert outcomes["right"] > 100, outcomes
    assert outcomes["refused"] > 100, outcomes


SHORT, LONG = 3, 4


def tiff_bytes(tags: dict[int, tuple[int, ...]], strip: bytes, order: str = "<") -> bytes:
    """A TIFF of one strip, built from its specification."""
    tags = {256: (WIDTH,), 257: (HEIGHT,), 273: (8,), 278: (HEIGHT,), 279: (len(strip),), **tags}
    values = b""
    place = 8 + len(strip) + len(strip) % 2
    entries = b""
    start = place + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        kind, letter = (LONG, "I") if tag in (256, 257, 273, 278, 279) else (SHORT, "H")
        packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(packed) > 4:
            packed, values = struct.pack(order + "I", start + len(values)), values + packed
        entries += struct.pack(order + "HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place)
    directory = struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", 0)
    return header + strip + b"\0" * (len(strip) % 2) + directory + values


def packed_rows(values: np.ndarray, bits: int) -> bytes:
    """Each row's values one after the other, highest bit first, rows ended on a byte."""
    places = np.arange(bits - 1, -1, -1)
    spread = (values[..., None].astype(np.int64) >> places) & 1  # (H, W, bits)
    return np.packbits(spread.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


def bits_reversed(data: bytes) -> bytes:
    bits = np.unpackbits(np.frombuffer(data, np.uint8).reshape(-1, 1), axis=1)
    return np.packbits(bits[:, ::-1], axis=1).tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("fill", [1, 2])
@pytest.mark.parametrize("photometric", [0, 1, 3])
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 10, 12, 14])
def test_packed_depths(tmp_path, bits, photometric, fill, order):
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 2**bits, (HEIGHT, WIDTH))
    strip = packed_rows(values, bits)
    tags = {258: (bits,), 262: (photometric,), 266: (fill,)}
    palette = rng.integers(0, 2**16, (3, 2**bits))
    if photometric == 3:
        tags[320] = tuple(palette.ravel().tolist())
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_bytes(tags, strip if fill == 1 else bits_reversed(strip), order))
    if bits not in (1, 2, 4, 8) and (bits, photometric, fill, order) != (12, 1, 1, "<"):
        with pytest.raises(ImageError, match=f"{bits}-bit"):
            decode_image(path)
        return
    decoded = decode_image(path)
    levels = values if photometric == 1 else 2**bits - 1 - values
    grey = np.round(levels / (2**bits - 1) * 255)[..., None]
    expected = (palette // 256).T[values] if photometric == 3 else grey
    np.testing.assert_array_equal(decoded, np.broadcast_to(expected, (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize(
    ("mode", "compressions"),
    [
        ("L", ("tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_deflate", "zstd")),
        ("RGB", ("tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd")),
        ("CMYK", ("tiff_lzw", "packbits", "tiff_deflate")),
        ("P", ("tiff_lzw", "packbits", "tiff_deflate")),
        ("1", ("tiff_lzw", "packbits", "tiff_deflate")),
        ("LA", ("tiff_lzw",)),
        ("RGBA", ("tiff_lzw",)),
    ],
)
def test_lossless_compressions(tmp_path, mode, compressions):
    channels = {"L": 1, "P": 1, "1": 1, "LA": 2, "RGB": 3}.get(mode, 4)
    rng = np.random.default_rng(2)
    values = rng.integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)
    image = Image.frombytes("L" if mode in "1P" else mode, (WIDTH, HEIGHT), values.tobytes())
    image = image.convert(mode) if mode == "1" else image
    if mode == "P":
        image.putpalette(rng.integers(0, 256, 768, np.uint8).tobytes())
    for compression in compressions:
        image.save(tmp_path / "a.tif", compression=compression)
        decoded = decode_image(tmp_path / "a.tif")
        np.testing.assert_array_equal(decoded, np.asarray(image.convert("RGB")), compression)


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr"])
def test_jpeg_compression_comes_close(tmp_path, mode):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = Image.fromarray(np.dstack([y * 5, x * 5, y + x]).astype(np.uint8)).convert(mode)
    image.save(tmp_path / "a.tif", compression="jpeg", quality=98)

    decoded = decode_image(tmp_path / "a.tif")

    assert np.abs(decoded - np.asarray(image.convert("RGB")).astype(int)).mean() < 4


@pytest.mark.parametrize("bad", [b"\xff\x91", b"\xff\xd3"])
def test_a_damaged_part_of_jpeg_compression_is_found(tmp_path, bad):
    values = np.random.default_rng(5).integers(0, 256, (200, 200), np.uint8)
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path, compression="jpeg", tiffinfo={278: 64})
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        place, length = file.pages[0].dataoffsets[1], file.pages[0].databytecounts[1]
    data[place + length // 2 : place + length // 2 + 2] = bad
    path.write_bytes(data)

    with pytest.raises(ImageError, match=r"a\.tif: is damaged .*a part of it is no whole JPEG"):
        decode_image(path)


@pytest.mark.parametrize(
    ("compression", "name"),
    [
        ("group3", "CCITT group 3"),
        ("group4", "CCITT group 4"),
        ("tiff_ccitt", "CCITT"),
        ("lzma", "LZMA"),
    ],
)
@pytest.mark.parametrize("read", [decode_image, decode_mask, read_size])
def test_compressions_whose_damage_goes_unnoticed_are_refused(
    tmp_path, compression, name, read, capfd
):
    inside = np.zeros((200, 200), bool)
    inside[40:120, 50:140] = True
    path = tmp_path / "a.tif"
    Image.fromarray(inside).save(path, compression=compression)

    with pytest.raises(ImageError, match=rf"a\.tif: .* it holds {name} compression, in which"):
        read(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("number", "name"),
    [(6, "old-style JPEG"), (34712, "JPEG 2000"), (50001, "WebP"), (50002, "JPEG XL"), (77, "77")],
)
def test_compressions_that_are_not_read_are_named(tmp_path, number, name):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_bytes({258: (8,), 259: (number,), 262: (1,)}, bytes(HEIGHT * WIDTH)))

    with pytest.raises(ImageError, match=rf"it holds .*{name}.* compression"):
        decode_image(path)


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({262: (32803,)}, "raw Bayer values"),
        ({262: (4,)}, "transparency mask values"),
        ({262: (9,)}, "ICCLAB values"),
        ({262: (5,), 277: (4,), 258: (8,) * 4, 332: (2,)}, "inks other than CMYK"),
        ({262: (6,), 277: (3,), 258: (8,) * 3}, "YCbCr values without JPEG"),
        ({262: (2,), 277: (3,), 258: (5, 6, 5)}, "5-, 6-bit RGB values"),
        ({262: (1,), 339: (4,)}, "untyped values"),
        ({262: (1,), 317: (2,)}, "a predictor with no compression"),
        ({262: (1,), 254: (1,)}, "a thumbnail or a mask as its first page"),
    ],
)
def test_values_that_are_not_read_are_named(tmp_path, tags, name):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_bytes({258: (8,), **tags}, bytes(HEIGHT * WIDTH * 4)))

    with pytest.raises(ImageError, match=name):
        decode_image(path)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_multiplied_by_their_transparency(tmp_path, planar):
    rng = np.random.default_rng(6)
    alpha = rng.integers(100, 256, (HEIGHT, WIDTH, 1))
    values = np.dstack([np.floor(rng.random((HEIGHT, WIDTH, 3)) * alpha), alpha])
    stored = np.moveaxis(values, 2, 0) if planar == "separate" else values
    path, options = tmp_path / "a.tif", {"photometric": "rgb", "extrasamples": ["assocalpha"]}
    tifffile.imwrite(path, stored.astype(np.uint8), planarconfig=planar, **options)

    decoded = decode_image(path)

    np.testing.assert_allclose(decoded, values[..., :3] * 255 / alpha, atol=1)
    tifffile.imwrite(path, stored.astype(np.uint16) * 257, planarconfig=planar, **options)
    with pytest.raises(ImageError, match="it holds 4 channels of RGB"):
        decode_image(path)


def test_every_page_must_be_a_file_of_its_own(tmp_path):
    pages = [Image.new("L", (WIDTH, HEIGHT), level) for level in (10, 20)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

    with pytest.raises(ImageError, match=r"it holds 2 pages.*Save each page as a file"):
        decode_image(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", [1, 4])
def test_a_thumbnail_or_a_mask_is_no_page(tmp_path, kind):
    values = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(values, photometric="minisblack", metadata=None)
        inside = values[::2, ::2] > 127
        file.write(inside, photometric="minisblack", subfiletype=kind, metadata=None)

    np.testing.assert_array_equal(decode_image(tmp_path / "a.tif")[..., 0], values)


def test_a_huge_tile_is_refused(tmp_path, monkeypatch):
    values = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="minisblack", tile=(512, 1024), compression="zlib")
    monkeypatch.setenv("DRAEM_MAX_PIXELS", str(512 * 1024))
    np.testing.assert_array_equal(decode_image(path)[..., 0], values)
    monkeypatch.setenv("DRAEM_MAX_PIXELS", str(512 * 1024 - 1))

    with pytest.raises(ImageError, match=r"is too large.*tiles of 1024x512"):
        decode_image(path)


def test_pages_in_a_circle_are_damage(tmp_path):
    data = bytearray(tiff_bytes({258: (8,), 262: (1,)}, bytes(HEIGHT * WIDTH)))
    directory = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, directory)[0]
    struct.pack_into("<I", data, directory + 2 + 12 * entries, directory)
    (tmp_path / "a.tif").write_bytes(data)

    with pytest.raises(ImageError, match="damaged or incomplete"):
        decode_image(tmp_path / "a.tif")


def test_the_content_is_told_in_words(tmp_path):
    path = tmp_path / "a.tif"
    planes = np.zeros((3, HEIGHT, WIDTH), np.int16)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")

    with path.open("rb") as file:
        content = read_tiff_content(path, file)
        assert file.tell() == 0

    assert isinstance(content, TiffContent)
    assert str(content) == (
        "3 channels of 16-bit signed RGB values in separate planes, no compression, 1 page"
    )


def test_what_is_no_tiff_has_no_tiff_content(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"\x89PNG")

    with (tmp_path / "a.tif").open("rb") as file:
        assert read_tiff_content(tmp_path / "a.tif", file) is None


def test_pillows_own_reader_stays_the_choice_of_the_process(tmp_path):
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "a.tif")

    decode_image(tmp_path / "a.tif")

    assert TiffImagePlugin.READ_LIBTIFF is False
