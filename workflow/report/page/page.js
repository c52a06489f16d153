"use strict";
// The filters of the claims table. Without scripts the page shows every claim, and no filters.
(() => {
  const form = document.getElementById("filters");
  const rows = [...document.querySelectorAll("table.claims tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const fits = (row, i, paper, verdict, words) =>
    (!paper || row.dataset.paper === paper) &&
    (!verdict || row.dataset.verdict === verdict) &&
    words.every((word) => texts[i].includes(word));
  const apply = () => {
    const { paper, verdict, words } = form.elements;
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !fits(row, i, paper.value, verdict.value, wanted);
      shown += row.hidden ? 0 : 1;
    });
    form.querySelector("output").textContent = `${shown} of ${rows.length} claims`;
    document.getElementById("nothing").hidden = shown > 0;
  };
  // A link to a claim that is filtered away shows all claims; one to a list of runs opens it.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.tagName === "DETAILS") target.open = true;
    if (target.hidden) form.reset();
    setTimeout(() => target.scrollIntoView()); // after the reset has shown it
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  window.addEventListener("hashchange", reveal);
  form.hidden = false;
  apply(); // a reloaded page keeps what was chosen
  reveal();
})();
