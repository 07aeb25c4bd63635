"""Cell nuclei of breast masses: is the tumour malignant?"""

from __future__ import annotations

from typing import ClassVar

from assay.claims.context import DataCard
from assay.data.samples._kinds import kinds
from assay.data.source import Sample, Source
from assay.registry import register


@register("sample", "breast_cancer")
class BreastCancer(Sample):
    """569 fine-needle aspirates, 30 measurements each, 37% malignant (the positive class).

    Wisconsin diagnostic set (Street et al. 1993), from scikit-learn, which numbers malignant 0:
    here classes go by name.
    """

    extra: ClassVar[str] = ""

    def card(self) -> DataCard:
        """See `Sample.card`."""
        return DataCard(
            name="breast_cancer", rows=569, label="diagnosis", classes=2, license="CC BY 4.0 (UCI)"
        )

    def load(self) -> Source:
        """See `Sample.load`."""
        import pyarrow as pa
        from sklearn.datasets import load_breast_cancer

        raw = load_breast_cancer()
        names = tuple(str(name) for name in raw.feature_names)
        words = [str(word) for word in raw.target_names]
        columns = {name: raw.data[:, i] for i, name in enumerate(names)}
        return Source(
            table=pa.table({**columns, "diagnosis": [words[i] for i in raw.target]}),
            columns=kinds("diagnosis", numeric=names),
            positive="malignant",
        )
