// Keys, view, suggestions, differences and drafts of a line that a person reads.

const MOST_COMPARED = 400; // characters: comparing takes their square
const MOST_DRAFTS = 20;
const ZOOMS = [1, 1.5, 2, 3, 4];
const look = { zoom: 0, contrast: 0, turn: 0 }; // zoom and contrast stay from line to line

const input = () => document.getElementById("text");

// The letter, as layouts place letters elsewhere; else the position, as with Alt the sign may differ
const nameOf = (event) => (/^[a-z]$/i.test(event.key) ? `Key${event.key.toUpperCase()}` : event.code);

document.addEventListener("keydown", (event) => {
  // An input method's keys are its own; Safari sends the Enter that ends a composition as 229
  if (event.isComposing || event.keyCode === 229) {
    if (event.key === "Enter" && event.target.closest("#answer")) event.preventDefault();
    return;
  }
  // A repeated Enter would accept images that are not shown yet
  if (event.key === "Enter" && event.repeat && event.target.closest("#answer")) event.preventDefault();
  if (!event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.repeat && !event.code.startsWith("Arrow")) return;
  const legend = document.getElementById("legend");
  const button = document.querySelector(`button[data-key="${nameOf(event)}"]:not([hidden])`);
  if (button) button.click();
  else if (legend && nameOf(event) === "KeyH") legend.open = !legend.open;
  else return;
  event.preventDefault();
});

const write = (text, isWhole) => {
  const field = input();
  if (isWhole) field.select();
  field.focus();
  field.setRangeText(text, field.selectionStart, field.selectionEnd, "end");
  field.dispatchEvent(new Event("input", { bubbles: true }));
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { insert, use, look: change } = button.dataset;
  if (insert !== undefined) write(insert, false);
  if (use !== undefined) write(use, true);
  if ("close" in button.dataset) {
    document.getElementById("said").textContent = "";
    input()?.focus();
  }
  if ("repeat" in button.dataset) write(sessionStorage.getItem("last") ?? "", true);
  if (change === "larger") look.zoom = Math.min(look.zoom + 1, ZOOMS.length - 1);
  if (change === "smaller") look.zoom = Math.max(look.zoom - 1, 0);
  if (change === "contrast") look.contrast = (look.contrast + 1) % 3;
  if (change === "turn") look.turn = (look.turn + 1) % 4;
  if (change !== undefined) show();
});

// An image on its side takes the place of the box around it, which CSS alone does not know
const show = () => {
  const image = document.querySelector(".view img");
  if (!image) return;
  const place = image.parentElement;
  image.dataset.contrast = look.contrast;
  const [wide, high] = [image.naturalWidth, image.naturalHeight];
  const isSideways = look.turn % 2 === 1;
  if ((look.zoom === 0 && look.turn === 0) || wide === 0) {
    image.removeAttribute("style");
    return;
  }
  const [across, down] = isSideways ? [high, wide] : [wide, high];
  const fitting = Math.min(place.clientWidth / across, (0.45 * window.innerHeight) / down);
  const scale = fitting * ZOOMS[look.zoom];
  const shift = isSideways ? ((wide - high) * scale) / 2 : 0;
  Object.assign(image.style, {
    width: `${wide * scale}px`,
    height: `${high * scale}px`,
    maxWidth: "none",
    maxHeight: "none",
    margin: across * scale > place.clientWidth ? `${shift}px ${-shift}px` : `${shift}px auto`,
    rotate: `${look.turn * 90}deg`,
  });
};
document.addEventListener("load", (event) => { if (event.target.matches?.(".view img")) show(); }, true);

// Longest common subsequence, character by character
const compare = (one, other) => {
  const [a, b] = [Array.from(one), Array.from(other)];
  if (a.length > MOST_COMPARED || b.length > MOST_COMPARED) return [["", one]];
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1)
      common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  const parts = [];
  const add = (kind, sign) => {
    if (parts.at(-1)?.[0] === kind) parts.at(-1)[1] += sign;
    else parts.push([kind, sign]);
  };
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    if (i < a.length && j < b.length && a[i] === b[j]) { add("", a[i]); i += 1; j += 1; }
    else if (j === b.length || (i < a.length && common[i + 1][j] >= common[i][j + 1])) { add("del", a[i]); i += 1; }
    else { add("ins", b[j]); j += 1; }
  }
  return parts;
};

const showDifferences = () => {
  for (const place of document.querySelectorAll(".diff")) {
    if (place.dataset.text === "") continue;
    place.replaceChildren(...compare(place.dataset.text, input().value).map(([kind, text]) => {
      if (kind === "") return document.createTextNode(text);
      const part = document.createElement(kind);
      part.textContent = text;
      return part;
    }));
  }
};

// A draft is what was typed and not saved: it survives a reload and a crash of the browser
const draftOf = (field) => `draft ${field.dataset.draft}`;
document.addEventListener("input", (event) => {
  if (event.target !== input()) return;
  showDifferences();
  if (!event.target.dataset.draft) return;
  const drafts = Object.keys(localStorage).filter((name) => name.startsWith("draft "));
  for (const name of drafts.slice(MOST_DRAFTS)) localStorage.removeItem(name);
  localStorage.setItem(draftOf(event.target), event.target.value);
});
let sent = null;
// Its id is no property: the form has an input of that name
const isAnswer = (form) => form.matches("#answer");
document.addEventListener("htmx:configRequest", (event) => {
  const field = input();
  if (!isAnswer(event.target) || !field) return;
  const { action } = event.detail.parameters;
  // Undo says nothing of the image that is shown: it comes again
  sent = { draft: action === "undo" ? null : draftOf(field), text: action === "save" ? field.value : null };
});
// Before the swap: afterwards the form is no longer there to tell
document.addEventListener("htmx:beforeOnLoad", (event) => {
  if (!isAnswer(event.target) || sent === null || event.detail.xhr.status >= 400) return;
  if (sent.draft !== null) localStorage.removeItem(sent.draft);
  if (sent.text) sessionStorage.setItem("last", sent.text);
  sent = null;
});

const begin = () => {
  const field = document.querySelector("#task #text");
  if (!field || field.dataset.isShown) return;
  field.dataset.isShown = "yes";
  look.turn = 0;
  show();
  const draft = localStorage.getItem(draftOf(field));
  if (draft !== null && draft !== field.value) {
    field.value = draft;
    const said = document.getElementById("said");
    said.textContent = [said.textContent, said.dataset.restored].filter(Boolean).join(" ");
  }
  const last = document.querySelector("[data-repeat]");
  if (last) last.hidden = sessionStorage.getItem("last") === null;
  showDifferences();
  // A search may end while the person fills in a form beside it
  if (document.activeElement?.matches("input, select, textarea") && !document.activeElement.closest("#task")) return;
  field.focus();
  field.setSelectionRange(field.value.length, field.value.length);
};
// Not before: Enter would send the form without htmx, and nothing would say what was saved. At once
// (defaultSettleDelay): what is typed between the swap and this would get into the wrong place
document.addEventListener("htmx:load", begin);
