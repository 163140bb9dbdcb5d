"use strict";
// Drag and drop, and error messages: what htmx does not cover.

const trouble = (text) => {
  const place = document.getElementById("trouble");
  place.textContent = text;
  place.hidden = text === "";
};

// A page that renews itself saves nothing, and says it until an answer comes
const isRenewal = (event) => event.detail.requestConfig.verb === "get";
document.addEventListener("htmx:beforeRequest", (event) => { if (!isRenewal(event)) trouble(""); });
document.addEventListener("htmx:afterOnLoad", (event) => { if (isRenewal(event) && event.detail.successful) trouble(""); });
document.addEventListener("htmx:sendError", (event) => trouble(isRenewal(event)
  ? "The server does not answer: what is shown may be old."
  : "The server does not answer. The last action may not be saved: repeat it."));
document.addEventListener("htmx:responseError", (event) => {
  const { status } = event.detail.xhr;
  if (isRenewal(event)) return trouble(`The server failed (${status}): what is shown may be old.`);
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
