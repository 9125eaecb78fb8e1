// What the whole page does beside its tabs. Gradio runs this once, with `element`.

// While a copy is made, the player still has the file as it came, and the error that it cannot be
// played would be false a moment later. Media events do not bubble, but are caught on the way down.
document.addEventListener("error", (event) => {
  if (event.target.closest?.("#ground-player, #label-player")) event.stopImmediatePropagation();
}, true);

// Gradio's video takes files of type video/* alone, and a GIF is one in all but its type.
function asVideo(files) {
  const taken = new DataTransfer();
  for (const file of files) {
    const gif = file.type === "image/gif";
    taken.items.add(gif ? new File([file], file.name, { type: "video/gif" }) : file);
  }
  return taken.files;
}
const picker = (target) => target.closest?.("#ground-player input[type=file]");
document.addEventListener("click", (event) => {
  const input = picker(event.target);
  if (input) input.accept = "video/*,.gif,.mkv,.avi,.flv,.wmv,.ts,.m2ts,.mts,.vob";
}, true);
document.addEventListener("change", (event) => {
  const input = picker(event.target);
  if (input) input.files = asVideo(input.files);
}, true);
document.addEventListener("drop", (event) => {
  const input = event.target.closest?.("#ground-player")?.querySelector("input[type=file]");
  if (!input || ![...event.dataTransfer.files].some((file) => file.type === "image/gif")) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  input.files = asVideo(event.dataTransfer.files);
  input.dispatchEvent(new Event("change", { bubbles: true }));
}, true);

// A refusal stays in the tab once its toast has gone, until something else is tried.
const refused = () => [...document.querySelectorAll(".refused")];
const toastIn = (node) => node.matches?.("[data-testid=toast-body]") ? node
  : node.querySelector?.("[data-testid=toast-body]");
let refusal = "";
new MutationObserver((changes) => {
  for (const node of changes.flatMap((change) => [...change.addedNodes])) {
    const toast = toastIn(node);
    if (toast?.matches(".error"))
      refusal = toast.querySelector("[data-testid=toast-text]")?.innerText.trim() ?? "";
  }
  const gone = changes.some((change) => [...change.removedNodes].some(toastIn));
  if (!gone || !refusal) return;
  const seen = refused().filter((place) => place.parentElement.offsetParent);
  if (seen.length) seen.at(-1).textContent = `Not done: ${refusal}`;
}).observe(document.body, { childList: true, subtree: true });
document.addEventListener("click", (event) => {
  if (event.target.closest?.("[data-testid=toast-body]")) return;
  if (!event.target.closest?.("button, [role=option], label")) return;
  refusal = "";
  for (const place of refused()) place.textContent = "";
}, true);
