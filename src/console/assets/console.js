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
    const fresh = next.querySelector(`[data-part="${part.dataset.part}"]`);
    if (fresh && !isBusy(part) && !part.isEqualNode(fresh)) part.replaceWith(document.importNode(fresh, true));
  }
  const after = next.querySelector("main");
  if (!after || !after.hasAttribute("data-live")) clearInterval(timer);
};

const timer = seconds > 0 ? setInterval(() => look().catch(() => {}), seconds * 1000) : 0;
document.addEventListener("visibilitychange", () => { if (timer && !document.hidden) look().catch(() => {}); });

// The time as the clock of the reader shows it, beside UTC.
for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.dateTime);
  if (!Number.isNaN(at.getTime())) time.title = at.toLocaleString(undefined, { timeZoneName: "short" });
}

// "/" goes to the search field of a page.
document.addEventListener("keydown", (event) => {
  const isTyping = /^(input|select|textarea)$/i.test(event.target.tagName);
  const field = document.querySelector("[data-search]");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey || !field) return;
  event.preventDefault();
  field.focus();
});
