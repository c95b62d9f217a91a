import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrowserContext, Page } from "playwright-core";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, save, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const mark = Date.now().toString(36);
let context: BrowserContext;
let page: Page;

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
});

afterAll(() => context?.close());

const FIRST: [string, string][] = [
  ["zong", "待我审批"],
  ["manager", "待我审批"],
  ["sales1", "下一步"],
  ["marketer", "进行中的市场活动"],
  ["agent", "处理中的工单"],
  ["service", "待我审批"],
  ["finance", "待核销的收款"],
  ["partner", "待接受的线索"],
  ["customer", "待答复的报价"],
];

describe("what each role sees first", () => {
  it.each(FIRST)("%s begins with %s", async (person, tile) => {
    const theirs = await open({ width: 1440, height: 900 });
    const home = theirs.pages()[0] ?? (await theirs.newPage());
    await signIn(home, BASE, person);
    await home.locator(".tile").first().waitFor();
    expect(await home.locator(".tile h2").first().innerText()).toBe(tile);
    await check(home, `home-${person}`);
    expect(await home.locator(".tile [role=alert]").count()).toBe(0);
    await theirs.close();
  });
});

describe("rules of use", () => {
  it("are looked at by department, person and rule, over the days that are asked for", async () => {
    await visit(page, "/usage");
    await page.getByText("没有检查结果").waitFor();
    await check(page, "usage");
    await page.getByText("人员", { exact: true }).click();
    await page.getByLabel("开始日期").fill("2026-01-05");
    await page.getByLabel("结束日期").fill("2026-01-01");
    await page.keyboard.press("Escape");
    await page.getByText("没有检查结果").waitFor();
    await check(page, "usage-people");
  });
});

describe("the record of one's work", () => {
  it("counts what was done in each period, and shows the facts behind a figure", async () => {
    const task = await api(page, "POST", "/v1/tasks", { displayName: `记账${mark}` });
    await api(page, "POST", `/v1/${String(task["name"])}:complete`, {});
    await visit(page, "/work-record?period=DAY");
    const row = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "完成任务" }) });
    const figure = row.getByRole("button").first();
    await expect
      .poll(
        async () => {
          await page.reload();
          await row.waitFor();
          return figure.isVisible();
        },
        { timeout: 30_000, interval: 500 },
      )
      .toBe(true);
    const counted = Number(await figure.innerText());
    await figure.click();
    const facts = page.getByRole("region", { name: "明细", exact: true }).last();
    await facts.getByRole("link", { name: `记账${mark}` }).waitFor();
    expect(await facts.getByRole("link").count()).toBe(counted);
    await check(page, "work-record");
    await page.getByRole("button", { name: "月", exact: true }).click();
    await facts.waitFor({ state: "detached" });
    await row.getByRole("button").first().waitFor();
    await check(page, "work-record-months");
  });
});

describe("a calendar", () => {
  it("warns of a clash while one types, and shows the event in its week", async () => {
    const day = "2027-03-08";
    await api(page, "POST", "/v1/calendarEvents", {
      displayName: `周会${mark}`,
      acceptConflicts: true,
      start: `${day}T09:00`,
      end: `${day}T10:00`,
      timeZone: "Asia/Shanghai",
    });
    await visit(page, `/calendarEvents/new?start=${day}T09:30&end=${day}T10:30`);
    await page.getByLabel("主题").fill(`撞车${mark}`);
    await page
      .locator(".advice-warn")
      .filter({ hasText: `周会${mark}` })
      .waitFor();
    await choose(page, page.getByLabel("重复", { exact: true }), "每周");
    await page.getByRole("button", { name: "周一" }).click();
    await check(page, "event-form");
    await visit(page, `/calendar?date=${day}`);
    await page
      .locator(".fc-event")
      .filter({ hasText: `周会${mark}` })
      .waitFor();
    await check(page, "calendar-week");
    await page.getByRole("button", { name: "月", exact: true }).click();
    await page
      .locator(".fc-daygrid-event")
      .filter({ hasText: `周会${mark}` })
      .waitFor();
    await check(page, "calendar-month");
  });
});

describe("settings without codes", () => {
  it("asks for the action of an approval policy as a choice in words", async () => {
    await visit(page, "/approvalPolicies/new");
    await page.getByLabel("名称").first().fill(`合同审批${mark}`);
    await choose(page, page.getByLabel("动作"), "合同 · 签署", "合同 · 签");
    await page.getByLabel("上级级数").fill("1");
    await check(page, "policy-form");
    const path = await save(page);
    await page.getByText("合同 · 签署").first().waitFor();
    await api(page, "DELETE", `/v1${path}`);
  });

  it("shows departments as a tree that arrows walk", async () => {
    await visit(page, "/departments");
    await page.getByRole("treeitem").first().focus();
    await page.keyboard.press("ArrowDown");
    expect(await page.evaluate(() => document.activeElement?.getAttribute("aria-level"))).toBe("2");
    await check(page, "departments");
  });

  it("changes what a role may do in its matrix", async () => {
    const made = await api(page, "POST", "/v1/roles", {
      code: `r_${mark}`,
      displayName: `试用${mark}`,
      scope: "OWN",
    });
    await visit(page, `/${String(made["name"])}`);
    await page.getByRole("checkbox", { name: "线索 · 查看", exact: true }).check();
    await page.getByLabel("线索 · 查看范围", { exact: true }).selectOption({ label: "本部门" });
    await check(page, "role-matrix");
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.getByText("权限已保存").waitFor();
    const kept = await api(page, "GET", `/v1/${String(made["name"])}`);
    expect(kept["permissions"]).toEqual(["sales.leads.read"]);
    expect(kept["grants"]).toEqual([expect.objectContaining({ collection: "leads", level: "DEPARTMENT" })]);
  });

  it("reads the audit in words", async () => {
    await visit(page, "/auditEntries");
    await page.getByRole("row").nth(3).waitFor();
    expect(await page.locator(".grid-body").innerText()).not.toMatch(/\b[a-z]\w+\/[0-9a-f]{8}-/);
    await check(page, "audit");
  });
});

describe("on the way of a customer", () => {
  it("says who is there already while the name is typed", async () => {
    await api(page, "POST", "/v1/accounts", { displayName: `深圳市${mark}科技有限公司`, kind: "COMPANY" });
    await visit(page, "/accounts/new");
    await page.getByLabel("客户名称").fill(`深圳${mark}科技`);
    await page
      .locator(".advice-warn")
      .filter({ hasText: `深圳市${mark}科技有限公司` })
      .waitFor();
    expect(await page.getByLabel("客户名称").inputValue()).toBe(`深圳${mark}科技`);
    await check(page, "collision");
  });

  it("puts a record on paper without what one clicks", async () => {
    const { name } = await api(page, "POST", "/v1/accounts", { displayName: `纸上${mark}`, kind: "COMPANY" });
    await visit(page, `/${String(name)}`);
    await page.emulateMedia({ media: "print" });
    expect(await page.getByRole("navigation", { name: "主菜单" }).isVisible()).toBe(false);
    expect(await page.getByRole("heading", { level: 1 }).isVisible()).toBe(true);
    expect(await page.locator(".page-actions").isVisible()).toBe(false);
    const sheet = await page.pdf({ preferCSSPageSize: true });
    expect(sheet.subarray(0, 5).toString()).toBe("%PDF-");
    await page.emulateMedia({ media: "screen" });
  });

  it("keeps a board of leads small", async () => {
    await api(page, "POST", "/v1/leads", { displayName: `线索${mark}`, companyName: `线索${mark}公司` });
    await visit(page, "/leads?view=board");
    await page.locator(".board-card").first().waitFor();
    expect(await page.locator(".board-card").count()).toBeLessThan(120);
    await check(page, "lead-board");
  });

  it("was kept out nowhere", () => expect(barriers).toEqual([]));
});
