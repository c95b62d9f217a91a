import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrowserContext, Page } from "playwright-core";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const mark = `批量${Date.now().toString(36)}`;
const site = `inline-${Date.now().toString(36)}.example.cn`;
let context: BrowserContext;
let page: Page;

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
  for (let number = 1; number <= 4; number++)
    await api(page, "POST", "/v1/accounts", { displayName: `${mark}公司${number}`, kind: "COMPANY" });
});

afterAll(() => context?.close());

const list = async () => {
  await visit(page, `/accounts?q=${encodeURIComponent(mark)}`);
  await page.getByRole("row").filter({ hasText: mark }).nth(3).waitFor();
};
const row = (number: number) => page.getByRole("row").filter({ hasText: `${mark}公司${number}` });

describe("many records at once", () => {
  it("changes one field of the chosen ones and saves it", async () => {
    await list();
    for (const number of [1, 2, 3]) await row(number).getByRole("checkbox").click();
    await page.getByText("已选 3 条").waitFor();
    await page.getByRole("button", { name: "批量修改" }).click();
    const dialog = page.getByRole("dialog");
    await choose(page, dialog.getByLabel("字段"), "背景", "背景");
    await dialog.getByLabel("背景").fill("展会上认识");
    await check(page, "bulk-edit");
    await dialog
      .getByRole("button", { name: /修改 3 条|3/ })
      .last()
      .click();
    await dialog.waitFor({ state: "hidden" });
    const found = await api(page, "GET", `/v1/accounts?q=${encodeURIComponent(mark)}&pageSize=10`);
    const changed = (found["accounts"] as { background?: string }[]).filter(
      ({ background }) => background === "展会上认识",
    );
    expect(changed).toHaveLength(3);
  });

  it("changes a value in its cell, and puts it back where the server refuses", async () => {
    await visit(
      page,
      `/accounts?q=${encodeURIComponent(mark)}&columns=displayName,website,level,employeeCount`,
    );
    await row(1).waitFor();
    await row(1).locator('[data-column="1"]').dblclick();
    await page.getByLabel("网站").fill(site);
    await page.keyboard.press("Enter");
    await row(1).getByText(site).waitFor();
    await row(1).locator('[data-column="3"]').dblclick();
    await page.getByLabel("员工人数").fill("-5");
    await page.keyboard.press("Enter");
    await row(1).getByRole("alert").waitFor();
    expect(await page.getByLabel("员工人数").inputValue()).toBe("");
    await page.keyboard.press("Escape");
    expect(await page.evaluate(() => document.activeElement?.getAttribute("role"))).toBe("row");
  });

  it("goes from cell to cell by Tab and keeps the old value on Escape", async () => {
    await row(2).focus();
    await page.keyboard.press("F2");
    await page.getByLabel("客户名称").waitFor();
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("Tab");
    await page.getByLabel("网站").fill("给忘掉的");
    await page.keyboard.press("Escape");
    expect(await row(2).innerText()).not.toContain("给忘掉的");
  });

  it("deletes the chosen ones and tells who refused", async () => {
    await list();
    const held = await api(page, "GET", `/v1/accounts?q=${encodeURIComponent(`${mark}公司4`)}&pageSize=1`);
    const [account] = held["accounts"] as { name: string }[];
    await api(page, "POST", "/v1/contacts", { displayName: "在用的人", account: account?.name });
    for (const number of [2, 3, 4]) await row(number).getByRole("checkbox").click();
    await page.getByRole("button", { name: "删除", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await check(page, "bulk-delete");
    await dialog.getByRole("button", { name: /删除.*3/ }).click();
    await row(2).waitFor({ state: "detached" });
    await row(3).waitFor({ state: "detached" });
    await dialog.getByText("1 条被拒绝").waitFor();
    await dialog.getByText(`${mark}公司4：`).waitFor();
    await check(page, "bulk-refused");
    await dialog.getByRole("button", { name: "关闭" }).last().click();
    await row(4).waitFor();
  });

  it("was kept out nowhere", () => expect(barriers).toEqual([]));
});
