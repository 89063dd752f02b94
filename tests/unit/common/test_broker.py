"""Where Redis is: from a setting or a mounted file, and what is refused."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from plumbline.fresh_files import UnusableFile
from services.common.runtime.broker import Broker
from services.lvlm.settings import LvlmSettings
from services.trainer.settings import TrainerSettings

SECRET = "rediss://trainer:hidden@redis:6379/0"
NEEDED = {
    "listen": "127.0.0.1:0",
    "store_root": "store",
    "data_root": "data",
    "explainer_address": "a:1",
    "lvlm_address": "a:2",
}


def _read(**settings: object) -> Broker:
    return LvlmSettings(listen="127.0.0.1:0", **settings).read_broker()


def _file(folder: Path, name: str, content: str = "x") -> Path:
    (folder / name).write_text(content)
    return folder / name


def test_a_url_in_a_file_is_the_one_that_is_used_and_is_shown_nowhere(tmp_path: Path):
    settings = TrainerSettings(broker_url_file=_file(tmp_path, "url", f"{SECRET}\n"), **NEEDED)
    assert settings.read_broker().url == SECRET
    assert "hidden" not in f"{settings!r} {settings.read_broker()!r}"


def test_the_files_of_tls_go_to_both_clients_under_their_names(tmp_path: Path):
    files = {f"broker_{name}": _file(tmp_path, name) for name in ("authority", "certificate", "key")}
    tls = _read(broker_url="rediss://redis:6379/0", **files).tls
    named = {name: tls[name] for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")}
    assert list(named.values()) == [str(path) for path in files.values()]
    assert tls["ssl_check_hostname"]


def test_without_tls_nothing_of_it_is_said():
    assert _read(broker_url="redis://redis:6379/0").tls == {}


def test_a_service_that_may_do_without_a_broker_has_none():
    assert not LvlmSettings(listen="127.0.0.1:0").has_broker


def test_a_trainer_without_a_broker_is_told_both_settings():
    with pytest.raises(ValueError, match=r"TRAINER_BROKER_URL: not set; .* TRAINER_BROKER_URL_FILE"):
        TrainerSettings(**NEEDED)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"broker_url": SECRET, "broker_url_file": "/nowhere"}, "LVLM_BROKER_URL: set beside LVLM_BROKER_URL_FILE"),
        ({"broker_url": SECRET, "broker_certificate": "/nowhere"}, "LVLM_BROKER_KEY: not set"),
        ({"broker_url": SECRET, "broker_key": "/nowhere"}, "LVLM_BROKER_CERTIFICATE: not set"),
        ({"broker_url": SECRET, "broker_authority": "/nowhere"}, "LVLM_BROKER_AUTHORITY: /nowhere: no such file"),
        ({"broker_url": "redis://a", "broker_authority": "/nowhere"}, "LVLM_BROKER_URL: expected rediss://"),
        ({"broker_url": "http://a:hidden@b"}, "LVLM_BROKER_URL: expected redis://"),
        ({"broker_url_file": "/nowhere"}, "LVLM_BROKER_URL_FILE: /nowhere: can't be read"),
    ],
)
def test_what_is_wrong_is_named_and_a_password_never(settings: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message) as refused:
        _read(**settings)
    told = str(refused.value).splitlines()
    assert not any("hidden" in line for line in told)


def test_an_empty_file_is_refused_by_name(tmp_path: Path):
    with pytest.raises(UnusableFile, match="LVLM_BROKER_URL_FILE: expected redis://"):
        _read(broker_url_file=_file(tmp_path, "url", "\n"))


def test_a_password_is_not_told_with_a_fault_of_all_settings_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LVLM_MISSPELT", "x")
    with pytest.raises(ValueError, match="unknown setting LVLM_MISSPELT") as refused:
        LvlmSettings(listen="127.0.0.1:0", broker_url="redis://lvlm:hidden@redis:6379/0")
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://lvlm:hid/den@redis:6379/0",
        "redis://lvlm:12/hidden@redis:6379/0",
        "redis://lvlm:hid#den@redis:6379/0",
        "redis://lvlm:hid?den@redis:6379/0",
        "redis://lvlm:[hidden@redis:6379/0",
        "redis://redis:port/0",
        "redis://redis:99999/0",
        "redis://redis:6379/zero",
        "redis:///0",
    ],
)
def test_a_url_that_clients_would_read_otherwise_is_refused_by_name_and_without_its_words(url: str):
    with pytest.raises(UnusableFile, match=r"LVLM_BROKER_URL: expected redis://.* percent-encoded") as refused:
        _read(broker_url=url)
    assert "hid" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "url", ["redis://redis", "redis://redis:6379/", "rediss://lvlm:a%2Fb@redis.hospital:6380/3", "redis://[::1]:6379/0"]
)
def test_a_url_of_any_kind_is_taken(url: str):
    assert _read(broker_url=url).url == url
