"""`harmoni keys`: the recovery identity in shares, and rotation of a site's keys.

`init`, `recover` and `readdress` are for a machine without a network
(docs/how-to/key-ceremony.md): they take no configuration of a role and open no connection.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from harmoni import config as settings
from harmoni.archive import operate
from harmoni.backends.filesystem import Filesystem, make_root
from harmoni.cli import nodes, options, output
from harmoni.model.errors import AlreadyHeld, ConfigurationError, InvalidInput
from harmoni.role import upkeep
from harmoni.sealing import age
from harmoni.vault import recovery, shares
from harmoni.vault.layout import RECOVERY_RECIPIENT

app = typer.Typer(help="Recovery identities and the keys of a site.", no_args_is_help=True)

_IDENTITY: Final = re.compile(r"AGE-SECRET-KEY-PQ-1[0-9A-Z]+")
_COLUMNS: Final = 3
_CLEAR: Final = "\033[2J\033[3J\033[H"
_NEXT: Final = (
    "give the five shares to five people, then destroy the file of the identity and every copy of "
    "a share on this machine; take nothing online but recovery.recipient"
)


@app.command()
def init(
    *,
    identity: Annotated[
        Path | None,
        typer.Option(
            help="File with the recovery identity, such as what `hospital add` printed; "
            "a new identity when left out."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for five files, one share each.")
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Show one share at a time instead, to be written on paper."),
    ] = False,
    json: options.AsJSON = False,
) -> None:
    """Make five shares of a recovery identity, any three of which give it back.

    On a machine without a network only. Every three of the five are tried before it says done.
    Then five people take one share each, and the file of the identity is destroyed.
    """
    if (out is None) != show:
        raise ConfigurationError("shares go into files or to the screen; give --out or --show")
    secret = (
        age.generate_identity(random=os.urandom(age.SEED_BYTES))
        if identity is None
        else _read_identity(identity)
    )
    recipient = secret.recipient()
    made = shares.split(secret)
    texts = [_text(number, share, recipient) for number, share in enumerate(made, 1)]
    facts = _public(recipient)
    if out is None:
        proven = shares.prove(made, secret)
        _show(texts)
    else:
        names = _write(out, texts, recipient)
        store = Filesystem(out)
        stored = [shares.read(store.read(name).decode()) for name in names]
        proven = shares.prove(stored, secret)
        facts["shares"] = [out / name for name in names]
    output.facts(facts | {"combinations_proven": proven}, json_wanted=json)
    output.complain(_NEXT)


@app.command()
def recover(
    share: Annotated[list[Path], typer.Argument(metavar="SHARE...", help="Files of three shares.")],
    out: Annotated[
        Path | None,
        typer.Option(help="New file for the identity; left out to rehearse: nothing is written."),
    ] = None,
    json: options.AsJSON = False,
) -> None:
    """Give a recovery identity back from three of its shares.

    On a machine without a network only. Compare the fingerprint with that of the hospital's
    recovery.recipient. The file may open all that the hospital stored: destroy it after use.
    """
    found = shares.combine([_read_share(path) for path in share])
    facts = _public(found.recipient())
    if out is not None:
        Filesystem(out.parent).publish(out.name, f"{found.to_string()}\n".encode())
        facts["identity"] = out
    output.facts(facts, json_wanted=json)


@app.command()
def rotate(
    config: options.Config,
    hospital: options.Hospital,
    epochs: Annotated[
        bool,
        typer.Option(
            "--epochs", help="New epoch keys too, and every data key wrapped anew under them."
        ),
    ] = False,
    json: options.AsJSON = False,
) -> None:
    """Put a new site identity in force, beside the running role; packs stay as they are.

    When it was interrupted, run it again: it goes on where it was. Then replace the copies of keys
    and of custody elsewhere: what is restored from old ones still needs the old identity.
    """
    with output.progress(f"rotating the keys of {hospital}") as advance:
        node = nodes.open_node(config)
        rotated = upkeep.rotate_keys(node, hospital, advance, epochs=epochs)
    output.facts(rotated, json_wanted=json)


@app.command()
def adopt(
    config: options.Config,
    hospital: options.Hospital,
    name: Annotated[str, typer.Option(help="Its name for people, if its file is lost.")],
    json: options.AsJSON = False,
) -> None:
    """Make a new site identity for a hospital whose keys were brought from a copy.

    At an archive that takes over what another one lost (docs/how-to/restore-drill.md). What it
    prints is public: take it to the machine where the recovery identity is, for `keys readdress`.
    """
    adopted = operate.adopt_hospital(settings.load_archive(config), hospital_id=hospital, name=name)
    output.facts(adopted, json_wanted=json)
    output.complain(
        "nothing opens yet: `harmoni keys readdress` a copy of the keys to this recipient, on a "
        "machine without a network, put it in the place of the keys here, then run `harmoni vault "
        "rebuild`"
    )


@app.command()
def readdress(
    folder: Annotated[Path, typer.Argument(help="A copy of the hospital's folder of keys.")],
    identity: Annotated[
        Path, typer.Option(help="File with the recovery identity, from `keys recover`.")
    ],
    recipient: Annotated[
        str, typer.Option(help="Recipient of the new site identity, from `keys adopt`.")
    ],
    json: options.AsJSON = False,
) -> None:
    """Encrypt a copy of a hospital's keys to another site, with its recovery identity.

    On a machine without a network only. The folder goes back, and the identity's file is destroyed.
    Exits with 1 when a file does not open: take that one from another copy and run it again.
    """
    done = recovery.readdress(
        Filesystem(folder), _read_identity(identity), age.Recipient.from_string(recipient.strip())
    )
    output.facts(done, json_wanted=json)
    if done.failures:
        raise typer.Exit(1)


def _read_identity(path: Path) -> age.Identity:
    """The one identity in a text file, whatever stands around it.

    Raises:
        InvalidInput: there is none, more than one, or it is altered.
    """
    found = set(_IDENTITY.findall(path.read_text(encoding="utf-8", errors="replace")))
    if len(found) != 1:
        raise InvalidInput(
            f"{path} holds {len(found)} identities, and one is needed: a text that begins with "
            "AGE-SECRET-KEY-PQ-1"
        )
    return age.Identity.from_string(found.pop())


def _public(recipient: age.Recipient) -> dict[str, object]:
    """What anybody may see of an identity, and people compare."""
    return {"fingerprint": shares.fingerprint(recipient), "recipient": recipient.to_string()}


def _read_share(path: Path) -> str:
    try:
        return shares.read(path.read_text(encoding="utf-8", errors="replace"))
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def _text(number: int, share: str, recipient: age.Recipient) -> str:
    """A share as it is kept, with what its keeper must know in twenty years."""
    words = share.split()
    lines = [
        f"# Share {number} of {shares.SHARES}; any {shares.THRESHOLD} open what a hospital stored.",
        f"# SLIP-39, no passphrase. Fingerprint of the recipient: {shares.fingerprint(recipient)}",
        "# Keep it alone and unread; it is typed into a machine without a network, nowhere else.",
    ]
    for first in range(0, len(words), _COLUMNS):
        row = enumerate(words[first : first + _COLUMNS], first + 1)
        lines.append("".join(f"{place:>2}. {word:<10}" for place, word in row).rstrip())
    return "\n".join(lines) + "\n"


def _write(out: Path, texts: Sequence[str], recipient: age.Recipient) -> list[str]:
    """Write the files, readable by this user alone; nothing is overwritten."""
    store = make_root(out)
    names = [f"share-{number}.txt" for number in range(1, len(texts) + 1)]
    there = [name for name in (*names, RECOVERY_RECIPIENT) if store.exists(name)]
    if there:
        raise AlreadyHeld(
            f"{out} holds {', '.join(there)} already, and nothing is overwritten; choose another "
            "directory"
        )
    for name, text in zip(names, texts, strict=True):
        store.publish(name, text.encode())
    store.publish(RECOVERY_RECIPIENT, f"{recipient.to_string()}\n".encode())
    return names


def _show(texts: Sequence[str]) -> None:
    """One share after another on a screen that is cleared between two."""
    _await_enter("Enter shows the first share: ")  # before anything goes into a pipe or a log
    for text in texts:
        print(f"{_CLEAR}{text}")
        _await_enter("Written down and compared? Enter clears the screen: ")
    print(_CLEAR, end="")


def _await_enter(prompt: str) -> None:
    try:
        input(prompt)
    except EOFError:
        raise ConfigurationError(
            "nobody is at the keyboard to write the shares down: run --show at a terminal"
        ) from None
