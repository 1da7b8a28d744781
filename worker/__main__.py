"""`python -m worker register NAME ARTIFACT --sample ROWS.csv`, and what else an operator does with the registry."""

import sys

from worker.commands import FAULTS, Damaged, open_place, parser


def main() -> int:
    """Run the command; 0 if it is done, 1 with a line on standard error for each thing that is wrong if not."""
    arguments = parser().parse_args()
    try:
        for line in arguments.act(open_place(), arguments):
            print(line)
    except FAULTS as error:
        for fault in error.args if isinstance(error, Damaged) else (error,):
            print(f"foretell: {' '.join(str(fault).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
