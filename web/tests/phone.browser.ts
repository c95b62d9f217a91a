import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrowserContext, Page } from "playwright-core";
import { open } from "./browser.ts";
import { barriers, BASE, check, settled, visit } from "./pages.ts";

let context: BrowserContext;
let page: Page;

beforeAll(async () => {
  context = await open({ width: 390, height: 844, locale: "en" });
  page = context.pages()[0] ?? (await context.newPage());
  // As if the person had picked the language on this device: it counts more than that of the account.
  await page.addInitScript(() => localStorage.setItem("guanxi.language", "en"));
});

afterAll(() => context?.close());

describe("a person on the way, in English", () => {
  it("signs in", async () => {
    await page.goto(BASE);
    await check(page, "phone-sign-in");
    await page.getByRole("link", { name: "Sign in", exact: true }).click();
    await page.locator('button[value="sales1"]').click();
    await page.getByRole("heading", { level: 1 }).waitFor();
    await check(page, "phone-home");
    expect(await page.locator("html").getAttribute("lang")).toBe("en");
  });

  it("makes a customer and finds it in the list", async () => {
    const name = `Harbour Works ${Date.now().toString(36)}`;
    await page.getByLabel("Name", { exact: true }).fill(name);
    await page.getByLabel("Phone", { exact: true }).fill("+86 138 0013 8000");
    await page.getByRole("button", { name: "Create", exact: true }).click();
    await page.getByRole("heading", { level: 1, name }).waitFor();
    await check(page, "phone-account");
    await visit(page, "/accounts");
    await page.getByText(name).first().waitFor();
    await check(page, "phone-list");
  });

  it("never scrolls a page sideways", async () => {
    for (const path of ["/", "/accounts", "/accounts/new", "/opportunities?view=board", "/funnel"]) {
      await visit(page, path);
      await settled(page);
      expect(await page.evaluate(() => document.documentElement.scrollWidth), path).toBeLessThanOrEqual(390);
    }
  });

  it("was kept out nowhere", () => expect(barriers).toEqual([]));
});
