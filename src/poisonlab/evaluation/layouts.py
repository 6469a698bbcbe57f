"""Results as tables to read: Markdown, LaTeX, and JSON for other programs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from poisonlab.config.measures import REPORTED, Measure, Unit
from poisonlab.evaluation.choosing import MEAN, Measures
from poisonlab.evaluation.intervals import Interval
from poisonlab.evaluation.trials import Row
from poisonlab.files import atomic_path, write_sealed, write_text

_DROPPED = (
    ("poisons_found", "Poisons found"),
    ("clean_dropped", "Clean dropped"),
    ("precision", "Precision"),
    ("matthews", "MCC"),
)


class Part(NamedTuple):
    """One of several tables that are written together."""

    heading: str
    table: pd.DataFrame
    victims: Sequence[Sequence[Row]]
    """Attack, victim and defense of the rows that each row of the table counts."""


def write_table(
    paths: Mapping[str, Path],
    numbers: pd.DataFrame,
    table: pd.DataFrame,
    findings: Sequence[str],
    notes: Sequence[str],
    victims: Sequence[Sequence[Row]] = (),
    overview: Sequence[Part] = (),
) -> None:
    """Write the numbers as CSV, and the table as Markdown, LaTeX and JSON with its findings and notes.

    Args:
        paths: of the output files, by kind: ``csv``, ``md``, ``tex`` and ``json`` (see ``for_report``).
        numbers: the content of the CSV.
        table: as text, one line per row.
        findings: sentences that the numbers prove.
        notes: sentences below the table.
        victims: attacks, victims and defenses that each row of the table counts, perhaps several.
        overview: tables to put before this one, in Markdown and JSON.
    """
    # A study without a description has an empty note.
    notes = [note for note in notes if note]
    below = [*(f"Finding: {finding}" for finding in findings), *notes]
    before = "".join(f"{_section(part.heading, part.table)}\n" for part in overview)
    write_text(paths["md"], before + markdown(table, below))
    write_text(paths["tex"], latex(table, below))
    write_sealed(paths["json"], for_report(table, findings, notes, victims, overview))
    with atomic_path(paths["csv"]) as temporary:
        numbers.to_csv(temporary, index=False, lineterminator="\n")


def for_report(
    table: pd.DataFrame,
    findings: Sequence[str],
    notes: Sequence[str],
    victims: Sequence[Sequence[Row]] = (),
    overview: Sequence[Part] = (),
) -> dict[str, Any]:
    """A table as the report reads it: ``findings``, ``notes``, and as ``tables`` one mapping per attack with
    ``heading`` ("" with a single attack), ``columns`` and ``rows``, all as text, and ``victims``, a list for each row.

    The arguments are those of ``write_table``.
    """
    counted = dict(zip(table.index, victims, strict=True)) if victims else {}
    own = [Part(*part, [counted.get(row, ()) for row in part[1].index]) for part in parts(table)]
    tables = [
        {
            "heading": part.heading,
            "columns": list(part.table.columns),
            "rows": part.table.to_numpy().tolist(),
            "victims": [list(rows) for rows in part.victims],
        }
        for part in (*overview, *own)
    ]
    return {"findings": list(findings), "notes": list(notes), "tables": tables}


def readable(results: pd.DataFrame, measures: Measures, compare: Sequence[str]) -> pd.DataFrame:
    """The tidy results (see ``tidy_results``) as text, one line per attack, victim and defense."""
    diverged = results["diverged"]
    own = _told(results, shared_measures(results, measures))
    published = [measure for measure in own if results[f"published_{measure.name}"].notna().any()]
    return pd.DataFrame(
        {
            **_who(results),
            "n": results["n"].astype(str),
            **({"Diverged": [str(count) if count else "" for count in diverged]} if diverged.any() else {}),
            **{title_of(measure): with_interval(results, measure) for measure in own},
            **{f"p against {name}": [p_text(value) for value in results[f"p_{name}_holm"]] for name in compare},
            **{
                title: [("" if math.isnan(value) else _dropped_text(name, value)) for value in results[name]]
                for name, title in _DROPPED
                if results[name].notna().any()
            },
            **_of_hits(results, measures),
            **{
                each.label: ["" if math.isnan(value) else number(value, each.unit) for value in results[each.name]]
                for each in REPORTED
                if results[each.name].notna().any()
            },
            **{f"Published {measure.called}": beside(results, measure) for measure in published},
        }
    )


def _of_hits(results: pd.DataFrame, measures: Measures) -> dict[str, list[str]]:
    """The columns over only the seeds on which the attack succeeds undefended, if requested; empty in lines of attacks
    whose outcome is no yes or no."""
    if "hit_n" not in results or results["hit_n"].isna().all():
        return {}
    mains = {attack: measures[attack][0] for attack in results.loc[results["hit_n"].notna(), "attack"]}
    counts = zip(results["hit_poisons_dropped"], results["hit_poisons"], results["hit_n"], strict=True)
    successes = {}
    # Success on one target and success on many are two measures of one name, and so of one column.
    for main in {main.name: main for main in mains.values()}.values():
        names = (main.name, f"{main.name}_low", f"{main.name}_high", f"{main.name}_n", "n")
        over = results.assign(**{name: results[f"hit_{name}"] for name in names})
        texts = zip(with_interval(over, main), results["attack"], strict=True)
        title = f"{main.label} of hits [95 % CI]"
        own = {attack for attack, its in mains.items() if its.name == main.name}
        successes[title] = [text if attack in own else "" for text, attack in texts]
    return {
        "Hits": ["" if math.isnan(count) else f"{count:.0f}" for count in results["hit_n"]],
        **successes,
        "Poisons found in hits": [
            "" if math.isnan(hits) or math.isnan(whole) else f"{dropped:.0f} of {whole:.0f}"
            for dropped, whole, hits in counts
        ],
    }


def shared_measures(results: pd.DataFrame, measures: Measures) -> list[Measure]:
    """The measures of the table's attacks, each once: main ones first, last ones last."""
    of_attacks = [measures[attack] for attack in dict.fromkeys(results["attack"])]
    found = {measure.name: measure for own in of_attacks for measure in own}
    last = {own[-1].name: own[-1] for own in of_attacks}
    return [*(measure for name, measure in found.items() if name not in last), *last.values()]


def _told(results: pd.DataFrame, own: Sequence[Measure]) -> list[Measure]:
    """The measures that some victim has; always the main and the last one, and all measures if nothing was run."""
    if bool((results["n"] == 0).all()):
        return list(own)
    return [each for each in own if each in (own[0], own[-1]) or bool((results[f"{each.name}_n"] > 0).any())]


def _who(results: pd.DataFrame) -> dict[str, Any]:
    """Attack, victim and defense; the victim only where an attack has several."""
    several = (results.groupby("attack")["victim"].nunique() > 1).any()
    victims = {"Victim": results["victim"]} if several else {}
    return {"Attack": results["attack"], **victims, "Defense": results["defense"]}


def who(table: pd.DataFrame) -> pd.Series[str]:
    """The attack of each row, and its victim where the attack has several."""
    several = table.groupby("attack")["victim"].transform("nunique") > 1
    victims = (" on " + table["victim"]).where(table["victim"] != MEAN, ", mean over victims")
    return table["attack"].where(~several, table["attack"] + victims)


def side_by_side(
    results: pd.DataFrame,
    measures: Measures,
    undefended: str | None = None,
    line_of: Mapping[str, str] | None = None,
) -> list[Part]:
    """The means of the attacks' main and last measure, with defenses as rows and attacks as columns.

    Attacks with a single defense are left out, then defenses that face a single attack, except controls. If there is a
    mean over victims, it represents them. Otherwise each victim has tables of its own, if all victims meet several
    attacks. With fewer than two attacks or defenses, the list is empty. A mean over fewer seeds than its attack's
    undefended row shows its n.

    Args:
        results: see ``tidy_results``.
        measures: each attack's measures, the main one first.
        undefended: the row with all seeds of an attack; if it was not run, the row with the most seeds counts.
        line_of: for some rows, the line that they share with rows of other attacks; other rows have their own.
    """
    mean = results["victim"] == MEAN
    results = results.assign(column=who(results), line=[(line_of or {}).get(name, name) for name in results["defense"]])
    shown = results[mean | ~results["attack"].isin(results.loc[mean, "attack"])]
    several = (shown.groupby("attack")["victim"].nunique() > 1).any()
    if not several or (shown.groupby("victim")["attack"].nunique() < 2).any():
        return _overview(shown, results, measures, undefended, "every attack")
    by_victim = shown.assign(column=shown["attack"]).groupby("victim", sort=False)
    overviews = [
        _overview(part, results, measures, undefended, f"every attack on {victim}") for victim, part in by_victim
    ]
    return [part for overview in overviews for part in overview]


def _overview(
    shown: pd.DataFrame,
    results: pd.DataFrame,
    measures: Measures,
    undefended: str | None,
    against: str,
) -> list[Part]:
    """The tables of ``side_by_side`` from the ``shown`` rows, whose ``column`` and ``line`` give their place."""
    shown = shown[shown.groupby("column")["line"].transform("nunique") > 1]
    shown = shown[shown["control"] | (shown.groupby("line")["column"].transform("nunique") > 1)]
    for name in ("column", "line"):
        shown = shown[shown.groupby(name)["n"].transform("sum") > 0]
    if min(shown["column"].nunique(), shown["line"].nunique()) < 2:
        return []
    found = shared_measures(shown, measures)
    columns, lines = shown["column"].unique(), shown["line"].unique()
    counted: dict[str, list[Row]] = {name: [] for name in lines}
    who_is_where = (shown[name] for name in ("line", "attack", "victim", "defense"))
    for line, attack, victim, defense in zip(*who_is_where, strict=True):
        counted[line].append((attack, victim, defense))
    made = []
    for measure in dict.fromkeys((found[0], found[-1])):
        table = shown.assign(text=_means(results, measure, undefended))
        table = table.pivot(index="line", columns="column", values="text")
        table = table.loc[lines, columns].fillna("").reset_index(names="Defense")
        heading = with_unit(f"{measure.label} against {against},", measure.unit).rstrip(",")
        made.append(Part(heading, table, [counted[line] for line in lines]))
    return made


def _means(results: pd.DataFrame, measure: Measure, undefended: str | None) -> pd.Series[str]:
    """The means of a measure, with their number of seeds if the undefended row of the ``column`` has more."""
    known, column = results[f"{measure.name}_n"], results["column"]
    whole = known.where(results["defense"] == undefended).groupby(column).transform("max")
    whole = whole.where(whole > 0, known.groupby(column).transform("max"))
    texts = [
        ""
        if math.isnan(n)
        else interval_text(value, math.nan, math.nan, measure.unit) + (f" (n = {n:.0f})" if 0 < n < most else "")
        for value, n, most in zip(results[measure.name], known, whole, strict=True)
    ]
    return pd.Series(texts, index=results.index)


def joined_note(overview: Sequence[Part]) -> list[str]:
    """The note about lines of ``side_by_side`` that several rows share, or that have another name than their row."""
    rows = [
        (line, list(dict.fromkeys(defense for _, _, defense in counted)))
        for part in overview[:1]
        for line, counted in zip(part.table["Defense"], part.victims, strict=True)
    ]
    joined = [f"{line} ({', '.join(names)})" for line, names in rows if names != [line]]
    return [f"Lines there, and the rows that they join: {'; '.join(joined)}."] if joined else []


def timing(results: pd.DataFrame, reference: str | None) -> pd.DataFrame:
    """The cost of each defense: seconds per run, and relative to the row ``reference`` of the same attack and victim,
    if that took any."""
    base = results[results["defense"] == reference].set_index(["attack", "victim"])["seconds"].to_dict()
    relative = [
        seconds / (base.get((attack, victim)) or math.nan)
        for attack, victim, seconds in zip(results["attack"], results["victim"], results["seconds"], strict=True)
    ]
    return pd.DataFrame(
        {
            **_who(results),
            "Seconds": ["–" if math.isnan(value) else f"{value:.1f}" for value in results["seconds"]],
            "Relative": ["" if math.isnan(value) else f"{value:.2f}" for value in relative],
        }
    )


def parts(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """One table per attack with the attack as its heading, or a single one; empty columns are left out.

    Three or more attacks with fewer than two rows each on average share a table.
    """
    attacks = list(dict.fromkeys(table["Attack"]))
    if len(attacks) < 2 or (len(attacks) > 2 and len(table) < 2 * len(attacks)):
        return [("", _filled(table))]
    return [(attack, _filled(table[table["Attack"] == attack]).drop(columns="Attack")) for attack in attacks]


def markdown(table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """GitHub Markdown with notes at the end; several attacks have a table each. Empty columns are left out."""
    texts = [_section(heading, part) for heading, part in parts(table)]
    return "\n".join([*texts, *(f"- {note}" for note in notes)]).rstrip() + "\n"


def _section(heading: str, table: pd.DataFrame) -> str:
    return (f"### {heading}\n\n" if heading else "") + f"{table.to_markdown(index=False, disable_numparse=True)}\n"


def _filled(table: pd.DataFrame) -> pd.DataFrame:
    """The table without empty columns."""
    return table.loc[:, [(table[column] != "").any() for column in table.columns]]


def latex(table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """A LaTeX tabular in booktabs style, all attacks in one, with notes as comments above it. Empty columns are left
    out."""
    escaped = _filled(table).map(_escape).rename(columns=_escape)
    text = escaped.to_latex(index=False, column_format="ll" + "r" * (len(escaped.columns) - 2))
    return "".join(f"% {' '.join(note.split())}\n" for note in notes) + text


def _escape(value: object) -> str:
    text = str(value)
    for mark in ("%", "_", "&", "#"):
        text = text.replace(mark, "\\" + mark)
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", text.replace("<", "$<$"))


def with_interval(table: pd.DataFrame, measure: Measure) -> list[str]:
    """A measure of every line with its interval, and the number of seeds that have it, if not all do; empty in lines of
    attacks without the measure."""
    name = measure.name
    columns = zip(*(table[column] for column in (name, f"{name}_low", f"{name}_high", f"{name}_n", "n")), strict=True)
    return [
        ""
        if math.isnan(known)
        else interval_text(value, low, high, measure.unit) + (f" (of {known:.0f})" if 0 < known < n else "")
        for value, low, high, known, n in columns
    ]


def beside(table: pd.DataFrame, measure: Measure) -> list[str]:
    """The published values of a measure, each with whether it lies in our interval, if known; empty for nan."""
    columns = zip(table[f"published_{measure.name}"], table[f"published_{measure.name}_inside"], strict=True)
    verdicts = {None: "", True: " (inside)", False: " (outside)"}
    return ["" if math.isnan(value) else number(value, measure.unit) + verdicts[inside] for value, inside in columns]


def number(value: float, unit: Unit) -> str:
    """A value as shown: percent and epochs with one decimal, anything else with two."""
    return f"{100 * value:.1f}" if unit == "%" else f"{value:.1f}" if unit == "epochs" else f"{value:.2f}"


def share_text(value: float, measure: Measure) -> str:
    """A dropped share with its unit and three digits, because it may be a few of 50,000 images. Empty for nan."""
    return "" if math.isnan(value) else with_unit(f"{value * (100 if measure.unit == '%' else 1):.3g}", measure.unit)


def title_of(measure: Measure) -> str:
    """The title of a measure's column; epochs have no interval (see ``tidy_results``)."""
    return measure.label if measure.unit == "epochs" else f"{measure.label} [95 % CI]"


def interval_text(value: float, low: float, high: float, unit: Unit = "%") -> str:
    """A number and its interval; a dash for nan."""
    if math.isnan(value):
        return "–"
    return number(value, unit) + ("" if math.isnan(low) else f" [{number(low, unit)}, {number(high, unit)}]")


def change_text(change: Interval) -> str:
    """A change of a share in points with its sign, and its interval if it has one, without impossible changes."""
    low, high = f"{100 * max(change.low, -1):+.1f}", f"{100 * min(change.high, 1):+.1f}"
    return f"{100 * change.estimate:+.1f}" + ("" if math.isnan(change.low) else f" [{low}, {high}]")


def with_unit(text: str, unit: Unit) -> str:
    return f"{text} {unit}" if unit else text


def _dropped_text(name: str, value: float) -> str:
    return f"{value:.2f}" if name == "matthews" else f"{100 * value:.1f}"


def p_text(value: float) -> str:
    """A p value; empty for nan."""
    if math.isnan(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def value_text(value: object) -> str:
    """A setting's value as in a config; empty for None and nan."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
