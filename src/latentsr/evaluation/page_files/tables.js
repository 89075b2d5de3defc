// Sorting and filtering the table, and one plot at a time.
"use strict";
(() => {
  const open = () => document.querySelector("details:target")?.setAttribute("open", "");
  ["hashchange", "load"].forEach((when) => addEventListener(when, open));

  const table = document.querySelector(".results");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const original = [...body.rows];

  const value = (row, column) => {
    const cell = row.cells[column];
    const shown = table.classList.contains("show-versus") && "versus" in cell.dataset ? "versus" : "value";
    if (shown in cell.dataset) return Number(cell.dataset[shown]);
    return cell.classList.contains("number") ? null : cell.textContent;
  };

  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null); // what is n/a comes last in either direction
    return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
  };

  const sort = (column) => {
    const state = { none: "ascending", ascending: "descending", descending: "none" }[heads[column].ariaSort || "none"];
    heads.forEach((head) => head.setAttribute("aria-sort", "none"));
    heads[column].setAttribute("aria-sort", state);
    const sign = state === "descending" ? -1 : 1;
    const sorted = [...original];
    if (state !== "none") {
      sorted.sort((a, b) => {
        const [left, right] = [value(a, column), value(b, column)];
        return left === null || right === null ? compare(left, right) : sign * compare(left, right);
      });
    }
    body.append(...sorted);
  };

  heads.forEach((head, column) => {
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(column));
    head.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort(column);
    });
  });

  const filters = [...document.querySelectorAll("[data-filter]")];
  const filter = () => {
    for (const row of original) {
      row.hidden = filters.some((each) => each.value && row.dataset[each.dataset.filter] !== each.value);
    }
  };
  filters.forEach((each) => each.addEventListener("change", filter));
  document.querySelector("#show").addEventListener("change", (event) => {
    table.classList.toggle("show-versus", event.target.value === "versus");
  });

  const plots = [...document.querySelectorAll(".plot")];
  const tabs = plots.map((plot) => {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.textContent = plot.dataset.plot;
    tab.addEventListener("click", () => show(plot));
    return tab;
  });
  const show = (wanted) => {
    plots.forEach((plot, i) => {
      plot.hidden = plot !== wanted;
      tabs[i].setAttribute("aria-pressed", String(plot === wanted));
    });
  };
  if (plots.length) {
    document.querySelector("#plot-tabs").append(...tabs);
    show(plots[0]);
  }
})();
