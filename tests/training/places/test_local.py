"""The local place steps until the job is done."""

from __future__ import annotations

from assay.config import build_part


class Countdown:
    def __init__(self, left: int) -> None:
        self.left, self.steps = left, 0

    @property
    def done(self) -> bool:
        return self.steps >= self.left

    def step(self) -> None:
        self.steps += 1


def test_it_steps_until_the_job_is_done() -> None:
    job = Countdown(3)
    build_part("place", "local").run(job)
    assert job.steps == 3


def test_a_job_that_is_done_is_not_stepped() -> None:
    job = Countdown(0)
    build_part("place", "local").run(job)
    assert job.steps == 0
