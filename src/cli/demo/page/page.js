// Shows the feed live. Keeps its cursor, and asks its server for a new ticket whenever it connects.
"use strict";

const MOST_ROWS = 100;
const TYPES = ["order.placed", "order.paid", "order.shipped", "order.cancelled"];
const feed = document.body.dataset.feed;
const state = document.getElementById("state");
const count = document.getElementById("count");
const rows = document.getElementById("events");
let cursor = sessionStorage.getItem("cursor") || "earliest";
let seen = 0;

// Text only: nothing of an event is markup.
const show = (event) => {
  const row = document.createElement("tr");
  for (const text of [event.time, event.type, event.subject, JSON.stringify(event.data), event.cursor]) {
    row.insertCell().textContent = text;
  }
  rows.prepend(row);
  while (rows.rows.length > MOST_ROWS) rows.deleteRow(-1);
  seen += 1;
  count.textContent = String(seen);
};

const keep = (next) => {
  if (!next) return;
  cursor = next;
  sessionStorage.setItem("cursor", next);
};

const again = () => {
  state.textContent = "reconnecting";
  setTimeout(connect, 1000 + Math.random() * 1000);
};

async function connect() {
  let ticket;
  try {
    const answer = await fetch("/ticket", { method: "POST" });
    if (!answer.ok) return again();
    ({ ticket } = await answer.json());
  } catch {
    return again();
  }
  const source = new EventSource(`${feed}?after=${encodeURIComponent(cursor)}&ticket=${encodeURIComponent(ticket)}`);
  let isOpen = false;
  source.onopen = () => {
    isOpen = true;
    state.textContent = "live";
  };
  const take = (message) => {
    show(JSON.parse(message.data));
    keep(message.lastEventId);
  };
  for (const type of TYPES) source.addEventListener(type, take);
  source.addEventListener("gap", (message) => keep(JSON.parse(message.data).cursor));
  // A ticket is good once, so EventSource cannot come back by itself.
  source.onerror = () => {
    source.close();
    // The cursor of another demo, from before: begin anew.
    if (!isOpen) keep("earliest");
    again();
  };
}

connect();
