"""What keeps a gateway from serving as it should, in sentences; nothing is changed."""

from pathlib import Path

from harmoni.config import CentreSection, GatewayConfig
from harmoni.gateway.centre import tls_files
from harmoni.gateway.house import House
from harmoni.model.errors import HarmoniError
from harmoni.role import certificate, oversight
from harmoni.runtime.clock import Clock


def check(config: GatewayConfig, path: Path, clock: Clock) -> list[str]:
    """Say in a sentence each what is wrong with the settings, keys, certificates and folders."""
    try:
        house = House(config, path, "check", clock)
    except HarmoniError as error:
        return [str(error)]
    problems = certificate_problems(config, clock.now_ms())
    if not house.files.is_writable():
        problems.append(house.not_writable())
    if config.centre.host == CentreSection().host:
        problems.append(f"[centre] names the host {config.centre.host}: name the archive's")
    if config.gateway.safe_copies > 1:
        problems.append(
            f"safe_copies is {config.gateway.safe_copies} and there is one site: nothing would ever"
            " count as committed; set safe_copies = 1 in [gateway] as at the archive"
        )
    if not config.peer:
        problems.append("no peer is registered: nobody may call; add a [[peer]] for each node")
    problems += [
        f"peer {peer.ae_title} may receive by C-MOVE and has no host and port: add them"
        for peer in config.peer
        if "destination" in peer.granted() and not (peer.host and peer.port)
    ]
    try:
        problems += oversight.key_copy_problems(house.own, clock.now_ms())
        house.own.index.database()
    except HarmoniError as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"the index of {house.hospital}: {error.strerror}: {error.filename}")
    return problems


def certificate_problems(config: GatewayConfig, now_ms: int) -> list[str]:
    """What is wrong with the hospital's certificate."""
    hospital = config.gateway.hospital
    return certificate.problems(tls_files(config), hospital, f"--hospital {hospital}", now_ms)
