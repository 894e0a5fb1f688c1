// Asks for this page again every two seconds and exchanges what has changed, so that numbers move
// while focus, selection and scrolling stay. Without it the page can be read all the same.
"use strict";

const PAUSE_MS = 2000;
const MOST_PAUSE_MS = 30000;

document.documentElement.classList.add("js");

// An element keeps its place among its siblings by its key.
const keyOf = node => node.nodeType === Node.ELEMENT_NODE ? node.dataset.key || node.id : "";

function sameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function updateAttributes(old, fresh) {
  for (const { name, value } of [...fresh.attributes])
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name) && !(name === "open" && old.localName === "details"))
      old.removeAttribute(name);
}

function findKeyed(node, key) {
  for (; node; node = node.nextSibling) if (keyOf(node) === key) return node;
  return null;
}

function updateChildren(old, fresh) {
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const key = keyOf(wanted);
    const moved = key && at ? findKeyed(at, key) : null;
    if (moved && moved !== at) {
      old.insertBefore(moved, at);
      at = moved;
    }
    if (at && sameKind(at, wanted)) {
      update(at, wanted);
      at = at.nextSibling;
    } else {
      old.insertBefore(wanted, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function update(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  updateAttributes(old, fresh);
  updateChildren(old, fresh);
}

// A proxy in front of tarn may speak https where tarn itself does not.
function adaptScheme(root) {
  const secure = location.protocol === "https:";
  for (const element of root.querySelectorAll("[data-scheme]"))
    element.textContent = secure ? "https" : "http";
  if (secure) for (const element of root.querySelectorAll("[data-plain]")) element.textContent = "";
}

function say(text, kind) {
  const state = document.getElementById("state");
  if (state.textContent !== text) state.textContent = text;
  if (state.className !== kind) state.className = kind;
}

async function refresh() {
  const reply = await fetch(location.href, { cache: "no-store", headers: { Accept: "text/html" } });
  if (!reply.ok && reply.status !== 404) throw new Error(`status ${reply.status}`);
  const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
  const main = fresh.getElementById("main");
  if (!main) throw new Error("no page");
  adaptScheme(main);
  update(document.getElementById("main"), main);
  update(document.querySelector("footer"), fresh.querySelector("footer"));
  const state = fresh.getElementById("state");
  say(state.textContent, state.className);
}

let pause = PAUSE_MS;
let timer = 0;

async function run() {
  clearTimeout(timer);
  // A list of a registry stays as it is, because tarn would ask the registry again.
  if (document.hidden || document.querySelector("[data-still]")) return;
  try {
    await refresh();
    pause = PAUSE_MS;
  } catch (error) {
    say("No answer from tarn: these are old numbers", "bad");
    pause = Math.min(pause * 2, MOST_PAUSE_MS);
  }
  clearTimeout(timer);
  timer = setTimeout(run, pause);
}

async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  // Browsers offer the clipboard to pages with https only.
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("refused");
}

document.addEventListener("click", async event => {
  const button = event.target.closest(".copy");
  if (!button) return;
  const code = button.parentElement.querySelector("code");
  let said = "Copied";
  try {
    await copy(code.textContent);
  } catch (error) {
    getSelection().selectAllChildren(code);
    said = "Selected";
  }
  button.focus();
  button.textContent = said;
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

document.addEventListener("visibilitychange", () => { if (!document.hidden) run(); });
adaptScheme(document);
timer = setTimeout(run, PAUSE_MS);
