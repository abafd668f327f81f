"""The page's certificates and settings, on a real scheduler and a real worker on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.docs.test_docs import DOCS, blocks
from tests.experiments.clusters import COMMAND, cluster

SWEEP = {
    "controllers": "ppo-cartpole",
    "methods": {"recovery": "reconstruct"},
    "sparsities": 0.5,
    "episodes": 2,
}
STRANGER = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=stranger "
    "-keyout member.key -out member.pem"
)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make certificates with")
def test_members_get_in_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(blocks(DOCS / "sweeps.md"))
    making = next(block.code for block in found if block.code.startswith("openssl"))
    settings = next(block.code for block in found if block.file == "tls.sh")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, commands in ((ours, making), (theirs, STRANGER)):
        folder.mkdir()
        subprocess.run(["bash", "-ec", commands], cwd=folder, check=True, capture_output=True, timeout=60)
    shutil.copy(ours / "ca.pem", theirs)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    monkeypatch.chdir(tmp_path)

    def member(folder: Path) -> dict[str, str]:
        """The environment after the settings, with this folder's certificate."""
        command = ["bash", "-ec", f"{settings}\nenv -0"]
        said = subprocess.run(command, env=os.environ | {"WHERE": str(folder)}, check=True, capture_output=True)
        return dict(entry.split("=", 1) for entry in said.stdout.decode().split("\0") if "=" in entry)

    def sweep(folder: Path, address: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, "sweep", "sweep.yaml", "--scheduler", address, "--out", str(folder / "out")]
        return subprocess.run(command, env=member(folder), capture_output=True, text=True, timeout=120)

    with monkeypatch.context() as inside:
        for name, value in member(ours).items():
            inside.setenv(name, value)
        with cluster(tmp_path, 1) as there:
            assert there.address.startswith("tls://")
            refused, done = sweep(theirs, there.address), sweep(ours, there.address)
    assert done.returncode == 0, done.stderr
    assert list(pd.read_csv(ours / "out" / "results.csv")["status"]) == ["done", "done"]
    assert refused.returncode == 2
    assert "no scheduler answers" in refused.stderr
