// The dashboard of the emulator: shows what the feed sends, and sends what the buttons say.
// It knows nothing of credits or faults; the server renders, and each button names its request.

const element = (id) => document.getElementById(id);

// Showing what has changed

// Make one element like another, and touch nothing that is alike: focus, selection, what is typed into
// fields and how far tables are scrolled stay as they are.
function become(old, fresh) {
  if (old.isEqualNode(fresh) || old.hasAttribute("data-keep")) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const match = (child.id && known.get(child.id)) || (isLike(place, child) ? place : null);
    if (!match) {
      old.insertBefore(child, place);
      continue;
    }
    if (match === place) place = place.nextSibling;
    else old.insertBefore(match, place);
    if (match.nodeType === Node.ELEMENT_NODE) become(match, child);
    else if (match.data !== child.data) match.data = child.data;
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function isLike(old, fresh) {
  return old !== null && old.nodeName === fresh.nodeName && !old.id && !fresh.id;
}

function show(html) {
  const fresh = element("main").cloneNode(false);
  fresh.innerHTML = html;
  become(element("main"), fresh);
  readClock();
  tick();
}

// The clock and the countdowns

let emulatorOffset = 0; // seconds that the emulator is ahead of this browser
let frozenAt = null;

function readClock() {
  const clock = document.querySelector("[data-now]");
  const now = Number(clock.dataset.now);
  frozenAt = clock.hasAttribute("data-frozen") ? now : null;
  emulatorOffset = now - Date.now() / 1000;
}

function tick() {
  const now = frozenAt ?? Date.now() / 1000 + emulatorOffset;
  const clock = document.querySelector("[data-now]");
  clock.textContent = `${new Date(now * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
  for (const time of document.querySelectorAll("[data-until]")) {
    const seconds = Math.max(0, Math.ceil(Number(time.dataset.until) - now));
    const rest = seconds % 60;
    const minutes = (seconds - rest) / 60;
    time.textContent = minutes ? `${minutes} min ${String(rest).padStart(2, "0")} s` : `${rest} s`;
  }
}

// Sending

class Refusal extends Error {}

async function send(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { "content-type": "application/json" },
    body: method === "GET" ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  if (response.ok) return text;
  let message = text;
  try {
    message = JSON.parse(text).error;
  } catch {
    // Not one of the emulator's own errors: the text says what there is to say.
  }
  throw new Refusal(message);
}

const toldFor = 8000; // milliseconds
let forgetting = 0;

function tell(text, failed = false) {
  const status = element("status");
  status.className = failed ? "failed" : "";
  status.textContent = text;
  clearTimeout(forgetting);
  forgetting = setTimeout(() => (status.textContent = ""), toldFor);
}

async function act(source, body) {
  const { send: path, method, done, result } = source.dataset;
  try {
    const answer = await send(method, path, body);
    if (result) {
      element(result).innerHTML = answer;
      element(result).focus();
    }
    tell(done ?? "Done");
  } catch (error) {
    if (error instanceof Refusal) tell(error.message, true);
    else if (body.kind === "refuse") goOnElsewhere();
    else tell(`No answer: ${error.message}`, true);
  }
}

// The fields of a form that are not empty; numbers as numbers.
function fields(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.value === "") continue;
    body[field.name] = field.type === "number" ? field.valueAsNumber : field.value;
  }
  return body;
}

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-send]");
  if (!form) return;
  event.preventDefault();
  act(form, fields(form));
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.hasAttribute("data-close")) button.closest("dialog").close();
  else if (button.dataset.edit) edit(button);
  else if (button.dataset.send) {
    if (button.dataset.confirm && !(await confirmed(button.dataset.confirm))) return;
    act(button, JSON.parse(button.dataset.body));
  }
});

// Dialogs

function confirmed(question) {
  const dialog = element("confirmation");
  element("confirmation-text").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

element("confirmation-yes").addEventListener("click", () => element("confirmation").close("yes"));

let editedKind = "";

async function edit(button) {
  try {
    const entity = JSON.parse(await send("GET", button.dataset.path));
    editedKind = button.dataset.edit;
    element("editor-title").textContent = button.getAttribute("aria-label");
    element("editor-text").value = JSON.stringify(entity, null, 2);
    element("editor-error").textContent = "";
    element("editor").showModal();
  } catch (error) {
    tell(error.message, true);
  }
}

element("editor-save").addEventListener("click", async () => {
  try {
    const entity = JSON.parse(element("editor-text").value);
    await send("PUT", `/_emulator/${editedKind}`, entity);
    element("editor").close();
    tell(`Saved ${editedKind} ${entity.id}`);
  } catch (error) {
    element("editor-error").textContent = error.message;
  }
});

// The feed

const connection = element("connection");

// A fault may close the port of this page; the control port stays open, and has the same page.
function goOnElsewhere() {
  if (location.origin !== connection.dataset.control) location.replace(`${connection.dataset.control}/`);
}

function follow() {
  const feed = new EventSource(element("main").dataset.feed);
  feed.addEventListener("open", () => {
    connection.className = "";
    connection.textContent = "live";
  });
  feed.addEventListener("message", (event) => show(JSON.parse(event.data)));
  feed.addEventListener("error", () => {
    connection.className = "lost";
    connection.textContent = `no answer; if a fault refuses connections, go on at ${connection.dataset.control}`;
  });
}

readClock();
tick();
setInterval(tick, 500);
follow();
