"""The comparisons run on both sides; what they print is what the docs quote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def run(root: Path, folder: Path, name: str, *arguments: str) -> Any:
    """Run a script at its quick sizes; return its line of JSON."""
    script = root / "benchmarks" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--json", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_loop_computes_what_a_hand_written_one_does(root: Path, tmp_path: Path) -> None:
    found = run(root, tmp_path, "loop_overhead")
    assert found["weights"] <= 1e-5
    assert found["cpu"]["median"] > 0


def test_noise_from_the_background_is_the_same(root: Path, tmp_path: Path) -> None:
    found = run(root, tmp_path, "noise")
    assert found["same"] is True
    assert all(side["median"] > 0 for side in found["cpu"].values())
    assert set(found["added"]) == {"torch", "stream", "background"}


@pytest.mark.long
@pytest.mark.parametrize("mode", ["full", "lora", "head"])
@pytest.mark.parametrize("peer", [(), ("--peer-best",)], ids=["found", "best"])
def test_both_sides_adapt(mode: str, peer: tuple[str, ...], root: Path, tmp_path: Path) -> None:
    (found,) = run(root, tmp_path, "adapt_vs_hf", "--mode", mode, *peer)
    assert found["mode"] == mode
    assert ("bf16" in found["how"]["peer"]) == bool(peer)
    low, high = found["accuracy"]["interval"]
    assert low <= found["accuracy"]["difference"] <= high
    assert all(0 <= found["accuracy"][side] <= 1 for side in ("assay", "peer"))
    assert all(megabytes > 100 for megabytes in found["peak_mb"].values())


@pytest.mark.long
def test_all_sides_fine_tune_images(root: Path, tmp_path: Path) -> None:
    found = run(root, tmp_path, "vision_vs_peers")
    assert set(found["sides"]) == {"assay", "plain", "trainer"}
    for side in found["sides"].values():
        assert side["images_per_second"] > 0
        assert 0 <= side["accuracy"] <= 1
    assert [one["peer"] for one in found["against"]] == ["plain", "trainer"]
    for one in found["against"]:
        low, high = one["accuracy"]["interval"]
        assert low <= one["accuracy"]["difference"] <= high


PRIVATE = ["minilm", "lora", "vit", "cnn", "resnet8"]


def check_private(found: Any, names: list[str]) -> None:
    assert [one["network"] for one in found] == names
    for one in found:
        assert one["best"] in one["modes"]
        assert max(one["gaps"].values()) <= 1e-4
        for figure in ("over", "faster", "faster_noise"):
            low, high = one[figure]["interval"]
            assert 0 < low <= one[figure]["median"] <= high
        assert set(one["noise"]) == {"torch", "stream"}


def test_private_steps_are_those_of_the_peer(root: Path, tmp_path: Path) -> None:
    found = run(root, tmp_path, "private_vs_peers", "--networks", "cnn", "--no-memory")
    check_private(found, ["cnn"])


@pytest.mark.long
def test_private_steps_are_those_of_the_peer_on_every_network(root: Path, tmp_path: Path) -> None:
    found = run(root, tmp_path, "private_vs_peers")
    check_private(found, PRIVATE)
    for one in found:
        assert all(taken > 100 for taken in one["memory"]["megabytes"].values())
        assert one["memory"]["over_grown"] > 0
