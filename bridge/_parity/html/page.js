"use strict";
// A click on the head of a column sorts by it, a second one the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell || cell.colSpan > 1) return NaN;
    const text = cell.dataset.value;
    return text === undefined ? cell.textContent.trim() : text === "inf" ? Infinity : Number(text);
  };
  const compare = (a, b) =>
    typeof a === "string" && typeof b === "string" ? a.localeCompare(b) : a < b ? -1 : Number(a > b);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => [value(row, column), row]);
      // What has no value stands at the end, whichever way.
      const known = rows.filter(([key]) => key === key).sort(([a], [b]) => compare(a, b));
      if (!up) known.reverse();
      body.append(...[...known, ...rows.filter(([key]) => key !== key)].map(([, row]) => row));
    });
  });
}
