"""What keeps an archive from serving as it should, in sentences; nothing is changed."""

from typing import Final

from harmoni.archive.app import tls_files
from harmoni.archive.site import ArchiveSite
from harmoni.config import ArchiveConfig
from harmoni.model.errors import HarmoniError
from harmoni.role import certificate, oversight
from harmoni.runtime.clock import Clock

PLACES: Final = 1
"""Sites that hold a copy: sites do not replicate yet."""


def check(config: ArchiveConfig, clock: Clock) -> list[str]:
    """Say in a sentence each what is wrong with the settings, keys, certificates and folders."""
    try:
        archive = ArchiveSite(config, "check", clock)
    except HarmoniError as error:
        return [str(error)]
    problems = [*archive.problems, *certificate_problems(config, clock.now_ms())]
    if remark := copies_remark(config.archive.safe_copies):
        problems.append(remark)
    if not archive.files.is_writable():
        problems.append(archive.not_writable())
    if not archive.hospitals:
        problems.append("no hospital is registered: run `harmoni hospital add`")
    for hospital in archive.hospitals:
        try:
            holding = archive.holding(hospital)
            problems += oversight.key_copy_problems(holding, clock.now_ms())
            holding.index.database()
        except HarmoniError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"the index of {hospital}: {error.strerror}: {error.filename}")
    return problems


def copies_remark(safe_copies: int) -> str:
    """What is to be said of a number of safe copies that cannot be reached; else nothing."""
    if safe_copies <= PLACES:
        return ""
    return (
        f"safe_copies is {safe_copies} and there is {PLACES} site: no storage commitment would "
        "ever be answered; set safe_copies = 1 in [archive] as long as there is one site"
    )


def certificate_problems(config: ArchiveConfig, now_ms: int) -> list[str]:
    """What is wrong with the archive's own certificate."""
    site = config.archive.site
    return certificate.problems(tls_files(config), site, f"--site {site} --host HOST", now_ms)
