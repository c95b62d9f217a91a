import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrowserContext, Page } from "playwright-core";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const name = `会话${Date.now().toString(36)}`;
let context: BrowserContext;
let page: Page;

beforeAll(async () => {
  context = await open({ width: 1280, height: 800 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE, "sales1");
});

afterAll(() => context?.close());

describe("a session that ends while somebody types", () => {
  it("asks once, beside the page, and loses nothing of what was typed", async () => {
    await visit(page, "/accounts/new");
    await page.getByLabel("客户名称").fill(name);
    await page.getByLabel("背景").fill("写了一半的话");
    const cookies = await context.cookies();
    await context.clearCookies();
    expect(cookies.length).toBeGreaterThan(0);
    await page.getByRole("button", { name: "保存", exact: true }).click();
    const dialog = page.getByRole("dialog").filter({ hasText: "登录已过期" });
    await dialog.waitFor();
    await check(page, "session-ended");
    expect(await page.getByRole("dialog").count()).toBe(1);

    const [second] = await Promise.all([
      context.waitForEvent("page"),
      dialog.getByRole("link", { name: "登录" }).click(),
    ]);
    await second.locator('button[value="sales1"]').click();
    await dialog.waitFor({ state: "hidden" });
    expect(await page.getByLabel("客户名称").inputValue()).toBe(name);
    expect(await page.getByLabel("背景").inputValue()).toBe("写了一半的话");
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.getByRole("heading", { level: 1, name }).waitFor();
    const kept = await api(page, "GET", `/v1/accounts?q=${encodeURIComponent(name)}`);
    expect(kept["accounts"]).toHaveLength(1);
  });

  it("ends in every window when one signs out", async () => {
    const second = await context.newPage();
    await visit(second, "/");
    await second.getByRole("button", { name: /肖一凡/ }).click();
    await second.getByRole("menuitem", { name: "退出登录" }).click();
    await page.getByRole("link", { name: "登录", exact: true }).waitFor({ timeout: 4_000 });
  });

  it("was kept out nowhere", () => expect(barriers).toEqual([]));
});
