"""What is wrong with a role's own certificate, in sentences, before somebody else finds out."""

from typing import Final

from harmoni.fleet import ca
from harmoni.model.errors import HarmoniError
from harmoni.model.identifiers import HospitalId, SiteId
from harmoni.net import tls

RENEW_DAYS: Final = 30
"""A certificate that ends sooner is a problem already: issuing one takes people."""

_DAY_MS: Final = 86_400_000


def problems(
    files: tls.TLSFiles, owner: HospitalId | SiteId, options: str, now_ms: int
) -> list[str]:
    """Look at a certificate, its key and whom it believes.

    Args:
        files: where they are.
        owner: whom the certificate must name.
        options: of `harmoni ca issue`, that say for whom.
        now_ms: the time, in milliseconds since 1970.
    """
    issue = (
        f"issue one with `harmoni ca issue --ca CA {options} --name {files.certificate.stem} "
        f"--out {files.certificate.parent}`"
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
    found = []
    days_left = (facts.not_after_ms - now_ms) // _DAY_MS
    if now_ms < facts.not_before_ms:
        found.append(
            f"the certificate {files.certificate} does not hold yet: set this machine's clock, or "
            "that of the machine which issued it"
        )
    elif days_left < 0:
        found.append(f"the certificate {files.certificate} has expired: {renew}")
    elif days_left < RENEW_DAYS:
        found.append(f"the certificate {files.certificate} ends in {days_left} days: {renew}")
    if ca.owner_uri(owner) not in facts.uris:
        found.append(
            f"the certificate {files.certificate} names {', '.join(facts.uris) or 'nobody'}, not "
            f"{ca.owner_uri(owner)}: {renew}"
        )
    return found
