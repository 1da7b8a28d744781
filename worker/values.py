"""Columns of text or of Arrow's types as a signature's types; a value means the same whatever stands beside it."""

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.signature import Feature, must_be, must_be_there, too_long

# Texts that mean a missing number, integer or boolean, with or without blanks around them.
MISSING: Final = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
BLANKS: Final = " \t"
NUMBER: Final = r"\A[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\z"
_NUMBER: Final = re.compile(NUMBER.replace(r"\z", r"\Z"))
_DIGITS: Final = re.compile(r"[+-]?[0-9]+")
_TRUTHS: Final = ("true", "1")
_BOOLEANS: Final = (*_TRUTHS, "false", "0")
_INT64: Final = 2**63
_SURE_DIGITS: Final = 18  # so many fit into 64 bits whatever they are


@dataclass(frozen=True, slots=True)
class Flaw:
    """A value that cannot be used."""

    position: int  # in the column, from 0
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Column:
    """The values of a feature, null where one is missing or has a flaw."""

    values: pa.Array
    flaws: tuple[Flaw, ...] = ()  # ascending


def decoded(name: str, raw: pa.Array) -> tuple[pa.Array, tuple[Flaw, ...]]:
    """Bytes as strings, null where they are not UTF-8."""
    try:
        return raw.cast(pa.string()), ()
    except pa.ArrowInvalid:
        texts = [None if value is None else _text(value) for value in raw.to_pylist()]
    message = (
        f"Column {name} has bytes that are no text in the encoding of the file; say which it has, such as latin-1."
    )
    bad = np.flatnonzero([text is None for text in texts] & _mask(raw.is_valid()))
    return pa.array(texts, pa.string()), tuple(Flaw(int(position), "not_utf8", message) for position in bad)


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def from_texts(texts: pa.Array, feature: Feature, max_text_length: int) -> Column:
    """Fields of a CSV file, all as strings, as the feature's type.

    Numbers may have blanks around them and a leading +; the texts in MISSING are missing values. Strings are taken as
    they are; an empty one is a missing value if the feature is nullable. Null stays null without a flaw.
    """
    match feature.type:
        case "string":
            return strings(texts, feature, max_text_length)
        case "boolean":
            values, doubtful = _booleans(texts)
        case "number":
            values, doubtful = _numbers(texts)
        case "integer":
            values, doubtful = _integers(texts)
    if not len(doubtful):
        return Column(values)
    # Each is missing, which may be allowed, or a flaw.
    rest = texts.take(pa.array(doubtful))
    missing = _mask(pc.is_in(pc.ascii_trim(rest, BLANKS), value_set=pa.array(MISSING)))
    asked = ~missing & _mask(rest.is_valid()) if feature.nullable else _mask(rest.is_valid())
    flawed = rest.filter(pa.array(asked)).to_pylist()
    return Column(
        values,
        tuple(
            _flaw(int(position), text, feature, absent)
            for position, text, absent in zip(doubtful[asked], flawed, missing[asked], strict=True)
        ),
    )


def strings(texts: pa.Array, feature: Feature, max_text_length: int, *, empty_is_missing: bool = True) -> Column:
    """Strings as they are, where too long ones are flaws; null stays null without a flaw."""
    if empty_is_missing and feature.nullable:
        texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if (pc.max(pc.binary_length(texts)).as_py() or 0) <= max_text_length:  # bytes, never fewer than characters
        return Column(texts)
    lengths = pc.utf8_length(texts)
    bad = _mask(pc.greater(lengths, max_text_length))
    flaws = (
        Flaw(position, "text_too_long", too_long(feature.name, lengths[position].as_py(), max_text_length))
        for position in np.flatnonzero(bad).tolist()
    )
    return Column(texts, tuple(flaws))


def absent(values: pa.Array, feature: Feature) -> tuple[Flaw, ...]:
    """The nulls of a column, which are flaws unless the feature is nullable."""
    if feature.nullable or not values.null_count:
        return ()
    message = must_be_there(feature)
    return tuple(
        Flaw(position, "missing_value", message) for position in np.flatnonzero(_mask(values.is_null())).tolist()
    )


def _booleans(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    plain = pc.ascii_lower(pc.ascii_trim(texts, BLANKS))
    known = pc.is_in(plain, value_set=pa.array(_BOOLEANS))
    values = pc.if_else(known, pc.is_in(plain, value_set=pa.array(_TRUTHS)), pa.scalar(None, pa.bool_()))
    return values, np.flatnonzero(~_mask(known))


def _numbers(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The values, and the positions of all that are null."""
    plain = _made_of(texts, b"0123456789+-.eE")
    try:
        values = _floats(texts, plain)
    except pa.ArrowInvalid:  # such as 1-2, made of the right characters
        plain = _mask(pc.match_substring_regex(texts, NUMBER))
        values = _floats(texts, plain)
    odd = np.flatnonzero(~plain)
    if len(odd):
        rest = pc.ascii_trim(texts.take(pa.array(odd)), BLANKS)
        fit = _mask(pc.match_substring_regex(rest, NUMBER))
        values[odd] = _floats(rest, fit)
    finite = np.isfinite(values)
    return _nullable(values, finite), np.flatnonzero(~finite)


def _integers(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The values, and the positions of all that are null."""
    # Letters are left out since Arrow takes 0x1F for a number.
    plain = _made_of(texts, b"0123456789-") & (_lengths(texts) <= _SURE_DIGITS)
    values = np.zeros(len(texts), dtype=np.int64)
    try:
        values[plain] = _chosen(texts, plain).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        plain = _mask(pc.match_substring_regex(texts, rf"\A-?[0-9]{{1,{_SURE_DIGITS}}}\z"))
        values[plain] = _chosen(texts, plain).cast(pa.int64()).to_numpy()
    known = plain.copy()
    odd = np.flatnonzero(~plain)
    if len(odd):
        rest = pc.ascii_trim(texts.take(pa.array(odd)), BLANKS)
        digits = _mask(pc.match_substring_regex(rest, r"\A[+-]?[0-9]+\z"))
        for position, text in zip(odd[digits].tolist(), rest.filter(pa.array(digits)).to_pylist(), strict=True):
            number = _whole(text)
            if -_INT64 <= number < _INT64:
                values[position], known[position] = number, True
        others = odd[~digits]
        floats = np.asarray(_numbers(rest.filter(pa.array(~digits)))[0].to_numpy(zero_copy_only=False), np.float64)
        fit = _is_whole(floats)
        values[others[fit]] = floats[fit].astype(np.int64)
        known[others[fit]] = True
    return _nullable(values, known), np.flatnonzero(~known)


def _flaw(position: int, text: str, feature: Feature, is_missing: bool) -> Flaw:
    plain = text.strip(BLANKS)
    if is_missing:
        return Flaw(position, "missing_value", must_be_there(feature, plain or "empty"))
    code = "not_a_boolean"
    if feature.type == "number":
        spelled = plain.lower().lstrip("+-") in ("inf", "infinity")
        code = "not_finite" if spelled or _NUMBER.match(plain) else "not_a_number"
    elif feature.type == "integer":
        code = "out_of_range" if _NUMBER.match(plain) and _is_too_large(plain) else "not_an_integer"
    return Flaw(position, code, must_be(feature.name, code, text))


def _is_too_large(text: str) -> bool:
    return _DIGITS.fullmatch(text) is not None or abs(float(text)) >= _INT64


def _whole(text: str) -> int:
    """Digits as a number, or one past 64 bits; int() alone refuses thousands of digits."""
    sign, digits = text.startswith("-"), text.lstrip("+-").lstrip("0")
    number = int(digits or "0") if len(digits) <= 20 else _INT64 * 2
    return -number if sign else number


def _is_whole(floats: np.ndarray) -> np.ndarray:
    whole: np.ndarray = np.isfinite(floats) & (np.abs(floats) < _INT64) & (np.trunc(floats) == floats)
    return whole


def _made_of(texts: pa.Array, characters: bytes) -> np.ndarray:
    """(n,) bool: which strings are not empty and have no other bytes than these."""
    offsets, data = _offsets(texts), texts.buffers()[2]
    same = _lengths(texts) > 0
    if data is None or not len(texts):
        return same
    strange = np.ones(256, dtype=bool)
    strange[np.frombuffer(characters, np.uint8)] = False
    data = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    where = np.flatnonzero(data - ord("0") > ord("9") - ord("0"))  # few are left to look up
    where = where[strange[data[where]]] + offsets[0]
    same[np.searchsorted(offsets, where, side="right") - 1] = False
    return same


def _offsets(texts: pa.Array) -> np.ndarray:
    if not len(texts):
        return np.zeros(1, np.int32)
    return np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]


def _lengths(texts: pa.Array) -> np.ndarray:
    return np.diff(_offsets(texts))


def _chosen(texts: pa.Array, chosen: np.ndarray) -> pa.Array:
    return texts if chosen.all() else texts.filter(pa.array(chosen))


def _floats(texts: pa.Array, chosen: np.ndarray) -> np.ndarray:
    """(n,) float64, NaN where not chosen.

    Raises:
        pa.ArrowInvalid: a chosen text is no number.
    """
    values = np.full(len(texts), np.nan)
    values[chosen] = _chosen(texts, chosen).cast(pa.float64()).to_numpy()
    return values


def _nullable(values: np.ndarray, known: np.ndarray) -> pa.Array:
    return pa.array(values) if known.all() else pa.array(values, mask=~known)


def _mask(booleans: Any) -> np.ndarray:
    """(n,) bool, where null is False."""
    return np.asarray(pc.fill_null(booleans, False).to_numpy(zero_copy_only=False), dtype=bool)
