// Goes through the console as an operator does, in a real browser: the dead letters of one handler, their groups, the first ten once more, then the
// rest. Then the same pages without a script, and all of them for those who cannot see them, in both themes.
// Arguments: address of the console, token, path of the browser, directory for pictures or "". Prints one JSON object per line.
"use strict";

const { chromium } = require("playwright-core");
const axe = require("axe-core");

const [address, token, executablePath, pictures] = process.argv.slice(2);
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const trouble = [];

const watch = (page) => {
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) trouble.push(`console: ${message.text()}`); });
  page.on("pageerror", (error) => trouble.push(`script: ${error.message}`));
  page.on("dialog", (dialog) => { trouble.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
};

const logIn = async (page) => {
  await page.goto(address);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { level: 1 }).first().waitFor();
};

// From the front page to the replay of the first ten, and then of the rest. Every step is a click on what is shown.
const replayAll = async (page) => {
  let clicks = 0;
  const click = async (locator) => { await locator.click(); clicks += 1; };
  await page.goto(address);
  await click(page.getByRole("link", { name: "Show the dead letters" }).first());
  await click(page.getByRole("row", { name: /the receiver is on fire/ }).getByRole("link", { name: "Replay…" }));
  const shown = await page.locator(".chosen span.number").innerText();
  await click(page.getByRole("button", { name: "Replay", exact: true }));
  await page.getByRole("link", { name: "Replay the rest…" }).waitFor();
  const first = await page.locator(".facts").innerText();
  await click(page.getByRole("link", { name: "Replay the rest…" }));
  await page.getByLabel("All of them").check();
  await page.getByLabel("At most").fill("500/s");
  await click(page.getByRole("button", { name: "Replay", exact: true }));
  await page.locator(".badge", { hasText: "done" }).first().waitFor();
  const rest = await page.locator(".facts").innerText();
  return { clicks, shown, first, rest };
};

// A payload is corrected: the recorded one is in the field, and what would change is shown before anything is changed.
const editLetter = async (page) => {
  await page.goto(address + process.env.CONSOLE_LETTER);
  await page.getByRole("link", { name: "Edit…" }).click();
  const field = page.getByLabel("Payload, a JSON object");
  const text = await field.inputValue();
  await field.fill(text.replace(/"n": \d+/, '"n": 12345678901234567891'));
  await page.getByRole("button", { name: "Show what would change" }).click();
  const changes = await page.locator(".chosen").innerText();
  await page.getByLabel("Why").fill("a number that was wrong");
  await page.getByRole("button", { name: "Record it and discard the letter" }).click();
  await page.locator(".badge", { hasText: "delivered" }).first().waitFor();
  return { changes, done: await page.locator("main").innerText() };
};

const useKeys = async (page) => {
  await page.goto(address);
  await page.keyboard.press("g");
  await page.keyboard.press("e");
  await page.getByRole("heading", { name: "Events" }).waitFor();
  const gone = page.url();
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  const focused = await page.evaluate(() => document.activeElement.tagName);
  await page.keyboard.press("?");
  const help = await page.getByRole("dialog").isVisible();
  await page.keyboard.press("Escape");
  return { gone, focused, help };
};

// Somewhere with another clock: the switch holds from page to page.
const switchZone = async (browser, context) => {
  const there = await browser.newContext({ timezoneId: "Asia/Tokyo", locale: "de-DE", storageState: await context.storageState() });
  const page = await there.newPage();
  watch(page);
  await page.goto(`${address}events`);
  const clock = page.locator("main time .clock").first();
  const utc = await clock.innerText();
  await page.getByRole("button", { name: "Times: UTC" }).click();
  const local = await clock.innerText();
  await page.goto(`${address}events`);
  const kept = await page.locator("main time .clock").first().innerText();
  await there.close();
  return { utc, local, kept };
};

// A page that nobody sees asks for nothing, and looks again as soon as it is seen. The clock of the page is ours.
const watchTail = async (context) => {
  const page = await context.newPage();
  watch(page);
  await page.clock.install();
  await page.goto(`${address}tail`);
  const hide = (isHidden) => page.evaluate((isHidden) => {
    Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, isHidden);
  await hide(true);
  let asked = 0;
  page.on("request", (request) => { if (request.url().endsWith("/tail")) asked += 1; });
  await page.clock.runFor(60_000);
  const hidden = asked;
  const request = page.waitForRequest(/tail/);
  await hide(false);
  await request;
  const response = page.waitForResponse(/tail/);
  await page.clock.runFor(4_000);
  const shown = (await response).ok();
  await page.close();
  return { hidden, shown };
};

const audit = async (page, name, theme) => {
  await page.evaluate(axe.source);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return found.violations.map((violation) => `${name} (${theme}): ${violation.id}: ${violation.nodes.map((node) => node.html).slice(0, 2).join(" ")}`);
};

const main = async () => {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  watch(page);
  await logIn(page);
  const paths = JSON.parse(process.env.CONSOLE_PATHS || "[]");
  if (pictures) {
    for (const [theme, width] of [["light", 1440], ["dark", 1440], ["light", 360], ["dark", 360]]) {
      await page.emulateMedia({ colorScheme: theme });
      await page.setViewportSize({ width, height: 900 });
      for (const [name, path] of paths) {
        await page.goto(address + path);
        await page.screenshot({ path: `${pictures}/${name}-${theme}-${width}.png`, fullPage: true });
      }
    }
    await page.setViewportSize({ width: 1440, height: 900 });
  }

  // A part of a page that is wider than the narrowest screen would be out of reach; axe needs its own script, which the policy of the pages
  // forbids, so it runs where the policy is not applied.
  const lax = await browser.newContext({ viewport: { width: 360, height: 800 }, bypassCSP: true, storageState: await context.storageState() });
  const reader = await lax.newPage();
  const violations = [];
  for (const theme of ["light", "dark"]) {
    await reader.emulateMedia({ colorScheme: theme });
    for (const [name, path] of paths) {
      await reader.goto(address + path);
      violations.push(...await audit(reader, name, theme));
      const wide = await reader.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (wide > 0) violations.push(`${name}: ${wide} pixels wider than a screen of 360`);
    }
  }
  await lax.close();
  say({ violations, pages: paths.length });

  say({ replayed: await replayAll(page) });

  const plain = await browser.newContext({ javaScriptEnabled: false, storageState: await context.storageState() });
  plain.setDefaultTimeout(20_000);
  const old = await plain.newPage();
  await old.goto(`${address}handlers/billing`);
  await old.getByRole("link", { name: "Pause…" }).click();
  await old.getByLabel("Why").fill("a test without a script");
  await old.getByRole("button", { name: "Pause the handler" }).click();
  const paused = await old.locator("main").innerText();
  await old.getByRole("link", { name: "Resume…" }).click();
  await old.getByRole("button", { name: "Resume the handler" }).click();
  const resumed = await old.locator("main").innerText();
  say({ plain: { paused, resumed } });

  say({ edited: await editLetter(page) });
  say({ keys: await useKeys(page) });
  say({ zone: await switchZone(browser, context) });
  say(await watchTail(context));

  // The next page needs a token again.
  await page.getByRole("button", { name: "Log out" }).click();
  await page.goto(`${address}audit`);
  say({ after: page.url(), trouble });
  await browser.close();
};

main().catch((error) => { process.stderr.write(`${error.stack}\n`); process.exit(1); });
