"""Writes the dashboard.

python -m deploy.monitoring > deploy/monitoring/grafana/dashboards/foretell.json
"""

import json
import sys

from deploy.monitoring.dashboard import dashboard
from deploy.monitoring.panels import SECTIONS


def text() -> str:
    """The dashboard, as the file has it."""
    return json.dumps(dashboard(SECTIONS), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
