"use strict";
// Keys of the queue, what is dropped onto the page, and what went wrong: all that htmx has no words for.

const trouble = (text) => {
  const place = document.getElementById("trouble");
  place.textContent = text;
  place.hidden = text === "";
};

// Enter that is held down would accept what nobody has seen
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.repeat && event.target.closest("#answer")) event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (!event.altKey || event.ctrlKey || event.metaKey || event.repeat) return;
  // By place on the keyboard: with Alt, the letter is another one on some systems
  const button = document.querySelector(`button[data-key="${event.code}"]`);
  if (!button) return;
  event.preventDefault();
  button.click();
});

document.addEventListener("htmx:load", () => {
  const text = document.querySelector("#task #text");
  if (!text) return;
  text.focus();
  text.setSelectionRange(text.value.length, text.value.length);
});
document.addEventListener("htmx:beforeRequest", () => trouble(""));
document.addEventListener("htmx:sendError", () => trouble("The server does not answer. What you did last may not be saved: do it again."));
document.addEventListener("htmx:responseError", (event) => {
  const { status } = event.detail.xhr;
  trouble(status >= 500
    ? `The server failed (${status}). What you did last may not be saved: do it again.`
    : `The server refused it (${status}); nothing was saved. Load the page again.`);
});

document.addEventListener("dragover", (event) => {
  if (document.getElementById("drop")) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  const form = document.getElementById("drop");
  if (!form || event.dataTransfer.files.length === 0) return;
  event.preventDefault();
  form.elements.file.files = event.dataTransfer.files;
  form.requestSubmit();
});
