"""Images as pixels of one size. Nothing is learnt from the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.data.images import Resize, decode, is_stored, native_shape
from assay.data.preprocessing.base import Encoded, Preprocessing, required
from assay.errors import LoadError

if TYPE_CHECKING:
    import pyarrow as pa

    from assay.data.dataset import Dataset

#: side in pixels at which files are stored where nothing else is said
SIDE = 64


class ImagePreprocessing(Preprocessing):
    """Decodes pictures to one size. The network itself scales and normalises them further.

    Attributes:
        column: the column of pictures.
        height: H in pixels.
        width: W in pixels.
        channels: 1 for grey (ITU-R 601 weights of colours), 3 for RGB.
        resize: pictures of another size are squashed, or scaled and cropped at the centre, or
            scaled and padded with black.
    """

    kind: ClassVar[str] = "image"

    column: str
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    channels: Literal[1, 3] = 3
    resize: Resize = "squash"

    @property
    def inputs(self) -> dict[str, tuple[str, int]]:
        """See `Preprocessing.inputs`."""
        return {"pixels": ("uint8", 4)}

    def encode(self, table: pa.Table) -> Encoded:
        """See `Preprocessing.encode`: `pixels`, uint8 `[N, C, H, W]`."""
        column = required(table, self.column, "data", images=True)
        if not is_stored(column.type):
            raise LoadError(
                f"the column {self.column!r} holds {column.type}, not pictures",
                where="data",
                mend="give image files or raw pixels, as when the model was trained",
            )
        size = self.height, self.width, self.channels
        names = self.ids(table) if self.id in table.column_names else None
        found = decode(column, *size, self.resize, self.column, names=names)
        return Encoded({"pixels": found})

    def synthetic(self, rows: int, stretch: float = 0.5) -> dict[str, Any]:
        """See `Preprocessing.synthetic`: noise."""
        shape = (rows, self.channels, self.height, self.width)
        return {"pixels": np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)}


def image_preprocessing(
    dataset: Dataset,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    default: int | None = None,
) -> ImagePreprocessing:
    """The preprocessing of a data set's column of pictures; no picture is looked at.

    Args:
        dataset: the data.
        size: side, or height and width, in pixels; None for that of raw pixels, or of files
            `default`.
        channels: 1 or 3; None for those of raw pixels, or of files 3.
        default: side of files where `size` is None; None for 64.

    Raises:
        LoadError: there is no column of pictures, or there are several.
    """
    names = dataset.schema.image_columns()
    if len(names) != 1:
        raise LoadError(
            f"one column of pictures is needed, there are {len(names)}",
            where=f"data {dataset.name}",
            mend="leave the others out with 'drop:'" if names else "name data that hold pictures",
        )
    native = native_shape(dataset.table.schema.field(names[0]).type)
    if size is None:
        size = native[:2] if native is not None else (default or SIDE)
    height, width = (size, size) if isinstance(size, int) else size
    found = channels or (native[2] if native is not None else 3)
    return ImagePreprocessing(
        column=names[0],
        height=height,
        width=width,
        channels=1 if found == 1 else 3,
        id=dataset.schema.id,
    )
