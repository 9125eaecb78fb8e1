// The view of a timeline: how much of it is seen, and a map of the whole above. Everything inside is
// placed in percent, so to zoom is to widen. `timeline.js` goes on from here.
const ZOOMS = [1, 2, 4, 8, 16, 32, 64];
const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600];
const view = { zoom: 1, vid: null };
const root = () => element.querySelector("[data-player]");
const length = () => Number(root().dataset.duration);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const pane = () => element.querySelector(".zt-pane");

function clock(seconds, step) {
  if (length() < 60) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.floor(seconds / 60);
  const rest = (seconds % 60).toFixed(step < 1 ? 1 : 0).padStart(step < 1 ? 4 : 2, "0");
  return `${whole}:${rest}`;
}

// The ruler has a mark about every hundred pixels.
function ruler() {
  const wide = pane().firstElementChild.offsetWidth;
  if (!wide) return; // in a tab that is not seen
  const step = STEPS.find((seconds) => (seconds / length()) * wide > 90) ?? STEPS.at(-1);
  const marks = [];
  for (let at = 0; at < 0.97 * length(); at += step) {
    const mark = document.createElement("i");
    mark.style.left = `${(100 * at) / length()}%`;
    mark.textContent = clock(at, step);
    marks.push(mark);
  }
  element.querySelector(".zt-ruler").replaceChildren(...marks);
}

function map() {
  const whole = element.querySelector(".zt-map");
  const { scrollLeft, clientWidth, scrollWidth } = pane();
  whole.hidden = view.zoom === 1;
  const frame = whole.querySelector(".zt-frame");
  frame.style.left = `${(100 * scrollLeft) / scrollWidth}%`;
  frame.style.width = `${(100 * clientWidth) / scrollWidth}%`;
}

function zoom(to, around) {
  const place = (around / length()) * pane().firstElementChild.offsetWidth - pane().scrollLeft;
  view.zoom = clamp(to, ZOOMS[0], ZOOMS.at(-1));
  pane().firstElementChild.style.width = `${100 * view.zoom}%`;
  ruler();
  const wide = pane().firstElementChild.offsetWidth;
  pane().scrollLeft = (around / length()) * wide - place; // what one looks at stays where it is
  for (const [name, end] of [["in", ZOOMS.at(-1)], ["out", ZOOMS[0]]])
    element.querySelector(`[data-zoom=${name}]`).disabled = view.zoom === end;
  map();
}

function closer(steps, around) {
  const now = ZOOMS.indexOf(view.zoom);
  zoom(ZOOMS[clamp(now + steps, 0, ZOOMS.length - 1)], around);
}

// Bring a time into view, where it is not.
function reveal(seconds) {
  const { scrollLeft, clientWidth, scrollWidth } = pane();
  const place = (seconds / length()) * scrollWidth;
  if (place < scrollLeft || place > scrollLeft + clientWidth)
    pane().scrollLeft = place - 0.2 * clientWidth;
}

// After new HTML: the view stays while the video does.
function restoreView() {
  if (!pane()) return;
  const same = view.vid === root().dataset.vid;
  const left = same ? view.left : 0;
  view.vid = root().dataset.vid;
  zoom(same ? view.zoom : 1, 0);
  pane().scrollLeft = left;
  pane().addEventListener("scroll", () => {
    view.left = pane().scrollLeft;
    map();
  });
  new ResizeObserver(() => pane() && ruler()).observe(pane());
}

element.addEventListener("wheel", (event) => {
  if (!event.ctrlKey || !event.target.closest(".zt-pane")) return;
  event.preventDefault();
  closer(event.deltaY < 0 ? 1 : -1, under(event, pane().firstElementChild));
}, { passive: false });

let scrolling = false;
function scrollTo(event) {
  const share = under(event, element.querySelector(".zt-map")) / length();
  pane().scrollLeft = share * pane().scrollWidth - 0.5 * pane().clientWidth;
}
element.addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".zt-map")) return;
  scrolling = true;
  event.target.closest(".zt-map").setPointerCapture(event.pointerId);
  scrollTo(event);
});
element.addEventListener("pointermove", (event) => scrolling && scrollTo(event));
for (const end of ["pointerup", "pointercancel"])
  element.addEventListener(end, () => { scrolling = false; });
