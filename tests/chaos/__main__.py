"""`python -m tests.chaos [--seconds N] [--seed N] [--s3] [--rabbitmq] [--json FILE]`: exit code 1 with findings."""

import argparse
import json
import random
import sys
from pathlib import Path

from tests.chaos.run import Options, run


def main() -> int:
    """Run the suite as the arguments say."""
    parser = argparse.ArgumentParser(prog="make chaos ARGS=...", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="for how long faults begin; %(default)s")
    parser.add_argument("--seed", type=int, help="what is injected when, and what is sent; by default a new one")
    parser.add_argument("--every", type=float, default=2.5, help="seconds from one fault to the next; %(default)s")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the largest file; %(default)s")
    parser.add_argument("--s3", action="store_true", help="storage on an S3-compatible server, behind the same network")
    parser.add_argument("--rabbitmq", action="store_true", help="messages through a RabbitMQ, which is killed too")
    parser.add_argument("--json", type=Path, help="write the summary to this file too")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    options = Options(
        seed=seed,
        seconds=given.seconds,
        every_seconds=given.every,
        largest_rows=given.rows,
        s3=given.s3,
        rabbitmq=given.rabbitmq,
        say=say,
    )
    say(f"seed {seed}")
    report = run(options)
    say("\n".join(report.lines()))
    if given.json:
        given.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return 1 if report.findings else 0


def say(line: str) -> None:
    """A line for the person at the terminal, at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
