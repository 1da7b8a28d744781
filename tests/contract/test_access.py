"""No route is open by oversight: one that names no scope is there for nobody, and each stands in the written table."""

import re

import pytest
from flask import Flask

from tests.contract.conftest import MakeApp
from tests.system.access import table


def test_every_rule_of_the_application_stands_in_the_table(app: Flask) -> None:
    variable = re.compile(r"<(?:[^<>:]+:)?([^<>]+)>")
    rules = {
        f"{method} " + variable.sub(r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert rules == set(table())


def test_every_cell_of_the_table_says_what_the_tests_read() -> None:
    cells = {cell for row in table().values() for cell in row.values()}

    assert cells == {"in", "401", "403", "404", ""}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_a_route_that_names_no_scope_is_there_for_nobody(make_app: MakeApp, method: str) -> None:
    app = make_app()
    app.add_url_rule("/forgotten", view_func=lambda: "the secret", methods=["GET", "POST"])

    response = app.test_client().open("/forgotten", method=method)

    assert response.status_code == 404
    assert b"the secret" not in response.get_data()
