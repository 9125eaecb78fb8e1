// The keyboard of the whole page. Keys do what buttons do; `?` lists them.
const KEYS = [
  ["Space, K", "play, pause"],
  ["J, L", "five seconds back, on"],
  [", .", "one picture back, on"],
  ["P", "play the picked moment"],
  ["C", "play moments again and again, or once"],
  ["Z, Shift+Z", "timeline closer, farther"],
  ["I, O", "the label starts, ends here"],
  ["A", "accept the label"],
  ["R", "reject the label"],
  ["N", "next label without a verdict"],
  ["E", "write its sentence; Enter accepts, Escape leaves"],
  ["B", "begin a label here"],
  ["S, M", "split the label here, merge it with the next"],
  ["Ctrl+Z, Ctrl+Y", "undo, redo"],
  ["Ctrl+Enter", "ask in Ground, accept in Label"],
  ["/", "search the library"],
  ["Arrows, Space, Enter", "on its wall: to another moment, play it, open it"],
  ["Y, N, M", "on its wall: yes, no, more like this"],
  ["?", "this list"],
];
const seen = (selector) =>
  [...document.querySelectorAll(selector)].find((found) => found.offsetParent !== null);
const tab = () => (seen("#label-player") ? "label" : seen("#ground-player") ? "ground" : "");
// Until the video of the labels is there, the player has the one before: its times mean nothing.
function playerNow() {
  const player = tab() && document.querySelector(`#${tab()}-player video`);
  const file = tab() === "label" && document.querySelector("#label-timeline .zt")?.dataset.file;
  return player && (!file || player.currentSrc.includes(file)) ? player : null;
}
const tell = (detail) => document.querySelector(`#${tab()}-timeline .zt`)?.dispatchEvent(
  new CustomEvent("zsvg", { detail, bubbles: true }));

const help = document.createElement("dialog");
help.id = "keys";
help.setAttribute("aria-label", "Keys");
const rows = KEYS.map(([keys, what]) => `<tr><th scope="row">${keys}</th><td>${what}</td></tr>`);
help.innerHTML = `<h2>Keys</h2><table><tbody>${rows.join("")}</tbody></table>
  <form method="dialog"><button>Close</button></form>`;
(element.closest(".gradio-container") ?? document.body).append(help);
element.addEventListener("click", (event) => {
  if (event.target.closest("[data-keys]")) help.showModal();
});

function step(seconds) {
  const player = playerNow();
  player.moment = null;
  player.currentTime = Math.max(player.currentTime + seconds, 0);
}

function picture(direction) {
  const player = playerNow();
  const fps = Number(document.querySelector(`#${tab()}-timeline .zt`)?.dataset.fps) || 25;
  player.pause();
  step((direction * 1.001) / fps);
}

function toggle() {
  const player = playerNow();
  if (player.paused) player.play().catch(() => {});
  else player.pause();
}

// Gradio learns of a value by the event that typing makes.
function here(place) {
  const field = seen(`#label-${place} input`);
  if (!field || !playerNow()) return;
  const value = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");
  value.set.call(field, playerNow().currentTime.toFixed(2));
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

// The search box is in a tab of its own, where the page has a library.
function search() {
  document.querySelector("[role=tab][data-tab-id=library]")?.click();
  requestAnimationFrame(() => {
    const box = document.querySelector("#library-search textarea, #library-search input");
    box?.focus();
    box?.select();
  });
}
const toWall = (detail) => document.querySelector("#library-wall .zw")?.dispatchEvent(
  new CustomEvent("zsvg", { detail, bubbles: true }));

const press = (name) => seen(`#label-${name}`)?.click();
const PLAYING = {
  " ": toggle, k: toggle, j: () => step(-5), l: () => step(5),
  ",": () => picture(-1), ".": () => picture(1),
  p: () => tell("again"), c: () => tell("loop"), z: () => tell("closer"), Z: () => tell("farther"),
};
const LABELLING = {
  i: () => here("first"), o: () => here("last"),
  a: () => press("accept"), r: () => press("reject"), n: () => press("next"),
  b: () => press("add"), s: () => press("split"), m: () => press("merge"),
  e: () => seen("#label-sentence textarea, #label-sentence input")?.focus(),
};

document.addEventListener("keydown", (event) => {
  if (help.open || event.altKey || event.isComposing) return;
  const { target, key } = event;
  const number = target.matches?.("input[type=number]");
  const typing = target.isContentEditable || target.matches?.(
    "textarea, select, input:not([type=radio], [type=checkbox], [type=range], [type=number])");
  const done = (act) => {
    act();
    event.preventDefault();
    event.stopPropagation();
  };
  if (event.ctrlKey || event.metaKey) {
    if (key === "Enter" && tab() === "ground") done(() => seen("#ground-ask")?.click());
    else if (key === "Enter" && tab() === "label") done(() => press("accept"));
    else if (!typing && !number && tab() === "label" && key.toLowerCase() === "z")
      done(() => press(event.shiftKey ? "redo" : "undo"));
    else if (!typing && !number && tab() === "label" && key === "y") done(() => press("redo"));
    return;
  }
  const searching = target.closest?.("#library-search");
  if (searching && key === "ArrowDown") return done(() => toWall("first"));
  if (key === "Escape" && (typing || number)) return done(() => target.blur());
  if (typing) return;
  if (key === "?") return done(() => help.showModal());
  if (key === "/" && document.querySelector("#library-search")) return done(search);
  const lower = key === "Z" ? key : key.toLowerCase();
  if (number && !"io".includes(lower)) return; // half a time is no verdict
  if (key === " " && target.closest?.("button, [role=button], [role=tab], input, a, summary"))
    return;
  const act = PLAYING[lower] ?? (tab() === "label" ? LABELLING[lower] : undefined);
  if (act && (playerNow() || lower in LABELLING)) done(act);
}, true);
