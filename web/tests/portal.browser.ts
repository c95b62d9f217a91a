import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import {
  api,
  barriers,
  BASE,
  check,
  choose,
  field,
  openTab,
  save,
  settled,
  unwritten,
  visit,
} from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
/** The companies of the demo customer and of the demo partner. */
const ACCOUNT = "accounts/01900000-0000-7000-8000-0000000000a2";
const PARTNER = "accounts/01900000-0000-7000-8000-0000000000a1";
const SUBJECT = `门户询价${stamp}`;
const PHONE = { width: 360, height: 740 };
const THEIRS = [
  "/quotes",
  "/contracts",
  "/orders",
  "/deliveries",
  "/invoices",
  "/payments",
  "/tickets",
  "/posts",
  "/profile",
];

let staff: BrowserContext;
let outside: BrowserContext;
let finance: Page;
let page: Page;
let invoice = "";
let quoted = "";

/** Made as soon as the service has heard of the customer. */
async function made(path: string, body: Record<string, unknown>): Promise<Record<string, unknown>> {
  for (let tries = 0; ; tries++)
    try {
      return await api(finance, "POST", path, body);
    } catch (error) {
      if (tries > 20 || !String(error).includes("UNKNOWN_REFERENCE")) throw error;
      await finance.waitForTimeout(1_000);
    }
}

beforeAll(async () => {
  staff = await open({ width: 1440, height: 900 });
  finance = staff.pages()[0] ?? (await staff.newPage());
  await signIn(finance, BASE, "sales1");
  const soon = new Date(Date.now() + 30 * 86_400_000);
  for (const [name, displayName, role] of [
    [ACCOUNT, "柯氏食品机械有限公司", "CUSTOMER"],
    [PARTNER, "远航渠道合作伙伴有限公司", "PARTNER"],
  ])
    // The demo company has them already.
    await api(finance, "POST", "/v1/accounts", { name, displayName, kind: "COMPANY", roles: [role] }).catch(
      (error: unknown) => {
        if (!String(error).includes("ALREADY_EXISTS")) throw error;
      },
    );
  const quote = await made("/v1/quotes", {
    displayName: SUBJECT,
    account: ACCOUNT,
    currency: "CNY",
    validUntilDate: { year: soon.getFullYear(), month: soon.getMonth() + 1, day: soon.getDate() },
    lines: [
      { description: "现场培训", quantity: "1", unitPrice: { currencyCode: "CNY", amount: "8000.00" } },
    ],
  });
  quoted = String(quote["name"]);
  for (const verb of ["price", "submit", "send"]) await api(finance, "POST", `/v1/${quoted}:${verb}`, {});
  await staff.clearCookies();
  await signIn(finance, BASE, "finance");
  const bill = await made("/v1/invoices", {
    account: ACCOUNT,
    currency: "CNY",
    lines: [
      { description: "年度维保", quantity: "1", unitPrice: { currencyCode: "CNY", amount: "24000.00" } },
    ],
  });
  invoice = String(bill["name"]);
  await api(finance, "POST", `/v1/${invoice}:issue`, {});
  outside = await open({ width: 1440, height: 900 });
  page = outside.pages()[0] ?? (await outside.newPage());
  await signIn(page, BASE, "customer");
});

afterAll(async () => {
  await staff?.close();
  await outside?.close();
});

const links = () =>
  page
    .locator(".nav a.nav-item")
    .evaluateAll((all) => all.map((one) => one.getAttribute("href")).filter((path) => path !== "/"));

describe("a customer", () => {
  it("has what is the company's own, and nothing that is made for staff", async () => {
    await visit(page, "/");
    expect(await links()).toEqual(THEIRS);
    for (const tile of ["待答复的报价", "进行中的订单", "逾期账单", "处理中的工单"])
      await page.getByRole("region", { name: tile }).waitFor();
    await page.getByRole("region", { name: "待答复的报价" }).getByText(SUBJECT).waitFor();
    expect(await unwritten(page)).toEqual([]);
    await check(page, "portal-home");
    for (const path of ["/accounts", "/opportunities", "/employees", "/sea", "/audit", "/calendar"]) {
      await visit(page, path);
      await page.getByRole("heading", { level: 1, name: "记录不存在" }).waitFor();
    }
  });

  it("is asked for nothing that the server refuses, and reads nothing about staff", async () => {
    const refused: string[] = [];
    page.on("response", (answer) => {
      if (answer.status() === 403) refused.push(answer.url());
    });
    for (const path of [...THEIRS, `/${quoted}`, `/${invoice}`]) {
      await visit(page, path);
      expect(await unwritten(page), path).toEqual([]);
      expect(await page.locator("main .note-bad").count(), path).toBe(0);
      expect(await page.locator("main").innerText(), path).not.toContain("无权查看");
      await check(page, `portal${path.replaceAll("/", "-").slice(0, 20)}`);
    }
    expect(refused).toEqual([]);
  });

  it("proves a payment by a file, which finance finds on the invoice", async () => {
    await visit(page, `/${invoice}`);
    await openTab(page, "文件");
    await page.locator("main input[type=file]").setInputFiles({
      name: `回单${stamp}.txt`,
      mimeType: "text/plain",
      buffer: Buffer.from("paid 24000.00"),
    });
    await page.getByRole("link", { name: `回单${stamp}.txt` }).waitFor();
    await check(page, "portal-proof");
    // Who reads the invoice hears of the file by a fact.
    for (let tries = 0; tries < 20; tries++) {
      await visit(finance, `/${invoice}?tab=files`);
      if (await finance.getByRole("link", { name: `回单${stamp}.txt` }).isVisible()) return;
      await finance.waitForTimeout(1_000);
    }
    throw new Error("finance does not see the proof");
  });

  it("accepts a quote and asks for help", async () => {
    await visit(page, `/${quoted}`);
    await page.getByRole("button", { name: "接受", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await field(dialog, "接受人").fill("柯敏");
    await check(page, "portal-accept");
    await dialog.getByRole("button", { name: "接受", exact: true }).click();
    await page.locator("main .tag").filter({ hasText: "已接受" }).first().waitFor();
    await visit(page, "/tickets/new");
    await field(page, "主题").fill(`设备报警${stamp}`);
    await field(page, "描述").fill("开机后报警，无法复位。");
    await choose(page, field(page, "类型"), "故障");
    await choose(page, field(page, "严重程度"), "一般");
    await check(page, "portal-ticket-form");
    await save(page);
    await page.getByRole("heading", { level: 1, name: `设备报警${stamp}` }).waitFor();
    await check(page, "portal-ticket");
  });

  it("asks for a change of the company's data", async () => {
    await visit(page, "/profile");
    await page.getByRole("button", { name: "申请变更" }).click();
    const dialog = page.getByRole("dialog");
    await field(dialog, "网站").fill(`https://${stamp}.example.com`);
    await check(page, "portal-change");
    await dialog.getByRole("button", { name: "申请变更" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText(`https://${stamp}.example.com`).first().waitFor();
    await check(page, "portal-profile");
  });

  it("does the same on a phone, in English", async () => {
    await page.evaluate(() => localStorage.setItem("guanxi.language", "en"));
    await page.setViewportSize(PHONE);
    for (const path of ["/", ...THEIRS, `/${quoted}`, `/${invoice}?tab=files`]) {
      await visit(page, path);
      expect(await unwritten(page), path).toEqual([]);
      await check(page, `portal-phone${path.replaceAll("/", "-").slice(0, 20)}`);
      expect(await page.evaluate(() => document.documentElement.scrollWidth), path).toBeLessThanOrEqual(
        PHONE.width,
      );
    }
    await page.getByRole("button", { name: "All", exact: true }).click();
    const sheet = page.locator(".menu-sheet");
    await sheet.getByRole("link", { name: "Company profile" }).click();
    await page.getByRole("button", { name: "Ask for a change" }).waitFor();
    await settled(page);
  });
});

describe("a partner", () => {
  it("has deals, leads and statements, and nothing that is made for staff", async () => {
    await outside.clearCookies();
    await page.setViewportSize({ width: 1440, height: 900 });
    await page.evaluate(() => localStorage.setItem("guanxi.language", "zh-CN"));
    await signIn(page, BASE, "partner");
    await visit(page, "/");
    const theirs = await links();
    for (const path of ["/leadForwards", "/dealRegistrations", "/opportunities", "/quotes", "/orders"])
      expect(theirs).toContain(path);
    for (const path of ["/accounts", "/contracts", "/invoices", "/employees", "/centre"])
      expect(theirs).not.toContain(path);
    await page.getByRole("region", { name: "待接受的线索" }).waitFor();
    expect(await unwritten(page)).toEqual([]);
    await check(page, "partner-home");
    for (const path of theirs) {
      await visit(page, path ?? "/");
      expect(await page.locator("main .note-bad").count(), path ?? "").toBe(0);
      expect(await unwritten(page), path ?? "").toEqual([]);
      await check(page, `partner${(path ?? "").replaceAll("/", "-")}`);
    }
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
