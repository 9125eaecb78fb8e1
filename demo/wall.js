// The wall of moments: played under the pointer, walked by keys. Gradio runs this once, with
// `element`, `trigger` and `server`; the HTML inside is replaced with every search.
const cards = () => [...element.querySelectorAll(".zw-card")];
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const films = new Map(); // what was played once is not asked for again
const KEPT = 40;
const WAIT = 180; // milliseconds that a pointer rests before its moment plays
let playing = null;
const AGAIN = 1000; // milliseconds until a film is asked for again: others may be cut out
const TRIES = 4;
let resting = 0;
let turn = 0; // of playing; another one ends it

async function film(card) {
  const { content, start, end } = card.dataset;
  const key = `${content} ${start} ${end}`;
  if (!films.has(key)) {
    const answer = await server.play([content, Number(start), Number(end)]);
    if (answer.says) tell(card, answer.says);
    if (!answer.film) return null;
    const bytes = Uint8Array.from(atob(answer.film), (letter) => letter.charCodeAt(0));
    films.set(key, URL.createObjectURL(new Blob([bytes], { type: "video/mp4" })));
    if (films.size > KEPT) {
      const [oldest, address] = films.entries().next().value;
      URL.revokeObjectURL(address);
      films.delete(oldest);
    }
  }
  return films.get(key);
}

// Why a moment does not play stands below its picture, until it does.
function tell(card, words) {
  let place = card.querySelector(".zw-why");
  if (!place && !words) return;
  if (!place) {
    place = document.createElement("p");
    place.className = "zw-why";
    place.setAttribute("role", "status");
    card.querySelector(".zw-about").after(place);
  }
  place.textContent = words && `${words[0].toUpperCase()}${words.slice(1)}.`;
  card.classList.toggle("unplayed", Boolean(words));
}

// Another window of this browser may have searched for something else meanwhile.
const wall = () => ({ wall: element.querySelector(".zw")?.dataset.wall });
const moment = (card) => ({ ...wall(), number: Number(card.dataset.number) });

function stop() {
  clearTimeout(resting);
  turn += 1;
  if (!playing) return;
  playing.querySelector("video")?.remove();
  playing.classList.remove("playing", "waiting");
  playing.querySelector("[data-play]")?.setAttribute("aria-pressed", "false");
  playing = null;
}

async function play(card) {
  if (playing === card) return;
  stop();
  const mine = turn;
  playing = card;
  card.classList.add("waiting");
  card.querySelector("[data-play]").setAttribute("aria-pressed", "true");
  tell(card, "");
  let address = await film(card).catch(() => null);
  const busy = () => !address && !card.classList.contains("unplayed") && turn === mine;
  for (let tries = 1; tries < TRIES && busy(); tries += 1) {
    await new Promise((done) => setTimeout(done, AGAIN));
    if (turn === mine) address = await film(card).catch(() => null);
  }
  if (turn !== mine) return; // the pointer has gone on
  card.classList.remove("waiting");
  if (!address) {
    if (!card.classList.contains("unplayed")) tell(card, "it does not play just now; try again");
    return stop();
  }
  const player = document.createElement("video");
  Object.assign(player, { src: address, muted: true, loop: true, playsInline: true });
  player.setAttribute("aria-hidden", "true");
  player.tabIndex = -1;
  card.querySelector(".zw-open").append(player);
  card.classList.add("playing");
  player.play().catch(() => {}); // removed before it began
}

const toggle = (card) => (playing === card ? stop() : play(card));

// Of all cards one is on the way of the Tab key, with its buttons; arrows go to the others.
function reach(card) {
  for (const other of cards())
    for (const button of other.querySelectorAll("button")) button.tabIndex = other === card ? 0 : -1;
}

function go(card) {
  if (!card) return;
  reach(card);
  card.querySelector(".zw-open").focus();
  card.scrollIntoView({ block: "nearest" });
}

// The nearest card of the row above or below.
function vertical(card, direction) {
  const from = card.getBoundingClientRect();
  const there = cards()
    .map((other) => ({ other, box: other.getBoundingClientRect() }))
    .filter(({ box }) => direction * (box.top - from.top) > 4);
  if (!there.length) return null;
  const far = (box) => Math.abs(box.top - from.top) * 1e4 + Math.abs(box.left - from.left);
  return there.reduce((best, one) => (far(one.box) < far(best.box) ? one : best)).other;
}

function judge(card, said) {
  const button = card.querySelector(`[data-verdict=${said}]`);
  if (!button) return;
  const taken = button.getAttribute("aria-pressed") === "true"; // a second press takes it back
  for (const other of card.querySelectorAll("[data-verdict]"))
    other.setAttribute("aria-pressed", String(other === button && !taken));
  card.classList.remove("yes", "no");
  if (!taken) card.classList.add(said);
  trigger("judge", { ...moment(card), verdict: taken ? "" : said });
}

element.addEventListener("click", (event) => {
  if (event.target.closest("[data-more]")) return trigger("more", wall());
  const card = event.target.closest(".zw-card");
  if (!card) return;
  reach(card);
  const verdict = event.target.closest("[data-verdict]");
  if (verdict) judge(card, verdict.dataset.verdict);
  else if (event.target.closest("[data-like]")) trigger("like", moment(card));
  else if (event.target.closest("[data-play]")) toggle(card);
  else if (event.target.closest(".zw-open")) {
    stop();
    trigger("open", moment(card));
  }
});

element.addEventListener("pointerover", (event) => {
  const card = event.target.closest(".zw-card");
  if (event.pointerType !== "mouse" || calm.matches || !card) return;
  if (card.contains(event.relatedTarget) || playing === card) return;
  clearTimeout(resting);
  resting = setTimeout(() => play(card), WAIT);
});
element.addEventListener("pointerout", (event) => {
  const card = event.target.closest(".zw-card");
  if (event.pointerType !== "mouse" || !card || card.contains(event.relatedTarget)) return;
  clearTimeout(resting);
  if (playing === card && !calm.matches) stop();
});

element.addEventListener("keydown", (event) => {
  const card = event.target.closest(".zw-card");
  if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
  const all = cards();
  const place = all.indexOf(card);
  const open = event.target.closest(".zw-open");
  const acts = {
    ArrowRight: () => go(all[place + 1]),
    ArrowLeft: () => go(all[place - 1]),
    ArrowDown: () => go(vertical(card, 1)),
    ArrowUp: () => go(vertical(card, -1)),
    Home: () => go(all[0]),
    End: () => go(all.at(-1)),
    y: () => judge(card, "yes"),
    n: () => judge(card, "no"),
    m: () => trigger("like", moment(card)),
  };
  if (open) acts[" "] = () => toggle(card); // Enter opens, as a button does
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = acts[key];
  if (!act) return;
  if (!event.repeat || key.startsWith("Arrow")) act(); // a key held down says one thing
  event.preventDefault();
  event.stopPropagation();
});
element.addEventListener("keyup", (event) => {
  if (event.key === " " && event.target.closest(".zw-open")) event.preventDefault();
});

// `keys.js` sends people here from the search box, and back.
element.addEventListener("zsvg", (event) => {
  if (event.detail === "first") go(cards()[0]);
});

watch("value", () => {
  stop();
  const first = element.querySelector(".zw-card");
  if (first) reach(first);
});
