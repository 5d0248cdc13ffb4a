"""`harmoni ca`: the centre's own certificate authority."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from harmoni.backends.filesystem import Filesystem, make_root
from harmoni.cli import options, output
from harmoni.fleet import ca
from harmoni.model.errors import AlreadyHeld, ConfigurationError, InvalidInput, NotHeld
from harmoni.model.identifiers import HospitalId, SiteId
from harmoni.runtime.clock import SystemClock

app = typer.Typer(help="The centre's own certificate authority.", no_args_is_help=True)

CERTIFICATE: Final = "ca.crt"
KEY: Final = "ca.key"
_STEM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Where its certificate and key go.")],
    name: Annotated[str, typer.Option(help="Its common name.")] = "HARMONI authority",
    json: options.AsJSON = False,
) -> None:
    """Create an authority. Keep ca.key offline: with it one can be any hospital."""
    authority = ca.create_authority(name, SystemClock().now_ms())
    store = make_root(directory)
    _require_absent(store, (KEY, CERTIFICATE), "choose another directory")
    store.publish(KEY, authority.key_pem)
    store.publish(CERTIFICATE, authority.cert_pem)
    output.facts({"certificate": directory / CERTIFICATE, "key": directory / KEY}, json_wanted=json)


@app.command()
def issue(
    *,
    authority: Annotated[Path, typer.Option("--ca", help="Directory of the authority.")],
    out: Annotated[Path, typer.Option(help="Directory for the certificate and its key.")],
    hospital: Annotated[str | None, typer.Option(help="For a node of this hospital.")] = None,
    site: Annotated[str | None, typer.Option(help="For a node of this site.")] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Host name by which it is called; may be repeated.")
    ] = None,
    ip: Annotated[
        list[str] | None, typer.Option(help="Address by which it is called; may be repeated.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the two files; the owner's id when left out.")
    ] = None,
    days: Annotated[int, typer.Option(help="How long it holds.")] = ca.NODE_DAYS,
    json: options.AsJSON = False,
) -> None:
    """Issue a certificate and a key for a node of one hospital or one site."""
    if (hospital is None) == (site is None):
        raise ConfigurationError(
            "a certificate is for one hospital or one site; give either --hospital or --site"
        )
    owner = HospitalId(hospital) if hospital is not None else SiteId(site or "")
    stem = owner.value if name is None else name
    if _STEM.fullmatch(stem) is None:
        raise InvalidInput(
            f"--name {stem!r} is no name for files: write 1 to 64 letters, digits, '.', '_' or "
            "'-', the first a letter or digit"
        )
    signer = load_authority(authority)
    issued = ca.issue(
        signer,
        owner=owner,
        common_name=owner.value,
        now_ms=SystemClock().now_ms(),
        dns_names=host or (),
        ip_addresses=ip or (),
        days=days,
    )
    store = make_root(out)
    _require_absent(store, (f"{stem}.key", f"{stem}.crt"), "give another --name or --out")
    store.publish(f"{stem}.key", issued.key_pem)
    store.publish(f"{stem}.crt", issued.cert_pem)
    # Whom the node believes is public and may be renewed.
    store.replace(CERTIFICATE, signer.cert_pem)
    output.facts(
        {
            "certificate": out / f"{stem}.crt",
            "key": out / f"{stem}.key",
            "authority": out / CERTIFICATE,
        },
        json_wanted=json,
    )


def _require_absent(store: Filesystem, names: Sequence[str], advice: str) -> None:
    """See to it that a pair of files is made whole or not at all."""
    for name in names:
        if store.exists(name):
            raise AlreadyHeld(f"{store.path(name)} exists and is never overwritten; {advice}")


def load_authority(directory: Path) -> ca.Authority:
    """Read an authority from its directory.

    Raises:
        ConfigurationError: there is none.
    """
    store = Filesystem(directory)
    try:
        return ca.Authority(cert_pem=store.read(CERTIFICATE), key_pem=store.read(KEY))
    except NotHeld as error:
        raise ConfigurationError(
            f"{directory} holds no authority: {error}; make one with harmoni ca init"
        ) from error
