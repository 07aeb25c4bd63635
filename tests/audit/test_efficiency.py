"""The audit `efficiency`: exact sizes, honest clocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.audit.efficiency import EfficiencyAudit
from assay.audit.measures import cost, latency
from assay.claims import Claim
from assay.errors import LoadError, UsageError
from assay.models.structures.mask import mask_model
from assay.training.context import RunContext

Make = Callable[..., Any]
QUICK = EfficiencyAudit(seconds=0.02)


def measured(audit: EfficiencyAudit, model: Any, context: RunContext) -> list[Claim]:
    audit.measure(model, context)
    return context.claims


def one(claims: list[Claim], kind: str, **conditions: Any) -> Claim:
    (found,) = [
        c
        for c in claims
        if c.kind == kind and all(c.conditions[k] == v for k, v in conditions.items())
    ]
    return found


def test_sizes_are_exact(
    make_data: Make, make_model: Make, make_context: Make, tmp_path: Path
) -> None:
    data = make_data()
    model, context = make_model(data), make_context(data)
    claims = measured(QUICK, model, context)
    width = model.preprocessing.width
    assert one(claims, "size.parameters").value == width * 8 + 8 + 8 * 2 + 2
    assert one(claims, "size.macs").value == width * 8 + 8 * 2
    model.save(tmp_path / "model")
    on_disk = (tmp_path / "model" / "model.safetensors").stat().st_size
    assert one(claims, "size.bytes").value == on_disk
    assert {c.kind for c in claims} == set(QUICK.adds(context.plan))


def test_latency_names_what_it_depends_on(
    make_data: Make, make_model: Make, make_context: Make
) -> None:
    data = make_data(rows=60)
    claims = measured(QUICK, make_model(data), make_context(data))
    for batch in (1, 32):
        p50 = one(claims, "latency.p50_ms", batch=batch)
        p99 = one(claims, "latency.p99_ms", batch=batch)
        assert p50.conditions == {"batch": batch, "runtime": "torch", "threads": 1}
        assert 0 < float(p50.value) <= float(p99.value)  # type: ignore[arg-type]
        assert p50.details["inputs"]["features"][0] == batch
        assert p50.details["machine"]["runtime"] == f"torch {torch.__version__}"
        assert p50.details["machine"]["cores"] >= 1


def test_agreement_on_latency(
    make_data: Make, make_model: Make, make_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data()
    claims = measured(QUICK, make_model(data), make_context(data))
    claim = one(claims, "latency.p50_ms", batch=1)

    def again(best: float, **machine: str) -> Claim:
        details = {"best": best, "machine": {**claim.details["machine"], **machine}}
        return claim.model_copy(update={"details": details})

    value = float(claim.value)  # type: ignore[arg-type]
    assert QUICK.agrees(claim, again(1.9 * value)) == "holds"
    assert QUICK.agrees(claim, again(0.1 * value)) == "holds"
    monkeypatch.setattr("assay.audit.efficiency.os.getloadavg", lambda: (0.1, 0.1, 0.1))
    assert QUICK.agrees(claim, again(2.1 * value)) == "fails"
    monkeypatch.setattr("assay.audit.efficiency.os.getloadavg", lambda: (1e6, 0.1, 0.1))
    assert QUICK.agrees(claim, again(2.1 * value)) == "unverifiable"
    assert QUICK.agrees(claim, again(1.9 * value)) == "holds"
    assert QUICK.agrees(claim, again(value, cpu="another")) == "unverifiable"
    assert QUICK.agrees(claim, again(value, runtime="torch 1.0")) == "unverifiable"
    assert QUICK.agrees(claim.model_copy(update={"details": {}}), again(value)) == "unverifiable"


def test_agreement_on_size_is_exact() -> None:
    claim = Claim(kind="size.bytes", value=10**9, unit="bytes")
    assert QUICK.agrees(claim, claim) == "holds"
    assert QUICK.agrees(claim, claim.model_copy(update={"value": 10**9 + 1})) == "fails"
    assert QUICK.agrees(Claim(kind="quality.x", value=1, unit=""), claim) is None


def test_zeros_are_claimed_where_there_are_masks(
    make_data: Make, make_model: Make, make_context: Make
) -> None:
    data = make_data()
    model = make_model(data)
    name = "backbone.layers.0.0.weight"
    mask = torch.zeros(model.network.get_parameter(name).shape, dtype=torch.bool)
    mask[0] = True
    masked = mask_model(model, {name: mask})
    with torch.no_grad():
        for parameter in masked.network.parameters():
            parameter.add_((parameter == 0) & (parameter.ndim == 1))
    context = make_context(data, structures=("head", "mask"))
    zeros = one(measured(QUICK, masked, context), "sparsity.zeros")
    width, total = mask.shape[1], cost.counts(model.network).parameters
    assert zeros.value == pytest.approx(7 * width / total)
    assert zeros.details["of_masked"] == 7 / 8
    assert "sparsity.zeros" in QUICK.adds(context.plan)
    assert "sparsity.zeros" not in QUICK.adds(make_context(data).plan)


def test_threads_are_pinned_and_put_back() -> None:
    before = torch.get_num_threads()
    with latency.torch_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before


def test_measure_counts_calls() -> None:
    calls = []
    found = latency.measure(lambda: calls.append(1), blocks=3, seconds=0.0, warm_up=3)
    assert found.calls == 6
    assert len(calls) == 6 + 1  # warming up stopped when the time was over
    assert len(found.blocks_p50) == 3
    assert min(found.blocks_p50) <= found.p50 <= found.p99


def test_batches_are_of_median_length() -> None:
    from assay.data.preprocessing import Encoded

    lengths = np.array([1, 9, 5, 4, 6])
    rows = Encoded(
        {"input_ids": np.arange(lengths.sum())}, np.concatenate([[0], np.cumsum(lengths)])
    )
    assert cost.batch_of(rows, 1)["input_ids"].shape == (1, 5)
    assert cost.batch_of(rows, 3)["input_ids"].shape == (3, 6)
    assert cost.batch_of(rows, 8)["input_ids"].shape == (8, 9)


def test_bad_input(make_data: Make, make_model: Make, make_context: Make) -> None:
    data = make_data()
    model, context = make_model(data), make_context(data)
    with pytest.raises(LoadError, match="no rows to time"):
        EfficiencyAudit(split="later").measure(model, context)
    with pytest.raises(UsageError, match="no ONNX graph"):
        EfficiencyAudit(runtimes=("onnxruntime",), seconds=0.01).measure(model, context)
