"""The command `foretell` with all that is under it."""

import sys

import click
from click.shell_completion import get_completion_class

from foretell import __version__
from foretell.cli.configuration import config
from foretell.cli.files import predict
from foretell.cli.jobs import job, jobs
from foretell.cli.keys import keys
from foretell.cli.models import models, promote, push, retrain, rollback, schedule
from foretell.cli.top import top

NAME = "foretell"
VARIABLE = "_FORETELL_COMPLETE"


@click.group(NAME, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def foretell() -> None:
    """Predictions as jobs: the command line of Foretell.

    The service is at FORETELL_URL, asked with FORETELL_KEY, or as `foretell config` says. Every command takes --json
    and prints one JSON document then.

    \b
    Exit codes: 0 fine; 1 the job failed or was cancelled; 2 usage; 3 the service refuses;
    4 the service is away; 5 some rows failed; 6 not done in time; 7 a file here; 130 Ctrl-C
    """


@click.command("completion", short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that lets a shell complete commands, options and names of models.

    \b
    bash   foretell completion bash >> ~/.bashrc
    zsh    foretell completion zsh >> ~/.zshrc
    fish   foretell completion fish > ~/.config/fish/completions/foretell.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    click.echo(kind(foretell, {}, NAME, VARIABLE).source())


for one in (
    predict, jobs, job, models, push, promote, rollback, retrain, schedule, keys, top, config, completion,
):  # fmt: skip
    foretell.add_command(one)


def main() -> None:
    """Run what the command line says."""
    try:
        foretell.main(prog_name=NAME, complete_var=VARIABLE)
    except KeyboardInterrupt:
        sys.exit(130)
