import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, field, openTab, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const MARK = Date.now().toString(36);
const PERSON = `新同事${MARK}`;
const PATIENCE = { timeout: 60_000, interval: 1_000 };

let context: BrowserContext;
let page: Page;
let policy = "";
let person = "";

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
  const boss = (await first("employees", 'displayName = "宗立"'))["name"];
  // Only what this story asks for is held.
  const made = await api(page, "POST", "/v1/approvalPolicies", {
    displayName: `账号申请${MARK}`,
    action: "workspace.employees.create",
    condition: `username = "new.${MARK}"`,
    steps: [{ label: "板块管理员", approvers: [{ source: "EMPLOYEE", employee: boss }] }],
  });
  policy = String(made["name"]);
  await api(page, "POST", `/v1/${policy}:activate`, {});
});

afterAll(async () => {
  if (policy) await api(page, "POST", `/v1/${policy}:retire`, {});
  await context?.close();
});

async function first(collection: string, filter: string): Promise<Record<string, unknown>> {
  const found = await api(page, "GET", `/v1/${collection}?filter=${encodeURIComponent(filter)}`);
  return (found[collection] as Record<string, unknown>[] | undefined)?.[0] ?? {};
}

const state = (text: string) =>
  page.locator("main .title-line .tag").filter({ hasText: text }).waitFor({ timeout: 45_000 });

async function verb(name: string, fill: () => Promise<void>, shot: string): Promise<void> {
  const button = page.getByRole("button", { name, exact: true });
  const more = page.getByRole("button", { name: "更多", exact: true });
  await button.or(more).first().waitFor();
  if (await button.isVisible()) await button.click();
  else {
    await more.click();
    await page.getByRole("menuitem", { name, exact: true }).click();
  }
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  await fill();
  await check(page, shot);
  await dialog.getByRole("button", { name, exact: true }).click();
  await dialog.waitFor({ state: "hidden" });
}

describe("the life of an account", () => {
  it("begins with a request that waits for somebody", async () => {
    await visit(page, "/account-requests");
    await page.getByRole("link", { name: "申请账号" }).click();
    await field(page, "姓名").fill(PERSON);
    await field(page, "登录名").fill(`new.${MARK}`);
    await choose(page, field(page, "所属部门"), "销售一部", "销售一部");
    await check(page, "account-form");
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.waitForURL(/approvals/);
    const row = page.getByRole("row").filter({ hasText: PERSON });
    await expect
      .poll(async () => {
        await visit(page, "/account-requests");
        return row.count();
      }, PATIENCE)
      .toBe(1);
    await row.getByText("宗立").waitFor();
    await check(page, "account-requests");
    expect((await first("employees", `username = "new.${MARK}"`))["name"]).toBeUndefined();
  });

  it("is decided on a phone, and the person is there", async () => {
    const theirs = await open({ width: 390, height: 844 });
    const phone = theirs.pages()[0] ?? (await theirs.newPage());
    await signIn(phone, BASE, "zong");
    await visit(phone, "/account-requests");
    await phone.getByText(PERSON).first().waitFor();
    await check(phone, "account-requests-phone");
    await phone.getByRole("link", { name: new RegExp(PERSON) }).click();
    await phone.getByRole("button", { name: "同意", exact: true }).first().click();
    const dialog = phone.getByRole("dialog");
    await dialog.waitFor();
    await dialog.getByRole("button", { name: "同意", exact: true }).click();
    await expect
      .poll(async () => {
        person = String((await first("employees", `username = "new.${MARK}"`))["name"] ?? "");
        return person;
      }, PATIENCE)
      .not.toBe("");
    await theirs.close();
    // The person works: two tasks and a customer are hers.
    for (const number of [1, 2])
      await api(page, "POST", "/v1/tasks", { displayName: `待办${number}${MARK}`, owner: person });
    await api(page, "POST", "/v1/accounts", {
      displayName: `名下客户${MARK}`,
      kind: "COMPANY",
      owner: person,
    });
  });

  it("is frozen early, with a reason, and says so", async () => {
    await visit(page, `/${person}`);
    await verb(
      "冻结",
      () => field(page.getByRole("dialog"), "原因").fill("可能离职，先行冻结"),
      "freeze-dialog",
    );
    await state("已冻结");
    await page.getByText("账号已冻结").waitFor();
    await expect
      .poll(async () => {
        await visit(page, `/${person}?tab=belongings`);
        return page.getByRole("tabpanel").getByRole("link", { name: "客户", exact: true }).count();
      }, PATIENCE)
      .toBe(1);
    await check(page, "account-frozen");
  });

  it("ends with successors, and the count goes to nothing", async () => {
    await verb(
      "办理离职",
      () => choose(page, field(page.getByRole("dialog"), "接替人"), "江涛", "江涛"),
      "offboard-dialog",
    );
    await state("已离职");
    await openTab(page, "待交接");
    // Eight services hand over; the page counts again by itself.
    await page.getByRole("tabpanel").getByText("没有需要交接的记录").waitFor({ timeout: 60_000 });
    await check(page, "account-left");
    const account = await first("accounts", `display_name = "名下客户${MARK}"`);
    expect(account["owner"]).toBe((await first("employees", 'displayName = "江涛"'))["name"]);
  });

  it("is read in English on a phone", async () => {
    await page.evaluate(() => localStorage.setItem("guanxi.language", "en"));
    await page.setViewportSize({ width: 390, height: 844 });
    await visit(page, `/${person}?tab=belongings`);
    await page.getByText("Nothing is left to hand over").first().waitFor();
    await check(page, "account-left-phone");
    await visit(page, "/account-requests?tab=decided");
    await page.getByText(PERSON).first().waitFor();
    await check(page, "account-requests-decided-phone");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    await visit(page, "/my-sessions");
    await page.getByText("This one").first().waitFor();
    await check(page, "my-sessions-phone");
    await page.setViewportSize({ width: 1440, height: 900 });
    await page.evaluate(() => localStorage.setItem("guanxi.language", "zh-CN"));
  });

  it("ends in a browser that is open at that moment, which keeps nothing", async () => {
    const theirs = await open({ width: 1280, height: 800 });
    const window = theirs.pages()[0] ?? (await theirs.newPage());
    await signIn(window, BASE, "sales2");
    await window.evaluate(() => localStorage.setItem("guanxi.draft.kept", "写了一半的话"));
    const { employee } = await api(window, "GET", "/session");
    await visit(page, `/${String(employee)}?tab=sessions`);
    await page.getByRole("tabpanel").getByText("Chrome", { exact: false }).first().waitFor();
    await check(page, "sessions-of-person");
    await api(page, "POST", `/v1/${String(employee)}:freeze`, { reason: "可能离职，先行冻结" });
    try {
      const said = window.getByText("您的账号已被冻结");
      await expect
        .poll(async () => {
          // The first call that is refused empties the browser; the next one would be a stranger's.
          if (!window.url().includes("ended=")) await window.goto(`${BASE}/tasks`);
          await said.or(window.locator("h1")).first().waitFor();
          return said.count();
        }, PATIENCE)
        .toBeGreaterThan(0);
      await check(window, "frozen-browser");
      expect(await window.evaluate(() => localStorage.getItem("guanxi.draft.kept"))).toBeNull();
    } finally {
      await api(page, "POST", `/v1/${String(employee)}:unfreeze`, {});
    }
    await theirs.close();
  });

  it("was kept out nowhere", () => expect(barriers).toEqual([]));
});
