import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { BASE, picture, settled, unwritten, violations } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const PHONE = { width: 375, height: 740 };
const DESK = { width: 1440, height: 900 };
const QUIET_MS = 100;
const WALKERS = 2;
/** The walk takes 90 s; a machine that is three times slower has its time too. */
const LONGEST_MS = 290_000;
/** The next page stands within a second; on a machine that does other work too, each step has this long. */
const STEP_MS = 60_000;
/** What a server says that is too busy: the client asks again, and the page must stand in the end. */
const BUSY = [429, 503, 504];

let context: BrowserContext;

beforeAll(async () => {
  context = await open(DESK);
  context.setDefaultTimeout(STEP_MS);
});

afterAll(() => context?.close());

/** Notes what goes wrong on a page from now on; what is taken is forgotten. */
function watch(page: Page): () => string[] {
  let faults: string[] = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => {
    // What could not be loaded is told by the answer itself.
    if (message.type() === "error" && !message.text().startsWith("Failed to load"))
      faults.push(message.text());
  });
  page.on("response", (answer) => {
    // No fault: a link to what the reader may not see, and what is told in words, as that no standard is in force.
    if (
      answer.status() >= 400 &&
      answer.status() !== 404 &&
      !BUSY.includes(answer.status()) &&
      !answer.url().includes("/v1/appraisals:performance")
    )
      faults.push(`${answer.status()} ${answer.url()}`);
  });
  return () => {
    const all = faults;
    faults = [];
    return all;
  };
}

/** Follows a link of the menu inside the client, as a click does. */
async function follow(page: Page, path: string): Promise<void> {
  await page.evaluate((to) => {
    history.pushState({}, "", to);
    dispatchEvent(new PopStateEvent("popstate", { state: {} }));
  }, path);
  // Until the code of the next page is there, the one before stands.
  await page.locator(`.nav a.nav-item[aria-current=page][href="${path}"]`).waitFor({ state: "attached" });
  await page.locator("main h1").first().waitFor();
  await settled(page, QUIET_MS);
}

/** What the page itself says could not be shown. */
const failures = (page: Page) => page.locator("main .note-bad:visible").allInnerTexts();

const tooWide = (page: Page) =>
  page.evaluate((width) => document.documentElement.scrollWidth > width, PHONE.width);

describe.each([
  ["admin", "zh-CN"],
  ["finance", "en"],
])("the menu of %s", (who, language) => {
  it(
    "leads to pages without an error, an unwritten text, a barrier or a row too wide",
    async () => {
      await context.clearCookies();
      const first = context.pages()[0] ?? (await context.newPage());
      await first.goto(BASE);
      await first.evaluate(() => localStorage.setItem("guanxi.language", "zh-CN"));
      await signIn(first, BASE, who);
      await first.evaluate((to) => localStorage.setItem("guanxi.language", to), language);
      // Groups that are closed are opened: what they hide is part of the menu.
      const closed = first.locator(".nav .nav-group[aria-expanded=false]");
      while ((await closed.count()) > 0) await closed.first().click();
      const paths = await first
        .locator(".nav a.nav-item")
        .evaluateAll((links) => links.map((link) => link.getAttribute("href") ?? ""));
      expect(paths.length).toBeGreaterThan(20);

      const met: Record<string, string[]> = {};
      const walk = async (own: string[]) => {
        const page = await context.newPage();
        const faults = watch(page);
        await page.goto(BASE);
        for (const path of own) {
          await follow(page, path);
          // What stands around every page is looked at once.
          const barriers = await violations(page, path === own[0] ? "html" : "main");
          const texts = await unwritten(page);
          const title = `${who}${path.replaceAll("/", "-")}`;
          await picture(page, title);
          await page.setViewportSize(PHONE);
          const wide = (await tooWide(page)) ? ["wider than a phone"] : [];
          await picture(page, `${title}-phone`);
          await page.setViewportSize(DESK);
          const all = [...faults(), ...(await failures(page)), ...texts, ...barriers, ...wide];
          if (all.length > 0) met[path] = all;
        }
        await page.close();
      };
      await Promise.all(
        Array.from({ length: WALKERS }, (_, at) => walk(paths.filter((__, place) => place % WALKERS === at))),
      );
      expect(met).toEqual({});
    },
    LONGEST_MS,
  );
});
