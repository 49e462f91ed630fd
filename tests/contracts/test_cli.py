"""Promises of the command line: exit codes, one line an error, quick reading, a plain help."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from filled_store import filled_store
from typer.main import get_command

from app.cli import ALIASES, DESTROYING, VERBS, app, main
from pipelines import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]
NAMES = [name for verbs in VERBS.values() for name in verbs]
HEAVY = ["torch", "transformers", "faiss", "streamlit", "pandas"]
READING = (["list"], ["show", "law"], ["documents", "law"], ["log"], ["status"], ["runs"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "knowledge"
    filled_store(folder).close()
    return folder


def run(*command, **environment):
    """Run a command in a process of its own."""
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)


def test_reading_verbs_load_no_model_library(folder):
    words = [["--store", str(folder), *verb] for verb in READING]
    code = f"""
import sys
from app.cli import main
print([main(words) for words in {words}])
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = run(sys.executable, "-c", code)
    assert done.stdout.splitlines()[-2:] == [str([0] * len(READING)), "[]"], done.stderr


@pytest.mark.parametrize("verb", NAMES)
def test_help_is_plain(verb, capsys):
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert not re.search(r"<\w", shown)
    command = get_command(app).commands[verb]
    assert command.help.splitlines()[0].endswith(".")
    for parameter in command.params:
        assert parameter.help.endswith("."), parameter.name
        assert len(parameter.help) < 100, parameter.name


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["log"], ""),
        (["evaluate"], "; run it again to go on where it stopped"),
        (["erase", "--wait"], "; `peer-cl erase --wait` goes on where documents are gone already"),
    ],
)
def test_ctrl_c_names_what_goes_on(folder, monkeypatch, capsys, words, told):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.store.open_store", interrupt)
    assert main(["--store", str(folder), *words]) == 130
    assert capsys.readouterr().err == f"error: interrupted{told}\n"


def test_the_help_of_training_options_names_the_settings_defaults():
    options = {one.name: one.help for one in get_command(app).commands["ingest"].params}
    settings = TrainingSettings()
    assert f"default: {settings.hold_out_percent:g}." in options["hold_out"]
    assert f"default: {settings.text_passes:g}." in options["passes"]
    assert f"default: {settings.seed}." in options["seed"]


def test_help_shows_every_verb_once_and_no_alias(capsys):
    main([])
    shown = capsys.readouterr().out
    assert [name for name in NAMES if shown.count(f"│ {name} ") != 1] == []
    assert [name for name in ALIASES if f"│ {name} " in shown] == []


@pytest.mark.parametrize("word", ["erases", "pruge", "eras", "delete"])
def test_no_destroying_verb_is_suggested(word, capsys):
    assert main([word]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: no verb '{word}'")
    assert not any(verb in said.replace(word, "") for verb in DESTROYING)


def test_damage_exits_with_1_and_debug_shows_where(tmp_path, capsys):
    filled_store(tmp_path / "knowledge").close()
    (tmp_path / "knowledge" / "registry.sqlite").write_bytes(b"not a database " * 1000)
    assert main(["list", "--store", str(tmp_path / "knowledge")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["list", "--store", str(tmp_path / "knowledge"), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_store_is_named_after_or_before_the_verb_or_by_the_environment(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)  # which holds ./knowledge, the default
    assert main(["status"]) == 0
    monkeypatch.chdir("/")
    assert main(["status"]) == 2
    assert main(["status", "--store", str(folder)]) == 0
    monkeypatch.setenv("PEER_CL_STORE", str(folder))
    assert main(["status"]) == 0
    assert main(["--store", "/nowhere", "status"]) == 2
    monkeypatch.setenv("PEER_CL_STORE", "/nowhere")
    assert main(["--store", str(folder), "status"]) == 0


def test_a_broken_pipe_ends_quietly(folder):
    command = f"{sys.executable} -m app list --json --store {folder} | true"
    assert run("bash", "-c", command).stderr == ""


@pytest.mark.parametrize(("words", "found"), [("peer-cl re", "restore"), ("peer-cl show l", "law")])
def test_the_shell_completes_verbs_and_domains(folder, words, found):
    done = run(
        *(sys.executable, "-m", "app"),
        _PEER_CL_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split()) - 1),
        PEER_CL_STORE=str(folder),
    )
    assert found in done.stdout.split()
