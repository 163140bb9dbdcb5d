"use strict";
// Keys of the queue, drag and drop, and error messages: what htmx does not cover.

const trouble = (text) => {
  const place = document.getElementById("trouble");
  place.textContent = text;
  place.hidden = text === "";
};

// A repeated Enter would accept images that are not shown yet
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.repeat && event.target.closest("#answer")) event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (!event.altKey || event.ctrlKey || event.metaKey || event.repeat) return;
  // By key position: with Alt the letter differs on some systems
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
document.addEventListener("htmx:sendError", () => trouble("The server does not answer. The last action may not be saved: repeat it."));
document.addEventListener("htmx:responseError", (event) => {
  const { status } = event.detail.xhr;
  trouble(status >= 500
    ? `The server failed (${status}). The last action may not be saved: repeat it.`
    : `The server refused it (${status}); nothing was saved. Reload the page.`);
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
