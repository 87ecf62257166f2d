// The chat page: speaks version 1 of the WebSocket contract with its own origin, and nothing else with anyone.
// Store keeps, Connection carries, Chat decides, TurnView and Page show. Text reaches the page as text nodes only.

const STORE_KEY = "ekiden.chat.1";
const SAVE_EVERY_MS = 500;
const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 8000;
const SILENCE_MS = 10_000; // a connection that says nothing for one to two of these is taken for dead
const MAX_FRAME_BYTES = 1 << 20;
const FOLLOW_PX = 40; // this near to the end the reader is taken to read along

const byId = (id) => document.getElementById(id);

/** An element with a class and children; strings become text, never markup. */
function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  // Plain http in a local network is no secure context and has no randomUUID.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
