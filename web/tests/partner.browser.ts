import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrowserContext, Page } from "playwright-core";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, field, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const year = new Date().getFullYear();
let context: BrowserContext;
let page: Page;
let account: string;

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
  const made = await api(page, "POST", "/v1/accounts", {
    displayName: `远帆渠道${stamp}`,
    kind: "COMPANY",
    roles: ["PARTNER"],
  });
  account = String(made["name"]);
});

afterAll(() => context?.close());

const step = (on: Page, state: string) => on.locator(".steps [aria-current=step]").filter({ hasText: state });

describe("a company that sells for us", () => {
  it("is taken on by its agreement and brings its people in", async () => {
    const partner = await api(page, "POST", "/v1/partners", {
      displayName: `远帆${stamp}`,
      account,
      kind: "DEALER",
      regions: ["310000"],
      startDate: { year, month: 1, day: 1 },
      endDate: { year: year + 1, month: 12, day: 31 },
    });
    await visit(page, "/partners");
    await page.getByText(`远帆${stamp}`).first().waitFor();
    await check(page, "partners");
    await visit(page, `/${String(partner["name"])}`);
    await page.getByRole("button", { name: "批准", exact: true }).click();
    await step(page, "合作中").waitFor();
    await page.getByRole("button", { name: "邀请用户", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await field(dialog, "姓名").fill("韩冰");
    await field(dialog, "登录名").fill(`han-${stamp}`);
    await check(page, "partner-invite");
    await dialog.getByRole("button", { name: "邀请用户", exact: true }).click();
    await dialog.waitFor({ state: "detached" });
    await page.getByText("韩冰").first().waitFor();
    await check(page, "partner");
  });

  it("is offered a lead that says what is wanted and not by whom", async () => {
    const lead = await api(page, "POST", "/v1/leads", {
      displayName: `分拣机${stamp}`,
      companyName: `鲜达${stamp}`,
      personName: "程远",
    });
    const offer = await api(page, "POST", `/v1/${String(lead["name"])}:forward`, {
      partners: [account],
      brief: "华东一家食品厂要两台分拣机",
    });
    await visit(page, `/${String(offer["name"])}`);
    await page.getByText("华东一家食品厂要两台分拣机").first().waitFor();
    await check(page, "lead-forward");
  });
});

describe("finance", () => {
  it("pays out, and asks for less by a credit note, in both languages", async () => {
    const theirs = await open({ width: 1440, height: 900 });
    const desk = theirs.pages()[0] ?? (await theirs.newPage());
    await signIn(desk, BASE, "finance");
    const payout = await api(desk, "POST", "/v1/payouts", {
      kind: "SUPPLIER",
      payeeName: "华东包装",
      payeeBank: "中国银行",
      payeeAccount: "6216000011112222",
      amount: { currencyCode: "CNY", amount: "1240.00" },
      source: `purchase-${stamp}`,
    });
    await visit(desk, `/${String(payout["name"])}`);
    await desk.getByRole("button", { name: "批准", exact: true }).click();
    await step(desk, "已批准").waitFor();
    await check(desk, "payout");
    const invoice = await api(desk, "POST", "/v1/invoices", {
      account,
      currency: "CNY",
      lines: [{ description: "服务", quantity: "1", unitPrice: { currencyCode: "CNY", amount: "100.00" } }],
    });
    await api(desk, "POST", `/v1/${String(invoice["name"])}:issue`, {});
    const note = await api(desk, "POST", "/v1/creditNotes", {
      invoice: invoice["name"],
      lines: [{ line: "1", gross: { currencyCode: "CNY", amount: "10.00" } }],
      reason: "数量开多了",
    });
    await visit(desk, `/${String(note["name"])}`);
    await desk.getByRole("button", { name: "开具", exact: true }).click();
    await desk.getByText("已开具").first().waitFor();
    await check(desk, "credit-note");
    await desk.evaluate(() => localStorage.setItem("guanxi.language", "en"));
    await visit(desk, "/payouts");
    await check(desk, "payouts-en");
    await theirs.close();
  });

  it("lets everybody in", () => {
    expect(barriers).toEqual([]);
  });
});
