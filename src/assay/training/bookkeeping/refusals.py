"""What cannot be trained privately, in words."""

from __future__ import annotations

from assay.errors import UsageError


def batch_norm_refused(name: str) -> UsageError:
    """A batch norm cannot be trained privately: every row's output depends on every row."""
    module = name.partition(":")[2].rpartition(".")[0]
    return UsageError(
        "a batch norm mixes the rows of a batch, so no privacy unit has a gradient of its own",
        where=f"module {module}",
        mend="put 'replace_norm' before training (group norms), or let only others move "
        "(parameters: head)",
    )


def gradient_of_gradient_refused() -> UsageError:
    """A use knows the gradient of its output, and not what becomes of it afterwards."""
    return UsageError(
        "the objective takes the gradient of a gradient, whose part in each unit is not known",
        where="step.private",
        mend="leave out the term that does, or private",
    )


def new_use_refused(name: str, how: str) -> UsageError:
    """What was not there when the network was checked was not held against rows alone."""
    return UsageError(
        f"{name} is used by {how} in training, but not when it was checked",
        where="step.private",
        mend="let the network compute the same in every step",
    )


def not_finite_refused(name: str) -> UsageError:
    """Where units go one by one, noughts of others times infinity are no numbers either."""
    return UsageError(
        f"the gradient of a unit is not finite, and {name} is used in a way that cannot leave "
        "one unit out",
        where="step.private",
        mend="look for infinite or missing values in the data, or let this parameter not move",
    )


def reentrant_refused() -> UsageError:
    """Reentrant checkpoints run forward passes that nobody sees."""
    return UsageError(
        "a reentrant checkpoint hides what the network computes",
        where="step.private",
        mend="checkpoint with use_reentrant=False, or not at all",
    )
