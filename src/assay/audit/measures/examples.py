"""Wrong predictions as a person sees them: the text or the picture of the row."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from assay.data.dataset import Dataset

#: rows that are shown, the longer side of a picture in pixels, letters of a text
ROWS, SIDE, LETTERS = 12, 96, 2000


def examples(
    data: Dataset, split: str, mistakes: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """What a report shows of the most confident mistakes.

    Args:
        data: the data set.
        split: the split that the mistakes were made on.
        mistakes: rows `{"id", "label", "prediction", "probability"}`, surest first.

    Returns:
        `{"split", "rows": [{"id", "label", "predicted", "confidence", "text", "image"}]}`, where
        `image` is a PNG of at most 96 pixels as a `data:` address; None where the data are
        private, there are no mistakes, ids repeat, or rows have neither text nor picture.
    """
    texts, images = data.schema.text_columns(), data.schema.image_columns()
    if data.card.private or not mistakes or not (texts or images):
        return None
    place = {row: at for at, row in enumerate(data.ids(split))}
    if len(place) < data.size(split):
        # ids that repeat do not say which row was wrong
        return None
    chosen = [(place[item["id"]], item) for item in mistakes[:ROWS]]
    rows = data.table.take(data.positions(split)[[at for at, _ in chosen]])
    words = [rows.column(name).to_pylist() for name in texts]
    pictures = _pictures(rows.column(images[0])) if images else [None] * len(chosen)
    return {
        "split": split,
        "rows": [
            {
                "id": item["id"],
                "label": item["label"],
                "predicted": item["prediction"],
                "confidence": item["probability"],
                "text": " ".join(str(w[at]) for w in words if w[at] is not None)[:LETTERS]
                if texts
                else None,
                "image": pictures[at],
            }
            for at, (_, item) in enumerate(chosen)
        ],
    }


def _pictures(column: Any) -> list[str | None]:
    """Each picture of a column as a `data:` address; None where it is missing or damaged."""
    from assay.data.images import PictureError, from_array, native_shape, opened, raw_pixels

    if native_shape(column.type) is not None:
        return [_address(from_array(pixels)) for pixels in raw_pixels(column)]
    found: list[str | None] = []
    for value in column.to_pylist():
        try:
            found.append(None if value is None else _address(opened(value, (SIDE, SIDE))))
        except PictureError:
            found.append(None)
    return found


def _address(image: Image) -> str:
    """A small PNG: large pictures are made smaller, pixels of tiny ones larger, none blurred."""
    from PIL import Image as Images

    longest = max(image.size)
    if longest > SIDE:
        image.thumbnail((SIDE, SIDE))
    elif longest <= SIDE // 2:
        times = SIDE // longest
        image = image.resize((times * image.width, times * image.height), Images.Resampling.NEAREST)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
