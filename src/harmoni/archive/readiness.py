"""What keeps an archive from serving as it should, in sentences; nothing is changed."""

from typing import Final

from harmoni.archive.app import tls_files
from harmoni.archive.site import ArchiveSite
from harmoni.config import ArchiveConfig
from harmoni.fleet import ca
from harmoni.model.errors import HarmoniError
from harmoni.net import tls
from harmoni.runtime.clock import Clock

RENEW_DAYS: Final = 30
"""A certificate that ends sooner is a problem already: issuing one takes people."""

PLACES: Final = 1
"""Sites that hold a copy: sites do not replicate yet."""

_DAY_MS: Final = 86_400_000


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
            archive.holding(hospital).index.database()
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
    files, site = tls_files(config), config.archive.site
    issue = (
        f"issue one with `harmoni ca issue --ca CA --site {site} --name {files.certificate.stem} "
        f"--host HOST --out {files.certificate.parent}`"
    )
    renew = f"move it and its key away, {issue}, and send SIGHUP"
    missing = [
        str(path)
        for path in (files.certificate, files.key, files.authorities, files.revocations)
        if path is not None and not path.exists()
    ]
    if missing:
        return [f"there is no {' and no '.join(missing)}: {issue}"]
    try:
        tls.ServerContext(files)
        facts = tls.own_certificate(files)
    except HarmoniError as error:
        return [str(error)]
    problems = []
    days_left = (facts.not_after_ms - now_ms) // _DAY_MS
    if days_left < 0:
        problems.append(f"the certificate {files.certificate} has expired: {renew}")
    elif days_left < RENEW_DAYS:
        problems.append(f"the certificate {files.certificate} ends in {days_left} days: {renew}")
    if ca.owner_uri(site) not in facts.uris:
        problems.append(
            f"the certificate {files.certificate} names {', '.join(facts.uris) or 'nobody'}, not "
            f"{ca.owner_uri(site)}: {renew}"
        )
    return problems
