"""What every test runs under: one thread, no network, its own folders, repeatable examples."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before the first import of a numerical library: thread counts are read once, and results depend
# on them. Subprocesses inherit all of it, and find the package even when it is not installed.
ROOT = Path(__file__).resolve().parent.parent
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    MPLBACKEND="Agg",
    OMP_WAIT_POLICY="passive",
    TOKENIZERS_PARALLELISM="false",
    PYTHONPATH=os.pathsep.join(
        [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    ),
)

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# Time limits per example fail on a busy machine; in CI the examples are the same in every run.
hypothesis.settings.register_profile("default", deadline=None, max_examples=50)
hypothesis.settings.register_profile(
    "ci", deadline=None, max_examples=50, derandomize=True, print_blob=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "", None})


def _is_here(family: int, address: Any) -> bool:
    if family == getattr(socket, "AF_UNIX", None):
        return True
    host = address[0] if isinstance(address, tuple) else address
    return host in _LOOPBACK or (isinstance(host, str) and host.startswith("127."))


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Any connection or name look-up beyond this machine fails the test that tries it."""
    connect, connect_ex, look_up = (
        socket.socket.connect,
        socket.socket.connect_ex,
        socket.getaddrinfo,
    )

    def guarded(real: Any) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            if not _is_here(self.family, address):
                raise AssertionError(f"a test tried to reach the network: {address!r}")
            return real(self, address)

        return call

    def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not _is_here(socket.AF_INET, name):
            raise AssertionError(f"a test tried to look up a host: {name!r}")
        return look_up(host, *args, **kwargs)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", guarded(connect))
    patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
    patch.setattr(socket, "getaddrinfo", guarded_look_up)
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches of a user's home are neither read nor written."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("caches")
    patch.setenv("XDG_CACHE_HOME", str(home))
    patch.setenv("HF_HOME", str(home / "huggingface"))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A run sets the number of threads of its process: put it back for the next test."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, where `runs/` may appear."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT
