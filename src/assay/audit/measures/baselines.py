"""Plain models beside which a network's numbers must be read.

They are fitted on training rows and judged on the audited ones. None of them is tuned.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assay.audit.measures.metrics import Scored
from assay.data.door import LocalDoor

if TYPE_CHECKING:
    import pyarrow as pa

    from assay.data.dataset import Dataset

#: longest vocabulary of the tf-idf baseline
_VOCABULARY = 200_000
#: the baseline of pixels sees images of at most this side, and is fitted on at most so many
_SIDE = 28
_IMAGES = 10_000


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline's predictions for the audited rows."""

    name: str
    scored: Scored


@dataclass(frozen=True)
class Inputs:
    """What baselines are fitted on: training rows and audited rows, aligned by column."""

    train: Any
    audited: Any


def table_features(dataset: Dataset, split: str) -> Inputs:
    """Features `[N, F]` of training and audited rows, standardised and one-hot by training rows."""
    from assay.data.preprocessing import fit_tabular

    preprocessing = fit_tabular(dataset, "train", LocalDoor())
    return Inputs(
        preprocessing.encode(dataset.rows("train")).arrays["features"],
        preprocessing.encode(dataset.rows(split)).arrays["features"],
    )


def texts(dataset: Dataset, split: str) -> Inputs:
    """Training and audited rows as texts (several text columns are joined)."""
    columns = dataset.schema.text_columns()
    return Inputs(_joined(dataset.rows("train"), columns), _joined(dataset.rows(split), columns))


def _joined(table: pa.Table, columns: Any) -> list[str]:
    parts = [[str(v) if v is not None else "" for v in table[c].to_pylist()] for c in columns]
    return [" ".join(row) for row in zip(*parts, strict=True)]


def pixels(dataset: Dataset, split: str) -> tuple[Inputs, npt.NDArray[np.int64]]:
    """Grey values in [0, 1] `[N, side * side]` of training and audited images.

    Returns:
        The inputs, and which training rows they are of: all, or 10,000 spread evenly over them.
    """
    from assay.data.preprocessing import image_preprocessing

    native = image_preprocessing(dataset, None, 1, default=_SIDE)
    side = {"height": min(native.height, _SIDE), "width": min(native.width, _SIDE)}
    small = native.model_copy(update=side)
    rows = dataset.rows("train")
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _IMAGES)).astype(np.int64))
    parts = [small.encode(t).arrays["pixels"] for t in (rows.take(chosen), dataset.rows(split))]
    train, audited = (p.reshape(len(p), -1).astype(np.float32) / 255 for p in parts)
    return Inputs(train, audited), chosen


def classify(
    inputs: Inputs | None,
    modality: str,
    train: npt.NDArray[np.int64],
    audited: npt.NDArray[np.int64],
    classes: int,
    *,
    threshold: float = 0.5,
    seed: int = 0,
    chosen: npt.NDArray[np.int64] | None = None,
) -> list[Baseline]:
    """Baselines of a classification.

    Args:
        inputs: features (`tabular`), texts (`text`) or grey values (`image`); None leaves only
            the majority.
        modality: `tabular`, `text` or `image`.
        train: `[M]` class indices to fit on.
        audited: `[N]` class indices to judge by.
        classes: K.
        threshold: operating point.
        seed: of the boosting's subsampling.
        chosen: positions in `train` of the rows that `inputs.train` holds; None for all.

    Returns:
        `majority`, then for tables `logistic` and `gradient boosting`, for text
        `tf-idf + logistic` (words and pairs of words), for images `pixels + logistic`.
    """
    shares = np.bincount(train, minlength=classes) / len(train)
    train = train if chosen is None else train[chosen]
    constant = np.tile(shares, (len(audited), 1))
    found = [("majority", constant)]
    if inputs is not None and len(np.unique(train)) > 1:
        for name, make in _classifiers(modality, seed):
            given, wanted = inputs.train, inputs.audited
            if modality == "text":
                given, wanted = _tfidf(inputs)
                if given is None:
                    continue
            model = make()
            _fit(model, given, train)
            probabilities = np.zeros((len(audited), classes))
            probabilities[:, model.classes_] = model.predict_proba(wanted)
            found.append((name, probabilities))
    return [
        Baseline(name, Scored(audited, p.argmax(axis=1), p.astype(np.float64), threshold))
        for name, p in found
    ]


def _tfidf(inputs: Inputs) -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_VOCABULARY)
    try:
        return words.fit_transform(inputs.train), words.transform(inputs.audited)
    except ValueError:  # no text holds a single word
        return None, None


def _classifiers(modality: str, seed: int) -> list[tuple[str, Callable[[], Any]]]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    if modality == "text":
        return [("tf-idf + logistic", lambda: LogisticRegression(max_iter=1000))]
    if modality == "image":
        return [("pixels + logistic", lambda: LogisticRegression(max_iter=100))]
    return [
        ("logistic", lambda: LogisticRegression(max_iter=1000)),
        (
            "gradient boosting",
            lambda: HistGradientBoostingClassifier(early_stopping=False, random_state=seed),
        ),
    ]


def regress(
    inputs: Inputs | None,
    modality: str,
    train: npt.NDArray[np.float32],
    audited: npt.NDArray[np.float32],
    *,
    seed: int = 0,
) -> list[Baseline]:
    """Baselines of a regression: `mean`, then `ridge`, and for tables `gradient boosting`."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge

    found = [("mean", np.full(len(audited), float(np.mean(train, dtype=np.float64))))]
    if inputs is not None:
        given, wanted = (inputs.train, inputs.audited) if modality != "text" else _tfidf(inputs)
        makers: list[tuple[str, Any]] = [("ridge", Ridge())]
        if modality != "text":
            boosting = HistGradientBoostingRegressor(early_stopping=False, random_state=seed)
            makers.append(("gradient boosting", boosting))
        for name, model in makers if given is not None else []:
            _fit(model, given, train.astype(np.float64))
            found.append((name, np.asarray(model.predict(wanted), dtype=np.float64)))
    return [Baseline(name, Scored(audited, values)) for name, values in found]


def _fit(model: Any, inputs: Any, targets: npt.NDArray[Any]) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # a baseline that is not quite converged is still a baseline
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs, targets)


def baselines(
    dataset: Dataset, split: str, *, threshold: float = 0.5, seed: int = 0
) -> list[Baseline]:
    """Every baseline that applies to a data set: fitted on `train`, judged on `split`."""
    modality = dataset.card.modality
    inputs: Inputs | None = None
    chosen: npt.NDArray[np.int64] | None = None
    if modality == "text":
        inputs = texts(dataset, split)
    elif modality == "image":
        inputs, chosen = pixels(dataset, split)
    elif dataset.schema.features():
        inputs = table_features(dataset, split)
    train, audited = dataset.targets("train"), dataset.targets(split)
    if dataset.classes is None:
        return regress(inputs, modality, train, audited, seed=seed)
    count = len(dataset.classes)
    return classify(
        inputs, modality, train, audited, count, threshold=threshold, seed=seed, chosen=chosen
    )
