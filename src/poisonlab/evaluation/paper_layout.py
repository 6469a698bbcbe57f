"""The published tables in their own layout: every line of the paper with our result beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from poisonlab.config.measures import DROPPED, REPORTED, Measure
from poisonlab.evaluation.choosing import MEAN, Claim, Shown, first_victims
from poisonlab.evaluation.layouts import beside, p_text, with_interval
from poisonlab.evaluation.published import TIME, Paper, printed_count
from poisonlab.evaluation.results import ENDS, tidy_results
from poisonlab.evaluation.successes import COUNTS, attacks_with_hits, over_hits
from poisonlab.evaluation.trials import Row, Trial

Numbers = Mapping[str, float]
"""Published values by measure."""


def claimed_victim(attack: str, stage: Shown) -> str:
    """The victim whose results stand beside an attack's published ones: the mean over victims if the study has it, else
    the attack's first."""
    victims = {line.victim for line in stage.lines if line.attack == attack}
    if stage.mean_over_victims and len(victims) > 1:
        return MEAN
    return first_victims([line.row for line in stage.lines])[attack]


def published_by_row(numbers: pd.DataFrame, claims: Sequence[Claim], stage: Shown) -> dict[Row, Numbers]:
    """The published numbers of our rows.

    Args:
        numbers: of one paper (see ``published``).
        claims: the published lines of each attack.
        stage: our rows, each with the paper's name of its defense.
    """
    known: dict[tuple[str, str], dict[str, float]] = {}
    victims = {}
    for claim in claims:
        # One line for each defense and measure, as ``Graph.check`` sees to.
        chosen = numbers[(numbers["table"] == claim.table) & (numbers["defense"] != "") & (numbers["measure"] != TIME)]
        chosen = chosen if claim.row is None else chosen[chosen["row"] == claim.row]
        victims[claim.attack] = claimed_victim(claim.attack, stage)
        for _, number in chosen.iterrows():
            known.setdefault((claim.attack, number["defense"]), {})[number["measure"]] = number["value"]
    return {
        (line.attack, victims[line.attack], line.defense): known[line.attack, line.called]
        for line in stage.lines
        if (line.attack, line.called) in known
    }


def compare(
    published: pd.DataFrame, trials: Sequence[Trial], stage: Shown, claims: Sequence[Claim]
) -> tuple[pd.DataFrame, list[Measure]]:
    """Every line of one published table, with our result where there is one.

    Args:
        published: one table's numbers (see ``published``).
        trials: our trials.
        stage: the rows of our study, run or not.
        claims: the published lines of each attack; the first claim on a line counts.

    Returns:
        One row per published line, in the paper's order, then our rows without a published line; and the measures that
        the table prints, as we declare them. Columns: ``row, defense``, as published; ``attack, victim, our_defense,
        n``; for each measure m ``m, m_low, m_high, m_n, published_m, published_m_inside``; for each share of dropped
        images its ``COUNTS`` over the hits, and the ``published_`` ones; ``p_r_holm`` for each row r of ``compare``;
        ``relative_time`` to our undefended row, ``published_minutes`` as printed; nan if unknown, and n is 0 if nothing
        was run.
    """
    rows = [line.row for line in stage.lines]
    results = tidy_results(
        trials, stage.by_attack, stage.compare, expected=rows, mean_over_victims=stage.mean_over_victims
    )
    measures = _printed(published, stage)
    own = _by_row(results)
    if stage.only_successes:
        means = [row for row in own if row[1] == MEAN]
        over = over_hits(trials, stage.by_attack, stage.compare[0], {}, [*rows, *means], stage.mean_over_victims)
        counted = attacks_with_hits(trials, stage.by_attack)
        own |= {row: _with_all(line, own[row], measures) for row, line in _by_row(over).items() if row[0] in counted}
    victims = {claim.attack: claimed_victim(claim.attack, stage) for claim in claims}
    result = []
    used = set()
    for row, defense in dict.fromkeys(zip(published["row"], published["defense"], strict=True)):
        claim_of_row = next((claim for claim in claims if claim.row in (None, row)), None)
        attack = "" if claim_of_row is None else claim_of_row.attack
        victim = victims.get(attack, "")
        ours = next((line.defense for line in stage.lines if (line.attack, line.called) == (attack, defense)), None)
        known = published[(published["row"] == row) & (published["defense"] == defense)]
        values = dict(zip(known["measure"], known["value"], strict=True))
        used.add((attack, victim, ours))
        result.append(
            {
                "row": row,
                "defense": defense,
                **{f"published_{measure.name}": values.get(measure.name, math.nan) for measure in measures},
                "published_minutes": values.get(TIME, math.nan),
                **_published_counts(known),
                **_ours(own, (attack, victim, ours), stage, measures),
            }
        )
    whole = {claim.attack for claim in claims if claim.row is None}
    extra = dict.fromkeys((line.attack, victims.get(line.attack, ""), line.defense) for line in stage.lines)
    result.extend(
        {"row": "", "defense": row[2], **_ours(own, row, stage, measures)}
        for row in extra
        if row[0] in whole and row not in used and row in own
    )
    columns = [
        *("row", "defense", "attack", "victim", "our_defense", "n"),
        *(f"{m.name}{end}" for m in measures for end in ENDS),
        *(f"published_{m.name}{end}" for m in measures for end in ("", "_inside")),
        *(f"{whose}{name}" for whose in ("", "published_") for m in measures for name in COUNTS.get(m.name, ())),
        *(f"p_{name}_holm" for name in stage.compare),
        *(["all_n", *(f"all_{m.name}{end}" for m in measures for end in ENDS)] if stage.only_successes else []),
        *("relative_time", "published_minutes"),
    ]
    return _inside(pd.DataFrame(result, columns=columns), measures), measures


def _published_counts(known: pd.DataFrame) -> dict[str, int]:
    """The printed counts of one published line, for shares that are printed as counts."""
    found: dict[str, int] = {}
    for measure, note in zip(known["measure"], known["note"], strict=True):
        if (count := printed_count(note)) is not None and measure in COUNTS:
            found |= {f"published_{name}": value for name, value in zip(COUNTS[measure], count, strict=True)}
    return found


def _by_row(results: pd.DataFrame) -> dict[Row, dict[Any, Any]]:
    """The lines of tidy results by row. Shares of dropped examples have no interval and are known for all seeds."""
    found: dict[Row, dict[Any, Any]] = {}
    for line in results.to_dict("records"):
        known = {f"{each.name}_n": 0 if math.isnan(line[each.name]) else line["n"] for each in DROPPED}
        found[line["attack"], line["victim"], line["defense"]] = {**line, **known}
    return found


def _with_all(line: Mapping[Any, Any], everything: Mapping[Any, Any], measures: Sequence[Measure]) -> dict[Any, Any]:
    """A line of the hits, with the numbers and tests of all seeds added."""
    names = ["n", *(f"{measure.name}{end}" for measure in measures for end in ENDS)]
    tests = {name: value for name, value in everything.items() if str(name).startswith("p_")}
    return {**line, **tests, **{f"all_{name}": everything.get(name, math.nan) for name in names}}


def _printed(published: pd.DataFrame, stage: Shown) -> list[Measure]:
    """The measures that the table prints and that some attack of ours has, in the table's order."""
    ours = {measure.name: measure for each in stage.measures for measure in each.measures}
    ours |= {measure.name: measure for measure in (*REPORTED, *DROPPED)}
    return [ours[name] for name in dict.fromkeys(published["measure"]) if name in ours]


def _ours(
    own: Mapping[Row, Mapping[Any, Any]], row: tuple[str, str, str | None], stage: Shown, measures: Sequence[Measure]
) -> dict[str, Any]:
    attack, victim, defense = row
    if defense is None or (line := own.get((attack, victim, defense))) is None:
        nothing = {f"{measure.name}_n": 0 for measure in measures}
        return {"attack": attack, "victim": victim, "our_defense": "", "n": 0, **nothing}
    base = own.get((attack, victim, stage.compare[0]), {}) if stage.compare else {}
    numbers = [f"{measure.name}{end}" for measure in measures for end in ENDS]
    numbers += [name for name in line if str(name).startswith("all_")]
    numbers += [name for pair in COUNTS.values() for name in pair]
    return {
        "attack": attack,
        "victim": victim,
        "our_defense": defense,
        "n": int(line["n"]),
        **{name: line.get(name, math.nan) for name in (*numbers, *(f"p_{name}_holm" for name in stage.compare))},
        "relative_time": line["seconds"] / (base.get("seconds") or math.nan),
    }


def _inside(table: pd.DataFrame, measures: Sequence[Measure]) -> pd.DataFrame:
    for name in (measure.name for measure in measures):
        low, value, high = table[f"{name}_low"], table[f"published_{name}"], table[f"{name}_high"]
        known = low.notna() & value.notna()
        table[f"published_{name}_inside"] = ((low <= value) & (value <= high)).astype(object).where(known, None)
    return table


def paper_layout(compared: pd.DataFrame, measures: Sequence[Measure], paper: Paper) -> pd.DataFrame:
    """The comparison as text; defenses are side by side if the paper has several in a row."""
    return (_side_by_side if _several_in_a_row(compared) else _one_below_another)(compared, measures, paper)


def counted_victims(compared: pd.DataFrame) -> list[list[Row]]:
    """Attack, victim and defense of ours that each row of ``paper_layout`` counts; empty if nothing is ours."""
    rows = zip(compared["attack"], compared["victim"], compared["our_defense"], strict=True)
    ours = [[row] if row[2] else [] for row in rows]
    if not _several_in_a_row(compared):
        return ours
    places: dict[str, list[Row]] = {row: [] for row in compared["row"] if row}
    for name, own in zip(compared["row"], ours, strict=True):
        if name:
            places[name] += own
    return list(places.values())


def _several_in_a_row(compared: pd.DataFrame) -> bool:
    return bool(compared[compared["row"] != ""].duplicated("row").any())


def _one_below_another(compared: pd.DataFrame, measures: Sequence[Measure], paper: Paper) -> pd.DataFrame:
    rows = zip(compared["row"], compared["defense"], strict=True)
    lines = compared["attack"][compared["attack"] != ""]
    # If each row of the paper is an attack, the row's name suffices.
    single = lines.nunique() > 1 and not bool(lines.duplicated().any())
    attacks = 0 if single else lines.nunique()
    compared_with = [name for name in compared.columns if name.startswith("p_") and name.endswith("_holm")]
    columns: dict[str, Any] = {
        "Attack": compared["attack"] if attacks > 1 else "",
        "Row" if single else "Defense": [_plain(row) if row else f"{mine} (ours)" for row, mine in rows],
        "n": compared["n"].astype(str),
        **_numbers(compared, measures, paper),
        **_of_all(compared, measures, paper),
        **{
            f"p against {name.removeprefix('p_').removesuffix('_holm')}": [p_text(value) for value in compared[name]]
            for name in compared_with
        },
    }
    # Times differ from run to run, so they are shown only if the paper has some.
    minutes = compared["published_minutes"]
    if minutes.notna().any():
        columns["Time"] = ["" if math.isnan(value) else f"{value:.1f}x" for value in compared["relative_time"]]
        columns["Published time"] = ["" if math.isnan(value) else _hours(value) for value in minutes]
    return pd.DataFrame(columns)


def _side_by_side(compared: pd.DataFrame, measures: Sequence[Measure], paper: Paper) -> pd.DataFrame:
    lines = []
    for row, group in compared[compared["row"] != ""].groupby("row", sort=False):
        line: dict[str, str] = {"Attack": "", "Row": _plain(str(row))}
        for place, (_, cell) in enumerate(group.iterrows()):
            numbers = {"n": [str(cell["n"])], **_numbers(group.iloc[[place]], measures, paper)}
            defense = paper.defenses.get(str(cell["defense"]), str(cell["defense"]))
            line |= {f"{defense}: {name}": values[0] for name, values in numbers.items()}
        lines.append(line)
    return pd.DataFrame(lines).fillna("")


def _plain(row: str) -> str:
    """A row's name without the mark that separates columns in Markdown tables."""
    return row.replace(" | ", ", ")


def _numbers(compared: pd.DataFrame, measures: Sequence[Measure], paper: Paper) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {}
    for measure in measures:
        title = paper.headings.get(measure.name, measure.label)
        columns[title] = _with_counts(compared, measure, with_interval(compared, measure))
        columns[f"Published {title}"] = _with_counts(compared, measure, beside(compared, measure), "published_")
    return columns


def _with_counts(compared: pd.DataFrame, measure: Measure, shares: list[str], whose: str = "") -> list[str]:
    """Shares with the counts before them, if known."""
    if measure.name not in COUNTS:
        return shares
    dropped, whole = (compared[f"{whose}{name}"] for name in COUNTS[measure.name])
    return [
        f"{count:.0f} of {all_of_them:.0f} ({share})" if all_of_them > 0 else share
        for count, all_of_them, share in zip(dropped, whole, shares, strict=True)
    ]


def _of_all(compared: pd.DataFrame, measures: Sequence[Measure], paper: Paper) -> dict[str, list[str]]:
    """The main measure over all seeds, if the other columns are over the hits."""
    if "all_n" not in compared:
        return {}
    main = next(measure for measure in measures if measure not in DROPPED)
    names = [*(f"{main.name}{end}" for end in ENDS), "n"]
    over_all = compared.assign(**{name: compared[f"all_{name}"] for name in names})
    return {
        "n of all": ["" if math.isnan(count) else f"{count:.0f}" for count in compared["all_n"]],
        f"{paper.headings.get(main.name, main.label)} of all": with_interval(over_all, main),
    }


def _hours(minutes: float) -> str:
    return f"{int(minutes) // 60} h {int(minutes) % 60:02d} min"


def whose_numbers(compared: pd.DataFrame, stage: Shown) -> list[str]:
    """Which victim our numbers are of; empty if no attack of the table has several."""
    met = {(line.attack, line.victim) for line in stage.lines}
    several = {attack for attack, _ in met if sum(attack == other for other, _ in met) > 1}
    names = dict.fromkeys(compared["victim"][compared["attack"].isin(several)])
    told = ["the mean over victims" if name == MEAN else f"victim {name}" for name in names]
    return [f"Our numbers are of {' and '.join(told)}; the study's own table has each victim."] if told else []


def table_notes(paper: Paper, number: int, compared: pd.DataFrame) -> list[str]:
    """Notes for readers of the table."""
    table = paper.table(number)
    notes = [
        f"Published: {paper.setting}, {table.setting}. Inside or outside: whether it lies in our 95 % interval; it "
        "compares numbers, not experiments.",
        "–: not run, or not part of the study. p: paired test on the same poisons, Holm-corrected.",
    ]
    if compared["published_minutes"].notna().any():
        notes.append(f"Time: ours relative to our undefended training; published: {paper.time or 'as printed'}.")
    if any((compared[whole] > 0).any() for _, whole in COUNTS.values() if whole in compared):
        notes.append(
            "Images dropped: sums over the hits, and the share in percent; a clean image counts with each hit."
        )
    return [*notes, *table.notes]
