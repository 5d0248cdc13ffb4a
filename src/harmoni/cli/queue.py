"""`harmoni queue`: what is on its way from a gateway to the centre."""

import typer

from harmoni.cli import nodes, options, output
from harmoni.gateway import operate

app = typer.Typer(help="What a gateway sends to the centre.", no_args_is_help=True)


@app.command("list")
def list_(config: options.Config, json: options.AsJSON = False) -> None:
    """Count what waits, by state, and list what is parked and why."""
    queue = operate.queue(nodes.open_house(config))
    if json:
        output.as_json(queue)
        return
    output.facts(
        {"centre": queue.centre} | queue.by_state | {"oldest_waits_s": queue.oldest_waits_s},
        json_wanted=False,
    )
    output.rows(queue.parked, json_wanted=False, empty="nothing is parked")


@app.command()
def retry(config: options.Config, json: options.AsJSON = False) -> None:
    """Send at once what is parked, and what waits for its next try."""
    output.facts({"retried": operate.retry(nodes.open_house(config))}, json_wanted=json)
