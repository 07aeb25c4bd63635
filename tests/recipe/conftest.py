"""A stage that declares whatever a test wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from assay import registry
from assay.claims import Capabilities, Effects, Estimate, PlanContext, Read
from assay.errors import UsageError
from assay.stages.base import Stage


class Probe(Stage):
    """Declares what its fields say."""

    epochs: int = 1
    rates: dict[str, float] = Field(default_factory=dict)
    adds: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    reads: tuple[Read, ...] = ()
    structure_adds: tuple[str, ...] = ()
    structure_removes: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    breaks: frozenset[str] = frozenset()
    seconds: float = 0.0
    fails: str = ""

    def effects(self, context: PlanContext) -> Effects:
        if self.fails:
            raise UsageError(self.fails, where="fails", mend="leave it out")
        return Effects(
            adds=self.adds,
            keeps=self.keeps,
            reads=self.reads,
            structure_adds=self.structure_adds,
            structure_removes=self.structure_removes,
        )

    def capabilities(self, context: PlanContext) -> Capabilities:
        return Capabilities(needs=self.needs, breaks=self.breaks)

    def estimate(self, context: PlanContext) -> Estimate:
        return Estimate(seconds=self.seconds, bytes=10, basis="a guess")


class Merge(Probe):
    """Another name for the same."""


@pytest.fixture(autouse=True)
def probes() -> Iterator[None]:
    """`probe` and `fold`, known for the time of one test."""
    registry.discover("stage")
    registry.register("stage", "probe")(Probe)
    registry.register("stage", "fold")(Merge)
    yield
    registry.unregister("stage", "probe")
    registry.unregister("stage", "fold")


@pytest.fixture
def raw() -> dict[str, Any]:
    """A recipe as plain data: a table, a probe."""
    return {
        "model": "mlp",
        "data": {"path": "x.csv", "label": "y", "classes": ["a", "b"]},
        "stages": [{"probe": {"epochs": 2}}],
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
