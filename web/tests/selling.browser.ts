import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, settled, visit, openTab } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const CUSTOMER = `报价客户${stamp}`;
const yuan = (amount: string) => ({ currencyCode: "CNY", amount });
const inDays = (days: number) => {
  const day = new Date(Date.now() + days * 86_400_000);
  return { year: day.getFullYear(), month: day.getMonth() + 1, day: day.getDate() };
};

let context: BrowserContext;
let page: Page;
const made: Record<string, string> = {};

async function become(username: string): Promise<void> {
  await context.clearCookies();
  await signIn(page, BASE, username);
}

const make = async (collection: string, body: Record<string, unknown>) =>
  String((await api(page, "POST", `/v1/${collection}`, body))["name"]);

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  await context.grantPermissions(["geolocation"], { origin: BASE });
  await context.setGeolocation({ latitude: 31.2304, longitude: 121.4737, accuracy: 12 });
  page = context.pages()[0] ?? (await context.newPage());
  await become("manager");
  for (const key of ["甲", "乙"]) {
    made[key] = await make("products", {
      displayName: `传感器${key}${stamp}`,
      code: `S${key}${stamp}`,
      unit: "件",
      listPrice: yuan("100.00"),
      taxRate: "13",
    });
    await api(page, "POST", `/v1/${made[key]}:activate`, {});
  }
  made["policy"] = await make("discountPolicies", {
    displayName: `满十件${stamp}`,
    kind: "VOLUME",
    products: [made["甲"]],
    tiers: [{ fromQuantity: "10", percent: "10" }],
    validFromDate: inDays(-1),
  });
  made["bundle"] = await make("bundles", {
    displayName: `检测站${stamp}`,
    code: `B${stamp}`,
    unit: "套",
    groups: [
      {
        key: "controller",
        displayName: "控制器",
        minimum: 1,
        maximum: 1,
        options: [
          { key: "small", product: made["甲"], preset: true },
          { key: "big", product: made["乙"], quantity: "2", maxQuantity: "4" },
        ],
      },
    ],
  });
  await api(page, "POST", `/v1/${made["bundle"]}:activate`, {});
  made["competitor"] = await make("competitors", { displayName: `对手${stamp}` });
  await become("sales1");
  made["account"] = await make("accounts", { displayName: CUSTOMER, kind: "COMPANY" });
  made["opportunity"] = await make("opportunities", {
    displayName: `商机${stamp}`,
    account: made["account"],
    need: "更换传感器",
    amount: yuan("5000.00"),
    expectedCloseDate: inDays(20),
    competitors: [{ competitor: made["competitor"], price: yuan("79.00") }],
  });
});

afterAll(() => context?.close());

describe("selling", () => {
  it("shows a deal's path, its outlook and tips for its stage", async () => {
    await visit(page, `/${made["opportunity"]}`);
    await page.locator(".steps [aria-current=step]").waitFor();
    await page.locator(".record-side").getByText("成交概率").waitFor();
    await visit(page, `/${made["opportunity"]}?tab=tips`);
    await page.getByRole("link", { name: "全部技巧" }).or(page.locator("article.card")).first().waitFor();
    await check(page, "opportunity");
  });

  it("tells the price while one writes the quote, and why it is so", async () => {
    await visit(page, `/${made["opportunity"]}`);
    await page.getByRole("button", { name: "更多" }).click();
    await page.getByRole("menuitem", { name: "新建报价单" }).click();
    await page.getByRole("button", { name: "添加一行" }).first().click();
    await choose(
      page,
      page.getByRole("combobox", { name: "产品 1", exact: true }),
      `传感器甲${stamp}`,
      `传感器甲${stamp}`,
    );
    await page.getByLabel("数量 1").fill("3");
    const advice = page.getByRole("complementary", { name: "价格试算" });
    await advice.getByText("¥339.00").first().waitFor();
    await advice.getByText("该客户没有买过").waitFor();
    await check(page, "quote-prices");
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.locator(".record").waitFor();
    await openTab(page, "价格构成");
    await page.getByText("为什么是这个价格").click();
    await page.locator(".price-why").getByText("¥300.00").first().waitFor();
    // Whoever decides on it sees what was paid before, and what others ask.
    await page.getByRole("list", { name: "历史成交价" }).getByText("该客户没有买过").waitFor();
    await page.getByRole("list", { name: "竞争对手报价" }).getByText("对手报价 ¥79.00").waitFor();
    await check(page, "quote-why");
  });

  it("prints a quote, and the customer accepts it by a link without signing in", async () => {
    const quote = await make("quotes", {
      displayName: `改造${stamp}`,
      account: made["account"],
      currency: "CNY",
      validUntilDate: inDays(20),
      terms: "货到 30 天付款",
      lines: [{ product: made["甲"], quantity: "3" }],
    });
    await api(page, "POST", `/v1/${quote}:submit`, {});
    await visit(page, `/${quote}`);
    for (const [paper, ending] of [
      ["报价单 PDF（中文）", /-V1\.pdf$/],
      ["送货单 PDF（不含价格）", /-WH\.pdf$/],
    ] as const) {
      const printed = page.waitForEvent("download", { timeout: 60_000 });
      await page.getByRole("button", { name: "更多" }).click();
      await page.getByRole("menuitem", { name: paper }).click();
      expect((await printed).suggestedFilename()).toMatch(ending);
    }
    await openTab(page, "客户链接");
    await page.getByRole("button", { name: "生成链接" }).click();
    const address = await page.getByRole("textbox", { name: "客户链接" }).inputValue();
    await check(page, "quote-link");

    const buyers = await open({ width: 390, height: 844 });
    const buyer = buyers.pages()[0] ?? (await buyers.newPage());
    await buyer.goto(address);
    await buyer.getByText("¥339.00").first().waitFor();
    await check(buyer, "quote-buyer");
    await buyer.getByRole("button", { name: "接受报价" }).click();
    await buyer.getByText("请填写您的姓名").waitFor();
    await buyer.getByLabel("您的姓名").fill("王芳");
    await buyer.getByLabel("我代表客户接受").check();
    await buyer.getByRole("button", { name: "接受报价" }).click();
    await buyer.getByText("王芳 已接受该报价").waitFor();
    await check(buyer, "quote-accepted");
    await buyer.goto(`${BASE}/q#nothing`);
    await buyer.reload();
    await buyer.getByRole("heading", { name: "链接无效" }).waitFor();
    await buyers.close();
    await visit(page, `/${quote}`);
    await page.getByText("已接受").first().waitFor();
  });

  it("lets the customer reject a quote by its link, with a reason that the seller reads", async () => {
    const quote = await make("quotes", {
      displayName: `太贵${stamp}`,
      account: made["account"],
      currency: "CNY",
      validUntilDate: inDays(20),
      lines: [{ product: made["甲"], quantity: "1" }],
    });
    await api(page, "POST", `/v1/${quote}:submit`, {});
    await visit(page, `/${quote}`);
    await openTab(page, "客户链接");
    await page.getByRole("button", { name: "生成链接" }).click();
    const address = await page.getByRole("textbox", { name: "客户链接" }).inputValue();
    const buyers = await open({ width: 390, height: 844 });
    const buyer = buyers.pages()[0] ?? (await buyers.newPage());
    await buyer.goto(address);
    await buyer.getByText("不接受这份报价？").click();
    await buyer.getByRole("button", { name: "拒绝报价" }).click();
    await buyer.getByText("请填写原因").waitFor();
    await buyer.getByLabel("请告诉我们原因").fill("比同行贵一成");
    await check(buyer, "quote-no");
    await buyer.getByRole("button", { name: "拒绝报价" }).click();
    await buyer.getByText("您已拒绝该报价").waitFor();
    expect(await buyer.getByRole("button", { name: "接受报价" }).count()).toBe(0);
    await buyers.close();
    await visit(page, `/${quote}`);
    await page.getByText("比同行贵一成").first().waitFor();
  });

  it("foretells by category and keeps the history", async () => {
    await visit(page, "/forecast?period=year");
    await page.getByRole("table").first().waitFor({ state: "attached" });
    await check(page, "forecast");
    await page.getByRole("button", { name: "历史与准确率" }).click();
    await settled(page);
    await check(page, "forecast-history");
  });

  it("says against whom one wins and why one loses", async () => {
    await visit(page, "/win-rates");
    await page.getByRole("heading", { name: "输单原因" }).waitFor();
    await check(page, "win-rates");
  });

  it("tries a bundle and a policy before they count", async () => {
    await become("manager");
    await visit(page, `/${made["bundle"]}?tab=configure`);
    await page.locator(".bundle-price").getByText("¥100.00").waitFor();
    await page.getByRole("checkbox", { name: `传感器乙${stamp}` }).click();
    await page.getByRole("checkbox", { name: `传感器甲${stamp}`, checked: false }).waitFor();
    // An option comes in its own quantity.
    await page.locator(".bundle-price").getByText("¥200.00").waitFor();
    await check(page, "bundle");
    await visit(page, `/${made["policy"]}?tab=simulation`);
    await page.getByRole("button", { name: "模拟", exact: true }).last().click();
    await page.getByText("计算的报价").waitFor();
    await check(page, "policy");
  });

  it("plans the day's visits and checks in on the spot with a phone", async () => {
    await become("sales1");
    const soon = new Date(Date.now() + 60_000).toISOString();
    const visits: string[] = [];
    for (const [purpose, latitude] of [
      ["远处", 31.4],
      ["近处", 31.2304],
    ] as const)
      visits.push(
        await make("visits", {
          account: made["account"],
          purpose: `${purpose}${stamp}`,
          plannedTime: soon,
          position: { latitude, longitude: 121.4737 },
        }),
      );
    await visit(page, "/visit-day");
    await page.getByRole("button", { name: "规划路线" }).click();
    await page.getByText("路线已规划").waitFor();
    await check(page, "visit-day");

    const phone = await open({ width: 390, height: 844 });
    await phone.grantPermissions(["geolocation"], { origin: BASE });
    await phone.setGeolocation({ latitude: 31.2304, longitude: 121.4737, accuracy: 12 });
    const small = phone.pages()[0] ?? (await phone.newPage());
    await signIn(small, BASE, "sales1");
    await visit(small, `/${visits[1] ?? ""}`);
    await check(small, "visit-phone");
    await small.getByRole("button", { name: "签到", exact: true }).first().click();
    await small.locator("main .tag").filter({ hasText: "已签到" }).first().waitFor();
    expect(await small.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    await phone.close();
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
