"""Learning from hidden states: closed forms, and who moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import (
    Bench,
    save,
    table_bench,
    text_bench,
    write_reviews,
    write_table,
    write_tokenizer,
)
from torch import nn

from assay.claims.capabilities import conflicts
from assay.config import build_part
from assay.errors import UsageError
from assay.stages.finetune import Finetune
from assay.training.loop import Job
from assay.training.objectives.features import PLAYER, distance, projection, states
from assay.training.parts import MODEL


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- closed forms -------------------------------------------------------------------------------


def test_vectors() -> None:
    ours, theirs, project = randn(5, 3), randn(5, 4, seed=1), nn.Linear(3, 4)
    expected = torch.stack(
        [
            ((project.weight @ o + project.bias - t) ** 2).sum() / 4
            for o, t in zip(ours, theirs, strict=True)
        ]
    )
    torch.testing.assert_close(distance(ours, theirs, project), expected)


def test_tokens_without_their_padding() -> None:
    ours, theirs, project = randn(2, 4, 3), randn(2, 4, 5, seed=1), nn.Linear(3, 5)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    each = (project(ours) - theirs).square().mean(dim=2)
    expected = torch.stack([each[0, :2].mean(), each[1].mean()])
    torch.testing.assert_close(distance(ours, theirs, project, mask), expected)
    torch.testing.assert_close(distance(ours, theirs, project), each.mean(dim=1))
    spoilt = ours.clone()
    spoilt[0, 2:] = 1e6
    torch.testing.assert_close(distance(spoilt, theirs, project, mask), expected)


def test_maps_are_averaged_down_to_the_smaller() -> None:
    ours, theirs = randn(2, 3, 4, 4), randn(2, 5, 2, 2, seed=1)
    project = projection(ours, theirs)
    assert isinstance(project, nn.Conv2d)
    small = ours.view(2, 3, 2, 2, 2, 2).mean(dim=(3, 5))
    expected = (project(small) - theirs).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(distance(ours, theirs, project), expected)
    twice = theirs.repeat_interleave(4, 2).repeat_interleave(4, 3)
    pooled = (project(ours) - twice.view(2, 5, 4, 2, 4, 2).mean(dim=(3, 5))).square()
    torch.testing.assert_close(distance(ours, twice, project), pooled.mean(dim=(1, 2, 3)))


def test_states_of_two_kinds_are_averaged_over_their_positions() -> None:
    maps, vectors, tokens = randn(2, 3, 4, 4), randn(2, 6, seed=1), randn(2, 5, 3, seed=2)
    project = projection(maps, vectors)
    torch.testing.assert_close(
        distance(maps, vectors, project), distance(maps.mean(dim=(2, 3)), vectors, project)
    )
    mask = torch.tensor([[1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    mean = torch.stack([tokens[0, 0], tokens[1].mean(dim=0)])
    torch.testing.assert_close(
        distance(tokens, vectors, project, mask), distance(mean, vectors, project)
    )


@pytest.mark.parametrize("shape", [(5, 3), (5, 4, 3), (5, 3, 4, 4)])
def test_a_row_is_of_itself_alone(shape: tuple[int, ...]) -> None:
    ours, theirs = randn(*shape), randn(*shape, seed=1)
    project = projection(ours, theirs)
    whole = distance(ours, theirs, project)
    alone = [distance(ours[i : i + 1], theirs[i : i + 1], project) for i in range(5)]
    assert whole.shape == (5,)
    torch.testing.assert_close(whole, torch.cat(alone))


def test_what_counts_as_states() -> None:
    assert states((randn(2, 3), None)) is not None
    assert states(randn(3)) is None
    assert states(None) is None


# -- in the loop --------------------------------------------------------------------------------


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    return table_bench(tmp_path)


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "reviews.jsonl")
    write_tokenizer(tmp_path / "words")
    return text_bench(tmp_path, dropout=0.0)


def job(found: Bench, work: Path | None = None, **settings: Any) -> Job:
    stage = Finetune(objective={"features": settings}, epochs=2, batch=8)
    return Job(stage, found.model, found.context(work))


def test_gradients_reach_projection_and_student_and_not_the_teacher(found: Bench) -> None:
    save(found, Path("teacher"))
    one = job(found, teacher="teacher")
    teacher = one.setup.teachers["teacher"].network
    before = {n: p.detach().clone() for n, p in teacher.named_parameters()}
    assert list(one.players) == [MODEL, PLAYER]
    start = {name: player.flat.params.clone() for name, player in one.players.items()}
    one.step()
    for name, player in one.players.items():
        assert bool(player.flat.grads.abs().max() > 0), name
        assert not torch.equal(player.flat.params, start[name]), name
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(p, before[n]) for n, p in teacher.named_parameters())
    # the head stands behind what is compared
    head = one.model.network.get_submodule("head")
    assert all(p.grad is None or not p.grad.any() for p in head.parameters())
    assert all(not m._forward_hooks for n in one.networks.values() for m in n.modules())
    one.close()


def test_the_loss_is_the_distance_to_the_teachers_states(found: Bench) -> None:
    one = job(found, teacher="current")
    with one.evaluating():
        batch, _ = one.source.next(one.source.init(), one.model)
        losses, _ = one.objective(batch, training=True)
        network: Any = found.model.network.eval()
        theirs = network.pool(network.backbone(**batch.inputs))
        projections: Any = one.networks[PLAYER]
        (project,) = projections
        expected = (project(theirs) - theirs).square().mean(dim=1)
    torch.testing.assert_close(losses[MODEL], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses[PLAYER], losses[MODEL])


def test_states_of_tokens_are_computed_at_every_step(texts: Bench) -> None:
    layer = "backbone.encoder.layer.1"
    one = job(texts, teacher="current", layers={layer: layer})
    (_, inside), *rest = one._terms
    assert not rest and inside._kept == {}
    one.step()
    assert inside._kept == {"train": None}
    one.close()
    pooled = job(texts, teacher="current")
    pooled.step()
    ((_, inside),) = pooled._terms
    assert inside._kept["train"]["pool"].shape == (texts.dataset.size("train"), 8)
    pooled.close()


def test_the_students_view_is_the_rows_themselves_without_augmentation(texts: Bench) -> None:
    rows = []
    for same_view in (False, True):
        one = job(texts, teacher="current", same_view=same_view)
        with one.evaluating():
            batch, _ = one.source.next(one.source.init(), one.model)
            rows.append(one.objective(batch, training=True)[0][MODEL])
    torch.testing.assert_close(rows[0], rows[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        ({"pol": "pool"}, "mlp has no module 'pol'"),
        ({"pool": "backbone.layer"}, "mlp has no module 'backbone.layer'"),
    ],
)
def test_modules_that_are_not_there(found: Bench, layers: dict[str, str], what: str) -> None:
    with pytest.raises(UsageError) as caught:
        job(found, teacher="current", layers=layers)
    assert caught.value.what == what


def test_it_stands_once(found: Bench) -> None:
    term = build_part("term", {"features": {"teacher": "current"}})
    with pytest.raises(UsageError, match="features stands twice"):
        Job(Finetune(objective=(term, term)), found.model, found.context())


def test_a_teacher_with_another_tokenizer_is_refused_for_tokens(texts: Bench) -> None:
    save(texts, Path("teacher"))
    short = texts.model.preprocessing.model_copy(update={"max_length": 8})
    texts.model.preprocessing = short
    layer = "backbone.encoder.layer.1"
    with pytest.raises(UsageError, match="read rows in different ways"):
        job(texts, teacher="teacher", layers={layer: layer})
    job(texts, teacher="teacher").close()  # vectors may come from other tokens
    with pytest.raises(UsageError, match="read rows in different ways"):
        job(texts, teacher="teacher", same_view=True)


def test_a_stage_without_a_teacher_is_refused(found: Bench) -> None:
    with pytest.raises(UsageError, match="no teacher is named"):
        job(found)
    context = found.context().plan
    for name in ("features", "distillation", "attention"):
        term = build_part("term", {name: None})
        assert "teacher" in term.capabilities(context).needs


def test_a_head_alone_learns_no_states(found: Bench) -> None:
    context = found.context().plan
    term = build_part("term", {"features": {"teacher": "current"}})
    head = build_part("parameters", "head")
    declared = [("features", term.capabilities(context)), ("head", head.capabilities(context))]
    (refusal,) = conflicts(declared)
    assert refusal.what.endswith("but head moves the head alone")
