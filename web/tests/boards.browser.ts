import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, field, openTab, press, save, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const mark = Date.now().toString(36);
let context: BrowserContext;
let page: Page;
let reading: BrowserContext;
let reader: Page;

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE, "manager");
  reading = await open({ width: 390, height: 844 });
  reader = reading.pages()[0] ?? (await reading.newPage());
  await signIn(reader, BASE, "sales1");
});

afterAll(async () => {
  await context?.close();
  await reading?.close();
});

describe("an announcement", () => {
  it("is written, published, acknowledged on the phone, and its author sees who is missing", async () => {
    await visit(page, "/posts/new");
    await field(page, "标题").fill(`放假安排${mark}`);
    await choose(page, field(page, "类型"), "公告");
    await choose(page, field(page, "版块"), "公告");
    await field(page, "正文").fill("元旦放假三天。");
    await page.getByLabel("全公司可见").check();
    await page.getByLabel("需要确认").check();
    await check(page, "post-form");
    const path = await save(page);
    await press(page, "发布", "已发布", async () => undefined);
    await openTab(page, "确认情况");
    await page.getByText(/人中已有 0 人确认/).waitFor();
    await check(page, "post-missing");

    await visit(reader, "/centre");
    await reader.getByRole("heading", { name: "待确认公告" }).waitFor();
    await check(reader, "centre-phone");
    await reader
      .getByRole("link", { name: `放假安排${mark}` })
      .first()
      .click();
    await reader.getByRole("button", { name: "我已阅读" }).click();
    await reader.getByText(/^已于 .* 确认$/).waitFor();
    await check(reader, "acknowledged-phone");

    await visit(page, `${path}?tab=readers`);
    await page.getByText(/人中已有 1 人确认/).waitFor();
    await visit(page, "/centre");
    await check(page, "centre");
  });
});

describe("a question", () => {
  it("has an answer among its comments, which who asked takes", async () => {
    const question = await api(page, "POST", "/v1/posts", {
      displayName: `怎么报价${mark}`,
      kind: "QUESTION",
      board: "QUESTIONS",
      everyone: true,
    });
    await api(page, "POST", `/v1/${String(question["name"])}:publish`, {});
    await visit(reader, `/${String(question["name"])}?tab=comments`);
    await reader.getByLabel("评论内容").fill("先问预算");
    await reader.getByRole("button", { name: "发送" }).click();
    await reader.locator(".comments").getByText("先问预算").waitFor();
    await check(reader, "comments-phone");
    await visit(page, `/${String(question["name"])}?tab=comments`);
    await page.getByRole("button", { name: "采纳为答案" }).click();
    await page.getByText("已采纳").waitFor();
    await check(page, "question-answered");
  });
});

describe("comments on a customer", () => {
  it("warn of a mention of who may not read the record", async () => {
    const account = await api(reader, "POST", "/v1/accounts", {
      displayName: `评论客户${mark}`,
      kind: "COMPANY",
    });
    await visit(reader, `/${String(account["name"])}?tab=comments`);
    const text = reader.getByLabel("评论内容");
    await text.fill("请看 ");
    await text.pressSequentially("@market");
    await reader.locator(".ant-mentions-dropdown-menu-item, [role=option]").first().click();
    await reader.getByRole("button", { name: "发送" }).click();
    await reader.locator("[role=alert]").filter({ hasText: "不在可见范围内" }).waitFor();
    await check(reader, "mention-warned-phone");
    await reader.getByRole("button", { name: "仍然提及" }).click();
    await reader.locator(".comments").getByText("请看").waitFor();
  });

  it("leave nobody out", () => expect(barriers).toEqual([]));
});
