"""The service on nine hosts of this machine under disasters, in a short form: docs/reliability.md has the long one."""

import sys

import pytest

from tests.hosts.run import CUT_MASTER, CUT_WORKER, KILLED_API, KILLED_MASTER, Options, run
from tests.hosts.wires import Namespaces


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have neither namespaces nor many loopback addresses")
def test_hosts_that_are_cut_off_or_killed_lose_no_job_and_double_no_row() -> None:
    report = run(Options(rows=5_000))

    print("\n".join(report.lines()))  # also of which kind the hosts were
    assert report.findings == []
    # So that it cannot pass because nothing happened.
    master = CUT_MASTER if report.kind == Namespaces.kind else KILLED_MASTER
    assert set(report.disasters) == {CUT_WORKER, KILLED_API, master}
    assert set(report.jobs) == {"predict succeeded", "batch succeeded"}
