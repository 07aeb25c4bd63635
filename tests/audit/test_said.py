"""Predictions are computed once, and never stale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from assay.audit.measures.said import forget, said
from assay.models.model import Model

Make = Callable[..., Any]


def test_an_answer_is_kept_until_anything_changes(
    make_data: Make, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data()
    model: Model = make_model(data)
    asked: list[int] = []
    real = Model.predict

    def predict(self: Model, rows: Any) -> Any:
        asked.append(1)
        return real(self, rows)

    monkeypatch.setattr(Model, "predict", predict)
    forget()
    first = said(model, data, "test")
    assert said(model.with_passport(model.passport), data, "test") is first
    assert len(asked) == 1
    assert said(model.copy(), data, "test") is not first  # another network, whatever its weights
    asked.clear()
    with torch.no_grad():
        next(model.network.parameters()).data.flatten()[0] += 1e-3
    assert said(model, data, "test") is not first
    assert len(asked) == 1
    said(model, data, "valid")
    assert len(asked) == 2
    forget()
    said(model, data, "valid")
    assert len(asked) == 3


def test_a_known_answer_still_opens_the_split(make_data: Make, make_model: Make) -> None:
    data = make_data()
    model = make_model(data)
    said(model, data, "test")
    data.opened.clear()
    said(model, data, "test")
    assert data.opened == {"test"}
