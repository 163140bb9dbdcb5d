// A page: the line that has the focus is marked, and a saved one is followed by the next.

document.addEventListener("keydown", (event) => {
  const form = event.target.closest(".line-form");
  if (!form) return;
  // An input method's keys are its own; Safari sends the Enter that ends a composition as 229
  const isComposing = event.isComposing || event.keyCode === 229;
  if (event.key === "Enter" && (event.repeat || isComposing)) event.preventDefault();
  if (isComposing) return;
  if (!event.altKey || event.ctrlKey || event.metaKey || event.repeat) return;
  const name = /^[a-z]$/i.test(event.key) ? `Key${event.key.toUpperCase()}` : event.code;
  const button = form.querySelector(`button[data-key="${name}"]`);
  if (!button) return;
  event.preventDefault();
  button.click();
});
document.addEventListener("focusin", (event) => {
  const form = event.target.closest(".line-form");
  if (!form) return;
  for (const outline of document.querySelectorAll(".sheet polygon")) {
    const isNow = outline.dataset.line === form.dataset.line;
    outline.classList.toggle("now", isNow);
    if (isNow) outline.scrollIntoView({ block: "nearest" });
  }
});
document.addEventListener("click", (event) => {
  const outline = event.target.closest(".reading .sheet polygon");
  if (outline) document.getElementById(`text-${outline.dataset.line}`)?.focus();
});
document.addEventListener("htmx:afterRequest", (event) => {
  const form = event.target.closest?.(".line-form");
  if (!form || !event.detail.successful) return;
  const said = form.querySelector("[data-said]");
  said.textContent = said.dataset.saved;
  document.querySelector(`.sheet polygon[data-line="${form.dataset.line}"]`)?.classList.add("done");
  const inputs = [...document.querySelectorAll(".line-form .text")];
  inputs[inputs.indexOf(form.querySelector(".text")) + 1]?.focus();
});
