"""`python -m worker register NAME ARTIFACT --sample ROWS.csv`: register a model from the server's own disk."""

import argparse
import sys
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet

from shared.connection import Connections, check_server
from shared.errors import ServiceError
from shared.keys import Keys
from shared.registry import Registry
from shared.settings import load_settings
from shared.storage import Storage
from worker.registration import register


def main() -> int:
    """Run the command; 0 if the version is registered, 1 with one line on standard error if not."""
    parser = argparse.ArgumentParser(prog="python -m worker")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("register", help="register a new version of a model and point production at it")
    add.add_argument("name", help="the model's name")
    add.add_argument(
        "artifact", type=Path, help="a .skops or .joblib file; joblib runs the file's code, so only your own"
    )
    add.add_argument(
        "--sample",
        type=Path,
        required=True,
        help="a CSV or Parquet file with a few input rows, columns in feature order",
    )
    add.add_argument("--description", default="", help="one line for people")
    arguments = parser.parse_args()
    try:
        settings = load_settings()
        check_server(settings.redis_address, timeout_seconds=5)
        connections = Connections(settings.redis_address, timeout_seconds=5)
        registry = Registry(connections, Keys(settings.redis_prefix), Storage.of(settings))
        read = pyarrow.parquet.read_table if arguments.sample.suffix == ".parquet" else pyarrow.csv.read_csv
        manifest = register(
            registry,
            arguments.name,
            arguments.artifact.read_bytes(),
            format="joblib" if arguments.artifact.suffix in (".joblib", ".pkl", ".pickle") else "skops",
            sample=read(arguments.sample),
            description=arguments.description,
        )
    except (ServiceError, OSError, ValueError) as error:
        print(f"foretell: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"{manifest.model}@{manifest.version} {manifest.format} {manifest.estimator} sha256 {manifest.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
