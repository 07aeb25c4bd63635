"""The pages of the repository as a reader uses them: blocks to run, and a shell to run them in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Shell = Callable[[str], "subprocess.CompletedProcess[str]"]
Blocks = Callable[[str, str], list[str]]


@pytest.fixture(scope="session")
def blocks(root: Path) -> Blocks:
    """(page, language) -> the fenced blocks of that language, in order."""

    def find(page: str, language: str) -> list[str]:
        text = (root / page).read_text(encoding="utf-8")
        return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)

    return find


@pytest.fixture
def shell(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Run one line in an empty folder where `assay` is this tree's command.

    A failure shows what the command printed.
    """
    programs = tmp_path_factory.mktemp("bin")
    command = programs / "assay"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m assay "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    bash = shutil.which("bash") or "/bin/sh"

    def run(line: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [bash, "-c", line],
            cwd=workspace,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
        return done

    return run
