// Ties a timeline or cards to their player. Gradio runs this once for every such element, with
// `element` and `trigger`; the HTML inside is replaced whenever there are new answers.
const video = () => root() && document.querySelector(`#${root().dataset.player} video`);

function show() {
  const player = video();
  const head = element.querySelector(".zt-head");
  if (!player) return;
  const now = player.currentTime;
  if (head) {
    head.style.left = `${clamp((100 * now) / length(), 0, 100)}%`;
    const slider = element.querySelector(".zt-ruler");
    slider.setAttribute("aria-valuenow", now.toFixed(2));
    slider.setAttribute("aria-valuetext", `${now.toFixed(1)} seconds`);
    if (!player.paused && !held) reveal(now);
  }
  for (const moment of element.querySelectorAll("[data-start]")) {
    const inside = now >= moment.dataset.start - 0.01 && now < moment.dataset.end;
    moment.classList.toggle("now", inside);
  }
}

// What is played belongs to the player: cards and timeline share it.
function seek(seconds, moment = null) {
  const player = video();
  if (!player) return;
  player.moment = moment;
  player.currentTime = Math.max(seconds, 0);
  if (pane()) reveal(seconds);
  show();
}

function play(moment) {
  const [start, end] = [Number(moment.dataset.start), Number(moment.dataset.end)];
  seek(start, { start, end });
  video()?.play().catch(() => {}); // replaced before it began
}

function stopAtEnd(player) {
  const { moment } = player;
  if (!moment || player.currentTime < moment.end) return;
  if (player.looping) {
    player.currentTime = moment.start;
    return;
  }
  player.pause();
  player.moment = null;
  player.currentTime = moment.end;
}

function under(event, track) {
  const box = track.getBoundingClientRect();
  return clamp((event.clientX - box.left) / box.width, 0, 1) * length();
}

function toggleLoop() {
  const player = video();
  if (!player) return;
  player.looping = !player.looping;
  showLoop();
}

function showLoop() {
  const pressed = Boolean(video()?.looping);
  element.querySelector("[data-loop]")?.setAttribute("aria-pressed", pressed);
}

element.addEventListener("click", (event) => {
  const cut = event.target.closest("[data-rank]");
  if (cut) {
    trigger("cut", { answer: Number(cut.dataset.answer), rank: Number(cut.dataset.rank) });
    return;
  }
  const tool = event.target.closest("[data-zoom]");
  if (tool) {
    if (tool.dataset.zoom === "all") zoom(1, 0);
    else closer(tool.dataset.zoom === "in" ? 1 : -1, video()?.currentTime ?? 0);
    return;
  }
  if (event.target.closest("[data-loop]")) toggleLoop();
  if (event.target.closest("[data-edge]")) return;
  const moment = event.target.closest("[data-start]");
  if (moment) {
    play(moment);
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

const handleOf = (edge) => element.querySelector(`[data-edge=${edge}]`);

function ends() {
  const [start, end] = ["start", "end"].map((edge) =>
    Number(handleOf(edge).getAttribute("aria-valuenow")));
  return { start, end };
}

function move(handle, seconds) {
  const { start, end } = ends();
  const first = handle.dataset.edge === "start";
  const at = first ? clamp(seconds, 0, end - 0.1) : clamp(seconds, start + 0.1, length());
  place(handle, at);
  hold(at);
}

// An end is looked at in a picture that stands.
function hold(seconds) {
  video()?.pause();
  seek(seconds);
}

function place(handle, at) {
  handle.setAttribute("aria-valuenow", at.toFixed(2));
  handle.setAttribute("aria-valuetext", `${at.toFixed(1)} seconds`);
  handle.style.left = `${(100 * at) / length()}%`;
  const bar = element.querySelector(".zt-bar.picked");
  const now = ends();
  bar.style.left = `${(100 * now.start) / length()}%`;
  bar.style.width = `${(100 * Math.max(now.end - now.start, 0)) / length()}%`;
  bar.dataset.start = now.start;
  bar.dataset.end = now.end;
}

function settle() {
  trigger("ends", ends());
}

// A start or end that is typed moves the bar and the player, as dragging does.
document.addEventListener("input", (event) => {
  const edge = { "label-first": "start", "label-last": "end" }[
    event.target.closest?.("#label-first, #label-last")?.id];
  const seconds = event.target.valueAsNumber;
  if (!edge || !handleOf(edge) || !Number.isFinite(seconds)) return;
  place(handleOf(edge), clamp(seconds, 0, length()));
  hold(clamp(seconds, 0, length()));
});

// `keys.js` asks for what a timeline can do.
element.addEventListener("zsvg", (event) => {
  const picked = element.querySelector(".zt-bar.picked, .zt-bar.now, .zt-bar");
  if (event.detail === "again" && picked) play(picked);
  if (event.detail === "loop") toggleLoop();
  if (event.detail === "closer") closer(1, video()?.currentTime ?? 0);
  if (event.detail === "farther") closer(-1, video()?.currentTime ?? 0);
});

// To pick a label is to look at it; a new video has to be there first.
let looked = null;
let awaited = null;
function look() {
  const bar = element.querySelector(".zt-bar.picked");
  const label = bar && `${root().dataset.vid} ${bar.dataset.label}`;
  if (!bar || label === looked) return;
  looked = label;
  const start = Number(bar.dataset.start);
  if (!video()?.currentSrc.includes(root().dataset.file)) awaited = start;
  else if (video().moment?.start !== start) seek(start);
}

// Media events do not bubble, but they can be caught on the way down; Gradio may put a new <video>
// into a player at any time.
let playing = 0;
function frame() {
  show();
  const player = video();
  if (player) stopAtEnd(player);
  playing = player && !player.paused && element.isConnected ? requestAnimationFrame(frame) : 0;
}
for (const name of ["timeupdate", "seeking", "seeked", "loadedmetadata", "play", "ended"]) {
  document.addEventListener(name, (event) => {
    if (event.target !== video()) return;
    if (name === "play" && !playing) playing = requestAnimationFrame(frame);
    const due = awaited !== null && event.target.currentSrc.includes(root().dataset.file);
    if (name === "loadedmetadata" && due) {
      if (!event.target.currentTime) seek(awaited); // else somebody has moved it since
      awaited = null;
    }
    if (name === "loadedmetadata") showLoop();
    if (name === "timeupdate") stopAtEnd(event.target); // in a window that is not seen, too
    show();
  }, true);
}

function renew() {
  restoreView();
  look();
  showLoop();
  show();
}
watch("value", renew);
if (root()) renew();
