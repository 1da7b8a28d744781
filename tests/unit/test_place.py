"""Places: which URLs name one, which of them are the same, and which lies below which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadSetting
from shared.place import Place
from shared.settings import load_settings


@pytest.mark.parametrize(
    ("url", "place"),
    [
        pytest.param("file:///srv/in", Place(None, "srv/in"), id="folder"),
        pytest.param("file:///srv/in/", Place(None, "srv/in"), id="slash-at-the-end"),
        pytest.param("file:////srv//in/./a", Place(None, "srv/in/a"), id="to-be-normalised"),
        pytest.param("file://localhost/srv/a%20b", Place(None, "srv/a b"), id="encoded"),
        pytest.param("file:///srv/a#b?c", Place(None, "srv/a#b?c"), id="no-query"),
        pytest.param("file:///", Place(None, ""), id="root"),
        pytest.param("s3://bucket", Place("bucket", ""), id="bucket"),
        pytest.param("s3://bucket/", Place("bucket", ""), id="bucket-with-slash"),
        pytest.param("s3://bucket/in/a%20b c", Place("bucket", "in/a%20b c"), id="key-as-it-is"),
    ],
)
def test_a_url_names_a_place(url: str, place: Place) -> None:
    assert Place.parse(url) == place


REFUSED = {
    "no-url": "srv/in",
    "absolute-path": "/srv/in",
    "other-scheme": "http://host/in",
    "upper-case-scheme": "FILE:///srv/in",
    "empty": "",
    "two-slashes": "file://srv/in",
    "one-slash": "file:/srv/in",
    "up": "file:///srv/in/../etc",
    "up-encoded": "file:///srv/in/%2e%2E/etc",
    "up-behind-a-slash-encoded": "file:///srv/in/..%2fetc",
    "zero": "file:///srv/in%00",
    "line-break": "file:///srv/in\n",
    "no-utf-8": "file:///srv/%ff",
    "unfinished": "file:///srv/in/a%231",
    "unfinished-with-a-slash": "file:///srv/in/a%231/",
    "no-bucket": "s3:///in",
    "bad-bucket": "s3://a:b@c/in",
    "key-up": "s3://bucket/in/../x",
    "key-here": "s3://bucket/./x",
    "key-empty-part": "s3://bucket/in//x",
    "key-encoded-dot": "s3://bucket/in/%2E%2e/x",
    "key-two-slashes-at-the-end": "s3://bucket/in//",
}


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED)
def test_what_is_no_place_or_could_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must |codec"):
        Place.parse(url)


@pytest.mark.parametrize("url", [*REFUSED.values(), "file:///"], ids=[*REFUSED, "root"])
def test_a_storage_that_is_no_place_ends_the_start(url: str) -> None:
    with pytest.raises(BadSetting, match="FORETELL_STORAGE"):
        load_settings({"FORETELL_STORAGE": url})


def test_a_prefix_that_is_no_place_ends_the_start_and_is_named() -> None:
    with pytest.raises(BadSetting, match=r"FORETELL_INPUT_PREFIXES.*ftp://host/in must be file:///path or s3://"):
        load_settings({"FORETELL_INPUT_PREFIXES": "file:///srv/in ftp://host/in"})


@pytest.mark.parametrize(
    ("url", "prefix", "below"),
    [
        pytest.param("s3://bucket/in/a", "s3://bucket/in", True, id="in-it"),
        pytest.param("s3://bucket/in/a", "s3://bucket/in/", True, id="in-it-slash"),
        pytest.param("s3://bucket/in", "s3://bucket/in/", True, id="itself"),
        pytest.param("s3://bucket/in/a", "s3://bucket", True, id="whole-bucket"),
        pytest.param("file:///in/a", "file:///", True, id="root"),
        pytest.param("s3://bucket/inside", "s3://bucket/in", False, id="longer-name"),
        pytest.param("s3://bucket", "s3://bucket/in", False, id="above"),
        pytest.param("s3://other/in/a", "s3://bucket/in", False, id="another-bucket"),
        pytest.param("file:///b/in/a", "s3://bucket/in", False, id="another-scheme"),
    ],
)
def test_below_means_at_the_border_of_a_name(url: str, prefix: str, below: bool) -> None:
    assert Place.parse(url).is_below(Place.parse(prefix)) is below


names = st.text(st.characters(exclude_characters="/", exclude_categories=["C"]), min_size=1).filter(
    lambda name: name not in (".", "..") and not name[-1].isdigit()
)


@given(st.lists(names, min_size=1))
def test_every_local_path_survives_its_url(parts: list[str]) -> None:
    place = Place(None, "/".join(parts))

    assert Place.parse(place.url) == place
