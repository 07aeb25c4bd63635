"""What happens to a row before a network sees it: a value that is saved with the model."""

from __future__ import annotations

from assay.data.preprocessing.base import Encoded, Preprocessing, Target, load_preprocessing
from assay.data.preprocessing.fit import fit_tabular, fit_target
from assay.data.preprocessing.image import ImagePreprocessing, image_preprocessing
from assay.data.preprocessing.tabular import Feature, TabularPreprocessing
from assay.data.preprocessing.text import TextPreprocessing, text_preprocessing

__all__ = [
    "Encoded",
    "Feature",
    "ImagePreprocessing",
    "Preprocessing",
    "TabularPreprocessing",
    "Target",
    "TextPreprocessing",
    "fit_tabular",
    "fit_target",
    "image_preprocessing",
    "load_preprocessing",
    "text_preprocessing",
]
