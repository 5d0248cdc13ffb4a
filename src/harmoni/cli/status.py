"""`harmoni status`: how the role is, in one look."""

from harmoni import config as settings
from harmoni.archive import operate as archive
from harmoni.cli import nodes, options, output
from harmoni.gateway import operate as gateway


def status(config: options.Config, json: options.AsJSON = False) -> None:
    """Show how the archive or the gateway is: its space, studies, packs and what waits."""
    if settings.role_of(config) == "gateway":
        output.facts(gateway.status(nodes.open_house(config)), json_wanted=json)
    else:
        output.facts(archive.status(settings.load_archive(config)), json_wanted=json)
