import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, field, press, visit, openTab } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const POOL = `华东公海${stamp}`;
const MORE = "加载更多";
const waiting = (number: number) => `待领客户${stamp}${number}`;

let context: BrowserContext;
let page: Page;
let pool = "";
const accounts: string[] = [];

async function become(username: string): Promise<void> {
  await context.clearCookies();
  await signIn(page, BASE, username);
}

const row = (number: number) => page.getByRole("row").filter({ hasText: waiting(number) });

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await become("admin");
  const { employee } = (await api(page, "GET", "/session")) as { employee: string };
  const made = await api(page, "POST", "/v1/pools", {
    displayName: POOL,
    memberRoles: ["sales_representative"],
    managers: [employee],
    hiddenFields: ["phone"],
  });
  pool = String(made["name"]);
  for (const number of [1, 2, 3]) {
    const account = await api(page, "POST", "/v1/accounts", {
      displayName: waiting(number),
      pool,
      industry: "制造",
      tags: [stamp],
      phones: [{ number: `1380000${String(Date.now() + number).slice(-4)}` }],
    });
    accounts.push(String(account["name"]));
  }
});

afterAll(() => context?.close());

describe("the public sea", () => {
  it("has rules that one writes as clauses, tries on the past and puts in force", async () => {
    await visit(page, "/poolRules/new");
    await field(page, "名称").fill(`华东规则${stamp}`);
    await choose(page, field(page, "公海"), POOL, POOL);
    await page.getByRole("button", { name: "添加回收条款" }).click();
    const clause = page.getByRole("group", { name: "回收条款 1" });
    await field(clause, "标识").fill("A-60");
    await field(clause, "说明").fill("六十天没有跟进的客户退回公海");
    await clause.getByLabel("标签").fill(stamp);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Escape");
    await clause.getByRole("button", { name: "添加一行" }).click();
    await choose(page, clause.getByLabel("计时 1"), "未跟进");
    await clause.getByLabel("天数 1").fill("60");
    await field(page, "原负责人间隔(天)").fill("30");
    await check(page, "pool-rule-form");
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.getByText("六十天没有跟进的客户退回公海").waitFor();
    await page.getByText("满 60 天").waitFor();
    await check(page, "pool-rule");
    await page.getByRole("button", { name: "模拟", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("回溯天数").fill("30");
    await dialog.getByRole("button", { name: "模拟" }).click();
    await openTab(page, "模拟");
    await page.getByText("已按过去 30 天模拟").waitFor({ timeout: 60_000 });
    await check(page, "pool-rule-simulated");
    await press(page, "启用", "生效中", async () => undefined);
    await openTab(page, "版本对比");
    await page.getByRole("link", { name: new RegExp(`华东规则${stamp}`) }).waitFor();
    await check(page, "pool-rule-versions");
  });

  it("shows its members who waits and what they may still claim", async () => {
    await become("sales1");
    await visit(page, `/sea?pool=${encodeURIComponent(pool)}`);
    await row(1).waitFor();
    await page.locator(".figure").filter({ hasText: "今日还可领取" }).getByText("不限").waitFor();
    await row(3)
      .getByRole("button", { name: waiting(3), exact: true })
      .click();
    const drawer = page.getByRole("dialog");
    await drawer.getByText("部分信息在领取后才可见").waitFor();
    expect(await drawer.innerText()).not.toContain("1380000");
    await check(page, "sea-open");
    await page.keyboard.press("Escape");
    await drawer.waitFor({ state: "detached" });
    await check(page, "sea");
  });

  it("gives a customer to whoever claims it", async () => {
    await row(1)
      .getByRole("button", { name: `领取 ${waiting(1)}` })
      .click();
    await page.getByText(`已领取 ${waiting(1)}`).waitFor();
    await row(1).waitFor({ state: "detached" });
  });

  it("counts down on the customer's page, which keeps every owner", async () => {
    await visit(page, `/${accounts[0] ?? ""}`);
    await page
      .locator(".sea-note")
      .getByText(/还剩 \d+ 天/)
      .waitFor();
    await openTab(page, "归属历史");
    await page.locator(".feed").getByText("领取").waitFor();
    await check(page, "account-owners");
    await visit(page, "/sea?tab=mine");
    const more = page.getByRole("main").getByRole("button", { name: MORE });
    await expect
      .poll(
        async () => {
          if (await more.isVisible()) await more.click();
          return page.getByRole("link", { name: waiting(1) }).count();
        },
        { timeout: 30_000 },
      )
      .toBe(1);
    await check(page, "sea-due");
  });

  it("takes a customer back from its owner, and says why it refuses the next claim", async () => {
    await visit(page, `/${accounts[0] ?? ""}`);
    await page.getByRole("button", { name: "更多" }).click();
    await page.getByRole("menuitem", { name: "退回公海" }).click();
    const dialog = page.getByRole("dialog");
    await choose(page, field(dialog, "公海"), POOL, POOL);
    await field(dialog, "原因").fill("长期没有需求");
    await check(page, "sea-release");
    await dialog.getByRole("button", { name: "退回公海" }).click();
    await dialog.waitFor({ state: "detached" });
    await visit(page, `/sea?pool=${encodeURIComponent(pool)}`);
    await row(1)
      .getByRole("button", { name: `领取 ${waiting(1)}` })
      .click();
    await row(1).locator(".field-error").waitFor();
    await check(page, "sea-refused");
  });

  it("works on a phone", async () => {
    const phone = await open({ width: 390, height: 844 });
    const small = phone.pages()[0] ?? (await phone.newPage());
    await signIn(small, BASE, "sales2");
    await visit(small, `/sea?pool=${encodeURIComponent(pool)}`);
    await small.getByRole("button", { name: `领取 ${waiting(3)}` }).waitFor();
    await check(small, "sea-phone");
    expect(await small.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    await phone.close();
  });
});

describe("a pool of leads", () => {
  const lead = `待领线索${stamp}`;

  it("has rules that are tried on the past", async () => {
    await become("admin");
    const { employee } = await api(page, "GET", "/session");
    const made = await api(page, "POST", "/v1/leadPools", {
      displayName: `线索池${stamp}`,
      memberEmployees: [employee],
      memberRoles: ["sales_representative"],
    });
    pool = String(made["name"]);
    const waits = await api(page, "POST", "/v1/leads", { displayName: lead, companyName: `${lead}公司` });
    await api(page, "POST", `/v1/${String(waits["name"])}:release`, { pool, reason: "分给成员" });
    const rule = await api(page, "POST", "/v1/leadPoolRules", {
      pool,
      displayName: `线索规则${stamp}`,
      clauses: [{ key: "W-30", clock: "NO_FOLLOW_UP", days: 30 }],
    });
    await visit(page, `/${String(rule["name"])}`);
    await page.getByText("W-30").waitFor();
    await press(page, "模拟", "草稿", async (dialog) => dialog.getByLabel("回溯天数").fill("30"));
    await openTab(page, "模拟");
    await page.getByText("已按过去 30 天模拟").waitFor({ timeout: 60_000 });
    await check(page, "lead-rule-simulated");
  });

  it("gives a lead to whoever claims it", async () => {
    await become("sales1");
    await visit(page, `/lead-pools?pool=${encodeURIComponent(pool)}`);
    await page.getByRole("row").filter({ hasText: lead }).waitFor();
    await check(page, "lead-pool");
    await page.getByRole("button", { name: `领取 ${lead}` }).click();
    await page.getByText(`已领取 ${lead}`).waitFor();
    await page.getByRole("row").filter({ hasText: lead }).waitFor({ state: "detached" });
  });

  it("keeps nobody out", () => {
    expect(barriers).toEqual([]);
  });
});
