"""Learning from the hidden states of another model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from assay.claims import Capabilities, PlanContext
from assay.errors import UsageError
from assay.registry import register
from assay.training import teachers
from assay.training.parts import MODEL, Call, Losses, Setup, Term

if TYPE_CHECKING:
    import torch
    from torch import nn

    from assay.training.inside import Inside

#: the player that moves the projections
PLAYER = "features"
_WHERE = "objective.features"


@register("term", "features")
class Features(Term):
    """Match hidden states of a teacher (FitNets: Romero et al. 2014, arXiv 1412.6550).

    States of the student go through a learnt linear projection (a 1x1 convolution where they are
    maps of channels) into the teacher's width; each row loses the squared distance, averaged over
    channels and positions, and over the pairs of modules. Padding of texts does not count. Maps of
    two sizes are averaged down to the smaller one; where the shapes are of different kinds (maps
    and vectors, tokens and maps), both are averaged over their positions first. The projections
    are the network of a player of their own, `features`, and are gone when the stage ends.

    The teacher runs in evaluation mode on the rows as they are, or with `same_view` on what the
    student sees.

    Attributes:
        teacher: folder of the teacher's model, or of the run that made it; `current` is the model
            that came into the stage; by default the teacher of the stage `distill`.
        layers: module of the teacher -> module of the student, by their paths in the networks
            (`assay plan --deep` lists them); by default what goes into the head.
        same_view: give the teacher the student's very inputs; both read rows in the same way then.
    """

    teacher: str | None = None
    layers: dict[str, str] = Field(default={"pool": "pool"}, min_length=1)
    same_view: bool = False

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(teacher="current")]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """The captured modules run at every step, and something below the head must move."""
        needs = {"moving_trunk"} | ({"teacher"} if self.teacher is None else set())
        return Capabilities(
            needs=frozenset(needs),
            breaks=frozenset({"prefix_cache"}),
            why={"prefix_cache": "looks at modules that would not run"},
            mend={
                "teacher": "name a folder, or 'current', under teacher",
                "prefix_cache": "leave out features",
            },
        )

    def networks(self, setup: Setup) -> dict[str, nn.Module]:
        """The projections, one a pair of modules.

        Raises:
            UsageError: a module is not there or gives no states; the term stands twice.
        """
        import torch
        from torch import nn

        from assay.training.inside import check_names, outputs_inside

        if PLAYER in setup.networks:
            raise UsageError(
                "features stands twice", where=_WHERE, mend="name all pairs under one layers"
            )
        teacher = teachers.teacher(self.teacher, setup)
        check_names(teacher, tuple(self.layers), f"{_WHERE}.layers")
        check_names(setup.model, tuple(self.layers.values()), f"{_WHERE}.layers")
        theirs, ours = outputs_inside(teacher), outputs_inside(setup.model)
        made: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setup.context.derive("term", PLAYER) % (1 << 62))
            for name, own in self.layers.items():
                target, source = states(theirs.get(name)), states(ours.get(own))
                if target is None or source is None:
                    missing = name if target is None else own
                    raise UsageError(
                        f"the module {missing!r} gives no states of rows",
                        where=f"{_WHERE}.layers",
                        mend="name a module whose output has 2 to 4 axes, the first of them rows",
                    )
                self._same_tokens(setup, teacher, target, source)
                made.append(projection(source, target))
        return {PLAYER: nn.ModuleList(made)}

    def _same_tokens(self, setup: Setup, teacher: Any, target: Any, source: Any) -> None:
        """States of tokens are compared one by one: both must have cut rows into the same ones."""
        if 3 in (target.dim(), source.dim()):
            if setup.model.task.modality == "text":
                teachers.same_reading(teacher, setup, _WHERE)
            elif target.dim() == source.dim() and target.shape[1] != source.shape[1]:
                raise UsageError(
                    f"the teacher gives {target.shape[1]} positions, the student {source.shape[1]}",
                    where=f"{_WHERE}.layers",
                    mend="compare their 'pool'",
                )

    def init(self, setup: Setup) -> Inside:
        """What the teacher's modules give."""
        from assay.training.inside import Inside

        teacher, names = teachers.teacher(self.teacher, setup), tuple(self.layers)
        return Inside(teacher, names, some_states, setup, self.same_view, _WHERE)

    def watch(self, setup: Setup) -> tuple[str, ...]:
        """The student's modules."""
        return tuple(self.layers.values())

    def lineage(self, setup: Setup) -> dict[str, str]:
        """See `assay.training.teachers.lineage`."""
        return teachers.lineage(self.teacher, setup)

    def loss(self, call: Call, state: Inside) -> Losses:
        """Distances of the batch's rows, `[N]`, for the model and the projections alike."""
        call.forward(MODEL)  # what is watched is captured by this, once however many terms ask
        theirs: Any = state.of(call)
        projections: Any = call.setup.networks[PLAYER]
        mask = call.batch.inputs.get("attention_mask")
        total: Any = 0
        for (name, own), project in zip(self.layers.items(), projections, strict=True):
            ours = some_states(call.captured[own]).float()
            total = total + distance(ours, theirs[name], project, mask)
        rows = total / len(self.layers)
        return Losses({MODEL: rows, PLAYER: rows})


def states(output: Any) -> torch.Tensor | None:
    """The states among what a module gave, `[N, H]`, `[N, T, H]` or `[N, C, H, W]`; else None."""
    from assay.training.capture import tensors_of

    found = tensors_of(output)
    return found[0] if found and 2 <= found[0].dim() <= 4 else None


def some_states(output: Any) -> torch.Tensor:
    """The states among what a module gave that was found to give some."""
    found = states(output)
    if found is None:
        raise ValueError("the module gives no states")
    return found


def projection(source: torch.Tensor, target: torch.Tensor) -> nn.Module:
    """A linear map from the student's channels to the teacher's, for states of these shapes."""
    from torch import nn

    widths = [value.shape[2 if value.dim() == 3 else 1] for value in (source, target)]
    if source.dim() == target.dim() == 4:
        return nn.Conv2d(widths[0], widths[1], kernel_size=1)
    return nn.Linear(widths[0], widths[1])


def distance(
    ours: torch.Tensor,
    theirs: torch.Tensor,
    project: nn.Module,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared distance of each row between projected states and the teacher's.

    Args:
        ours: the student's, `[N, H]`, `[N, T, H]` or `[N, C, H, W]`.
        theirs: the teacher's, likewise.
        project: the student's channels -> the teacher's.
        mask: `[N, T]` with 1 for real tokens; None: all count.

    Returns:
        `[N]`.
    """
    from torch.nn import functional

    if ours.dim() != theirs.dim():
        ours, theirs = _vectors(ours, mask), _vectors(theirs, mask)
    if ours.dim() == 4:
        size = (min(ours.shape[2], theirs.shape[2]), min(ours.shape[3], theirs.shape[3]))
        ours = functional.adaptive_avg_pool2d(ours, size)
        theirs = functional.adaptive_avg_pool2d(theirs, size)
        rows: torch.Tensor = (project(ours) - theirs).square().mean(dim=(1, 2, 3))
        return rows
    found: torch.Tensor = (project(ours) - theirs).square().mean(dim=-1)
    if found.dim() == 1:
        return found
    if mask is None:
        return found.mean(dim=1)
    weights = mask.to(found.dtype)
    return (found * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)


def _vectors(value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """States averaged over their positions, `[N, H]`."""
    if value.dim() == 4:
        return value.mean(dim=(2, 3))
    if value.dim() == 2:
        return value
    if mask is None or mask.shape != value.shape[:2]:
        return value.mean(dim=1)
    weights = mask.to(value.dtype).unsqueeze(-1)
    return (value * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)
