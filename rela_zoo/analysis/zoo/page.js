"use strict";
const table = document.querySelector("table.priors");
const bodies = [...table.tBodies];
const search = document.getElementById("search");
const count = document.querySelector(".count");
const filters = [...document.querySelectorAll("[data-filter]")];

function shown() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let number = 0;
  for (const body of bodies) {
    const fits = words.every(word => body.dataset.text.includes(word)) && filters.every(one => {
      const wanted = one.type === "checkbox" ? (one.checked ? one.value : "") : one.value;
      return !wanted || body.dataset[one.dataset.filter] === wanted;
    });
    body.hidden = !fits;
    number += fits;
  }
  count.textContent = `${number} of ${bodies.length} priors`;
}

function sort(column, direction) {
  const heads = [...table.tHead.rows[0].cells];
  const key = body => body.rows[0].cells[column].dataset.sort ?? "";
  const numeric = heads[column].classList.contains("number");
  const sorted = [...bodies].sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    // What is not known stays below, in either direction.
    if (a === "" || b === "") return (a === "") - (b === "");
    return direction * (numeric ? a - b : a.localeCompare(b));
  });
  heads.forEach((head, i) => head.setAttribute("aria-sort",
    i !== column ? "none" : direction > 0 ? "ascending" : "descending"));
  table.append(...sorted);
  document.getElementById("sort").value = String(column);
}

function toggle(body, open) {
  body.querySelector(".toggle").setAttribute("aria-expanded", String(open));
  body.querySelector(".more").hidden = !open;
}

for (const body of bodies) {
  toggle(body, false);
  body.querySelector(".toggle").addEventListener("click", event =>
    toggle(body, event.currentTarget.getAttribute("aria-expanded") !== "true"));
}
table.tHead.addEventListener("click", event => {
  const head = event.target.closest("button")?.parentElement;
  if (!head) return;
  const numeric = head.classList.contains("number");
  const before = head.getAttribute("aria-sort");
  // The largest number is the one that is looked for.
  sort(head.cellIndex, before === "none" ? (numeric ? -1 : 1) : before === "ascending" ? -1 : 1);
});
document.getElementById("sort").addEventListener("change", event => {
  const column = Number(event.target.value);
  sort(column, table.tHead.rows[0].cells[column].classList.contains("number") ? -1 : 1);
});
search.addEventListener("input", shown);
filters.forEach(one => one.addEventListener("change", shown));
document.addEventListener("keydown", event => {
  if (event.key === "/" && !event.target.matches("input, select, textarea")) {
    event.preventDefault();
    search.focus();
  }
});
document.addEventListener("click", async event => {
  const button = event.target.closest(".code button");
  if (!button) return;
  const text = button.parentElement.querySelector("pre").textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
    button.textContent = "selected";
  }
  setTimeout(() => { button.textContent = "copy"; }, 1500);
});
for (const group of document.querySelectorAll(".measures")) {
  const choose = () => {
    const chosen = group.querySelector("input:checked").value;
    for (const one of group.parentElement.querySelectorAll("[data-measure]"))
      one.hidden = one.dataset.measure !== chosen;
  };
  group.hidden = false;
  group.addEventListener("change", choose);
  choose();
}
function follow() {
  const body = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (body?.tagName === "TBODY") {
    toggle(body, true);
    body.scrollIntoView();
  }
}
addEventListener("hashchange", follow);
document.querySelector(".controls").hidden = false;
shown();
follow();
