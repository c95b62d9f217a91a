import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrowserContext, Page } from "playwright-core";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, press, save, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const company = `访客${Date.now().toString(36)}公司`;
let context: BrowserContext;
let page: Page;
let path = "";

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
});

afterAll(() => context?.close());

describe("a form on the web", () => {
  it("is made of fields and published", async () => {
    await visit(page, "/forms/new");
    await page.getByLabel("表单标题").fill(`展厅咨询 ${company}`);
    await page.getByLabel("同意条款").fill("我们只为答复您的咨询使用这些信息。");
    await page.getByLabel("条款版本").fill("v1");
    for (const [row, [key, label, mapping]] of (
      [
        ["company", "公司名称", "companyName"],
        ["person", "您的姓名", "personName"],
        ["phone", "联系电话", "phone"],
      ] as const
    ).entries()) {
      await page.getByRole("button", { name: "添加一行" }).click();
      await page.getByLabel(`字段代码 ${row + 1}`).fill(key);
      await page.getByLabel(`显示名称 ${row + 1}`).fill(label);
      await page.getByLabel(`对应线索字段 ${row + 1}`).fill(mapping);
    }
    await page.getByRole("switch", { name: "必填 1" }).click();
    await check(page, "form-new");
    path = await save(page);
    await press(page, "发布", "已发布");
    await page.getByRole("link", { name: "公开地址" }).waitFor();
    await check(page, "form-published");
  });

  it("is filled in by a visitor on a phone, who is told at the field what is missing", async () => {
    const visitors = await open({ width: 390, height: 844 });
    const visitor = visitors.pages()[0] ?? (await visitors.newPage());
    await visitor.goto(`${BASE}/f/${path.split("/").at(-1)}?utm_source=wechat`);
    await visitor.getByRole("heading", { level: 1, name: /展厅咨询/ }).waitFor();
    await check(visitor, "web-form");
    await visitor.getByRole("button", { name: "提交" }).click();
    await visitor.getByText("请先同意").waitFor();
    await check(visitor, "web-form-errors");
    await visitor.getByLabel("公司名称").fill(company);
    await visitor.getByLabel("您的姓名").fill("王小明");
    await visitor.getByLabel("联系电话").fill("13900139000");
    await visitor.getByLabel("我已阅读并同意").check();
    await visitor.waitForTimeout(3_200);
    await visitor.getByRole("button", { name: "提交" }).click();
    await visitor.getByRole("status").filter({ hasText: /谢/ }).waitFor();
    await check(visitor, "web-form-thanks");
    expect(await visitor.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    await visitors.close();
  });

  it("becomes a lead", async () => {
    await expect
      .poll(
        async () => {
          const found = await api(page, "GET", `/v1/leads?q=${encodeURIComponent(company)}`);
          return ((found["leads"] ?? []) as { companyName: string }[]).map((lead) => lead.companyName);
        },
        { timeout: 15_000 },
      )
      .toEqual([company]);
  });

  it("says so where it was closed", async () => {
    await visit(page, path);
    await page.getByRole("button", { name: "关闭", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: "关闭", exact: true }).last().click();
    await page.locator("main .tag").filter({ hasText: "已关闭" }).first().waitFor();
    await page.goto(`${BASE}/f/${path.split("/").at(-1)}`);
    await page.getByRole("heading", { level: 1, name: "这个表单现在不可用" }).waitFor();
    await check(page, "web-form-closed");
  });

  it("was kept out nowhere", () => expect(barriers).toEqual([]));
});
