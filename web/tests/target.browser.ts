import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, press, visit, openTab } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const mark = Date.now().toString(36);
const NAME = `季度签约${mark}`;
const ACTION = `每周拜访五家${mark}`;

let context: BrowserContext;
let page: Page;
let path = "";

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE, "manager");
  const { employee } = await api(page, "GET", "/session");
  const today = new Date();
  const made = await api(page, "POST", "/v1/targets", {
    displayName: NAME,
    subject: employee,
    period: "QUARTER",
    fromDate: { year: today.getFullYear(), month: today.getMonth() + 1, day: today.getDate() },
    metric: "SIGNED",
    currency: "CNY",
    base: "300000.01",
    actions: [{ text: ACTION, expectedEffect: "50000" }],
  });
  path = `/${String(made["name"])}`;
});

afterAll(() => context?.close());

describe("a target", () => {
  it("is shared among the months to the cent, and each part leads further down", async () => {
    await visit(page, path);
    await page.getByRole("button", { name: "分解", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await choose(page, dialog.getByLabel("分解到周期"), "月");
    await check(page, "target-distribute");
    await dialog.getByRole("button", { name: "分解" }).click();
    await dialog.waitFor({ state: "detached" });
    await openTab(page, "计划与分解");
    const parts = page.getByRole("tabpanel").locator("tbody tr");
    await parts.nth(2).waitFor();
    expect(await page.getByText("¥100,000.00").count()).toBeGreaterThan(0);
    await check(page, "target-parts");
    await parts.first().getByRole("link").first().click();
    await page.getByRole("link", { name: NAME }).first().waitFor();
  });

  it("is in force, says how it stands, and what was done for it", async () => {
    await visit(page, path);
    await press(page, "批准", "执行中");
    await page.locator(".figure").filter({ hasText: "计划线" }).first().waitFor();
    await check(page, "target-check");
    await openTab(page, "完成明细");
    await page.getByText("还没有完成额").waitFor();
    await openTab(page, "措施与改进");
    await page.getByRole("button", { name: `完成措施：${ACTION}` }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("实际效果").fill("42000");
    await dialog.getByRole("button", { name: "完成措施" }).click();
    await dialog.waitFor({ state: "detached" });
    await page.getByText("¥42,000.00").waitFor();
    await check(page, "target-act");
  });

  it("is read on a phone, and made with a picker for whose it is", async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    await visit(page, `${path}?tab=act`);
    await check(page, "target-phone");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    await page.setViewportSize({ width: 1440, height: 900 });
    await visit(page, "/targets/new");
    await choose(page, page.getByLabel("考核对象的类型"), "员工");
    await choose(page, page.getByLabel("考核对象", { exact: true }), "肖一凡", "肖一凡");
    await check(page, "target-form");
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
