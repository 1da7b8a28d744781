"""`python -m foretell.cli`."""

from foretell.cli.root import main

main()
