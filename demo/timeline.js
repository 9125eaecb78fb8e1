// Ties a timeline or cards to their player. Gradio runs this once for every such element, with
// `element` and `trigger`; the HTML inside is replaced whenever there are new answers.
const root = () => element.querySelector("[data-player]");
const video = () => root() && document.querySelector(`#${root().dataset.player} video`);
const length = () => Number(root().dataset.duration);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function show() {
  const player = video();
  const head = element.querySelector(".zt-head");
  if (!player) return;
  const now = player.currentTime;
  if (head) {
    head.style.left = `${clamp((100 * now) / length(), 0, 100)}%`;
    const ruler = element.querySelector(".zt-ruler");
    ruler.setAttribute("aria-valuenow", now.toFixed(2));
    ruler.setAttribute("aria-valuetext", `${now.toFixed(1)} seconds`);
  }
  for (const moment of element.querySelectorAll("[data-start]")) {
    const inside = now >= moment.dataset.start - 0.01 && now < moment.dataset.end;
    moment.classList.toggle("now", inside);
  }
}

function seek(seconds) {
  const player = video();
  if (!player) return;
  player.currentTime = Math.max(seconds, 0);
  show();
}

function under(event, track) {
  const box = track.getBoundingClientRect();
  return clamp((event.clientX - box.left) / box.width, 0, 1) * length();
}

element.addEventListener("click", (event) => {
  const cut = event.target.closest("[data-rank]");
  if (cut) {
    trigger("cut", { answer: Number(cut.dataset.answer), rank: Number(cut.dataset.rank) });
    return;
  }
  if (event.target.closest("[data-edge]")) return;
  const moment = event.target.closest("[data-start]");
  if (moment) {
    seek(Number(moment.dataset.start));
    if (moment.dataset.pick) trigger("pick", { number: Number(moment.dataset.pick) });
    return;
  }
  const track = event.target.closest(".zt-track");
  if (track) seek(under(event, track));
});

// The ruler is a slider for the keyboard, and so are the two ends of a moment that is being fixed.
element.addEventListener("keydown", (event) => {
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
  const handle = event.target.closest("[data-edge]");
  const ruler = event.target.closest(".zt-ruler");
  if (!(event.key in steps) && event.key !== "Home" && event.key !== "End") return;
  if (handle) {
    const value = Number(handle.getAttribute("aria-valuenow"));
    const to = { Home: 0, End: length() }[event.key] ?? value + 0.1 * steps[event.key];
    move(handle, to);
    settle();
  } else if (ruler && video()) {
    seek({ Home: 0, End: length() }[event.key] ?? video().currentTime + steps[event.key]);
  } else {
    return;
  }
  event.preventDefault();
});

// Dragging an end shows the frame there.
let held = null;
element.addEventListener("pointerdown", (event) => {
  held = event.target.closest("[data-edge]");
  if (!held) return;
  held.setPointerCapture(event.pointerId);
  event.preventDefault();
  held.focus();
});
element.addEventListener("pointermove", (event) => {
  if (held) move(held, under(event, held.closest(".zt-track")));
});
for (const end of ["pointerup", "pointercancel"]) {
  element.addEventListener(end, () => {
    if (held) settle();
    held = null;
  });
}

function ends() {
  const [start, end] = ["start", "end"].map((edge) =>
    Number(element.querySelector(`[data-edge=${edge}]`).getAttribute("aria-valuenow")));
  return { start, end };
}

function move(handle, seconds) {
  const { start, end } = ends();
  const first = handle.dataset.edge === "start";
  const at = first ? clamp(seconds, 0, end - 0.1) : clamp(seconds, start + 0.1, length());
  handle.setAttribute("aria-valuenow", at.toFixed(2));
  handle.setAttribute("aria-valuetext", `${at.toFixed(1)} seconds`);
  handle.style.left = `${(100 * at) / length()}%`;
  const bar = element.querySelector(".zt-bar.picked");
  const now = ends();
  bar.style.left = `${(100 * now.start) / length()}%`;
  bar.style.width = `${(100 * (now.end - now.start)) / length()}%`;
  bar.dataset.start = now.start;
  bar.dataset.end = now.end;
  seek(at);
}

function settle() {
  trigger("ends", ends());
}

// Media events do not bubble, but they can be caught on the way down; Gradio may put a new <video>
// into a player at any time.
let playing = 0;
function frame() {
  show();
  const player = video();
  playing = player && !player.paused && element.isConnected ? requestAnimationFrame(frame) : 0;
}
for (const name of ["timeupdate", "seeking", "seeked", "loadedmetadata", "play"]) {
  document.addEventListener(name, (event) => {
    if (event.target !== video()) return;
    if (name === "play" && !playing) playing = requestAnimationFrame(frame);
    show();
  }, true);
}
watch("value", show);
