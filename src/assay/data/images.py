"""Images in the cells of a table: how they are stored, and how they become pixels.

A cell holds an encoded file (Arrow binary: PNG, JPEG, ...), or raw pixels as Arrow's
`fixed_shape_tensor` of uint8, `[H, W]` or `[H, W, C]`.
"""

from __future__ import annotations

import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
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
#: how files of images begin
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*")
#: rows turned into an array at once
_ROWS = 8192


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


def is_image(column: pa.ChunkedArray) -> bool:
    """Whether a column holds images: raw pixels, or bytes that begin as image files do."""
    if is_pixels(column.type):
        return True
    if not is_encoded(column.type):
        return False
    first = next((v.as_py() for v in column if v.is_valid), None)
    return first is not None and first.startswith(_MAGIC)


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

    Returns:
        uint8 `[N, C, H, W]`.

    Raises:
        LoadError: a picture is missing, damaged, or claims more than `MAX_PIXELS`; names the row.
    """
    missing = column.is_null().to_numpy()
    if missing.any():
        raise _refused("there is no picture", int(np.argmax(missing)), name, where)
    out = np.empty((len(column), channels, height, width), dtype=np.uint8)
    native = native_shape(column.type)
    if native is not None and native[:2] == (height, width) and native[2] == channels:
        out[:] = raw_pixels(column).transpose(0, 3, 1, 2)
        return out

    def one(item: tuple[int, Any]) -> None:
        row, value = item
        try:
            image = from_array(value) if native is not None else opened(value, (width, height))
            out[row] = fitted(image, height, width, channels, resize)
        except PictureError as error:
            raise _refused(str(error), row, name, where) from None

    workers = max(1, min(4, len(os.sched_getaffinity(0))))
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(column), _ROWS):
            part = column.slice(start, _ROWS)
            cells = raw_pixels(part) if native is not None else part.to_pylist()
            # consumed in order, so that of several bad rows the first is named
            for _ in pool.map(one, enumerate(cells, start)):
                pass
    return out


def _refused(why: str, row: int, name: str, where: str) -> LoadError:
    return LoadError(
        f"column {name!r}, row {row + 1}: {why}",
        where=where,
        mend="replace the picture, or leave the row out",
    )


def from_array(pixels: Pixels) -> Image:
    """An image of raw pixels `[H, W, C]`."""
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def opened(data: bytes, about: tuple[int, int] | None = None) -> Image:
    """The first frame of an encoded picture, upright, in the mode `L` or `RGB`.

    Palettes and CMYK become RGB, transparency lies on white, 16 bits become 8.

    Args:
        data: the file's bytes.
        about: width and height that will be wanted: a JPEG is then decoded at no more than it needs.

    Raises:
        PictureError: it is no picture, damaged, or claims more than `MAX_PIXELS`.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are checked here; of odd metadata
            image: Image.Image = Image.open(io.BytesIO(data))
            if image.size[0] * image.size[1] > MAX_PIXELS:
                raise PictureError(f"{image.size[0]} x {image.size[1]} pixels are too many")
            if about is not None and image.format == "JPEG":
                image.draft(None, about)
            image.load()
            image = ImageOps.exif_transpose(image)
            return _plain(image)
    except UnidentifiedImageError:
        raise PictureError("it is no picture of a known kind") from None
    except Image.DecompressionBombError:
        raise PictureError("it claims too many pixels") from None
    except PictureError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them
        raise PictureError(f"it is damaged: {' '.join(str(error).split())[:80]}") from None


def _plain(image: Image) -> Image:
    from PIL import Image as Images

    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        # 16 bits, unless the values show that they are 8
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        return Images.fromarray((values.clip(0, top) / top * 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
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
