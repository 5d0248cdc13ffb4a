"""`harmoni status`: how the role is, in one look."""

from harmoni import config as settings
from harmoni.archive import operate
from harmoni.cli import options, output


def status(config: options.Config, json: options.AsJSON = False) -> None:
    """Show how the archive is: its space, studies, packs and what waits."""
    output.facts(operate.status(settings.load_archive(config)), json_wanted=json)
