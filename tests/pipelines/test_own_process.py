"""What a process runs is this project's, whatever lies where the user stands."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

import pipelines
from app.dashboard.launch import command
from pipelines import jobs, packages
from pipelines.own_process import own_module

ROOT = Path(pipelines.__file__).resolve().parents[1]


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A current folder with files of the same names; whatever runs one of them exits with 77."""
    for name in ("app", "pipelines", "pip"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(77)\n")
    monkeypatch.chdir(tmp_path)


def exit_code(words, **environment):
    run = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, check=False)
    return run.returncode


@pytest.mark.usefixtures("foreign")
def test_a_file_of_the_same_name_is_not_run():
    words = own_module("pipelines.own_process")
    assert exit_code([word for word in words if word != "-P"], PYTHONPATH=str(ROOT)) == 77
    assert exit_code(words, PYTHONPATH=str(ROOT)) == 0


def test_a_checkout_runs_by_its_own_folder(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert exit_code(own_module("pipelines.own_process"), PYTHONPATH="") == 0


def test_a_folder_that_is_gone_is_no_checkout(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "-P" in own_module("pipelines.own_process")


@pytest.mark.usefixtures("foreign")
def test_the_dashboard_jobs_and_pip_start_so(tmp_path, monkeypatch):
    served = command(tmp_path, address="127.0.0.1", port=1, is_headless=True, secrets=None)
    started = []

    def start(words, **_):
        started.append(words)
        return SimpleNamespace(pid=1, wait=lambda: None, returncode=1, stderr="ERROR: no network")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(subprocess, "run", start)
    registry = SimpleNamespace(
        folder=tmp_path, layout=SimpleNamespace(job_log=lambda job: tmp_path / "log")
    )
    jobs._spawn(registry, SimpleNamespace(id="a" * 32))
    package = packages.Package(name="n", version="1", sha256="", filename="", size_bytes=0)
    with pytest.raises(packages.CorpusError, match="no network"):
        packages._download(package, tmp_path)
    assert [words[1:4] for words in (served, *started)] == [
        ["-P", "-m", "app.dashboard.serve"],
        ["-P", "-m", "pipelines.run_job"],
        ["-P", "-m", "pip"],
    ]
