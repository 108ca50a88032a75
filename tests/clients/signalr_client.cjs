// A client of the hub by Microsoft's library: keeps its cursor, comes back whenever it can, and prints what it is told, one JSON object per line.
// One argument, a JSON object: urls (tried in turn), token, transport, filters, cursor, and what the tests switch on beside.
"use strict";

const signalR = require("@microsoft/signalr");

const options = JSON.parse(process.argv[2]);
// Events may come before the call that asks for them is answered; the first line says that it was.
let early = [];
const write = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const say = (what) => (early ? early.push(what) : write(what));
const begin = () => {
  if (!early) return;
  const lines = early;
  early = null;
  write({ ready: true });
  lines.forEach(write);
};
const fail = (error) => {
  process.stderr.write(`Traceback: ${error && error.stack ? error.stack : error}\n`);
  process.exit(1);
};
process.on("unhandledRejection", fail);
process.on("uncaughtException", fail);

let cursor = options.cursor || null;

async function ticket(url) {
  const address = new URL(`/v1/tickets${options.ticket || ""}`, url);
  const answer = await fetch(address, { method: "POST", headers: { authorization: `Bearer ${options.token}` } });
  return (await answer.json()).ticket;
}

// Negotiates at another instance than the one that gets the WebSocket, as behind a balancer.
class Elsewhere extends signalR.DefaultHttpClient {
  send(request) {
    return super.send({ ...request, url: request.url.replace(new URL(request.url).host, new URL(options.negotiateAt).host) });
  }
}

function build(url) {
  const http = {
    httpClient: options.negotiateAt ? new Elsewhere({ log() {} }) : undefined,
    transport: options.transport ? signalR.HttpTransportType[options.transport] : undefined,
    skipNegotiation: options.skipNegotiation || false,
  };
  if (options.ticket !== undefined) http.accessTokenFactory = () => ticket(url);
  else if (options.asFactory) http.accessTokenFactory = () => options.token;
  else http.headers = { Authorization: `Bearer ${options.token}` };
  let builder = new signalR.HubConnectionBuilder()
    .withUrl(url, http)
    .configureLogging(options.log || signalR.LogLevel.None)
    .withAutomaticReconnect({ nextRetryDelayInMilliseconds: (context) => (context.previousRetryCount < 3 ? 50 : null) });
  if (options.stateful) builder = builder.withStatefulReconnect();
  if (options.messagePack) builder = builder.withHubProtocol(new (require("@microsoft/signalr-protocol-msgpack").MessagePackHubProtocol)());
  return builder.build();
}

function take(event, at) {
  cursor = at;
  say({ id: event.id, cursor: at, type: event.type });
}

async function subscribe(connection) {
  if (options.stream) {
    const items = connection.stream("Events", options.filters || null, cursor);
    await new Promise((resolve) => {
      items.subscribe({ next: (event) => take(event, event.cursor), complete: resolve, error: resolve });
      begin();
    });
    return;
  }
  const result = await connection.invoke("Subscribe", options.filters || null, cursor);
  begin();
  if (options.tells) say({ subscribed: result, connection: connection.connectionId });
}

async function follow(url) {
  const connection = build(url);
  connection.serverTimeoutInMilliseconds = options.serverTimeout || 30000;
  connection.keepAliveIntervalInMilliseconds = options.keepAlive || 15000;
  connection.on("event", take);
  connection.on("gap", (gap) => say({ gap }));
  connection.on("cursor", (at) => { cursor = at; say({ bookmark: at }); });
  const closed = new Promise((resolve) => connection.onclose(resolve));
  connection.onreconnecting((error) => options.tells && say({ reconnecting: String(error) }));
  connection.onreconnected(() => subscribe(connection).catch(() => {}));
  await connection.start();
  await subscribe(connection);
  if (options.calls) {
    for (const [method, ...parameters] of options.calls) {
      await connection.invoke(method, ...parameters).then((result) => say({ method, result }), (error) => say({ method, error: error.message }));
    }
  }
  const error = await closed;
  if (options.tells) say({ closed: error ? String(error) : null });
}

async function main() {
  for (let turn = 0; ; turn += 1) {
    try {
      await follow(options.urls[turn % options.urls.length]);
      if (options.once) return begin();
    } catch (error) {
      if (options.once) return write({ failed: String(error) });
    }
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

main().catch(fail);
