// Looks at a page of tarn in a headless chromium: node browser.js LOOK URL [ARGUMENT]. Prints one
// line of JSON with what it saw. A look that waits for the test prints "ready" and reads a line.
"use strict";

const fs = require("fs");
const readline = require("readline");
const { chromium } = require("playwright-core");

const SIZES = { wide: { width: 1280, height: 900 }, phone: { width: 390, height: 844 },
  picture: { width: 1200, height: 1250 } };

// A page with what went wrong in it: messages, violations of the policy, requests elsewhere.
async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: SIZES.wide, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("pageerror", error => wrong.push(error.message));
  page.on("console", message => {
    const is404 = /status of 404/.test(message.text()); // of an image that is not there
    if (["error", "warning"].includes(message.type()) && !is404) wrong.push(message.text());
  });
  page.on("request", request => {
    if (new URL(request.url()).origin !== new URL(url).origin) wrong.push(request.url());
  });
  await page.goto(url);
  return { page, context, wrong };
}

const told = () => new Promise(resolve => {
  readline.createInterface({ input: process.stdin }).once("line", resolve);
  console.log("ready");
});

// The next refresh by the script has ended: a response came and was put in place.
async function refreshed(page) {
  await page.waitForResponse(response => response.request().resourceType() === "fetch");
  await page.evaluate(() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50))));
}

const looks = {
  // What axe-core finds, in one scheme of colours and one size.
  async axe(browser, url, { colorScheme, size }) {
    const { page, wrong } = await open(browser, url, { colorScheme, viewport: SIZES[size],
      bypassCSP: true });
    for (const details of await page.locator("details").all())
      await details.evaluate(element => { element.open = true; });
    await page.addScriptTag({ content: fs.readFileSync(require.resolve("axe-core"), "utf8") });
    const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    return { wrong, violations: found.violations.map(one => ({ id: one.id,
      nodes: one.nodes.map(node => `${node.html.slice(0, 150)} ${node.failureSummary}`) })) };
  },

  // Whether the page is wider than the screen, and whether it loads without a complaint.
  async fits(browser, url, { size, colorScheme }) {
    const { page, wrong } = await open(browser, url, { viewport: SIZES[size], colorScheme });
    if (!await page.locator("[data-still]").count()) await refreshed(page);
    return { wrong, width: await page.evaluate(() => document.documentElement.scrollWidth),
      screen: SIZES[size].width,
      background: await page.evaluate(() => getComputedStyle(document.body).backgroundColor) };
  },

  async without_script(browser, url) {
    const { page, wrong } = await open(browser, url, { javaScriptEnabled: false });
    const ranges = [];
    for (const range of ["hour", "day", "month"]) {
      await page.locator(`label[for=range-${range}]`).click();
      ranges.push(await page.locator(".range:visible").getAttribute("class"));
    }
    const text = await page.locator("body").innerText();
    await page.locator("#search").fill("app");
    await page.locator("#search").press("Enter");
    return { wrong, text, ranges, searched: page.url(), found: await page.locator("main").innerText(),
      copies: await page.locator(".copy:visible").count() };
  },

  // Numbers move without a reload, nothing jumps, and what the visitor has begun stays.
  async moves(browser, url, selector) {
    const { page, wrong } = await open(browser, url);
    await page.evaluate(() => {
      window.sameDocument = true;
      window.shift = 0;
      new PerformanceObserver(list => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
      }).observe({ type: "layout-shift", buffered: true });
    });
    await page.locator("#search").fill("half a wo");
    await refreshed(page);
    const before = await page.locator(selector).innerText();
    await told();
    await page.waitForFunction(({ selector, before }) =>
      document.querySelector(selector).innerText !== before, { selector, before }, { timeout: 30000 });
    return { wrong, before, after: await page.locator(selector).innerText(),
      same: await page.evaluate(() => window.sameDocument),
      shift: await page.evaluate(() => window.shift),
      search: await page.locator("#search").inputValue(),
      focus: await page.evaluate(() => document.activeElement.id) };
  },

  // A transfer's bar moves, as the same element.
  async transfer(browser, url) {
    const { page, wrong } = await open(browser, url);
    const bar = page.locator("progress").first();
    await bar.evaluate(element => { element.marked = true; });
    const before = await bar.evaluate(element => element.value);
    await page.waitForFunction(old => {
      const element = document.querySelector("progress");
      return element && element.marked && element.value > old;
    }, before, { timeout: 30000 });
    return { wrong, before, after: await bar.evaluate(element => element.value) };
  },

  async keyboard(browser, url) {
    const { page, context, wrong } = await open(browser, url);
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.keyboard.press("Tab");
    const first = await page.evaluate(() => document.activeElement.textContent);
    await page.locator("#range-hour").focus();
    await page.keyboard.press("ArrowRight");
    const range = await page.locator(".range:visible").getAttribute("class");
    await page.locator(".copy").first().focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.activeElement.textContent === "Copied");
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    await refreshed(page);
    return { wrong, first, range, copied, kept: await page.locator(".range:visible").getAttribute("class") };
  },

  async details_stay_open(browser, url) {
    const { page, wrong } = await open(browser, url);
    await page.locator("summary").first().click();
    await refreshed(page);
    await refreshed(page);
    return { wrong, open: await page.locator("details").first().evaluate(element => element.open) };
  },

  // What the visitor reads when tarn has gone, and when it is back.
  async gone_and_back(browser, url) {
    const { page } = await open(browser, url);
    await refreshed(page);
    const before = await page.locator("#state").innerText();
    await told();
    await page.waitForFunction(() => /No answer/.test(document.getElementById("state").innerText),
      null, { timeout: 30000 });
    const gone = await page.locator("#state").innerText();
    await told();
    await page.waitForFunction(old => document.getElementById("state").innerText === old, before,
      { timeout: 60000 });
    return { before, gone, back: await page.locator("#state").innerText() };
  },

  async picture(browser, url, { path, colorScheme, size, full }) {
    const { page, wrong } = await open(browser, url, { colorScheme, viewport: SIZES[size] });
    await refreshed(page);
    await page.screenshot({ path, fullPage: full });
    return { wrong };
  },
};

(async () => {
  const [look, url, argument] = process.argv.slice(2);
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  try {
    console.log(JSON.stringify(await looks[look](browser, url, argument && JSON.parse(argument))));
  } finally {
    await browser.close();
  }
})().then(() => process.exit(0), error => {
  console.error(error);
  process.exit(1);
});
