"""What lies in Redis: each key stands in the table of shared/keys.py, and each script says what it takes."""

import re

import pytest

import shared.api_keys
import shared.copies
import shared.keys
import shared.measures
import shared.registry_upkeep
import shared.schedules
import shared.store
import shared.webhooks
from shared.keys import Keys
from shared.script import BEFORE, LUA, Script, linked

SCRIPTS = sorted(path.stem for path in LUA.glob("*.lua") if path.stem not in BEFORE)
# `base .. 'job:' .. id`, `base .. 'fence'`
KEY = re.compile(r"base \.\. '(\w+:?)'")


def source(script: str) -> str:
    return (LUA / f"{script}.lua").read_text()


def header(script: str) -> str:
    """The comment that a script begins with."""
    found = re.match(r"(?:--.*\n)+", source(script))
    return found[0] if found else ""


def table() -> dict[str, dict[str, str]]:
    """Key, up to its variable part, to the row of the table by column; a row may take several lines."""
    titles, dashes, *lines = (shared.keys.__doc__ or "").splitlines()[2:]
    columns = [column.span() for column in re.finditer(r"-+", dashes)]
    rows: dict[str, dict[str, str]] = {}
    row: dict[str, str] = {}
    for line in lines[: lines.index("")]:
        cells = {titles[start:end].strip(): line[start:end].strip() for start, end in columns}
        if cells["key"]:
            row = rows[re.sub(r"<.*", "", cells["key"])] = cells
        else:
            row |= {title: f"{row[title]} {cell}".strip() for title, cell in cells.items()}
    return rows


@pytest.mark.parametrize("script", [*BEFORE, *SCRIPTS])
def test_every_key_of_a_script_stands_in_the_table(script: str) -> None:
    assert set(KEY.findall(source(script))) <= set(table())


@pytest.mark.parametrize("script", [*BEFORE, *SCRIPTS])
def test_a_script_makes_keys_in_no_other_way(script: str) -> None:
    assert len(re.findall(r"(?<!\.)\bbase\b", re.sub(r"--.*", "", source(script)))) == len(
        KEY.findall(source(script))
    ) + (script == "base")


def test_every_key_that_python_names_stands_in_the_table() -> None:
    keys = Keys("p")
    made = {value for name, value in vars(keys).items() if name != "base"}
    made |= {
        getattr(keys, name)("x") for name in ("job", "lane", "pace", "rows", "wake", "workers", "model", "schedule")
    }
    made.add(keys.version("x", 1))

    assert {re.sub(r"x.*", "", key.removeprefix("{p}:")) for key in made} <= set(table())


def test_every_key_of_the_table_is_used() -> None:
    by_scripts = {key for script in [*BEFORE, *SCRIPTS] for key in KEY.findall(source(script))}
    by_python = {
        "changes",
        "models",
        "loaded",
        "model:",
        "version:",
        "workers:",
        "process:",
        "full",
        "rate:",
        "trial:",
        "confirmed",
        "celery:...",
    }

    assert set(table()) == by_scripts | by_python


@pytest.mark.parametrize(
    ("key", "remark"), [pytest.param("job:", "; every value", id="job"), pytest.param("unit:", "(", id="unit")]
)
def test_every_field_of_a_record_in_the_table_is_used_by_a_script(key: str, remark: str) -> None:
    fields = set(table()[key]["fields / members"].partition(remark)[0].split())

    used = {word for script in [*BEFORE, *SCRIPTS] for word in re.findall(r"'(\w+)'", source(script))}

    assert fields
    assert fields - used == set()


def test_every_field_of_a_job_that_a_script_writes_stands_in_the_table() -> None:
    fields = set(table()["job:"]["fields / members"].partition("; every value")[0].split())
    everything = "\n".join(source(script) for script in [*BEFORE, *SCRIPTS])
    calls = re.findall(r"'HSET(?:NX)?', (?:job|base \.\. 'job:' \.\. id),(.*?)\)(?:\s|$)", everything, re.DOTALL)

    # Names and values take turns, once the commas inside a value are gone.
    written = {part.strip().strip("'") for call in calls for part in re.sub(r"\([^()]*\)", "", call).split(",")[::2]}

    assert "status" in written
    assert written - fields == set()


def test_every_key_has_the_one_hash_tag() -> None:
    keys = Keys("prefix")

    assert keys.base == "{prefix}:"
    assert keys.job("x") == "{prefix}:job:x"


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("word", ["KEYS", "ARGV", "Returns"])
def test_every_script_says_what_it_takes_and_returns(script: str, word: str) -> None:
    assert re.search(rf"\b{word}\b", header(script))


def test_what_comes_before_every_script_says_what_its_one_key_is() -> None:
    assert "KEYS[1]" in header("base")


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_reads_an_argument_that_its_header_does_not_name(script: str) -> None:
    # What is in brackets, such as `('' if none)`, explains an argument.
    (named,) = re.findall(r"ARGV: (.*?)\.(?:\s|$)", re.sub(r"\n-- ?", " ", header(script)))
    arguments = re.split(r", (?:then )?|, ", re.sub(r"\([^)]*\)", "", named))
    read = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", source(script))}

    assert max(read, default=0) <= len(arguments)


def test_every_script_is_loaded_by_the_one_that_runs_it() -> None:
    parts = (
        *(shared.api_keys, shared.store, shared.registry_upkeep, shared.copies, shared.schedules),
        *(shared.webhooks, shared.measures),
    )
    names = sorted(script for part in parts for script in part.SCRIPTS)

    assert names == SCRIPTS


NAMED = re.compile(r"\blocal (?:function )?(\w+(?:,\s*\w+)*)")
COMMON = {
    name for part in BEFORE for line in source(part).splitlines() if line.startswith("local ")
    for named in NAMED.findall(line) for name in re.findall(r"\w+", named)
}  # fmt: skip


@pytest.mark.parametrize("part", BEFORE)
def test_what_may_come_before_a_script_is_made_of_parts(part: str) -> None:
    others = [line for line in source(part).splitlines() if not re.match(r"local |end\b|}|--| |$", line)]

    assert others == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_comes_after_all_that_it_needs(script: str) -> None:
    known: set[str] = set()
    for line in Script(script).source.decode().splitlines():
        code = re.sub(r"'[^']*'|--.*", "", line)
        known.update(name for named in NAMED.findall(line) for name in re.findall(r"\w+", named))
        # Not the field of a table.
        assert COMMON.intersection(re.findall(r"(?<![\w.])(\w+)(?!\w| = )", code)) <= known, line


def test_a_script_comes_without_what_it_does_not_need() -> None:
    assert "local function finish(" in Script("commit").source.decode()
    assert "local function finish(" not in Script("read").source.decode()


def test_names_that_are_defined_together_come_together() -> None:
    parts = ["local one, two = 1, 2\n", "local function three() return two end\n", "local four = 4\n"]

    assert linked(parts, "return three()\n") == "".join((*parts[:2], "return three()\n"))
