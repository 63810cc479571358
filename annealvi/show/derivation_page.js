for (const place of document.querySelectorAll(".tex")) {
  const latex = place.textContent;
  katex.render(latex, place, {displayMode: place.classList.contains("display"), throwOnError: false, strict: "ignore"});
  if (place.classList.contains("display")) place.title = latex;
}
for (const button of document.querySelectorAll("button")) {
  button.addEventListener("click", () => {
    for (const step of document.querySelectorAll("details")) step.open = Boolean(button.dataset.open);
  });
}
const unfold = () => { const step = document.getElementById(location.hash.slice(1)); if (step && "open" in step) step.open = true; };
addEventListener("hashchange", unfold);
unfold();
