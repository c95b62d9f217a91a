import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, field, settled, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const CUSTOMERS = [`东方机械${stamp}`, `西部机械${stamp}`];
const TEMPLATE = `报价回复${stamp}`;
const PATIENCE = { timeout: 60_000 };
const { MAIL_ADDRESS = "", MAIL_IMAP = "", MAIL_SMTP = "" } = process.env;

let context: BrowserContext;
let page: Page;
let box = "";

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE, "manager");
  // Two customers have the same buyer: whose mail it is, a person says.
  for (const displayName of CUSTOMERS) {
    const account = await api(page, "POST", "/v1/accounts", { displayName, kind: "COMPANY" });
    await api(page, "POST", "/v1/contacts", {
      displayName: "王明",
      account: account["name"],
      emails: [{ address: "buyer@customer.example", primary: true }],
    });
  }
  await api(page, "POST", "/v1/mailTemplates", {
    displayName: TEMPLATE,
    subject: "报价单",
    body: "您好，{sender.displayName} 附上报价。",
  });
});

afterAll(() => context?.close());

const folders = () => page.getByRole("group", { name: "文件夹" });
const mails = () => page.locator(".mail-list .inbox > li");

describe("a mailbox", () => {
  it("is added with its servers, and what is wrong stands at the field", async () => {
    await visit(page, "/mailAccounts/new");
    await field(page, "显示名称").fill("华东销售");
    await field(page, "邮箱地址").fill("not an address");
    await field(page, "密码或授权码").fill("secret");
    expect(await field(page, "密码或授权码").getAttribute("type")).toBe("password");
    for (const [protocol, port] of [
      ["IMAP", MAIL_IMAP],
      ["SMTP", MAIL_SMTP],
    ] as const) {
      await field(page, `${protocol} 服务器`).fill("127.0.0.1");
      await field(page, `${protocol} 端口`).fill(port);
      await choose(page, field(page, `${protocol} 加密`), "不加密");
    }
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.locator(".field-error").filter({ hasText: "邮箱无效" }).waitFor();
    await check(page, "mailbox-refused");
    expect(await field(page, "显示名称").inputValue()).toBe("华东销售");
    await field(page, "邮箱地址").fill(MAIL_ADDRESS);
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.locator(".record").waitFor();
    box = `/mail?${new URLSearchParams({ box: new URL(page.url()).pathname.slice(1) }).toString()}`;
    expect(await page.locator("body").innerText()).not.toContain("secret");
  });

  it("shows what has come, formatted, and nothing of it runs or tells that it is read", async () => {
    const outside: string[] = [];
    page.on("request", (request) => {
      if (!request.url().startsWith(BASE)) outside.push(request.url());
    });
    await visit(page, box);
    await mails().filter({ hasText: "询价：装配单元" }).waitFor(PATIENCE);
    await check(page, "mail-inbox");
    await mails().first().getByRole("button").click();
    const sheet = page.frameLocator("iframe.sheet");
    await sheet.getByText("周五").waitFor();
    expect(await sheet.locator("p").evaluate((line) => getComputedStyle(line).color)).toBe(
      "rgb(179, 38, 30)",
    );
    expect(await sheet.getByRole("link").getAttribute("rel")).toContain("noopener");
    expect(await sheet.locator("script, [onerror]").count()).toBe(0);
    await page.getByText("已略去 1 张外部图片").waitFor();
    await page.locator(".mail-list .inbox-unread").waitFor({ state: "detached" });
    expect(await page.title()).not.toBe("taken");
    expect(outside.filter((url) => /^https?:/.test(url))).toEqual([]);
    await check(page, "mail-read");
  });

  it("is filed to the customer that a person says", async () => {
    await folders()
      .getByRole("button", { name: /待归档/ })
      .click();
    await mails().first().getByRole("button").click();
    await page
      .getByRole("group", { name: /多个客户/ })
      .getByRole("button", { name: CUSTOMERS[1] ?? "" })
      .click();
    await page
      .locator(".letter")
      .getByRole("link", { name: CUSTOMERS[1] ?? "" })
      .waitFor();
    await check(page, "mail-filed");
  });

  it("answers from a draft, which says why it may not leave and keeps what is typed", async () => {
    await page.getByRole("button", { name: "回复", exact: true }).click();
    const draft = page.getByRole("region", { name: "草稿" });
    await field(draft, "正文").fill("周四给您报价。");
    expect(await field(draft, "主题").inputValue()).toBe("Re: 询价：装配单元");
    await draft.locator(".ant-select-selection-item-remove, .ant-select-item-remove").first().click();
    await draft.getByRole("button", { name: "发送" }).click();
    await draft.getByRole("alert").first().waitFor();
    await check(page, "mail-refused");
    expect(await field(draft, "正文").inputValue()).toContain("周四给您报价。");
    await field(draft, "收件人").fill("buyer@customer.example");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Escape");
    await draft.getByRole("button", { name: "发送" }).click();
    await folders()
      .getByRole("button", { name: /已发送/, pressed: true })
      .waitFor();
    await page.locator(".letter").filter({ hasText: "已发送" }).waitFor(PATIENCE);
    await check(page, "mail-sent");
  });

  it("is written from a template to a contact", async () => {
    await page.getByRole("button", { name: "写邮件" }).click();
    await page.getByRole("button", { name: "更多字段" }).click();
    await choose(page, field(page, "模板"), TEMPLATE, TEMPLATE);
    await choose(page, field(page, "收件人"), "buyer@customer.example", "王明");
    await page.keyboard.press("Escape");
    await check(page, "mail-write");
    await page.getByRole("button", { name: "保存", exact: true }).click();
    const draft = page.getByRole("region", { name: "草稿" });
    await expect.poll(() => field(draft, "正文").inputValue(), PATIENCE).toContain("附上报价");
    await draft.getByRole("button", { name: "丢弃草稿" }).click();
    await page.getByText("草稿已丢弃").waitFor();
  });

  it("shares as much as its owner says", async () => {
    await visit(page, box);
    await choose(page, page.getByLabel("共享程度"), "含主题");
    await page.getByText("已保存").first().waitFor();
    await settled(page);
    const { mailAccounts } = (await api(page, "GET", `/v1/mailAccounts?q=${MAIL_ADDRESS}`)) as {
      mailAccounts: { sharing: string }[];
    };
    expect(mailAccounts[0]?.sharing).toBe("SUBJECT");
  });

  it("is read on a phone, in English", async () => {
    await page.evaluate(() => localStorage.setItem("guanxi.language", "en"));
    await page.setViewportSize({ width: 390, height: 844 });
    await visit(page, `${box}&folder=sent`);
    await check(page, "mail-phone-list");
    await mails().first().getByRole("button").click();
    await page.locator(".letter-body").first().waitFor();
    expect(await page.locator(".mail-list").isVisible()).toBe(false);
    await check(page, "mail-phone");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
