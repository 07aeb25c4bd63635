"""Processes that spend from a ledger: killed, racing, or going on while a server restarts.

    spending.py kill PLACE KILLS SEED     spenders that are killed one after the other
    spending.py race PLACE PROCESSES      so many at once, each until it is refused
    spending.py spend PLACE NAME          one, until it is refused; waits for a lost database
    spending.py make FOLDER KILLS SEED    killed while they make a site

Each prints the runs that were acknowledged, one a line. The libraries are loaded once; spenders
are forked, so that an instant is not mostly the loading of libraries.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from assay.errors import BudgetError, LoadError
from assay.privacy.accountant import ORDERS
from assay.privacy.events import Event
from assay.privacy.ledger import Budget, Ledger, Policy, Request
from assay.privacy.ledger.cost import cost_of

UNIT = Event(mechanism="pure", epsilon=1.0, data="ward")
ASKED = Request(recipe="r", model="mlp", stages=("finetune",), n_units=100, events=(UNIT,))
BUDGET = 100.0


def policy() -> Policy:
    """One hundred units of pure epsilon."""
    return Policy(budgets=(Budget(epsilon=BUDGET, delta=1e-5),))


def spend(place: str, name: str, out: int, first: int = 0, patient: bool = False) -> None:
    """Reserve run after run and acknowledge each, until one is refused."""
    ledger, number = Ledger.open(place), first
    while True:
        try:
            ledger.reserve(f"{name}-{number}", ASKED)
        except BudgetError:
            return
        except LoadError:
            if not patient:
                raise
            continue
        os.write(out, f"{name}-{number}\n".encode())
        number += 1


def forked(work: Callable[[int], None]) -> tuple[int, int]:
    """(process, pipe) of a child that does `work(its end of the pipe)`."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        code = 1
        try:
            work(theirs)
            code = 0
        finally:
            os._exit(code)
    os.close(theirs)
    return child, ours


def read_all(pipe: int) -> str:
    """What is left in a pipe."""
    with os.fdopen(pipe, "rb") as stream:
        return stream.read().decode()


def wait(pipe: int, lines: int, seconds: float) -> str:
    """Read so many lines, and then let so much time pass."""
    found = b""
    while found.count(b"\n") < lines:
        more = os.read(pipe, 4096)
        if not more:
            break
        found += more
    select.select([], [], [], seconds)
    return found.decode()


def _spend(place: str, name: str, first: int, out: int) -> None:
    spend(place, name, out, first)


def kill(place: str, kills: int, seed: int) -> None:
    """Spenders, each killed after some acknowledgements and a moment; the next asks again."""
    chance, again = random.Random(seed), 0
    for number in range(kills):
        # every other one goes on where the one before was cut off
        name = f"k{number // 2}"
        first = again if number % 2 else 0
        child, pipe = forked(partial(_spend, place, name, first))
        said = wait(pipe, chance.choice([0, 0, 1, 1, 2, 4]), chance.uniform(0, 0.03))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        said += read_all(pipe)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
        again = first + said.count("\n")
        sys.stdout.write(said)


def race(place: str, processes: int) -> None:
    """All at once, each until it is refused."""
    started = [forked(partial(_spend, place, f"p{number}", 0)) for number in range(processes)]
    for child, pipe in started:
        sys.stdout.write(read_all(pipe))
        _, status = os.waitpid(child, 0)
        assert status == 0, status


def _make(place: Path, _: int) -> None:
    Ledger.create(place, policy=policy())


def make(folder: str, kills: int, seed: int) -> None:
    """Sites in the making; prints the folders that are there."""
    chance = random.Random(seed)
    for number in range(kills):
        place = Path(folder) / f"site-{number}"
        child, pipe = forked(partial(_make, place))
        wait(pipe, 0, chance.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(pipe)
        if place.exists():
            sys.stdout.write(f"{place}\n")


def main(command: str, place: str, *arguments: str) -> None:
    """See the module."""
    cost_of([UNIT], 1e-5, ORDERS, (8.0,))
    if command == "kill":
        kill(place, int(arguments[0]), int(arguments[1]))
    elif command == "race":
        race(place, int(arguments[0]))
    elif command == "make":
        make(place, int(arguments[0]), int(arguments[1]))
    else:
        spend(place, arguments[0], 1, patient=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
