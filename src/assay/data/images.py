"""Images in the cells of a table: how they are stored, and how they become pixels.

A cell holds an encoded file (Arrow binary: PNG, JPEG, ...), or raw pixels as Arrow's
`fixed_shape_tensor` of uint8, `[H, W]` or `[H, W, C]`.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from assay.errors import LoadError

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image

Resize = Literal["squash", "crop", "pad"]
Pixels = npt.NDArray[np.uint8]

#: images of more pixels are refused before they are decoded: a small file can claim any size
MAX_PIXELS = 178_956_970
#: what is decoded: formats that start other programs (EPS), or that few use, are left out
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
_PLUGINS = {"WEBP": "WebP"}
#: how files of images begin
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*")
#: rows taken out of a column at once: it bounds memory
_ROWS = 1024
_MEND = "replace the picture, or leave it out (in a recipe: 'data: {drop_undecodable: true}')"


class PictureError(ValueError):
    """A picture that cannot be used; its text is a clause that says why."""


def is_pixels(kind: pa.DataType) -> bool:
    """Whether an Arrow type is raw pixels: a tensor of uint8 of fixed shape `[H, W(, C)]`."""
    import pyarrow as pa

    return (
        isinstance(kind, pa.FixedShapeTensorType)
        and pa.types.is_uint8(kind.value_type)
        and (len(kind.shape) == 2 or (len(kind.shape) == 3 and kind.shape[2] in (1, 3)))
        and list(kind.permutation or range(len(kind.shape))) == list(range(len(kind.shape)))
    )


def is_encoded(kind: pa.DataType) -> bool:
    """Whether an Arrow type can hold image files."""
    import pyarrow as pa

    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def is_stored(kind: pa.DataType) -> bool:
    """Whether an Arrow type can hold pictures: files, or raw pixels."""
    return is_pixels(kind) or is_encoded(kind)


def is_image(column: pa.ChunkedArray) -> bool:
    """Whether a column holds images: raw pixels, or bytes that begin as image files do."""
    if is_pixels(column.type):
        return True
    if not is_encoded(column.type):
        return False
    first = next((v.as_py() for v in column if v.is_valid), None)
    return first is not None and looks_like_picture(first)


def looks_like_picture(data: bytes) -> bool:
    """Whether bytes begin as an image file does."""
    return data.startswith(_MAGIC) and (data[:4] != b"RIFF" or data[8:12] == b"WEBP")


def check_kind(column: pa.ChunkedArray, name: str, said: str, role: str | None, where: str) -> None:
    """Refuse pictures that are to be something else, and something else that is to be pictures.

    Args:
        column: its values.
        name: what it is called.
        said: the kind it is to have.
        role: the role it is to have (None: a feature).
        where: name of the table.

    Raises:
        LoadError: names the column.
    """
    stored = is_stored(column.type)
    if not stored and said == "image":
        raise LoadError(
            f"column {name!r} holds {column.type}, not pictures",
            where=where,
            mend="give the files' bytes or raw pixels, or name a folder of images",
        )
    if stored and (said != "image" or role not in (None, "feature", "drop")):
        raise LoadError(
            f"column {name!r} holds pictures and cannot be {role or said}",
            where=where,
            mend=f"leave it out with 'drop: [{name}]', or name another column",
        )


def check_pictures(
    column: pa.ChunkedArray, name: str, where: str, names: Sequence[Any] | None = None
) -> None:
    """Refuse pictures that are missing, are none, or are too large; only heads are decoded.

    Args:
        column: its values.
        name: what it is called.
        where: name of the table.
        names: what rows are called (default: their number, from 1).

    Raises:
        LoadError: names the first.
    """
    missing = column.is_null().to_numpy()
    if missing.any():
        raise _refused("there is no picture", int(np.argmax(missing)), name, where, names)
    if is_encoded(column.type):
        with _quiet():
            for row, cell in enumerate(column):
                try:
                    _opened(cell.as_py())
                except PictureError as error:
                    raise _refused(str(error), row, name, where, names) from None


def decodable(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which pictures are there and can be decoded to their end, `[N]`."""
    good: npt.NDArray[np.bool_] = column.is_valid().to_numpy().astype(np.bool_)

    def one(item: tuple[int, bytes | None]) -> None:
        row, data = item
        try:
            opened(data or b"", (8, 8))
        except PictureError:
            good[row] = False

    for start in range(0, len(column) if is_encoded(column.type) else 0, _ROWS):
        _each(one, enumerate(column.slice(start, _ROWS).to_pylist(), start))
    return good


def native_shape(kind: pa.DataType) -> tuple[int, int, int] | None:
    """Height, width and channels of raw pixels; None for encoded files, which may differ."""
    if not is_pixels(kind):
        return None
    height, width = int(kind.shape[0]), int(kind.shape[1])
    return height, width, int(kind.shape[2]) if len(kind.shape) == 3 else 1


def raw_column(images: Pixels) -> pa.Array:
    """Pixels `[N, H, W]` or `[N, H, W, C]` as a column."""
    import pyarrow as pa

    images = np.ascontiguousarray(images, dtype=np.uint8)
    kind = pa.fixed_shape_tensor(pa.uint8(), list(images.shape[1:]))
    size = int(np.prod(images.shape[1:]))
    storage = pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), size)
    return pa.ExtensionArray.from_storage(kind, storage)


def raw_pixels(column: pa.ChunkedArray) -> Pixels:
    """A column of raw pixels as one array `[N, H, W, C]`."""
    height, width, channels = native_shape(column.type) or (0, 0, 0)
    parts = []
    for chunk in column.chunks:
        storage = chunk.storage
        flat = storage.flatten().to_numpy(zero_copy_only=False)
        parts.append(flat.reshape(len(storage), height, width, channels))
    return np.concatenate(parts) if parts else np.zeros((0, height, width, channels), np.uint8)


def decode(
    column: pa.ChunkedArray,
    height: int,
    width: int,
    channels: int,
    resize: Resize = "squash",
    name: str = "image",
    where: str = "data",
    names: Sequence[Any] | None = None,
) -> Pixels:
    """The images of a column at one size.

    Args:
        column: encoded files or raw pixels.
        height: H.
        width: W.
        channels: C, 1 (grey) or 3 (RGB).
        resize: see `ImagePreprocessing`.
        name: of the column, for messages.
        where: of the table, for messages.
        names: what rows are called in messages (default: their number, from 1).

    Returns:
        uint8 `[N, C, H, W]`.

    Raises:
        LoadError: a picture is missing, damaged, or claims more than `MAX_PIXELS`; names the row.
    """
    missing = column.is_null().to_numpy()
    if missing.any():
        raise _refused("there is no picture", int(np.argmax(missing)), name, where, names)
    out = np.empty((len(column), channels, height, width), dtype=np.uint8)
    native = native_shape(column.type)
    if native is not None and native[:2] == (height, width) and native[2] == channels:
        out[:] = raw_pixels(column).transpose(0, 3, 1, 2)
        return out

    def one(item: tuple[int, Any]) -> None:
        row, value = item
        try:
            image = from_array(value) if native is not None else opened(value, (height, width))
            out[row] = fitted(image, height, width, channels, resize)
        except PictureError as error:
            raise _refused(str(error), row, name, where, names) from None

    for start in range(0, len(column), _ROWS):
        part = column.slice(start, _ROWS)
        cells = raw_pixels(part) if native is not None else part.to_pylist()
        _each(one, enumerate(cells, start))
    return out


def _each(do: Callable[[Any], None], items: Any) -> None:
    """Do something with every item, in threads: decoders release Python's lock."""
    workers = max(1, min(4, len(os.sched_getaffinity(0))))
    with _quiet(), ThreadPoolExecutor(workers) as pool:
        # consumed in order, so that of several bad rows the first is named
        for _ in pool.map(do, items):
            pass


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings: of sizes, which are checked here, and of odd metadata.

    Filters belong to the process and not to a thread, so this stands around the threads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _refused(
    why: str, row: int, name: str, where: str, names: Sequence[Any] | None = None
) -> LoadError:
    place = f"picture {names[row]}" if names is not None else f"column {name!r}, row {row + 1}"
    return LoadError(f"{place}: {why}", where=where, mend=_MEND)


def from_array(pixels: Pixels) -> Image:
    """An image of raw pixels `[H, W, C]`."""
    image: Image = _pillow().fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return image


def opened(data: bytes, about: tuple[int, int] | None = None) -> Image:
    """The first frame of an encoded picture, upright, in the mode `L` or `RGB`.

    Palettes and CMYK become RGB, transparency lies on white, 16 bits become 8.

    Args:
        data: the file's bytes.
        about: height and width that will be wanted: a JPEG is then decoded at a fraction that
            still has twice as many.

    Raises:
        PictureError: it is no picture, damaged, or claims more than `MAX_PIXELS`.
    """
    from PIL import ImageOps

    image = _opened(data)
    try:
        if about is not None and image.format in ("JPEG", "MPO"):
            # it may yet be turned by a quarter, so the longer side counts for both
            image.draft(None, (2 * max(about), 2 * max(about)))
        image.load()
        return _plain(ImageOps.exif_transpose(image))
    except PictureError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them
        raise PictureError(f"it is damaged: {' '.join(str(error).split())[:80]}") from error


def _opened(data: bytes) -> Image:
    """A picture of which only the head was read."""
    from_pillow = _pillow()
    try:
        image: Image = from_pillow.open(io.BytesIO(data), formats=FORMATS)
    except from_pillow.UnidentifiedImageError:
        raise PictureError("it is no picture of a known kind, or its head is damaged") from None
    except from_pillow.DecompressionBombError:
        raise PictureError(f"it claims more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # decoders raise whatever a damaged file makes them
        raise PictureError(f"it is damaged: {' '.join(str(error).split())[:80]}") from error
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(f"it claims more than {MAX_PIXELS:,} pixels")
    return image


@lru_cache
def _pillow() -> Any:
    """Pillow's module `Image`, with the readers of `FORMATS` and no others made known to it."""
    from importlib import import_module

    try:
        for name in FORMATS:
            import_module(f"PIL.{_PLUGINS.get(name, name.capitalize())}ImagePlugin")
        return import_module("PIL.Image")
    except ImportError:
        raise LoadError(
            "pictures need the package pillow", mend="pip install 'assay[vision]'"
        ) from None


def _plain(image: Image) -> Image:
    from PIL import Image as Images

    if image.mode in ("L", "RGB") and not image.has_transparency_data:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        deep = np.asarray(image).astype(np.float64)
        return Images.fromarray((deep / 257).round().clip(0, 255).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise PictureError("its pixels have 32 bits, of which the range is not known")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Images.new("RGBA", image.size, (255, 255, 255, 255))
        return Images.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def fitted(image: Image, height: int, width: int, channels: int, resize: Resize) -> Pixels:
    """One picture as uint8 `[C, H, W]`; bilinear, smoothed where it shrinks."""
    from PIL import Image as Images
    from PIL import ImageOps

    image = image.convert("L" if channels == 1 else "RGB")
    size, how = (width, height), Images.Resampling.BILINEAR
    if image.size != size:
        if resize == "crop":
            image = ImageOps.fit(image, size, how)
        elif resize == "pad":
            image = ImageOps.pad(image, size, how)
        else:
            image = image.resize(size, how)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
