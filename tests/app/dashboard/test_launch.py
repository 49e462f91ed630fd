"""How the dashboard is started: who may reach it, and with which words."""

import logging
import socket
import sys

import pytest

from app.dashboard import launch
from app.dashboard.launch import check_login, command
from app.dashboard.page import offered_folders
from peer_cl.errors import InputError

ALLOWED = 'allowed = ["ann@example.org", "@clinic.example"]'
WHOLE = "\n".join([ALLOWED, "[auth]", *(f'{key} = "x"' for key in launch.LOGIN_KEYS)])


def test_it_listens_on_loopback_and_tells_nobody(folder):
    words = command(folder, address="127.0.0.1", port=8501, is_headless=False, secrets=None)
    assert "--server.address=127.0.0.1" in words
    assert "--server.showEmailPrompt=false" in words  # it would wait for an answer
    assert "--browser.gatherUsageStats=false" in words
    assert words[-2:] == ["--store", str(folder.resolve())]
    assert not [word for word in words if "secrets" in word]


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.7", "::", "example.org"])
def test_an_address_that_others_reach_is_refused_without_a_login(
    peer_cl, folder, address, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = peer_cl("dashboard", "--address", address, folder=folder)
    assert result.code == 2
    assert "needs a login" in result.err
    assert "127.0.0.1" in result.err


def test_what_is_no_address_is_refused_in_one_line(peer_cl, folder, tmp_path):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(WHOLE)
    for address in ("a..b", "a" * 70):
        result = peer_cl("dashboard", "--address", address, "--secrets", secrets, folder=folder)
        assert (result.code, result.err) == (2, f"error: {address!r} is no address\n")


def test_it_is_served_to_others_where_they_can_log_in(peer_cl, folder, tmp_path, monkeypatch):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(WHOLE)
    started = []
    monkeypatch.setattr("os.execve", lambda *said: started.append(said))
    result = peer_cl(
        "dashboard", "--address", "0.0.0.0", "--secrets", secrets, "--no-browser", folder=folder
    )
    assert result.code == 0
    ((_, words, environment),) = started
    assert f"--secrets.files={secrets}" in words
    assert "--server.headless=true" in words
    assert environment[launch.LOGIN_VARIABLE] == "1"
    assert environment[launch.ALLOWED_VARIABLE] == "ann@example.org @clinic.example"
    assert launch.CORPORA_VARIABLE not in environment


def test_who_may_log_in_without_a_list_of_who_may_enter_is_refused(peer_cl, folder, tmp_path):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(WHOLE.replace(ALLOWED, ""))
    result = peer_cl("dashboard", "--address", "0.0.0.0", "--secrets", secrets, folder=folder)
    assert result.code == 2
    assert "does not say who may enter" in result.err
    assert result.err.count("\n") == 1


def test_folders_of_corpora_are_named_by_whole_paths(peer_cl, folder, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("os.execve", lambda *said: started.append(said))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b:2024").mkdir()
    assert peer_cl("dashboard", "--corpora", "a", "--corpora", "b:2024", folder=folder).code == 0
    ((_, _, environment),) = started
    monkeypatch.setenv(launch.CORPORA_VARIABLE, environment[launch.CORPORA_VARIABLE])
    assert offered_folders() == tuple(tmp_path.resolve() / name for name in ("a", "b:2024"))
    refused = peer_cl("dashboard", "--corpora", "c", folder=folder)
    assert (refused.code, len(started)) == (2, 1)
    assert "no folder c" in refused.err


def test_on_loopback_nobody_is_asked_to_log_in(peer_cl, folder, monkeypatch):
    started = []
    monkeypatch.setattr("os.execve", lambda *said: started.append(said))
    monkeypatch.delenv(launch.LOGIN_VARIABLE, raising=False)
    assert peer_cl("dashboard", folder=folder).code == 0
    ((_, words, environment),) = started
    assert "--server.address=127.0.0.1" in words
    assert launch.LOGIN_VARIABLE not in environment


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "lacks redirect_uri"),
        ("auth = 3", "lacks redirect_uri"),
        (WHOLE.replace('client_id = "x"', ""), "lacks client_id in"),
        ("[auth", "cannot be read"),
        (WHOLE.replace(ALLOWED, "allowed = []"), "does not say who may enter"),
        (WHOLE.replace(ALLOWED, 'allowed = "@clinic.example"'), "does not say who may enter"),
        (WHOLE.replace("ann@", ""), "not 'example.org'"),
    ],
)
def test_half_a_login_is_none(tmp_path, content, told):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(content)
    with pytest.raises(InputError, match=told):
        check_login(secrets)


@pytest.mark.parametrize(
    ("address", "told", "otherwise"),
    [
        ("127.0.0.1", "no file nosuch; write into it", "or leave --secrets out"),
        ("0.0.0.0", "needs a login; write into it", "or keep to 127.0.0.1"),
    ],
)
def test_of_secrets_that_are_not_there_it_is_said_what_to_write(
    peer_cl, folder, tmp_path, monkeypatch, address, told, otherwise
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.execve", lambda *_: pytest.fail("started"))
    result = peer_cl("dashboard", "--address", address, "--secrets", "nosuch", folder=folder)
    assert result.code == 2
    assert f"{told} allowed, a list of e-mail addresses and @domains, then [auth]" in result.err
    assert otherwise in result.err
    (tmp_path / "nosuch").write_text("[auth]")
    result = peer_cl("dashboard", "--address", address, "--secrets", "nosuch", folder=folder)
    assert "lacks redirect_uri" in result.err
    assert otherwise in result.err


def test_a_store_that_is_not_there_is_told_before_anything_starts(peer_cl, tmp_path):
    result = peer_cl("dashboard", folder=tmp_path / "nowhere")
    assert result.code == 2
    assert "nowhere" in result.err
    assert "init" in result.err


def test_the_pages_are_imported_before_streamlit_serves(monkeypatch):
    """A first visit then waits for no import."""
    from app.dashboard import serve

    called = []
    monkeypatch.delitem(sys.modules, "app.dashboard.main", raising=False)
    monkeypatch.setattr(
        serve.cli, "main", lambda **named: called.append("app.dashboard.main" in sys.modules)
    )
    serve.main()
    assert called == [True]


def test_what_is_made_before_the_server_warns_of_nothing(monkeypatch, caplog):
    from app.dashboard import serve

    warned = logging.getLogger("streamlit.runtime.caching.cache_data_api")
    monkeypatch.setattr(serve.importlib, "import_module", lambda _: warned.warning("no runtime"))
    monkeypatch.setattr(serve.cli, "main", lambda **_: warned.warning("a real one"))
    monkeypatch.setattr(logging.getLogger("streamlit"), "propagate", True)
    serve.main()
    assert [record.message for record in caplog.records] == ["a real one"]


def test_a_port_in_use_is_told_before_anything_starts(peer_cl, folder, monkeypatch):
    monkeypatch.setattr("os.execve", lambda *_: pytest.fail("started"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = peer_cl("dashboard", "--port", port, folder=folder)
    assert result.code == 2
    told = f"error: port {port} of 127.0.0.1: is in use (another dashboard?); choose another with"
    assert result.err.startswith(told)
