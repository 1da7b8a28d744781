"""What Foretell wants to reach, and how far ahead it is of those that keep jobs too, wherever that was measured."""

from benchmarks.tables import Document, place_name, places, table

POLLED_CLIENTS = 16
# In the name of a ratio that stands beside a goal and is none: a script's start is what its user waits for too.
STRICTER = ", start left out, "


def goals(document: Document) -> str:
    """A section in Markdown on the ratios that have a goal."""
    rows = [["what", "wanted", "measured", "lowest", "highest", ""]]
    for ratio in [ratio for part in ("jobs", "files") for ratio in document.get(part, {}).get("ratios", [])]:
        if ratio["wanted"] or STRICTER in ratio["what"]:
            jobs = "clients" in ratio
            place = place_name((ratio["model"], ratio["rows"], ratio["clients"])) if jobs else _file_name(ratio)
            values = [f"{ratio[name]:.2f}" for name in ("median", "lowest", "highest")]
            verdict = ("reached" if reached(ratio) else "**missed**") if ratio["wanted"] else ""
            rows.append([f"{place}; {ratio['what']}", ratio["wanted"], *values, verdict])
    if len(rows) == 1:
        return ""
    return (
        "## What Foretell wants to reach\n\nRatios of two systems in the same round: the median round, the lowest and "
        "the highest.\n\n" + table(rows)
    )


def polled(document: Document) -> str:
    """By polling with 16 clients, beside who keeps jobs too, whatever the model and the rows of a job."""
    jobs = document.get("jobs", {})
    found = {
        (place, ratio["what"].removeprefix("jobs/s: poll / ")): ratio
        for ratio in jobs.get("ratios", [])
        if ratio["what"].startswith("jobs/s: poll / ")
        and (place := (ratio["model"], ratio["rows"], ratio["clients"]))[2] == POLLED_CLIENTS
    }
    systems = list(dict.fromkeys(system for _, system in found))
    rows = [["where", *systems, "synchronous / tutorial"]]
    for place, there in places(jobs.get("cells", [])):
        if any((place, system) in found for system in systems):
            beside = [_spread(found.get((place, system))) for system in systems]
            paces = {cell["system"]: cell["median"]["jobs_per_second"] for cell in there if cell["mode"] != "wait"}
            both = {"synchronous", "tutorial"} <= paces.keys()
            most = f"{paces['synchronous'] / paces['tutorial']:.2f}" if both else ""
            rows.append([place_name(place), *beside, most])
    if len(rows) == 1:
        return ""
    return (
        "## By polling, everywhere\n\nJobs a second of Foretell's `poll` over those of each that keeps jobs too, with "
        "lowest and highest, at every model and number of rows. The last column is what a server without any job "
        "reaches that predicts each request by itself: the more of a job is prediction, the less is left to be "
        "gained, but for those that predict several jobs together.\n\n" + table(rows)
    )


def _spread(ratio: Document | None) -> str:
    return f"{ratio['median']:.2f} ({ratio['lowest']:.2f} to {ratio['highest']:.2f})" if ratio else "not measured"


def _file_name(ratio: Document) -> str:
    return f"{ratio['model']}, {ratio['format']}"


def reached(ratio: Document) -> bool:
    """Whether the median is what was wanted: `>= 0.6` or `<= 1.5`."""
    sign, bound = ratio["wanted"].split()
    median, limit = float(ratio["median"]), float(bound)
    return median >= limit if sign == ">=" else median <= limit
