from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from assay.config import build
from assay.data.config import DataConfig
from assay.data.images import raw_pixels


def test_the_digits_as_images() -> None:
    data = build(DataConfig, "digit-images").load(Path())
    assert data.card.modality == "image"
    assert data.schema.image_columns() == ("image",)
    assert data.classes == tuple("0123456789")
    raw = load_digits()
    found = raw_pixels(data.table["image"])
    assert found.shape == (1797, 8, 8, 1)
    # sixteen steps of grey, spread over 0 to 255
    np.testing.assert_array_equal(found[..., 0], np.rint(raw.images * 255 / 16))
    assert data.labels.tolist() == raw.target.tolist()
