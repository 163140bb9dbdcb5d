// Draw the box of a line on its page: drag a new one, move it or its corners, or lean it.

const STEP = 3; // pixels of the screen that an arrow key moves
const FAR = 10; // times as many, with Shift
const LEAN = Math.PI / 180; // of one press of R
const HANDLE = 7; // pixels of the screen
const WHOLE = 4; // index of the box, after its corners
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
let cutting = null; // {sheet, group, panel, line, points, parts}

const toPage = (x, y) => new DOMPoint(x, y).matrixTransform(cutting.group.getScreenCTM().inverse());
const toScreen = (point) => point.matrixTransform(cutting.group.getScreenCTM());
const moved = (point, dx, dy) => {
  const seen = toScreen(point);
  return toPage(seen.x + dx, seen.y + dy);
};
const rectangle = (x1, y1, x2, y2) => {
  const [left, right, top, bottom] = [Math.min(x1, x2), Math.max(x1, x2), Math.min(y1, y2), Math.max(y1, y2)];
  return [toPage(left, top), toPage(right, top), toPage(right, bottom), toPage(left, bottom)];
};

// The box with one part moved by pixels of the screen: all of it, or a corner, opposite to which one stays
const withMoved = (points, part, dx, dy) => {
  if (part === WHOLE) return points.map((point) => moved(point, dx, dy));
  const [corner, across, fixed, down] = [0, 1, 2, 3].map((step) => points[(part + step) % 4]);
  const to = moved(corner, dx, dy);
  // The neighbours keep the directions of the sides
  const along = (end) => {
    const [x, y] = [end.x - fixed.x, end.y - fixed.y];
    const share = ((to.x - fixed.x) * x + (to.y - fixed.y) * y) / (x * x + y * y || 1);
    return new DOMPoint(fixed.x + share * x, fixed.y + share * y);
  };
  const result = [...points];
  result[part] = to;
  result[(part + 1) % 4] = along(across);
  result[(part + 3) % 4] = along(down);
  return result;
};
const leaning = (points, angle) => {
  const [x, y] = ["x", "y"].map((name) => points.reduce((sum, point) => sum + point[name], 0) / 4);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return points.map((point) => new DOMPoint(x + (point.x - x) * cos - (point.y - y) * sin, y + (point.x - x) * sin + (point.y - y) * cos));
};

const svg = (name, label) => {
  const part = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries({ class: "drawn", tabindex: 0, role: "button", "aria-label": label })) part.setAttribute(key, value);
  return cutting.group.appendChild(part);
};
const show = () => {
  const { points, parts, group } = cutting;
  const { a, b } = group.getScreenCTM();
  parts.at(-1).setAttribute("points", points.map(({ x, y }) => `${x},${y}`).join(" "));
  points.forEach(({ x, y }, at) => {
    for (const [key, value] of Object.entries({ cx: x, cy: y, r: HANDLE / Math.hypot(a, b) })) parts[at].setAttribute(key, value);
  });
};

const begin = (button) => {
  end();
  const place = button.closest(".strip") ?? document;
  const [sheet, panel] = [place.querySelector(".sheet"), place.querySelector("[data-cutting]")];
  if (!sheet || !panel) return;
  cutting = { sheet, group: sheet.querySelector("g"), panel, line: button.dataset.cut, button };
  const outline = sheet.querySelector(`polygon[data-id="${CSS.escape(cutting.line)}"]`);
  const { left, top, width, height } = sheet.getBoundingClientRect();
  cutting.points = outline
    ? [...outline.points].map(({ x, y }) => new DOMPoint(x, y))
    : rectangle(left + 0.1 * width, top + 0.1 * height, left + 0.9 * width, top + 0.14 * height);
  const names = panel.dataset.corners.split("|");
  const box = svg("polygon", names[WHOLE]); // before its corners, so below them
  cutting.parts = [...names.slice(0, 4).map((name) => svg("circle", name)), box];
  sheet.setAttribute("role", "group");
  sheet.classList.add("cutting-now");
  panel.hidden = false;
  panel.querySelector("[data-cut-said]").textContent = "";
  show();
  cutting.parts[0].focus();
  box.scrollIntoView({ block: "nearest" });
};
const end = () => {
  if (!cutting) return;
  const { sheet, panel, parts, button } = cutting;
  for (const part of parts) part.remove();
  sheet.setAttribute("role", "img");
  sheet.classList.remove("cutting-now");
  panel.hidden = true;
  cutting = null;
  button.focus();
};

const save = async () => {
  const { sheet, panel, line, points } = cutting;
  const said = panel.querySelector("[data-cut-said]");
  if (panel.dataset.isBusy) return;
  panel.dataset.isBusy = "yes";
  said.textContent = panel.dataset.busy;
  const body = new URLSearchParams({
    token: document.querySelector("input[name=token]").value,
    id: sheet.dataset.page,
    etag: sheet.dataset.etag,
    line,
    points: points.flatMap(({ x, y }) => [Math.round(x), Math.round(y)]).join(","),
  });
  try {
    const response = await fetch("/pages/cut", { method: "POST", body });
    const isSaid = response.headers.get("content-type")?.startsWith("text/plain");
    said.textContent = isSaid ? await response.text() : panel.dataset.failed;
    if (response.status === 200) leave(panel);
  } catch {
    said.textContent = panel.dataset.failed;
  }
  delete panel.dataset.isBusy;
};
const leave = (panel) => {
  const skip = document.querySelector('#answer button[value="skip"]');
  if (skip) skip.click();
  else if (location.pathname === panel.dataset.after) location.reload();
  else location.assign(panel.dataset.after);
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.cut !== undefined) begin(button);
  else if (cutting && button?.dataset.cutSave !== undefined) save();
  else if (cutting && button?.dataset.cutCancel !== undefined) end();
});
document.addEventListener("keydown", (event) => {
  if (!cutting || event.altKey || event.ctrlKey || event.metaKey) return;
  const at = cutting.parts.indexOf(event.target);
  if (event.key === "Escape") end();
  else if (at < 0) return;
  else if (event.key === "Enter") save();
  else if (event.key in ARROWS) {
    const [dx, dy] = ARROWS[event.key].map((each) => each * STEP * (event.shiftKey ? FAR : 1));
    cutting.points = withMoved(cutting.points, at, dx, dy);
    show();
  } else if (event.key.toLowerCase() === "r") {
    cutting.points = leaning(cutting.points, event.shiftKey ? -LEAN : LEAN);
    show();
  } else return;
  event.preventDefault();
});

// A corner or the box is moved; elsewhere on the page a new box is drawn
document.addEventListener("pointerdown", (event) => {
  if (!cutting || event.button !== 0 || !cutting.sheet.contains(event.target)) return;
  event.preventDefault();
  cutting.sheet.setPointerCapture(event.pointerId);
  cutting.drag = { at: cutting.parts.indexOf(event.target), x: event.clientX, y: event.clientY, from: cutting.points };
});
document.addEventListener("pointermove", (event) => {
  if (!cutting?.drag) return;
  const { at, x, y, from } = cutting.drag;
  const [dx, dy] = [event.clientX - x, event.clientY - y];
  cutting.points = at < 0
    ? rectangle(x, y, event.clientX, event.clientY)
    : withMoved(from, at, dx, dy);
  show();
});
document.addEventListener("pointerup", () => {
  if (!cutting?.drag) return;
  cutting.parts[Math.max(0, cutting.drag.at)].focus();
  delete cutting.drag;
});
// The line that it was of is no longer shown
document.addEventListener("htmx:beforeSwap", () => { if (cutting && !document.contains(cutting.sheet)) cutting = null; });
window.addEventListener("resize", () => { if (cutting) show(); });
