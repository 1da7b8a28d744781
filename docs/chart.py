"""The table of the Helm chart's values, in its README: `python -m docs.chart`, which is a part of `make docs`.

The text of a value is the comment above it in values.yaml.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

CHART: Final = Path(__file__).parents[1] / "deploy" / "helm" / "foretell"
BEGIN: Final = "<!-- written by `make docs`, from values.yaml -->\n"
END: Final = "<!-- as far as here -->\n"
LONGEST_DEFAULT: Final = 80


@dataclass(frozen=True, kw_only=True)
class Value:
    """A value of the chart; a section that has a text of its own has no default."""

    path: str
    default: str | None
    text: str


def values_of(text: str) -> list[Value]:
    """All values of a values.yaml, in its order. A mapping whose members have no texts is one value."""
    document = yaml.compose(text)
    if not isinstance(document, yaml.MappingNode):
        raise TypeError("values.yaml is no mapping")
    return list(_values(document, text.splitlines(), ""))


def _values(mapping: yaml.MappingNode, lines: list[str], above: str) -> Iterator[Value]:
    for key, node in mapping.value:
        path = f"{above}.{key.value}" if above else key.value
        text = _comment(lines, key.start_mark.line)
        members = _members(node)
        if not any(_comment(lines, line) for line in members):
            yield Value(path=path, default=_default(node), text=text)
            continue
        if text:
            yield Value(path=path, default=None, text=text)
        yield from _values(node, lines, path)


def _members(node: yaml.Node) -> list[int]:
    """The lines of the members of a mapping that is written in lines, with those of the mappings in it."""
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return []
    return [line for key, value in node.value for line in (key.start_mark.line, *_members(value))]


def _comment(lines: list[str], line: int) -> str:
    """What stands directly above a line."""
    words: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        words.insert(0, lines[line].lstrip().removeprefix("#").strip())
    return " ".join(words)


def _default(node: yaml.Node) -> str:
    value: Any = yaml.safe_load(yaml.serialize(node))
    return json.dumps(value)


def table(values: list[Value]) -> str:
    """The values as a table of Markdown."""
    rows = [f"| `{value.path}` | {_shown(value.default)} | {value.text} |" for value in values]
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *rows, ""])


def _shown(default: str | None) -> str:
    if default is None:
        return ""
    return f"`{default}`" if len(default) <= LONGEST_DEFAULT else "see values.yaml"


def written(readme: str, values: str) -> str:
    """A README with the table of a values.yaml in its place."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + table(values_of(values)) + END + after


if __name__ == "__main__":
    page = CHART / "README.md"
    page.write_text(written(page.read_text(), (CHART / "values.yaml").read_text()))
