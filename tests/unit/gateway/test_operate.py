"""What an operator does to a gateway, by the commands themselves."""

import json
import os
import shutil
from ipaddress import IPv4Network

import pytest

import house as houses
from harmoni import config
from harmoni.cli import app
from harmoni.gateway import operate, readiness
from harmoni.gateway.house import House
from harmoni.index import jobs
from harmoni.model.errors import AlreadyHeld, ConfigurationError, InvalidInput
from harmoni.policy.access import Facts, Refusal, Right, bind
from harmoni.runtime.clock import SystemClock
from harmoni.sealing import age

LOOPBACK = (IPv4Network("127.0.0.1"),)
RECIPIENT = age.generate_identity(random=os.urandom(32)).recipient().to_string()


def harmoni(capsys, *arguments):
    code = app.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def init(capsys, directory, *more):
    return harmoni(
        capsys,
        *("gateway", "init", directory, "--hospital", "h-1", "--recovery-recipient", RECIPIENT),
        *more,
    )


def test_a_new_gateway_says_what_it_still_needs(tmp_path, capsys):
    assert init(capsys, tmp_path / "gw", "--ae-title", "GW_1")[0] == 0
    path = tmp_path / "gw/gateway.toml"

    code, out, _ = harmoni(capsys, "gateway", "check", "--json", "--config", path)

    problems = [each["problem"] for each in json.loads(out)]
    assert code == 1
    assert any("issue one with `harmoni ca issue --ca CA --hospital h-1" in p for p in problems)
    assert any(p.startswith("no peer is registered") for p in problems)
    assert config.load_gateway(path).gateway.ae_title == "GW_1"


def test_nothing_is_overwritten(tmp_path, capsys):
    init(capsys, tmp_path)
    key = (tmp_path / "custody.key").read_bytes()

    code, _, err = init(capsys, tmp_path)

    assert code == 2
    assert "nothing is overwritten" in err
    assert (tmp_path / "custody.key").read_bytes() == key


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"hospital_id": "NOT AN ID"}, InvalidInput),
        ({"recovery_recipient": "age1pq1nonsense"}, InvalidInput),
        ({"ae_title": "WAY_TOO_LONG_A_TITLE"}, ConfigurationError),
        ({"site": "NOT A SITE"}, ConfigurationError),
    ],
)
def test_a_value_that_breaks_its_rule_makes_nothing(tmp_path, changes, error):
    values = {
        "hospital_id": "h-1",
        "ae_title": "GW",
        "site": "gateway",
        "recovery_recipient": RECIPIENT,
    }
    with pytest.raises(error):
        operate.initialise(tmp_path / "gw", **(values | changes))
    assert not list((tmp_path).rglob("*.key"))


def test_the_recovery_identity_of_the_hospital_opens_the_gateways_epoch_keys(tmp_path, capsys):
    init(capsys, tmp_path)
    house = operate_house(tmp_path)
    house.own.keyring.mint()
    [epoch] = (tmp_path / "data/keys/h-1/epochs").iterdir()

    assert age_recipients(epoch.read_bytes()) == 2


def age_recipients(data):
    return data.count(b"\n-> ")


def operate_house(directory):
    path = directory / "gateway.toml"
    return House(config.load_gateway(path), path, "test", SystemClock())


def test_commands_of_a_gateway_refuse_an_archives_configuration(tmp_path, capsys):
    harmoni(capsys, "archive", "init", tmp_path)

    code, _, err = harmoni(capsys, "queue", "list", "--config", tmp_path / "archive.toml")

    assert code == 2
    assert "this command is for a gateway" in err


def test_a_file_of_no_role_is_refused(tmp_path, capsys):
    (tmp_path / "x.toml").write_text("[strange]\n")

    code, _, err = harmoni(capsys, "status", "--config", tmp_path / "x.toml")

    assert code == 2
    assert "neither [archive] nor [gateway]" in err


def test_status_and_queue_tell_what_waits_and_why(centre, gateway, capsys):
    gateway.store(1, 2)
    with gateway.holding.index.write() as connection:
        now_ms = gateway.clock.now_ms()
        job, _ = jobs.lease(connection, "centre", now_ms=now_ms, until_ms=now_ms, most=9)
        jobs.park(connection, "centre", job, "the centre cannot understand it (C000)")
    [house] = centre.houses

    _, out, _ = harmoni(capsys, "status", "--json", "--config", house.config_path)
    status = json.loads(out)
    _, out, _ = harmoni(capsys, "queue", "list", "--json", "--config", house.config_path)
    queue = json.loads(out)
    _, table, _ = harmoni(capsys, "queue", "list", "--config", house.config_path)

    assert (status["instances"], status["waiting"], status["parked"]) == (2, 2, 1)
    assert any("1 instances are parked" in problem for problem in status["problems"])
    assert queue["by_state"]["queued"] == 1
    assert queue["parked"][0]["sop_instance_uid"] == houses.uid(1)
    assert "the centre cannot understand it (C000)" in table


def test_retry_lets_what_is_parked_go_again(centre, gateway, capsys):
    gateway.store(1)
    with gateway.holding.index.write() as connection:
        now_ms = gateway.clock.now_ms()
        [job] = jobs.lease(connection, "centre", now_ms=now_ms, until_ms=now_ms, most=9)
        jobs.park(connection, "centre", job, "C000")

    code, out, _ = harmoni(
        capsys, "queue", "retry", "--json", "--config", centre.houses[0].config_path
    )

    assert (code, json.loads(out)) == (0, {"retried": 1})
    assert gateway.states() == {"queued": 1}


def test_evict_lists_what_stayed_and_why_and_fails_where_nothing_of_a_study_went(
    centre, gateway, archive, capsys
):
    gateway.store(1)
    gateway.seal()
    config_path = centre.houses[0].config_path

    code, out, err = harmoni(
        capsys,
        *("gateway", "evict", "--json", "--config", config_path, "--study", houses.STUDY),
    )

    assert code == 4
    assert "not committed elsewhere" in json.loads(out)[0]["stayed"][0]
    assert "nothing of" in err

    gateway.deliver(archive)
    code, out, _ = harmoni(capsys, "gateway", "evict", "--json", "--config", config_path)
    assert code == 0
    assert json.loads(out.splitlines()[-1])[0]["packs"] == 1


def test_vault_and_study_commands_work_on_a_gateway_too(centre, gateway, capsys):
    gateway.store(1)
    config_path = centre.houses[0].config_path

    _, out, _ = harmoni(capsys, "vault", "stat", "--json", "--config", config_path)
    assert json.loads(out)[0]["instances"] == 1
    code, out, _ = harmoni(
        capsys,
        *("vault", "rebuild", "--json", "--config", config_path, "--hospital", "hospital-a"),
    )
    assert (code, json.loads(out)["equal"]) == (0, True)
    _, out, _ = harmoni(
        capsys, *("study", "find", "--json", "--config", config_path, "--hospital", "hospital-a")
    )
    assert json.loads(out)[0]["StudyInstanceUID"] == houses.STUDY


def test_scrub_names_what_is_damaged_and_repair_brings_it_back_from_a_copy(
    centre, gateway, tmp_path, capsys
):
    for number in (1, 2):
        gateway.store(number)
    gateway.seal()
    gateway.clock.advance(1)
    files = gateway.house.files
    shutil.copytree(files.path("packs"), tmp_path / "copy" / "packs")
    options = ("--json", "--config", centre.houses[0].config_path, "--hospital", "hospital-a")
    code, out, _ = harmoni(capsys, "vault", "scrub", *options)
    found = json.loads(out)
    assert (code, found["findings"]) == (0, [])
    assert found["size_bytes"] == sum(
        path.stat().st_size for path in files.path("packs").glob("*/p/*/*.tar")
    )
    [path, *_] = files.path("packs").glob("*/p/*/*.tar")
    path.unlink()

    code, out, _ = harmoni(capsys, "vault", "scrub", *options)

    assert code == 1
    [finding] = json.loads(out)["findings"]
    assert finding["state"] == "missing"
    assert finding["pack_id"] == path.stem
    code, out, _ = harmoni(capsys, "vault", "repair", "--from", tmp_path / "copy", *options)
    assert code == 0
    assert [done["repaired"] for done in json.loads(out)] == [True]
    assert harmoni(capsys, "vault", "scrub", *options)[0] == 0


def test_a_copy_that_is_the_data_directory_itself_or_none_is_refused(
    centre, gateway, tmp_path, capsys
):
    options = ("--config", centre.houses[0].config_path, "--hospital", "hospital-a")
    above = tmp_path / "backup"
    (above / "data/packs").mkdir(parents=True)
    for source in (gateway.house.files.path(""), tmp_path / "nothing", above):
        code, _, err = harmoni(capsys, "vault", "repair", "--from", source, *options)
        assert code != 0
        assert str(source).rstrip("/") in err


def test_nothing_is_wrong_with_a_gateway_that_has_everything(centre, gateway):
    [house] = centre.houses

    assert readiness.check(house.gateway, house.config_path, gateway.clock) == []


def peer(**values):
    return config.PeerSection(ae_title="X", **({"addresses": LOOPBACK} | values))


def test_the_role_of_a_peer_decides_its_rights_unless_they_are_listed():
    assert set(peer(role="modality").granted()) == {"echo", "store", "commit"}
    assert "get" not in peer(role="pacs").granted()
    assert peer(role="pacs", rights=("echo",)).granted() == ("echo",)


def facts(**changes):
    values = {
        "address": "127.0.0.1",
        "local_port": 0,
        "calling_ae_title": "PACS_A",
        "called_ae_title": "GW_A",
        "certificate_uris": None,
    }
    return Facts(**(values | changes))


def test_a_peer_is_known_by_address_calling_and_called_ae_title_and_port(gateway):
    port = gateway.house.config.listen.port
    known = bind(facts(local_port=port), gateway.house.registry)
    assert known.may(Right.QUERY)

    for changes in (
        {"address": "192.0.2.1"},
        {"calling_ae_title": "STRANGER"},
        {"called_ae_title": "HARMONI"},
        {"local_port": port + 1},
    ):
        refused = bind(facts(**({"local_port": port} | changes)), gateway.house.registry)
        assert isinstance(refused, Refusal)


def test_a_new_peer_is_known_as_soon_as_the_file_is_read_again(centre, gateway):
    [house] = centre.houses
    assert not gateway.house.has_news()
    more = peer(role="pacs", addresses=(IPv4Network("10.0.0.0/8"),))
    changed = house.gateway.model_copy(update={"peer": (*house.gateway.peer, more)})
    house.config_path.write_text(config.render(changed))

    assert gateway.house.has_news()
    gateway.house.reload()

    assert gateway.house.peer("X").ae_title == "X"
    assert gateway.house.peer("PACS_A") is not None


def test_a_file_with_a_mistake_leaves_the_peers_as_they_were(centre, gateway):
    centre.houses[0].config_path.write_text("[")

    with pytest.raises(ConfigurationError):
        gateway.house.reload()

    assert gateway.house.peer("PACS_A") is not None
    assert not gateway.house.has_news()


def test_a_peer_without_an_address_is_refused(centre, tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(centre.houses[0].config_path.read_text() + '\n[[peer]]\nae_title = "Y"\n')

    with pytest.raises(ConfigurationError, match="addresses"):
        config.load_gateway(path)


def test_two_peers_of_one_title_are_refused(centre, tmp_path):
    gateway = centre.houses[0].gateway
    twice = gateway.model_copy(update={"peer": (peer(), peer())})
    (tmp_path / "twice.toml").write_text(config.render(twice))

    with pytest.raises(ConfigurationError, match="stands there twice"):
        config.load_gateway(tmp_path / "twice.toml")


def test_init_with_keys_there_already_is_refused(tmp_path):
    values = {"hospital_id": "h-1", "ae_title": "GW", "site": "gateway"}
    operate.initialise(tmp_path, recovery_recipient=RECIPIENT, **values)
    with pytest.raises(AlreadyHeld):
        operate.initialise(tmp_path, recovery_recipient=RECIPIENT, **values)
