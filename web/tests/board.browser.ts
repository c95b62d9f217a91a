import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, BASE, settled, violations, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const CUSTOMER = `看板客户${stamp}`;
const DEALS = 2_000;
const AT_ONCE = 1_000;
// Five columns, each with what is in sight and a little ahead of it.
const MOST_CARDS = 120;

let context: BrowserContext;
let page: Page;
let account = "";

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE, "admin");
});

afterAll(() => context?.close());

describe("a board with two thousand deals", () => {
  it("gets them by an import", async () => {
    account = String(
      (await api(page, "POST", "/v1/accounts", { displayName: CUSTOMER, kind: "COMPANY" }))["name"],
    );
    const pipelines = (await api(page, "GET", "/v1/pipelines"))["pipelines"] as Record<string, unknown>[];
    const pipeline = pipelines.find((one) => one["isDefault"] === true) ?? pipelines[0];
    const stages = (pipeline?.["stages"] as { key: string }[]).map(({ key }) => key);
    const rows = Array.from({ length: DEALS }, (_, number) => ({
      externalId: `${stamp}-${number}`,
      account: CUSTOMER,
      stage: stages[number % stages.length],
      amount: "1.00",
    }));
    for (let first = 0; first < DEALS; first += AT_ONCE)
      // The customer is known to sales once its fact has come.
      await expect
        .poll(
          async () => {
            const done = await api(page, "POST", "/v1/opportunities:import", {
              rows: rows.slice(first, first + AT_ONCE),
              currency: "CNY",
              pipeline: pipeline?.["name"],
            });
            return Number(done["created"] ?? 0) + Number(done["known"] ?? 0);
          },
          { timeout: 60_000, interval: 1_000 },
        )
        .toBe(AT_ONCE);
  }, 180_000);

  it("holds in the page only what is in sight, however far one scrolls", async () => {
    await visit(page, `/opportunities?view=board&where=${encodeURIComponent(`account = "${account}"`)}`);
    await page.locator(".board-card").first().waitFor();
    await settled(page);
    expect(await page.locator(".board-card").count()).toBeLessThan(MOST_CARDS);
    const column = page.locator(".board-cards").first();
    const first = await column.locator(".board-card").first().innerText();
    for (let step = 0; step < 8; step++) {
      await column.evaluate((box) => box.scrollTo(0, box.scrollHeight));
      await settled(page);
      expect(await page.locator(".board-card").count()).toBeLessThan(MOST_CARDS);
    }
    expect(await column.evaluate((box) => box.scrollTop)).toBeGreaterThan(5_000);
    expect(await column.locator(".board-card").count()).toBeGreaterThan(3);
    await column.evaluate((box) => box.scrollTo(0, 0));
    await expect.poll(() => column.locator(".board-card").first().innerText()).toBe(first);
    expect(await violations(page)).toEqual([]);
  });

  it("counts every deal in the heads of its columns", async () => {
    const counts = await page.locator(".board-column header .tag").allInnerTexts();
    expect(counts.reduce((sum, count) => sum + Number(count), 0)).toBe(DEALS);
  });
});
