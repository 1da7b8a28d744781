"""`python -m tests.hosts [--seconds N] [--rows N] [--loopback]`: exit code 1 if anything is found."""

import argparse
import signal
import sys

from tests.chaos.__main__ import say
from tests.hosts.run import Options, run


def main() -> int:
    """Run it as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="for how long rounds of disasters begin; %(default)s"
    )
    parser.add_argument("--seed", type=int, default=7, help="what is sent; %(default)s")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the larger file; %(default)s")
    parser.add_argument("--loopback", action="store_true", help="hosts without network namespaces, even as root")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is taken away then too
    report = run(Options(seed=given.seed, seconds=given.seconds, rows=given.rows, loopback=given.loopback, say=say))
    say("\n".join(report.lines()))
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
