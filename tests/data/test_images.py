"""Pictures as cells: what is stored, what is decoded, and what is refused."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from assay.data import images
from assay.data.digest import content_digest
from assay.data.images import (
    PictureError,
    check_pictures,
    decodable,
    decode,
    native_shape,
    opened,
    raw_column,
    raw_pixels,
)
from assay.data.schema import Override, infer
from assay.errors import LoadError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=format, **options)
    return stream.getvalue()


def plain(colour: Any = RED, mode: str = "RGB", size: tuple[int, int] = (4, 3)) -> Image.Image:
    return Image.new(mode, size, colour)


def column(*cells: bytes | None, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, kind or pa.binary())])


def pixels(data: bytes, channels: int = 3, size: tuple[int, int] = (3, 4)) -> Any:
    return decode(column(data), *size, channels)[0]


def huge(width: int, height: int) -> bytes:
    """The head of a PNG file that claims a size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


# -- colours -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_formats_that_lose_nothing(format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    found = pixels(encoded(plain((255, 0, 0)), format, **options))
    assert found.shape == (3, 3, 4)
    assert found.dtype == np.uint8
    assert found[:, 0, 0].tolist() == [255, 0, 0]
    assert (found == found[:, :1, :1]).all()


def test_jpeg() -> None:
    found = pixels(encoded(plain((200, 100, 50), size=(16, 16)), "JPEG", quality=95), size=(16, 16))
    assert np.abs(found.astype(int) - np.array([200, 100, 50])[:, None, None]).max() <= 2


def _palette() -> Image.Image:
    """Left transparent, right blue."""
    image = Image.new("P", (4, 3), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (2, 0, 4, 3))
    return image


@pytest.mark.parametrize(
    ("data", "left", "right"),
    [
        (encoded(plain(77, "L")), (77, 77, 77), (77, 77, 77)),
        (encoded(plain(1, "1")), WHITE, WHITE),
        (encoded(plain((255, 0, 0, 0), "RGBA")), WHITE, WHITE),
        (encoded(plain((255, 0, 0, 255), "RGBA")), RED, RED),
        # half of black over white, rounded as Pillow does
        (encoded(plain((0, 128), "LA")), (127, 127, 127), (127, 127, 127)),
        (encoded(_palette()), RED, BLUE),
        (encoded(_palette(), transparency=0), WHITE, BLUE),
        (encoded(_palette(), "GIF", transparency=0), WHITE, BLUE),
        (encoded(plain(RED), transparency=RED), WHITE, WHITE),
        (encoded(plain((0, 255, 255, 0), "CMYK"), "TIFF"), RED, RED),
        (encoded(Image.fromarray(np.full((3, 4), 257 * 200, np.uint16))), (200,) * 3, (200,) * 3),
        # dark in 16 bits is dark, however few of them it uses
        (encoded(Image.fromarray(np.full((3, 4), 200, np.uint16))), (1, 1, 1), (1, 1, 1)),
    ],
)
def test_colours(data: bytes, left: Any, right: Any) -> None:
    found = pixels(data)
    assert tuple(found[:, 1, 0]) == left
    assert tuple(found[:, 1, 3]) == right


def test_cmyk_as_jpeg() -> None:
    found = pixels(encoded(plain((0, 255, 255, 0), "CMYK", (8, 8)), "JPEG", quality=100))
    assert np.abs(found[:, 0, 0].astype(int) - [255, 0, 0]).max() <= 3


def test_grey_of_colours_is_luma() -> None:
    for colour, weight in ((RED, 0.299), (GREEN, 0.587), (BLUE, 0.114)):
        assert pixels(encoded(plain(colour)), channels=1)[0, 0, 0] == round(weight * 255)


def test_pixels_of_32_bits_are_refused() -> None:
    data = encoded(Image.fromarray(np.ones((3, 4), np.float32)), "TIFF")
    with pytest.raises(PictureError, match="32 bits"):
        opened(data)


# -- geometry ------------------------------------------------------------------------------------


def halves(size: tuple[int, int] = (8, 4)) -> Image.Image:
    """Left half red, right half blue."""
    image = plain(RED, size=size)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def test_the_first_frame_of_an_animation() -> None:
    frames = [plain(RED), plain(GREEN)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    assert tuple(pixels(data)[:, 0, 0]) == RED


def test_exif_turns() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    data = encoded(halves(), exif=exif)
    found = pixels(data, size=(8, 4))
    assert tuple(found[:, 0, 0]) == RED
    assert tuple(found[:, 7, 0]) == BLUE
    assert tuple(found[:, 0, 3]) == RED


def test_resizing() -> None:
    cells = column(encoded(halves((8, 4))))
    squash = decode(cells, 4, 4, 3)[0]
    assert tuple(squash[:, 0, 0]) == RED
    assert tuple(squash[:, 0, 3]) == BLUE
    crop = decode(cells, 4, 4, 3, "crop")[0]
    np.testing.assert_array_equal(crop, np.asarray(halves()).transpose(2, 0, 1)[:, :, 2:6])
    pad = decode(cells, 8, 8, 3, "pad")[0]
    np.testing.assert_array_equal(pad[:, 2:6], np.asarray(halves()).transpose(2, 0, 1))
    assert not pad[:, :2].any()
    assert not pad[:, 6:].any()


def test_shrinking_averages() -> None:
    board = (np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)
    found = decode(column(encoded(Image.fromarray(board))), 4, 4, 1)
    assert np.abs(found.astype(int) - 127).max() <= 2


def test_a_large_jpeg_is_decoded_at_a_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = np.tile(np.linspace(0, 255, 1024).astype(np.uint8), (1024, 1))
    data = encoded(Image.fromarray(ramp), "JPEG")
    assert opened(data).size == (1024, 1024)
    assert opened(data, (32, 32)).size == (128, 128)
    near = decode(column(data), 32, 32, 1).astype(int)
    exact = np.asarray(Image.fromarray(ramp).resize((32, 32), Image.Resampling.BILINEAR))
    assert np.abs(near[0, 0] - exact).max() <= 4


# -- raw pixels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3, 4), (5, 3, 4, 1), (5, 3, 4, 3)])
def test_raw_pixels_pass_unchanged(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    cells = pa.chunked_array([raw_column(array[:2]), raw_column(array[2:])])
    channels = 3 if shape[-1] == 3 else 1
    assert native_shape(cells.type) == (3, 4, channels)
    whole = array.reshape(5, 3, 4, channels)
    np.testing.assert_array_equal(raw_pixels(cells), whole)
    np.testing.assert_array_equal(raw_pixels(cells.slice(1, 3)), whole[1:4])
    np.testing.assert_array_equal(decode(cells, 3, 4, channels), whole.transpose(0, 3, 1, 2))
    table = pa.table({"image": cells}).take([4, 0])
    np.testing.assert_array_equal(raw_pixels(table["image"]), whole[[4, 0]])


def test_raw_pixels_as_files_of_them() -> None:
    array = np.random.default_rng(0).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    raw = pa.chunked_array([raw_column(array)])
    files = column(*(encoded(Image.fromarray(a)) for a in array))
    for size in ((8, 8), (4, 6)):
        for channels in (1, 3):
            np.testing.assert_array_equal(
                decode(raw, *size, channels), decode(files, *size, channels)
            )


# -- what is refused -----------------------------------------------------------------------------


GOOD = encoded(plain())
NOISE = encoded(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG"
)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is no picture of a known kind"),
        (b"hello", "it is no picture of a known kind"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no picture of a known kind"),
        (GOOD[:20], "it is damaged: "),
        (NOISE[: len(NOISE) // 2], "it is damaged: "),
        (encoded(halves((64, 64)))[:60], "it is damaged: "),
        (huge(60_000, 60_000), "it claims more than 178,956,970 pixels"),
        (huge(13_500, 13_500), "it claims more than 178,956,970 pixels"),
        (None, "there is no picture"),
    ],
)
def test_bad_pictures(data: bytes | None, why: str) -> None:
    cells = column(GOOD, data, None)
    with pytest.raises(LoadError) as caught:
        decode(cells.slice(0, 2), 8, 8, 3, "squash", "photo", "pets")
    assert caught.value.line().startswith(f"pets: column 'photo', row 2: {why}")
    assert caught.value.mend == (
        "replace the picture, or leave it out (in a recipe: 'data: {drop_undecodable: true}')"
    )
    with pytest.raises(LoadError, match=r"picture b/2\.png: "):
        decode(cells.slice(0, 2), 8, 8, 3, names=["a/1.png", "b/2.png"])
    assert decodable(cells).tolist() == [True, False, False]


def test_the_first_of_several_bad_ones_is_named() -> None:
    cells = column(*[GOOD] * 7, b"one", *[GOOD] * 7, b"two")
    with pytest.raises(LoadError, match="row 8: "):
        decode(cells, 4, 4, 1)


def test_heads_are_checked_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    check_pictures(column(GOOD, NOISE[: len(NOISE) // 2]), "photo", "pets")
    for bad in (b"hello", huge(60_000, 60_000), None):
        with pytest.raises(LoadError, match="pets: column 'photo', row 2: "):
            check_pictures(column(GOOD, bad), "photo", "pets")
    raw = pa.chunked_array([raw_column(np.zeros((2, 2, 2), np.uint8))])
    check_pictures(raw, "photo", "pets")


def test_warnings_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # 12 pixels make Pillow warn
    before = list(warnings.filters)
    assert pixels(GOOD).shape == (3, 3, 4)
    assert warnings.filters == before


# -- columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: column(GOOD, GOOD),
        lambda: column(None, NOISE, kind=pa.large_binary()),
        lambda: pa.chunked_array([raw_column(np.zeros((2, 3, 4), np.uint8))]),
        lambda: pa.chunked_array([raw_column(np.zeros((2, 3, 4, 3), np.uint8))]),
    ],
)
def test_columns_of_pictures_are_inferred(make: Callable[[], pa.ChunkedArray]) -> None:
    schema, inferred = infer(pa.table({"x": make(), "age": [1.5, 2.5]}))
    assert schema.columns["x"].kind == "image"
    assert schema.image_columns() == ("x",)
    assert schema.features() == ("age",)
    assert schema.text_columns() == ()
    assert schema.undeclared() == ("age",)
    assert inferred == ("x", "age")


def _tensor(shape: list[int], kind: pa.DataType) -> pa.Array:
    size = int(np.prod(shape))
    storage = pa.array([[0] * size] * 2, pa.list_(kind, size))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(kind, shape), storage)


@pytest.mark.parametrize(
    ("cells", "said", "message"),
    [
        (column(b"no", b"picture"), None, "column 'x' holds binary, not numbers"),
        (column(b"RIFF1234WAVE", None), None, "column 'x' holds binary, not numbers"),
        (_tensor([2, 2], pa.float32()), None, "column 'x' holds extension"),
        (_tensor([2, 2, 4], pa.uint8()), None, "column 'x' holds extension"),
        (pa.array(["a.png", "b.png"]), Override(kind="image"), "holds string, not pictures"),
        (column(GOOD, GOOD), Override(kind="numeric"), "holds pictures and cannot be numeric"),
        (column(GOOD, GOOD), Override(role="label"), "holds pictures and cannot be label"),
        (column(GOOD, GOOD), Override(role="id"), "holds pictures and cannot be id"),
        (column(GOOD, GOOD), Override(role="sensitive"), "holds pictures and cannot be sensitive"),
    ],
)
def test_columns_that_are_refused(cells: Any, said: Override | None, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        infer(pa.table({"x": cells}), {"x": said} if said is not None else {})


def test_a_dropped_column_may_hold_anything() -> None:
    schema, _ = infer(pa.table({"x": column(b"no", b"picture")}), {"x": Override(role="drop")})
    assert schema.image_columns() == ()


def _digest(cells: Any) -> str:
    table = pa.table({"x": cells})
    return content_digest(table, infer(table)[0])


def test_the_digest_is_of_content(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(0, 256, (4, 3, 5), dtype=np.uint8)
    whole = _digest(raw_column(array))
    assert whole == _digest(pa.chunked_array([raw_column(array[:1]), raw_column(array[1:])]))
    assert whole != _digest(raw_column(array.reshape(4, 5, 3)))
    changed = array.copy()
    changed[3, 2, 4] ^= 1
    assert whole != _digest(raw_column(changed))
    files = [encoded(Image.fromarray(a)) for a in array]
    assert _digest(column(*files)) == _digest(column(*files, kind=pa.large_binary()))
    assert _digest(column(*files)) != _digest(column(*files[::-1]))
    # where one file ends and the next begins counts
    moved = [files[0] + files[1][:1], files[1][1:], *files[2:]]
    assert _digest(column(*files)) != _digest(column(*moved))


def test_rows_are_taken_out_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 3, 4), dtype=np.uint8)
    files = column(*(encoded(Image.fromarray(a)) for a in array))
    monkeypatch.setattr(images, "_ROWS", 2)
    np.testing.assert_array_equal(decode(files, 3, 4, 1)[:, 0], array)
    assert decodable(files).all()
