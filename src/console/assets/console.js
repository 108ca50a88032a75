// What pages do better with a script. All of it works without: a page is looked at again by loading it again.
"use strict";

// Parts of the page that change (data-part) are replaced every few seconds while somebody looks. A part that has the focus or a selection in it
// stays as it is, so that nothing moves under a hand.
const main = document.querySelector("main[data-live]");
const seconds = main ? Number(main.dataset.live) : 0;

const isBusy = (part) => {
  const selection = document.getSelection();
  const isSelected = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  return part.contains(document.activeElement) || isSelected;
};

const look = async () => {
  if (document.hidden) return;
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error" });
  if (!answer.ok) return;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-part]")) {
    const fresh = next.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`);
    if (!fresh || isBusy(part)) continue;
    const shown = document.importNode(fresh, true);
    showTimes(shown);
    if (!part.isEqualNode(shown)) part.replaceWith(shown);
  }
  const after = next.querySelector("main");
  if (!after || !after.hasAttribute("data-live")) clearInterval(timer);
};

const timer = seconds > 0 ? setInterval(() => look().catch(() => {}), seconds * 1000) : 0;
document.addEventListener("visibilitychange", () => { if (timer && !document.hidden) look().catch(() => {}); });

// Times are in UTC as the page comes. The switch shows them by the clock of the reader, and remembers that; the other one is always in the title.
const ZONE = "outboxd-zone";
const remembered = () => { try { return localStorage.getItem(ZONE); } catch { return null; } };
const remember = (zone) => { try { localStorage.setItem(ZONE, zone); } catch { /* a browser that keeps nothing */ } };
let isLocal = remembered() === "local";

const two = (number) => String(number).padStart(2, "0");
const local = (at) => {
  const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" }).formatToParts(at).find((part) => part.type === "timeZoneName");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())} ${zone ? zone.value : ""}`;
};
function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    const clock = time.querySelector(".clock");
    if (Number.isNaN(at.getTime()) || !clock) continue;
    const utc = clock.dataset.utc || clock.textContent;
    clock.dataset.utc = utc;
    [clock.textContent, time.title] = isLocal ? [local(at), utc] : [utc, local(at)];
  }
}

const who = document.querySelector(".who");
const zoneSwitch = document.createElement("button");
const nameSwitch = () => { zoneSwitch.textContent = isLocal ? "Times: local" : "Times: UTC"; zoneSwitch.title = isLocal ? "Show times in UTC" : "Show times by your own clock"; };
if (who) {
  zoneSwitch.type = "button";
  zoneSwitch.className = "plain";
  nameSwitch();
  zoneSwitch.addEventListener("click", () => { isLocal = !isLocal; remember(isLocal ? "local" : "utc"); nameSwitch(); showTimes(document); });
  who.prepend(zoneSwitch);
}
showTimes(document);

// Keys: "/" to the search field, "g" and a letter to a page, "j" and "k" through the rows of a list, "?" for this help.
const PAGES = { n: "Now", d: "Dead letters", r: "Replays", k: "Keys", a: "Alerts", e: "Events", m: "Map", h: "Handover", u: "Audit", c: "Doctor" };
const HELP = [["/", "to the search field"], ["j and k", "to the next and to the previous row of a list"], ["Enter", "opens what has the focus"],
  ...Object.entries(PAGES).map(([key, name]) => [`g ${key}`, name]), ["?", "this help"]];

const pageOf = (key) => [...document.querySelectorAll("nav a")].find((link) => link.textContent === PAGES[key]);

const rows = () => [...document.querySelectorAll("main tbody tr, main ul.list > li")].map((row) => row.querySelector("a[href]")).filter(Boolean);
const step = (by) => {
  const links = rows();
  if (links.length === 0) return;
  const row = document.activeElement ? document.activeElement.closest("tbody tr, ul.list > li") : null;
  const at = row ? links.findIndex((link) => row.contains(link)) : -1;
  const next = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + by, 0), links.length - 1);
  links[next].focus();
};

const help = () => {
  const known = document.querySelector("dialog.keys");
  if (known) { if (known.open) known.close(); else known.showModal(); return; }
  const dialog = document.createElement("dialog");
  dialog.className = "keys";
  dialog.setAttribute("aria-label", "Keys");
  const list = document.createElement("dl");
  for (const [key, what] of HELP) {
    const [term, text, mark] = [document.createElement("dt"), document.createElement("dd"), document.createElement("kbd")];
    mark.textContent = key;
    text.textContent = what;
    term.append(mark);
    list.append(term, text);
  }
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Close";
  close.addEventListener("click", () => dialog.close());
  dialog.append(list, close);
  document.body.append(dialog);
  dialog.showModal();
};

let isGoing = false;
document.addEventListener("keydown", (event) => {
  const isTyping = /^(input|select|textarea)$/i.test(event.target.tagName);
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const field = document.querySelector("[data-search]");
  const wasGoing = isGoing;
  isGoing = false;
  const link = wasGoing ? pageOf(event.key) : null;
  if (link) link.click();
  else if (event.key === "g") isGoing = true;
  else if (event.key === "/" && field) field.focus();
  else if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "?") help();
  else return;
  event.preventDefault();
});
