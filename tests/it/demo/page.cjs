// The page of the demo in a real browser: waits for events, reloads, waits for more.
// Arguments: address of the page, path of the browser. Prints one JSON object.
"use strict";

const { chromium } = require("playwright-core");

const [address, executablePath] = process.argv.slice(2);

const main = async () => {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(40_000);
  const trouble = [];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) trouble.push(message.text()); });
  page.on("pageerror", (error) => trouble.push(error.message));
  const cursors = () => page.locator("#events tr td:last-child").allInnerTexts();
  const waitFor = (count) => page.waitForFunction((count) => Number(document.getElementById("count").textContent) >= count, count);
  const answer = await page.goto(address);
  await waitFor(5);
  const state = await page.locator("#state").innerText();
  const type = await page.locator("#events tr td:nth-child(2)").first().innerText();
  const before = await cursors();
  await page.reload();
  await waitFor(5);
  const after = await cursors();
  // What the policy must forbid: a script in the page, and another place to talk to.
  const refused = await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "window.intruder = true";
    document.body.append(script);
    return window.intruder === undefined;
  });
  const violations = trouble.filter((text) => text.includes("Content Security Policy")).length;
  // While the relay starts, there is no ticket yet; the page tries again.
  const others = trouble.filter((text) => !text.includes("Content Security Policy") && !text.includes("503"));
  await browser.close();
  process.stdout.write(`${JSON.stringify({ state, type, before, after, refused, violations, others, policy: answer.headers()["content-security-policy"] })}\n`);
};

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
