import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, field, pickDay, press, save, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const COMPANY = `报备客户${stamp}`;
const made: Record<string, string> = {};

let context: BrowserContext;
let page: Page;

async function become(username: string): Promise<void> {
  await context.clearCookies();
  await signIn(page, BASE, username);
}

const make = async (collection: string, body: Record<string, unknown>) =>
  String((await api(page, "POST", `/v1/${collection}`, body))["name"]);

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
});

afterAll(() => context?.close());

describe("a deal that a partner has registered", () => {
  it("is registered by the partner and protected by us", async () => {
    // The customer was ours before it was registered.
    await become("sales2");
    made["account"] = await make("accounts", { displayName: COMPANY, kind: "COMPANY" });
    await become("manager");
    made["product"] = await make("products", {
      displayName: `分拣机${stamp}`,
      code: `R${stamp}`,
      unit: "台",
      line: "ENTERPRISE",
      listPrice: { currencyCode: "CNY", amount: "40000.00" },
      taxRate: "13",
    });
    await api(page, "POST", `/v1/${made["product"]}:activate`, {});
    await become("partner");
    const partner = String((await api(page, "GET", "/session"))["account"]);
    await become("admin");
    // Of the demo partner's company there is a record, and an agreement: its people are told.
    await api(page, "GET", `/v1/${partner}`).catch(() =>
      make("accounts", {
        name: partner,
        displayName: `报备渠道${stamp}`,
        kind: "COMPANY",
        roles: ["PARTNER"],
      }),
    );
    const year = new Date().getFullYear();
    const agreed = () =>
      make("partners", {
        displayName: `渠道${stamp}`,
        account: partner,
        kind: "DEALER",
        startDate: { year, month: 1, day: 1 },
        endDate: { year: year + 1, month: 12, day: 31 },
      }).then(
        (name) => api(page, "POST", `/v1/${name}:approve`, {}).then(() => "PARTNER_EXISTS"),
        (refused: Error) => refused.message,
      );
    await expect.poll(agreed, { timeout: 30_000, interval: 1_000 }).toContain("PARTNER_EXISTS");
    await become("partner");
    made["registration"] = await make("dealRegistrations", {
      companyName: COMPANY,
      contactName: "周敏",
      phone: "13900001111",
      productLines: ["ENTERPRISE"],
      region: "310000",
      amount: { currencyCode: "CNY", amount: "80000.00" },
      expectedCloseDate: { year: new Date().getFullYear() + 1, month: 6, day: 30 },
      evidence: ["客户会议纪要"],
      need: "两台分拣机",
    });
    await api(page, "POST", `/v1/${made["registration"]}:submit`, {});
    await become("admin");
    await api(page, "POST", `/v1/${made["registration"]}:approve`, { split: "30" });
    await visit(page, `/${made["registration"]}`);
    await page.locator(".steps [aria-current=step]").filter({ hasText: "已批准" }).waitFor();
    await check(page, "registration");
  });

  it("leads who may not begin it on to asking for joint work", async () => {
    await become("sales2");
    await visit(page, `/${made["account"]}`);
    await page.getByRole("button", { name: "更多" }).click();
    await page.getByRole("menuitem", { name: "新建商机" }).click();
    await field(page, "商机名称").fill(`直销${stamp}`);
    await field(page, "需求").fill("两台分拣机");
    await pickDay(page, field(page, "预计成交日期"), "2027-03-31");
    const lines = page.getByRole("group", { name: "产品明细" });
    await lines.getByRole("button", { name: "添加一行" }).click();
    const product = lines.getByRole("combobox", { name: /^产品 1/ });
    await choose(page, product, `分拣机${stamp}`, `分拣机${stamp}`);
    await lines.getByLabel("数量 1").fill("2");
    await page.getByRole("button", { name: "保存", exact: true }).click();
    const refused = page.getByRole("alert").filter({ hasText: "受渠道报备保护" });
    await refused.waitFor();
    await check(page, "deal-protected");
    await refused.getByRole("link", { name: /协同申请/ }).click();
    // What one has written stays as a draft of the form.
    await page.getByRole("dialog").getByRole("button", { name: "离开" }).click();
    await page.getByRole("heading", { level: 1, name: "新建协同申请" }).waitFor();
    await page.getByText(COMPANY).first().waitFor();
    await page.getByText("ENTERPRISE").first().waitFor();
    await field(page, "申请说明").fill("我们有现场工程师，可以一起做方案");
    await check(page, "joint-work-form");
    made["request"] = (await save(page)).slice(1);
    await page.locator("main .tag").filter({ hasText: "待答复" }).first().waitFor();
    await check(page, "joint-work");
  });

  it("is asked for once", async () => {
    await visit(page, `/jointWorkRequests/new?account=${encodeURIComponent(made["account"] ?? "")}`);
    await field(page, "申请说明").fill("再问一次");
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.getByRole("alert").filter({ hasText: "您已就该报备申请过协同" }).waitFor();
    await check(page, "joint-work-again");
    expect(await field(page, "申请说明").inputValue()).toBe("再问一次");
  });

  it("is shared once it is agreed to, and the partner is told", async () => {
    await become("admin");
    await visit(page, `/${made["request"]}`);
    await press(page, "同意", "已同意", (dialog) => field(dialog, "业绩分成(%)").fill("20"));
    await check(page, "joint-work-accepted");
    await become("partner");
    await expect
      .poll(
        async () => {
          const { notifications = [] } = await api(page, "GET", "/v1/notifications?pageSize=50");
          return (notifications as { displayName: string }[]).map((one) => one.displayName).join();
        },
        { timeout: 30_000 },
      )
      .toContain(COMPANY);
    await visit(page, "/notifications");
    await page.getByText(COMPANY).first().waitFor();
    await check(page, "partner-told");
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
