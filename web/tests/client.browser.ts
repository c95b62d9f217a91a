import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, BASE, settled, violations } from "./pages.ts";
import { signIn } from "./sign-in.ts";

// A web site of its own: two customers with the same site and telephone are found to be one.
const HOST = `${Date.now().toString(36)}.cn`;
const unique = () => `测试客户${Date.now().toString(36)}`;

let context: BrowserContext;
let page: Page;
const complaints: string[] = [];
const foreign: string[] = [];

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => {
    if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(BASE)) foreign.push(request.url());
  });
  await signIn(page, BASE);
  foreign.length = 0;
});

afterAll(() => context?.close());

const visit = async (path: string) => {
  await page.goto(BASE + path);
  await page.locator("h1").first().waitFor();
  await settled(page);
};

async function newCustomer(name: string): Promise<string> {
  await visit("/");
  await page.getByLabel("名称", { exact: true }).fill(name);
  await page.getByLabel("电话", { exact: true }).fill("13800138000");
  await page.getByRole("button", { name: "创建", exact: true }).click();
  await page.getByRole("heading", { level: 1, name }).waitFor();
  return new URL(page.url()).pathname;
}

describe("a person at a desk", () => {
  it("makes a customer from a name and a phone number, one click from home", async () => {
    const name = unique();
    const path = await newCustomer(name);
    expect(path).toMatch(/^\/accounts\/.+/);
    await page.getByText("13800138000").first().waitFor();
  });

  it("finds it again by two characters and opens it by keyboard alone", async () => {
    const name = unique();
    await newCustomer(name);
    await visit("/accounts");
    await page.keyboard.press("Control+k");
    await page.getByRole("dialog").getByRole("combobox").waitFor();
    await page.keyboard.type(name);
    // The customer comes before the first task with it, once both are known.
    await page
      .locator('[role="option"][aria-selected="true"]')
      .filter({ hasText: name })
      .filter({ hasText: "正常" })
      .waitFor();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name }).waitFor();
  });

  it("sees the answer of the server when it edits, and the change in the record", async () => {
    const name = unique();
    const path = await newCustomer(name);
    await visit(`${path}/edit`);
    await page.getByLabel("网站").fill(`www.${HOST}`);
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.getByText("已保存").waitFor();
    await page.getByText(`www.${HOST}`).waitFor();
  });

  it("decides field by field when another session changed the same record", async () => {
    const path = await newCustomer(unique());
    await visit(`${path}/edit`);
    await page.getByLabel("网站").fill(`mine.${HOST}`);
    await page.getByLabel("背景").fill("只有我改了这里");
    await other(path, { website: `theirs.${HOST}`, preferences: "对方改了偏好" });
    await page.getByRole("button", { name: "保存", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText(`theirs.${HOST}`).waitFor();
    expect(await dialog.getByRole("row").count()).toBe(2);
    await dialog.getByRole("button", { name: "保存合并结果" }).click();
    await page.getByText(`mine.${HOST}`).waitFor();
    await page.getByText("只有我改了这里").waitFor();
    await page.getByText("对方改了偏好").waitFor();
  });

  it("gets its draft back after the tab was closed while typing", async () => {
    const path = await newCustomer(unique());
    await visit(`${path}/edit`);
    await page.getByLabel("背景").fill("还没保存的话");
    await page.waitForFunction(() =>
      Object.values(localStorage).some((kept) => kept.includes("还没保存的话")),
    );
    const second = await context.newPage();
    await second.goto(`${BASE}${path}/edit`);
    await second.getByRole("button", { name: "恢复草稿" }).click();
    expect(await second.getByLabel("背景").inputValue()).toBe("还没保存的话");
    await second.close();
    await page.evaluate(() => {
      for (const key of Object.keys(localStorage))
        if (key.startsWith("guanxi.draft")) localStorage.removeItem(key);
    });
  });

  it("keeps what is typed when the language changes", async () => {
    await visit("/accounts/new");
    await page.getByLabel("客户名称").fill("保留我");
    await page.getByRole("button", { name: "English" }).click();
    await page.getByRole("heading", { level: 1, name: "New account" }).waitFor();
    expect(await page.getByLabel("Name", { exact: false }).first().inputValue()).toBe("保留我");
    expect(await page.locator("html").getAttribute("lang")).toBe("en");
    await page.getByRole("button", { name: "中文" }).click();
    await page.evaluate(() => {
      for (const key of Object.keys(localStorage))
        if (key.startsWith("guanxi.draft")) localStorage.removeItem(key);
    });
  });

  it("shares a filtered list by its address and sees why a list is empty", async () => {
    const filter = encodeURIComponent(JSON.stringify([[["displayName", "contains", "没有这样的客户名"]]]));
    await visit(`/accounts?filter=${filter}`);
    await page.getByText("没有符合条件的记录").waitFor();
    await page.getByRole("button", { name: "清除筛选" }).last().click();
    await page.getByRole("row").nth(2).waitFor();
    expect(page.url()).not.toContain("filter=");
  });

  it("scrolls a long list with few rows in the page", async () => {
    await visit("/accounts");
    await page.getByRole("row").nth(3).waitFor();
    await page.getByRole("row").nth(1).focus();
    for (let step = 0; step < 30; step++) await page.keyboard.press("j");
    expect(await page.locator(".grid-body .grid-row").count()).toBeLessThan(200);
    expect(await page.evaluate(() => document.activeElement?.getAttribute("role"))).toBe("row");
  });

  it("moves a deal to the next stage by drag and drop", async () => {
    const title = unique();
    const account = (await newCustomer(unique())).slice(1);
    const deal = (displayName: string) =>
      api(page, "POST", "/v1/opportunities", {
        displayName,
        account,
        need: "展厅改造",
        amount: { currencyCode: "CNY", amount: "1000.00" },
        expectedCloseDate: { year: 2027, month: 3, day: 31 },
      });
    await deal(title);
    await visit("/opportunities?view=board");
    const columns = page.locator(".board-column");
    const card = columns.nth(0).locator(".board-card").filter({ hasText: title });
    await card.waitFor();
    const before = Number(await columns.nth(1).locator(".tag").first().innerText());
    const from = await card.boundingBox();
    const to = await columns.nth(1).boundingBox();
    if (!from || !to) throw new Error("nothing to drag");
    await page.mouse.move(from.x + 60, from.y + from.height - 12);
    await page.mouse.down();
    await page.mouse.move(from.x + 90, from.y + from.height, { steps: 4 });
    await page.locator(".board-card-lifted").filter({ hasText: title }).waitFor();
    // A deal that comes meanwhile moves no card under the one that is carried.
    const other = page.getByRole("link", { name: `${title} 后到` });
    const told = page.waitForResponse((answer) => answer.url().includes("/v1/opportunities?"));
    await deal(`${title} 后到`);
    await told;
    await settled(page);
    expect(await other.count()).toBe(0);
    await page.mouse.move(to.x + to.width / 2, to.y + 160, { steps: 12 });
    await page.mouse.up();
    await columns.nth(1).getByRole("link", { name: title, exact: true }).waitFor();
    await columns.nth(0).locator(other).waitFor();
    await expect
      .poll(async () => Number(await columns.nth(1).locator(".tag").first().innerText()))
      .toBe(before + 1);
  });

  it("shows what comes while changes never cease and answers are slow", async () => {
    await page.route("**/v1/tasks*", async (route) => {
      if (route.request().method() === "GET") await new Promise((resolve) => setTimeout(resolve, 900));
      await route.continue();
    });
    await visit("/tasks?mine=1");
    const shown = page.locator(".page-head, main").getByRole("status").first();
    const before = await shown.innerText();
    let going = true;
    const changes = (async () => {
      for (let at = 0; going && at < 200; at++)
        await api(page, "POST", "/v1/tasks", { displayName: `${unique()} ${at}` });
    })();
    await expect.poll(() => shown.innerText(), { timeout: 30_000 }).not.toBe(before);
    await settled(page);
    going = false;
    await changes;
    await page.unroute("**/v1/tasks*");
  });

  it("asks for nothing from any other origin and meets no script error", () => {
    expect(foreign).toEqual([]);
    expect(complaints).toEqual([]);
  });
});

describe("accessibility", () => {
  for (const path of [
    "/",
    "/accounts",
    "/accounts/new",
    "/opportunities?view=board",
    "/funnel",
    "/import/accounts",
  ])
    it(`has no violation on ${path}`, async () => {
      await visit(path);
      await settled(page);
      expect(await violations(page)).toEqual([]);
    });

  it("has no violation on a customer's page, in dark, and with a dialog open", async () => {
    await newCustomer(unique());
    expect(await violations(page)).toEqual([]);
    await page.getByRole("button", { name: "深色界面" }).click();
    await settled(page);
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox").first().waitFor();
    await settled(page);
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "浅色界面" }).click();
  });
});

/** The change of another session. */
const other = (path: string, body: Record<string, unknown>) => api(page, "PATCH", `/v1${path}`, body);
