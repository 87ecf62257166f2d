// The chat page: speaks version 1 of the WebSocket contract and of its HTTP side with its own origin, and nothing else
// with anyone. Store keeps, Server and Connection carry, Chat and Conversations decide, the views and Page show.
// Text reaches the page as text nodes only.

const STORE_KEY = "ekiden.chat.2";
const SAVE_EVERY_MS = 500;
const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 8000;
const SILENCE_MS = 10_000; // a connection that says nothing for one to two of these is taken for dead
const MAX_FRAME_BYTES = 1 << 20;
const READ_AGAIN_MS = 1000;
const LIST_PAGE = 30;
const LIST_AGAIN_MS = 5000;
const FOLLOW_PX = 40; // this near to the end the reader is taken to read along

const byId = (id) => document.getElementById(id);

/** An element with a class and children; strings become text, never markup. */
function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function copyOf(template) {
  return byId(template).content.firstElementChild.cloneNode(true);
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Make `nodes` the children of `parent`. Only what is out of place is moved, since moving drops the focus. */
function arrange(parent, nodes) {
  const focused = document.activeElement;
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  nodes.forEach((node, place) => {
    if (parent.children[place] !== node) parent.insertBefore(node, parent.children[place] ?? null);
  });
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus();
}

/** Enter sends, Shift+Enter begins a line; and the Enter that ends a composition does neither. */
function onEnter(input, send) {
  input.addEventListener("keydown", (event) => {
    // 229: some browsers end a composition before this event, but still mark it so.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    send();
  });
}

/** Escape leaves what has the focus, and is no Escape for the page then. */
function onEscape(node, leave) {
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing) return;
    event.preventDefault();
    leave();
  });
}

/** As high as its text. */
function fitHeight(textarea) {
  textarea.style.height = "auto";
  textarea.style.height = `${textarea.scrollHeight}px`;
}

function closeOnBackdrop(dialog) {
  dialog.addEventListener("pointerdown", ({ target, clientX, clientY }) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    const outside = clientX < left || clientX > right || clientY < top || clientY > bottom;
    if (target === dialog && outside) dialog.close();
  });
}

function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  // Plain http in a local network is no secure context and has no randomUUID.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
