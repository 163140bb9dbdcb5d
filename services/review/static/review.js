// Drag and drop, and error messages: what htmx does not cover.

// The texts are attributes of the place where they are shown, in the language of the page
const trouble = (name, status = "") => {
  const place = document.getElementById("trouble");
  place.textContent = name && place.dataset[name].replace("{status}", status);
  place.hidden = name === "";
};

// A page that renews itself saves nothing, and says it until an answer comes
const isRenewal = (event) => event.detail.requestConfig.verb === "get";
document.addEventListener("htmx:beforeRequest", (event) => { if (!isRenewal(event)) trouble(""); });
document.addEventListener("htmx:afterOnLoad", (event) => { if (isRenewal(event) && event.detail.successful) trouble(""); });
document.addEventListener("htmx:sendError", (event) => trouble(isRenewal(event) ? "noRenewal" : "noAnswer"));
document.addEventListener("htmx:responseError", (event) => {
  const { status } = event.detail.xhr;
  if (isRenewal(event)) return trouble("failedRenewal", status);
  trouble(status >= 500 ? "failed" : "refused", status);
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
