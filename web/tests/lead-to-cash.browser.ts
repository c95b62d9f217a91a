import type { BrowserContext, Locator, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { barriers, BASE, check, choose, field, pickDay, press, save, settled, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const COMPANY = `晨光智造${stamp}`;
const DEAL = `产线改造${stamp}`;

let context: BrowserContext;
let page: Page;
const complaints: string[] = [];
const paths: Record<string, string> = {};

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    if (/Content Security Policy/.test(message.text())) complaints.push(message.text());
  });
});

afterAll(() => context?.close());

async function become(username: string): Promise<void> {
  await context.clearCookies();
  await signIn(page, BASE, username);
}

const titleOf = async (column: Locator) => (await column.getAttribute("aria-label")) ?? "";

/** Lifts a card by keyboard and puts it down in the next column, each step after the one before was told. */
async function carry(handle: Locator, to: string): Promise<void> {
  const told = page.locator("[id^=DndLiveRegion]");
  await handle.focus();
  await page.keyboard.press("Space");
  await told.filter({ hasText: /./ }).waitFor({ state: "attached" });
  // A key is pressed again only where nothing was told of the one before: the columns were not measured yet.
  for (let tries = 0; tries < 5 && !(await told.innerText()).includes(to); tries++) {
    const before = await told.innerText();
    await page.keyboard.press("ArrowRight");
    await expect
      .poll(() => told.innerText(), { timeout: 5_000 })
      .not.toBe(before)
      .catch(() => undefined);
  }
  expect(await told.innerText()).toContain(to);
  await page.keyboard.press("Space");
}

/** The newest record of a collection about the customer; what comes by facts takes a moment. */
async function openNewest(collection: string): Promise<void> {
  const filter = encodeURIComponent(JSON.stringify([[["account", "is", (paths["account"] ?? "").slice(1)]]]));
  await expect
    .poll(
      async () => {
        await visit(page, `/${collection}?filter=${filter}`);
        return page.locator(".grid-body .grid-row").count();
      },
      { timeout: 30_000, interval: 1_000 },
    )
    .toBeGreaterThan(0);
  await page.locator(".grid-body .grid-row a").first().click();
  await page.locator(".record").waitFor();
  paths[collection] = new URL(page.url()).pathname;
}

describe("from the first call to the money", () => {
  it("a representative makes the customer from home", async () => {
    await become("sales1");
    await check(page, "home-sales");
    await page.getByLabel("名称", { exact: true }).fill(COMPANY);
    await page.getByLabel("电话", { exact: true }).fill("13800138000");
    await page.getByRole("button", { name: "创建", exact: true }).click();
    await page.getByRole("heading", { level: 1, name: COMPANY }).waitFor();
    paths["account"] = new URL(page.url()).pathname;
    await check(page, "account-new");
  });

  it("opens a deal from the customer's page", async () => {
    await page.getByRole("button", { name: "更多" }).click();
    await page.getByRole("menuitem", { name: "新建商机" }).click();
    await field(page, "商机名称").fill(DEAL);
    await field(page, "需求").fill("改造两条产线，年内投产");
    await field(page, "金额").fill("200,000");
    await pickDay(page, field(page, "预计成交日期"), "2027-03-31");
    await check(page, "opportunity-form");
    paths["opportunity"] = await save(page);
    await check(page, "opportunity");
  });

  it("carries it through the stages by mouse and by keyboard", async () => {
    await visit(page, "/opportunities?view=board&mine=1");
    const columns = page.locator(".board-column");
    const from = await columns.nth(0).locator(".board-card").filter({ hasText: DEAL }).boundingBox();
    const to = await columns.nth(1).boundingBox();
    if (!from || !to) throw new Error("nothing to drag");
    await page.mouse.move(from.x + 60, from.y + from.height - 12);
    await page.mouse.down();
    await page.mouse.move(from.x + 90, from.y + from.height, { steps: 4 });
    await page.locator(".board-card-lifted").filter({ hasText: DEAL }).waitFor();
    await page.mouse.move(to.x + to.width / 2, to.y + 160, { steps: 12 });
    await page.mouse.up();
    await columns.nth(1).getByRole("link", { name: DEAL }).waitFor();
    await page.getByText("推进：已完成").first().waitFor();
    await settled(page);
    await carry(columns.nth(1).getByRole("button", { name: `拖动 ${DEAL}` }), await titleOf(columns.nth(2)));
    await columns.nth(2).getByRole("link", { name: DEAL }).waitFor();
    await check(page, "board");
  });

  it("quotes with a line, sends it and has it accepted", async () => {
    await visit(page, paths["opportunity"] ?? "");
    await page.getByRole("button", { name: "更多" }).click();
    await page.getByRole("menuitem", { name: "新建报价单" }).click();
    await pickDay(page, field(page, "有效期至"), "2027-03-31");
    await page.getByRole("button", { name: "添加一行" }).first().click();
    await page.getByLabel("说明 1").fill("智能装配单元");
    await page.getByLabel("数量 1").fill("2");
    await page.getByLabel("手工单价 1").fill("100,000.00");
    await page.getByLabel("税率(%) 1").fill("13");
    await check(page, "quote-form");
    paths["quote"] = await save(page);
    await check(page, "quote");
    await press(page, "提交", "已批准");
    await press(page, "发送", "已发送", async () => undefined);
    await press(page, "接受", "已接受", (dialog) => field(dialog, "接受人").fill("曾雅琴"));
    await visit(page, paths["opportunity"] ?? "");
    await press(page, "赢单", "赢单");
    await check(page, "opportunity-won");
  });

  it("hands over the contract, which the manager approves and signs", async () => {
    await openNewest("contracts");
    await page.getByRole("link", { name: "编辑" }).click();
    await settled(page);
    const lines = page.locator(".lines").filter({ hasText: "触发条件" });
    if ((await lines.count()) === 0) {
      await page.locator(".form-field").filter({ hasText: "付款约定" }).getByRole("button").click();
      await page.getByLabel("名称 1").last().fill("到货款");
      await page.getByLabel("比例(%) 1").fill("100");
      await choose(page, page.getByLabel("触发条件 1"), "交付");
    }
    await check(page, "contract-form");
    await save(page);
    await press(page, "提交", "审批");
    await become("manager");
    await check(page, "home-manager");
    await visit(page, paths["contracts"] ?? "");
    await press(page, "批准", "待签署");
    await press(page, "签署", "已签署", async (dialog) => {
      await pickDay(page, field(dialog, "签署日期"), "2026-11-20");
      await field(dialog, "对方签署人").fill("曾雅琴");
    });
    await press(page, "生效", "履行中");
    await check(page, "contract-active");
  });

  it("orders, delivers and has it signed for", async () => {
    await become("sales1");
    await visit(page, paths["contracts"] ?? "");
    await page.getByRole("button", { name: "生成订单" }).click();
    await openNewest("orders");
    await press(page, "提交", "已受理");
    await press(page, "开始处理", "处理中");
    await page.getByRole("button", { name: "更多" }).click();
    await page.getByRole("menuitem", { name: "新建送货单" }).click();
    await page.getByLabel("数量 1").waitFor();
    await check(page, "delivery-form");
    paths["delivery"] = await save(page);
    await press(page, "备货", "待发");
    await press(page, "发货", "已发出", (dialog) => field(dialog, "承运人").fill("顺丰"));
    await press(page, "签收", "已签收", (dialog) => field(dialog, "签收人").fill("曾雅琴"));
    await check(page, "delivery");
  });

  it("finance issues the invoice and allocates the payment", async () => {
    await become("finance");
    await openNewest("invoices");
    await press(page, "开具", "已开具");
    await check(page, "invoice");
    await page.getByRole("button", { name: "更多" }).click();
    await page.getByRole("menuitem", { name: "新建收款" }).click();
    await choose(page, field(page, "收款方式"), "银行");
    await check(page, "payment-form");
    paths["payment"] = await save(page);
    const confirm = page.getByRole("button", { name: "确认到账" });
    if (await confirm.isVisible()) await press(page, "确认到账", "已到账");
    await page.getByRole("button", { name: "自动核销" }).click();
    await settled(page);
    await visit(page, paths["invoices"] ?? "");
    await page.locator(".record-side").getByText("已付清").waitFor();
    await check(page, "invoice-paid");
  });

  it("is told by the customer's page, the funnel and the search", async () => {
    await become("sales1");
    await expect
      .poll(
        async () => {
          await visit(page, paths["account"] ?? "");
          return page.locator(".feed").first().innerText();
        },
        { timeout: 30_000, interval: 2_000 },
      )
      .toMatch(/账单已付清/);
    for (const fact of ["赢单", "客户接受报价", "签订合同", "下达订单", "客户签收", "开具账单"])
      await page.locator(".feed").getByText(fact).first().waitFor();
    await check(page, "account-360");
    await visit(page, "/funnel");
    await check(page, "funnel");
    await page.keyboard.press("Control+k");
    await page.getByRole("dialog").getByRole("combobox").waitFor();
    await page.keyboard.type(stamp);
    await page.getByRole("option", { name: COMPANY }).first().waitFor();
    await page.getByRole("option", { name: DEAL }).first().waitFor();
    await check(page, "search");
    await page.keyboard.press("Escape");
  });

  it("met no script error and no style that the policy refused", () => {
    expect(complaints).toEqual([]);
  });

  it("kept nobody out on the way", () => {
    expect(barriers).toEqual([]);
  });
});
