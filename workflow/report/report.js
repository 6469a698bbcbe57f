"use strict";
// The page shows everything without this script. With it tables are sorted and filtered, a row opens its victims, one
// attack or victim is chosen, and the colours too.

const THEME = "poisonlab-theme";
/** Rows that a table shows at once; a browser takes a second to lay out thousands. */
const MOST = 200;
const UNKNOWN = new Set(["", "–"]);
const NUMBER = /^[<>~]?\s*([-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)(?=$|[\s%[(x])/i;
const COUNTS = /^(\d+) of (\d+)/;
const inOrder = new Intl.Collator("en", { numeric: true }).compare;

// Before anything is drawn, so that the page does not flash.
document.documentElement.dataset.theme = kept();

document.addEventListener("DOMContentLoaded", () => {
  const victims = victimsByRow();
  document.querySelectorAll("table").forEach((table) => enhance(table, victims));
  choose();
});

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// --- Values -----------------------------------------------------------------------------------------------------------

/** The text of a cell, or what stands for it where the cell is an image. */
function valueOf(cell) {
  return cell?.dataset.value ?? cell?.textContent.trim() ?? "";
}

/**
 * The number that a text begins with, as in "61.8 [5.5, 94.5]"; NaN if there is none. "< 0.001" is below 0.001, and
 * "31 of 40" is a share in percent, because rows differ in their totals.
 */
function numberOf(text) {
  const counts = COUNTS.exec(text);
  if (counts) return (100 * counts[1]) / counts[2];
  const found = NUMBER.exec(text);
  const number = found ? Number(found[1].replace("−", "-").replaceAll(",", "")) : NaN;
  return text.startsWith("<") ? number - Number.EPSILON : number;
}

/** What two texts of a column are ordered by: numbers if most are, and whatever is unknown at the end. */
function comparison(texts, descending) {
  const known = texts.filter((text) => !UNKNOWN.has(text));
  const numeric = known.filter((text) => !Number.isNaN(numberOf(text))).length * 2 > known.length;
  const rank = (text) => (UNKNOWN.has(text) ? 2 : numeric && Number.isNaN(numberOf(text)) ? 1 : 0);
  const sign = descending ? -1 : 1;
  return (a, b) => {
    if (rank(a) || rank(b)) return rank(a) - rank(b) || sign * inOrder(a, b);
    return sign * ((numeric && numberOf(a) - numberOf(b)) || inOrder(a, b));
  };
}

/** Whether a text passes a filter: "> 0.5", "<= 10", "= 3", "1..3", or a part of the text. */
function passes(filter) {
  const range = /^\s*(-?[\d.]+?)\s*\.\.\s*(-?[\d.]+)\s*$/.exec(filter);
  if (range) return (text) => numberOf(text) >= Number(range[1]) && numberOf(text) <= Number(range[2]);
  const [, sign, limit] = /^\s*([<>]=?|=)\s*(-?[\d.]+(?:e[-+]?\d+)?)\s*$/i.exec(filter) ?? [];
  const holds = {
    "<": (number) => number < Number(limit),
    "<=": (number) => number <= Number(limit),
    ">": (number) => number > Number(limit),
    ">=": (number) => number >= Number(limit),
    "=": (number) => number === Number(limit),
  }[sign];
  if (holds) return (text) => holds(numberOf(text));
  const part = filter.trim().toLowerCase();
  return (text) => text.toLowerCase().includes(part);
}

// --- Tables -----------------------------------------------------------------------------------------------------------

/** The rows in the order that they stand in, without the victims between them. */
function rowsOf(table) {
  return [...table.tBodies[0].rows].filter((row) => !row.classList.contains("detail"));
}

/** Let a table be sorted and filtered, and its rows be opened. */
function enhance(table, victims) {
  const head = table.tHead.rows[0];
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const texts = (column) => rows.map((row) => valueOf(row.cells[column]));
  sortable(table, head, body, rows, texts);
  filterable(table, head, rows, texts);
  if (table.className !== "victims") openable(body, rows, victims);
}

function sortable(table, head, body, rows, texts) {
  [...head.cells].forEach((title, column) => {
    const button = make("button", { type: "button" }, ...title.childNodes);
    if (!button.textContent) button.ariaLabel = `column ${column + 1}`;
    title.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[title.ariaSort] ?? (title.ariaSort ? null : "ascending");
      for (const other of head.cells) other.removeAttribute("aria-sort");
      const values = texts(column);
      const order = rows.map((_, place) => place);
      if (next) {
        title.ariaSort = next;
        const compare = comparison(values, next === "descending");
        order.sort((a, b) => compare(values[a], values[b]));
      }
      // A row's victims move with it.
      const moved = order.map((place) => rows[place]);
      body.append(...moved.flatMap((row) => (row.detail ? [row, row.detail] : [row])));
      table.refresh();
    });
  });
}

function filterable(table, head, rows, texts) {
  const button = make("button", { type: "button", ariaExpanded: "false" }, "Filter");
  const status = make("p", { role: "status" });
  const more = make("button", { type: "button", hidden: true });
  const fields = make("tr", { className: "filters", hidden: true });
  for (const title of head.cells) {
    const label = `Filter ${title.textContent || `column ${title.cellIndex + 1}`}`;
    fields.append(make("td", {}, make("input", { type: "search", ariaLabel: label, placeholder: "text, > 1, 1..2" })));
  }
  const apply = () => {
    const used = [...fields.cells].filter((cell) => cell.firstChild.value.trim());
    const kept = used.map((cell) => texts(cell.cellIndex).map(passes(cell.firstChild.value)));
    rows.forEach((row, place) => show(row, "filter", kept.every((column) => column[place])));
    table.refresh();
  };
  let most = MOST;
  table.refresh = () => {
    const left = rowsOf(table).filter((row) => !row.hidden);
    left.forEach((row, place) => {
      for (const line of [row, row.detail]) line?.classList.toggle("beyond", place >= most);
    });
    more.hidden = left.length <= most;
    more.textContent = `Show all ${left.length} rows`;
    status.textContent = left.length < rows.length ? `${left.length} of ${rows.length} rows` : "";
  };
  fields.addEventListener("input", apply);
  more.addEventListener("click", () => {
    most = Infinity;
    table.refresh();
  });
  button.addEventListener("click", () => {
    fields.hidden = !fields.hidden;
    button.ariaExpanded = String(!fields.hidden);
    if (fields.hidden) for (const cell of fields.cells) cell.firstChild.value = "";
    else fields.cells[0].firstChild.focus();
    apply();
  });
  table.tHead.append(fields);
  table.closest(".scroll").before(make("div", { className: "tools" }, button, status, more));
  table.refresh();
}

/** Show a row, unless something else keeps it away. */
function show(row, reason, shown) {
  row.away ??= new Set();
  if (shown) row.away.delete(reason);
  else row.away.add(reason);
  row.hidden = row.away.size > 0;
  if (row.detail) row.detail.hidden = row.hidden;
}

// --- The victims of a row ---------------------------------------------------------------------------------------------

const keysOf = (row) => (row.dataset.of ? row.dataset.of.split(" ") : []);

/** The lines of all victims, by attack, victim and defense. */
function victimsByRow() {
  const found = new Map();
  for (const row of document.querySelectorAll("table.victims > tbody > tr")) {
    const key = row.dataset.of;
    found.set(key, [...(found.get(key) ?? []), row]);
  }
  return found;
}

function openable(body, rows, victims) {
  for (const row of rows) {
    if (!keysOf(row).some((key) => victims.has(key))) continue;
    row.classList.add("opens");
    const first = row.cells[0];
    first.append(make("button", { type: "button", ariaExpanded: "false", title: "Show the victims" }, ...first.childNodes));
  }
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    // Not of a table within, and not where text is being marked.
    if (row?.parentNode !== body || !row.classList.contains("opens") || String(getSelection())) return;
    toggle(row, victims);
  });
}

function toggle(row, victims) {
  const button = row.cells[0].querySelector("button");
  button.ariaExpanded = String(!row.detail);
  if (row.detail) {
    row.detail.remove();
    row.detail = null;
    return;
  }
  const table = detailOf(keysOf(row).flatMap((key) => victims.get(key) ?? []));
  const label = `Victims of ${keysOf(row).join(", ")}`;
  const scroll = make("div", { className: "scroll", role: "region", tabIndex: 0, ariaLabel: label }, table);
  row.detail = make("tr", { className: "detail" }, make("td", { colSpan: row.cells.length }, make("div", {}, scroll)));
  row.after(row.detail);
  enhance(table, new Map());
}

/** The lines of some victims as a table of their own, with the brief columns; some only where they tell lines apart. */
function detailOf(lines) {
  const titles = [...document.querySelector("table.victims").tHead.rows[0].cells].filter(({ dataset, cellIndex }) => {
    const several = new Set(lines.map((line) => valueOf(line.cells[cellIndex]))).size > 1;
    return dataset.brief === "always" || (dataset.brief === "several" && several);
  });
  const known = titles.filter(({ cellIndex }) => lines.some((line) => !UNKNOWN.has(valueOf(line.cells[cellIndex]))));
  const copies = lines.map((line) => make("tr", {}, ...known.map(({ cellIndex }) => line.cells[cellIndex].cloneNode(true))));
  const head = make("thead", {}, make("tr", {}, ...known.map((title) => make("th", {}, title.textContent))));
  return make("table", {}, head, make("tbody", {}, ...copies));
}

// --- What is shown, and in which colours ------------------------------------------------------------------------------

function choose() {
  document.querySelector(".choice").hidden = false;
  const theme = chooser("theme");
  theme.value = kept();
  theme.addEventListener("change", () => {
    document.documentElement.dataset.theme = theme.value;
    keep(theme.value);
  });
  for (const name of ["attack", "victim"]) chooser(name)?.addEventListener("change", narrow);
}

const chooser = (name) => document.querySelector(`.choice select[name="${name}"]`);

/** Show what is of the chosen attack and victim; tables and headings without any row left go, too. */
function narrow() {
  const attack = chooser("attack")?.value ?? "";
  const victim = chooser("victim")?.value ?? "";
  const chosen = (key) => {
    const [ofAttack, ofVictim] = key.split("/");
    return (!attack || attack === ofAttack) && (!victim || victim === ofVictim);
  };
  for (const row of document.querySelectorAll("tr[data-of]")) show(row, "choice", keysOf(row).every(chosen));
  for (const part of document.querySelectorAll("[data-attack]")) {
    const shown = !attack || part.dataset.attack === attack;
    if (part.tagName === "TR") show(part, "choice", shown);
    else part.hidden = !shown || Boolean(victim && (part.dataset.victim ?? victim) !== victim);
  }
  for (const table of document.querySelectorAll("table")) {
    table.refresh();
    const box = table.closest("div.table");
    if (box && !table.closest(".detail")) box.hidden = rowsOf(table).every((row) => row.away?.has("choice"));
  }
  // Headings and notes go with the tables that they belong to.
  for (const section of document.querySelectorAll("main section")) {
    const boxes = [...section.querySelectorAll("div.table")];
    if (section.querySelector("section") || !boxes.length) continue;
    section.hidden = Boolean(attack && (section.dataset.attack ?? attack) !== attack) || boxes.every((box) => box.hidden);
  }
}

/** The theme of an earlier visit. A browser may keep nothing for files. */
function kept() {
  try {
    return localStorage.getItem(THEME) ?? "";
  } catch {
    return "";
  }
}

function keep(theme) {
  try {
    localStorage.setItem(THEME, theme);
  } catch {
    // It holds for this visit.
  }
}
