import { chromium } from "playwright-core";
import { mkdtempSync, mkdirSync } from "node:fs";
const [, , size, locale, ...paths] = process.argv;
const [w, h] = size.split("x").map(Number);
mkdirSync("shots", { recursive: true });
const ctx = await chromium.launchPersistentContext(mkdtempSync("/tmp/gx-"), {
  executablePath: "/usr/bin/chromium",
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
  locale,
  viewport: { width: w, height: h },
  ...(w < 768 ? { hasTouch: true, isMobile: true } : {}),
});
await ctx.addInitScript(`localStorage.setItem("guanxi.language", "${locale}"); ${process.env.INIT ?? ""}`);
const page = ctx.pages()[0] ?? (await ctx.newPage());
page.on("console", (m) => {
  if (["error", "warning"].includes(m.type())) console.log(m.type(), m.text().slice(0, 400));
});
page.on("pageerror", (e) => console.log("PAGEERROR", e.message.slice(0, 600)));
const base = process.env.BASE ?? "http://127.0.0.1:7173";
for (const p of paths) {
  const [path, ...acts] = p.split("@@");
  await page.goto(base + path, { waitUntil: "domcontentloaded" });
  await page.waitForTimeout(Number(process.env.WAIT ?? 2500));
  for (const a of acts) {
    try {
      await eval(`(async()=>{${a}})()`);
    } catch (e) {
      console.log("ACT", e.message.slice(0, 300));
    }
    await page.waitForTimeout(700);
  }
  const name = `shots/${w}-${locale}-${path.replace(/[^\w]+/g, "_")}${acts.length ? "-act" : ""}.png`;
  await page.screenshot({ path: name });
  console.log(name);
}
await ctx.close();
