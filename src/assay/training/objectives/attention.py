"""Learning where another model looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from assay.claims import Capabilities, PlanContext
from assay.errors import UsageError
from assay.registry import register
from assay.training import teachers
from assay.training.parts import MODEL, Call, Losses, Setup, Term

if TYPE_CHECKING:
    import torch

    from assay.models.model import Model
    from assay.training.inside import Inside

_WHERE = "objective.attention"


@register("term", "attention")
class Attention(Term):
    """Match maps of attention of a teacher.

    Transformers (TinyBERT: Jiao et al. 2019, arXiv 1909.10351; the last layer alone: MiniLM, Wang
    et al. 2020, arXiv 2002.10957): the probabilities with which each position looks at each other,
    averaged over heads; a row loses their mean squared difference, or with `compare: kl` the
    divergence of the student's from the teacher's, averaged over positions. Padding does not
    count. Both must cut rows into the same positions.

    Convolutional networks (Zagoruyko and Komodakis 2016, arXiv 1612.03928): the sum of squares
    over channels at each place, as a vector of length 1; a row loses the squared distance, in
    0..2. Maps of two sizes are averaged down to the smaller one. `compare` does not matter.

    Attributes:
        teacher: folder of the teacher's model, or of the run that made it; `current` is the model
            that came into the stage; by default the teacher of the stage `distill`.
        layers: module of the teacher -> module of the student, by their paths in the networks; by
            default the last module of each that has maps.
        compare: how probabilities are compared.
        same_view: give the teacher the student's very inputs; both read rows in the same way then.
    """

    teacher: str | None = None
    layers: dict[str, str] = Field(default_factory=dict)
    compare: Literal["mse", "kl"] = "mse"
    same_view: bool = False

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(teacher="current"), cls(teacher="current", compare="kl")]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """There are maps, the captured modules run at every step, and something there moves."""
        needs = {"inner_maps", "moving_trunk"} | ({"teacher"} if self.teacher is None else set())
        return Capabilities(
            needs=frozenset(needs),
            breaks=frozenset({"prefix_cache"}),
            why={"prefix_cache": "looks at modules that would not run"},
            mend={
                "inner_maps": "use features, which any network has",
                "teacher": "name a folder, or 'current', under teacher",
                "prefix_cache": "leave out attention",
            },
        )

    def init(self, setup: Setup) -> tuple[dict[str, str], Inside]:
        """The pairs of modules, and what the teacher's give.

        Raises:
            UsageError: a module is not there or has no maps, or the maps are of different kinds or
                positions.
        """
        from assay.training.inside import Inside

        teacher = teachers.teacher(self.teacher, setup)
        pairs = self._pairs(setup)
        return pairs, Inside(teacher, tuple(pairs), flat_map, setup, self.same_view, _WHERE)

    def watch(self, setup: Setup) -> tuple[str, ...]:
        """The student's modules."""
        return tuple(self._pairs(setup).values())

    def lineage(self, setup: Setup) -> dict[str, str]:
        """See `assay.training.teachers.lineage`."""
        return teachers.lineage(self.teacher, setup)

    def loss(self, call: Call, state: tuple[dict[str, str], Inside]) -> Losses:
        """Distances of the batch's rows, `[N]`."""
        call.forward(MODEL)  # what is watched is captured by this, once however many terms ask
        pairs, inside = state
        theirs = inside.of(call)
        mask = call.batch.inputs.get("attention_mask")
        total: Any = 0
        for name, own in pairs.items():
            output = call.captured[own]
            ours = flat_map(output).float()
            if is_probabilities(output):
                total = total + looking(ours, theirs[name], self.compare, mask)
            else:
                total = total + transfer(ours, theirs[name])
        return Losses({MODEL: total / len(pairs)})

    def _pairs(self, setup: Setup) -> dict[str, str]:
        """Module of the teacher -> module of the student; the last ones where none are named."""
        from assay.training.inside import check_names, outputs_inside

        teacher = teachers.teacher(self.teacher, setup)
        if self.layers:
            check_names(teacher, tuple(self.layers), f"{_WHERE}.layers")
            check_names(setup.model, tuple(self.layers.values()), f"{_WHERE}.layers")
        theirs, ours = outputs_inside(teacher), outputs_inside(setup.model)
        pairs = self.layers or {_last(teacher, theirs): _last(setup.model, ours)}
        for name, own in pairs.items():
            self._fit(setup, teacher, _has_maps(theirs, name), _has_maps(ours, own))
        return pairs

    def _fit(self, setup: Setup, teacher: Model, theirs: Any, ours: Any) -> None:
        """Whether two maps can be compared."""
        if is_probabilities(theirs) != is_probabilities(ours):
            raise UsageError(
                "one has maps of attention, the other maps of channels",
                where=_WHERE,
                mend="use features, or teacher and student of one kind",
            )
        if not is_probabilities(ours):
            return
        if setup.model.task.modality == "text":
            teachers.same_reading(teacher, setup, _WHERE)
        elif flat_map(theirs).shape != flat_map(ours).shape:
            raise UsageError(
                f"the teacher looks at {flat_map(theirs).shape[-1]} positions, the student at "
                f"{flat_map(ours).shape[-1]}",
                where=_WHERE,
                mend="give both the same resolution and patch size, or use features",
            )


def _last(model: Model, outputs: dict[str, Any]) -> str:
    """The last module with maps of attention; where there is none, with maps of channels."""
    for kind in (is_probabilities, is_channels):
        found = [name for name, output in outputs.items() if kind(output)]
        if found:
            return found[-1]
    raise UsageError(
        f"{model.card.name} has no maps inside", where=_WHERE, mend="use features instead"
    )


def _has_maps(outputs: dict[str, Any], name: str) -> Any:
    output = outputs.get(name)
    if is_probabilities(output) or is_channels(output):
        return output
    raise UsageError(
        f"the module {name!r} has no maps",
        where=f"{_WHERE}.layers",
        mend="name a module of attention, or a convolution",
    )


def is_probabilities(output: Any) -> bool:
    """Whether a module gave, beside its states, how positions look at each other: `[N, heads, T,
    T]`.
    """
    from assay.training.capture import tensors_of

    found = tensors_of(output)
    return len(found) > 1 and found[1].dim() == 4 and found[1].shape[2] == found[1].shape[3]


def is_channels(output: Any) -> bool:
    """Whether a module gave maps of channels over more than one place, `[N, C, H, W]`."""
    import torch

    return isinstance(output, torch.Tensor) and output.dim() == 4 and output[0, 0].numel() > 1


def flat_map(output: Any) -> torch.Tensor:
    """Attention averaged over heads, `[N, T, T]`, or the squares of channels summed, `[N, H, W]`.

    Args:
        output: what a module with either gave.
    """
    from assay.training.capture import tensors_of

    if is_probabilities(output):
        return tensors_of(output)[1].mean(dim=1)
    found: torch.Tensor = output
    return found.float().square().sum(dim=1)


def looking(
    ours: torch.Tensor,
    theirs: torch.Tensor,
    compare: Literal["mse", "kl"] = "mse",
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Difference of two maps of attention for each row.

    Args:
        ours: the student's probabilities, `[N, T, T]`: the last axis adds up to 1 (less, where
            dropout took some).
        theirs: the teacher's.
        compare: `mse`: mean squared difference of all pairs of positions; `kl`: sum over the last
            axis of `t log(t / s)`, averaged over positions; probabilities count as 1e-6 at least.
        mask: `[N, T]` with 1 for real positions; None: all are.

    Returns:
        `[N]`.
    """
    real = ours.new_ones(ours.shape[:2]) if mask is None else mask.to(ours.dtype)
    count = real.sum(dim=1).clamp_min(1.0)
    if compare == "mse":
        pairs = real[:, :, None] * real[:, None, :]
        return ((ours - theirs).square() * pairs).sum(dim=(1, 2)) / count.square()
    one, other = theirs.clamp_min(1e-6), ours.clamp_min(1e-6)
    each = (one * (one.log() - other.log()) * real[:, None, :]).sum(dim=2)
    return (each * real).sum(dim=1) / count


def transfer(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Squared distance of two maps as vectors of length 1, for each row.

    Args:
        ours: the student's sums of squares, `[N, H, W]`.
        theirs: the teacher's, of any size.

    Returns:
        `[N]`, in 0..2.
    """
    from torch.nn import functional

    size = (min(ours.shape[1], theirs.shape[1]), min(ours.shape[2], theirs.shape[2]))
    flat = [
        functional.normalize(functional.adaptive_avg_pool2d(value[:, None], size).flatten(1), dim=1)
        for value in (ours, theirs)
    ]
    return (flat[0] - flat[1]).square().sum(dim=1)
