"""A private step is noise of the right size on a bounded sum; tests are exact, seeds are fixed.

What is random is tested at a false-alarm rate of one in 10^6 over all seeds.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from tests.tiny import Bench, image_bench

from assay.claims import PlanContext
from assay.errors import UsageError
from assay.models.model import Model
from assay.models.structures.mask import mask_model
from assay.models.structures.replace_norm import replaced
from assay.privacy import accountant
from assay.privacy.events import Event
from assay.stages.finetune import Finetune
from assay.training.loop import Job, train

RARE = 1e-6
HUGE = 1e9


def stage(private: dict[str, Any], **settings: Any) -> Finetune:
    """Plain SGD at rate 1 in float32: a step is minus the gradient."""
    more = settings.pop("step", {})
    private = {"insecure_seed": 1, **private}
    step = {"precision": {"mode": "fp32", "memory_format": "contiguous"}, "sgd": 1.0, **more}
    if private.get("noise_multiplier") is None and "epsilon" not in private:
        private["noise_multiplier"] = 0.0
    step["private"] = private
    return Finetune(**{"epochs": 2, "batch": 8, "curves": False, **settings, "step": step})


def job_of(
    found: Bench,
    private: dict[str, Any],
    work: Path | None = None,
    model: Model | None = None,
    **settings: Any,
) -> Job:
    made = stage(private, **settings)
    return Job(made, model or found.model, found.context(work, model))


def steps_of(job: Job) -> tuple[torch.Tensor, list[int]]:
    """Minus what each step adds to all moving parameters, `[S, P]`, and units in each step."""
    given: Any = job.source
    moved, units = [], []
    while not job.done:
        pieces, _ = given.logical(dict(job.state))
        units.append(sum(piece.n_units for piece in pieces))
        before = torch.cat([p.flat.params[0] for p in job.players.values()]).clone()
        job.step()
        after = torch.cat([p.flat.params[0] for p in job.players.values()])
        moved.append(before - after)
    return torch.stack(moved), units


# -- noise ----------------------------------------------------------------------------------------

NOTHING = {"supervised": {"weight": 0.0}}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("clip", [0.5, "auto"])
def test_without_a_signal_a_step_is_noise_of_the_right_size(
    table: Bench, clip: Any, seed: int
) -> None:
    private = {"noise_multiplier": 3.0, "clip": clip, "insecure_seed": seed}
    job = job_of(table, private, objective=NOTHING, epochs=12, batch=9)
    with torch.no_grad():  # from nought, so that a difference of parameters loses no bits
        job.players["model"].flat.params.zero_()
    moved, units = steps_of(job)
    assert len(set(units)) > 3, "the size of the batch is not what noise is divided by"
    bound = 1.0 if clip == "auto" else 0.5
    noise = (moved / (3.0 * bound / 9.0)).double()
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > RARE
    total = float(noise.square().sum())
    assert RARE < stats.chi2.cdf(total, noise.numel()) < 1 - RARE
    # steps are independent of each other, and coordinates too
    for first, second in ((noise[:-1], noise[1:]), (noise[:, :-1], noise[:, 1:])):
        product = float((first * second).sum()) / math.sqrt(first.numel())
        assert abs(product) < stats.norm.isf(RARE / 2)
    for sums in (noise.sum(0), noise.sum(1)):
        assert stats.kstest(sums.numpy() / sums.std().item(), "norm").pvalue > RARE


def test_noise_follows_from_the_key_and_the_step_alone(table: Bench) -> None:
    private = {"noise_multiplier": 1.0}
    found = [steps_of(job_of(table, private, objective=NOTHING, batch=b))[0][:3] for b in (6, 12)]
    torch.testing.assert_close(found[0] * 6, found[1] * 12, rtol=1e-4, atol=1e-5)
    other = steps_of(job_of(table, {**private, "insecure_seed": 2}, objective=NOTHING, batch=6))[0]
    assert not torch.allclose(other[:3], found[0], atol=1e-3)


def test_players_get_noise_of_their_own(table: Bench) -> None:
    objective = {"features": {"teacher": "current", "weight": 0.0}}
    moved, _ = steps_of(job_of(table, {"noise_multiplier": 2.0}, objective=objective, epochs=8))
    noise = (moved[:, 1:] / (2.0 / 8)).double()
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > RARE


# -- the bound ------------------------------------------------------------------------------------


def with_mask(model: Model) -> Model:
    name, weight = next((n, p) for n, p in model.network.named_parameters() if p.dim() == 2)
    return mask_model(model, {name: torch.arange(weight.numel()).view_as(weight) % 2 == 0})


MATCHED = {"supervised": 1, "features": {"teacher": "current"}}
WEIGHTED = {"supervised": {"class_weights": {"yes": 50}}}
ADAPTERS = {"lora": {"rank": 1, "targets": ["layers.0.0"]}}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {"batch": 2}),
    "automatic": ({"clip": "auto"}, {"batch": 2}),
    "pieces": ({"piece": 2}, {"batch": 2}),
    "accumulate": ({}, {"batch": 1, "step": {"accumulate": 2}}),
    "few rows a unit": ({"rows_per_unit": 2}, {"batch": 2}),
    "weights of classes": ({}, {"batch": 2, "objective": WEIGHTED}),
    "two players": ({"piece": 3}, {"batch": 2, "objective": MATCHED}),
    "bias and norm": ({}, {"batch": 2, "parameters": "bias_norm"}),
    "lora": ({}, {"batch": 2, "parameters": ADAPTERS}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("masked", [False, True])
def test_no_unit_passes_the_bound(visits: Bench, name: str, masked: bool) -> None:
    """The clip is far below every gradient: a unit gives all of it, and never more."""
    private, settings = CASES[name]
    private = {"clip": 1e-3, **private}
    if masked and name == "lora":
        settings = {**settings, "parameters": "full"}
    model = with_mask(visits.model) if masked else None
    job = job_of(visits, private, None, model, epochs=12, **settings)
    bound = 1.0 if private["clip"] == "auto" else 1e-3
    moved, units = steps_of(job)
    expected = job.source.expected  # type: ignore[attr-defined]
    assert expected == 2.0
    assert units.count(1) >= 3
    for change, taken in zip(moved.double() * expected, units, strict=True):
        assert float(change.norm()) <= taken * bound * (1 + 1e-4) + 1e-7
        if taken == 1 and bound == 1e-3:
            assert float(change.norm()) >= bound * 0.99
        if taken == 0:
            assert not bool(change.any())


def test_a_small_gradient_is_left_as_it_is(table: Bench) -> None:
    large, _ = steps_of(job_of(table, {"clip": HUGE}, epochs=1))
    larger, _ = steps_of(job_of(table, {"clip": 10 * HUGE}, epochs=1))
    torch.testing.assert_close(large, larger)
    bound, _ = steps_of(job_of(table, {"clip": 0.01}, epochs=1))
    assert float(bound[0].norm()) < 0.2 * float(large[0].norm())


def test_what_divides_is_the_expected_number_of_units(table: Bench) -> None:
    job = job_of(table, {"clip": HUGE}, epochs=3)
    given: Any = job.source
    sizes = set()
    while not job.done:
        pieces, _ = given.logical(dict(job.state))
        twin = copy.deepcopy(job.networks["model"])  # of the network in the middle of a stage
        rows = sum(len(piece) for piece in pieces)
        sizes.add(rows)
        before = job.players["model"].flat.params[0].clone()
        job.step()
        if not rows:
            continue
        (batch,) = pieces
        losses = torch.nn.functional.cross_entropy(
            twin(**batch.inputs), batch.targets, reduction="sum"
        )
        names = job.players["model"].flat.names
        grads = torch.autograd.grad(losses, [twin.get_parameter(n) for n in names])
        want = torch.cat([g.flatten() for g in grads]) / 8.0
        torch.testing.assert_close(before - job.players["model"].flat.params[0], want)
    assert len(sizes) > 3


def test_without_noise_and_bound_at_rate_one_it_is_plain_training(table: Bench) -> None:
    n = table.dataset.size("train")
    private = train(stage({"clip": HUGE}, batch=n, epochs=5), table.model, table.context())
    made = Finetune(
        epochs=5,
        batch=n,
        curves=False,
        step={"precision": {"mode": "fp32", "memory_format": "contiguous"}, "sgd": 1.0},
    )
    plain = train(made, table.model, table.context())
    for name, value in plain.network.state_dict().items():
        torch.testing.assert_close(private.network.state_dict()[name], value)


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_pieces_change_neither_the_step_nor_the_logged_loss(table: Bench, piece: int) -> None:
    whole, parts = (job_of(table, {"clip": 0.3, "piece": p}, epochs=1) for p in (1000, piece))
    first, _ = steps_of(whole)
    second, _ = steps_of(parts)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
    curves = [[line.get("loss") for line in j.context.metrics.lines] for j in (whole, parts)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


# -- what was used --------------------------------------------------------------------------------


def facts(job: Job) -> dict[str, Any]:
    job.stage.place.run(job)
    job.finish()
    found: dict[str, Any] = job.context.used["private"]
    return found


def test_what_was_used_is_recorded(visits: Bench) -> None:
    private = {"noise_multiplier": 1.5, "clip": 0.7, "rows_per_unit": 2, "delta": 1e-3}
    job = job_of(visits, private, batch=3, epochs=3, step={"accumulate": 2})
    units = len(set(visits.dataset.units("train")))
    found = facts(job)
    (event,) = found.pop("events")
    assert found == {
        "delta": 1e-3,
        "clip": 0.7,
        "automatic": False,
        "units": units,
        "expected": 6.0,
        "rows_per_unit": 2,
        "insecure": True,
    }
    assert Event(**event) == Event(
        noise_multiplier=1.5,
        sampling=6.0 / units,
        steps=job.total_steps,
        data=event["data"],
        unit="patient",
        what="gradient steps",
    )
    assert job.total_steps == 3 * round(units / 6)


def test_epsilon_is_met_by_the_least_noise_that_does(table: Bench) -> None:
    found = facts(job_of(table, {"epsilon": 3.0, "delta": 1e-4}))
    event = Event(**found["events"][0])
    assert event.noise_multiplier is not None
    assert 2.9 < accountant.epsilon([event], 1e-4) <= 3.0
    less = event.model_copy(update={"noise_multiplier": event.noise_multiplier - 0.002})
    assert accountant.epsilon([less], 1e-4) > 3.0


def test_a_stage_that_stops_early_costs_what_it_took(table: Bench) -> None:
    job = job_of(table, {"noise_multiplier": 1.0}, epochs=40, step={"early_stopping": 1})
    found = facts(job)
    assert job.steps_done < job.total_steps
    assert found["events"][0]["steps"] == job.steps_done


# -- batch norms ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A convolutional network with batch norms."""
    return image_bench(tmp_path_factory.mktemp("images"))


def norms(network: torch.nn.Module) -> list[torch.nn.Module]:
    return [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]


def test_a_frozen_batch_norm_never_moves_its_statistics(images: Bench) -> None:
    """Where Opacus takes it and lets its running mean leak."""
    assert norms(images.model.network)
    for choice in ("head", {"last": 1}):
        try:
            job = job_of(images, {"noise_multiplier": 1.0}, parameters=choice)
        except UsageError as error:  # the last block has a norm that moves
            assert choice != "head"
            assert "replace_norm" in str(error)
            continue
        before = {k: v.clone() for k, v in job.networks["model"].named_buffers()}
        while not job.done:
            job.step()
            assert not any(m.training for m in norms(job.networks["model"]))
        after = job.finish()
        for name, value in after.network.named_buffers():
            assert torch.equal(value, before[name]), name


def test_a_batch_norm_that_trains_is_refused_and_replace_norm_is_the_way_out(
    images: Bench,
) -> None:
    with pytest.raises(UsageError, match="replace_norm") as caught:
        job_of(images, {"noise_multiplier": 1.0})
    assert "module backbone" in str(caught.value)
    model = replaced(images.model, 2)
    assert not norms(model.network)
    job = job_of(images, {"noise_multiplier": 1.0}, None, model)
    after = train(job.stage, model, images.context(None, model))
    assert not norms(after.network)
    assert after.structures[-1].part_name == "replace_norm"
    for name, value in after.network.state_dict().items():
        assert torch.isfinite(value).all(), name


# -- the rest of a stage --------------------------------------------------------------------------


def test_masked_weights_are_not_filled_by_noise(table: Bench) -> None:
    """Where masks that are written into weights are filled again by Opacus' noise."""
    model = with_mask(table.model)
    made = stage({"noise_multiplier": 50.0, "clip": 5.0})
    after = train(made, model, table.context(None, model))
    ((name, mask),) = after.support().items()
    weight = after.network.get_parameter(name)
    assert bool((weight[~mask] == 0).all())
    assert bool((weight[mask] != 0).all())


def test_gradient_accumulation_is_a_larger_logical_batch(table: Bench) -> None:
    """Which Opacus refuses with Poisson sampling."""
    whole, _ = steps_of(job_of(table, {"noise_multiplier": 0.5}, batch=12))
    parts, _ = steps_of(job_of(table, {"noise_multiplier": 0.5}, batch=4, step={"accumulate": 3}))
    torch.testing.assert_close(whole, parts)


def test_a_job_leaves_the_network_free_while_it_runs(table: Bench) -> None:
    job = job_of(table, {"noise_multiplier": 0.5})
    job.step()
    network = job.networks["model"]
    twin = copy.deepcopy(network)
    assert type(twin) is type(network)
    twin.load_state_dict(network.state_dict())
    assert all("forward" not in m.__dict__ and not m._forward_hooks for m in network.modules())
    job.step()
    assert any(
        not torch.equal(a, b) for a, b in zip(twin.parameters(), network.parameters(), strict=True)
    )


def test_the_key_lies_beside_the_checkpoints_and_goes_at_the_end(
    table: Bench, tmp_path: Path
) -> None:
    job = job_of(table, {"noise_multiplier": 0.5, "insecure_seed": None}, tmp_path)
    job.step()
    job.checkpoint()
    key = tmp_path / "stream.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert {p.parent for p in tmp_path.glob("step-*")} == {key.parent}
    found = facts(job)
    assert found["insecure"] is False
    assert key.exists(), "until the stage's model is safely on the disk"
    for ended in job.context.ended:
        ended()
    assert not key.exists()


@pytest.mark.parametrize("step", [1, 4])
def test_a_resumed_stage_is_bit_identical(visits: Bench, tmp_path: Path, step: int) -> None:
    """Where a plain save and resume makes Opacus tell too small an epsilon: here the record of
    what was used is that of a stage that never stopped.
    """
    ends, told = [], []
    for stop in (False, True):
        work = tmp_path / str(stop)
        work.mkdir()
        if stop:
            (work / "stream.key").write_bytes((tmp_path / "False/stream.key").read_bytes())
            (work / "stream.key").chmod(0o600)
        private = {"noise_multiplier": 1.5, "insecure_seed": None}
        job = job_of(visits, private, work, batch=4)
        if stop:
            for _ in range(step):
                job.step()
            job.checkpoint()
            job.step()  # lost, and replayed
            job.close()
            job = job_of(visits, private, work, batch=4)
            assert job.steps_done == step
        job.stage.place.run(job)
        ends.append(job.finish().network.state_dict())
        told.append(job.context.used["private"])
    assert told[0] == told[1]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_what_steps_draw_beside_noise_follows_from_the_key(table: Bench) -> None:
    """Dropout and views depend on who else is in a batch: nobody may know them."""

    def seeds(secret: int | None, seed: int, private: bool = True) -> int:
        made = stage({"noise_multiplier": 1.0, "insecure_seed": secret})
        if not private:
            made = Finetune(step={"sgd": 1.0}, curves=False)
        return Job(made, table.model, table.context(None, seed=seed))._base_seed

    assert seeds(1, 3) == seeds(1, 3) == seeds(1, 4)
    assert seeds(1, 3) != seeds(2, 3)
    assert seeds(None, 3) != seeds(None, 3)
    assert seeds(None, 3, private=False) == seeds(None, 3, private=False)
    assert seeds(None, 3, private=False) != seeds(None, 4, private=False)


def test_it_needs_rows_that_do_not_mix_and_float32(table: Bench) -> None:
    (part,) = [p for p in stage({}).step if p.part_name == "private"]
    context: PlanContext = table.context().plan
    assert part.capabilities(context).needs == {"row_independence", "full_precision"}
    assert part.private
