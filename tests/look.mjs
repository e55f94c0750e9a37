// Opens pages in headless Chromium at each width and in each theme; prints, as JSON, what axe-core finds on each.
//     node look.mjs FOLDER < [{"url": ..., "waitFor": a selector, or null}, ...]
// FOLDER holds the node_modules with axe-core and puppeteer-core.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.argv[2] + "/");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const LOOKS = [1280, 390].flatMap((width) => ["light", "dark"].map((theme) => ({ width, theme })));
const RULES = ["color-contrast", "image-alt", "svg-img-alt", "link-in-text-block"];

// In the page: what axe-core finds, and how far the page and, within it, a report's tables are too wide; whether text lies on
// other text of a list of facts.
const look = async (rules) => {
  const found = await axe.run(document, { runOnly: rules });
  const tables = [...document.querySelectorAll(".box")].map((box) => box.scrollWidth - box.clientWidth);
  return {
    violations: found.violations.flatMap((each) => each.nodes.map((node) => `${each.id}: ${node.html}`)),
    checked: found.passes.length + found.violations.length,
    over: document.documentElement.scrollWidth - innerWidth,
    tables,
    terms: Math.max(0, ...[...document.querySelectorAll(".heads dt")].map((term) => term.scrollWidth - term.clientWidth)),
    results: document.querySelectorAll("#search-results ul.search li").length,
  };
};

const pages = JSON.parse(readFileSync(0, "utf8"));
const browser = await require("puppeteer-core").launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});
const seen = [];
for (const { width, theme } of LOOKS) {
  const page = await browser.newPage();
  await page.setBypassCSP(true); // axe-core is a script
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
  for (const { url, waitFor } of pages) {
    await page.goto(url, { waitUntil: "domcontentloaded" });
    if (waitFor) await page.waitForSelector(waitFor);
    await page.evaluate(axe);
    await new Promise((done) => setTimeout(done, 100)); // colours change by transitions
    seen.push({ url, width, theme, ...(await page.evaluate(look, RULES)) });
  }
  await page.close();
}
await browser.close();
console.log(JSON.stringify(seen));
