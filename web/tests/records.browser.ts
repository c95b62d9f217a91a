import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, field, openTab, settled, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const PATIENCE = { timeout: 60_000 };
const CUSTOMER = `记录客户${stamp}`;
const made: Record<string, string> = {};
let context: BrowserContext;
let page: Page;

const make = async (collection: string, body: Record<string, unknown>) =>
  String((await api(page, "POST", `/v1/${collection}`, body))["name"]);

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
  made["account"] = await make("accounts", { displayName: CUSTOMER, kind: "COMPANY" });
  made["opportunity"] = await make("opportunities", {
    displayName: `记录商机${stamp}`,
    account: made["account"],
    need: "年度标书",
    amount: { currencyCode: "CNY", amount: "5000.00" },
    expectedCloseDate: { year: new Date().getFullYear() + 1, month: 1, day: 15 },
  });
});

afterAll(() => context?.close());

/** The page as it stands on a phone, in English: nobody is kept out, and nothing is wider than the screen. */
async function onPhone(path: string, name: string): Promise<void> {
  await page.evaluate(() => localStorage.setItem("guanxi.language", "en"));
  await page.setViewportSize({ width: 390, height: 844 });
  await visit(page, path);
  await check(page, `${name}-phone`);
  expect(await page.evaluate(() => document.documentElement.scrollWidth), path).toBeLessThanOrEqual(390);
  await page.evaluate(() => localStorage.setItem("guanxi.language", "zh-CN"));
  await page.setViewportSize({ width: 1440, height: 900 });
}

describe("the sections of a record", () => {
  it("stand in a row that fits, and the others in a menu that keys reach", async () => {
    await visit(page, `/${made["opportunity"]}`);
    await check(page, "tabs");
    const row = await page.locator(".tab-row").boundingBox();
    const last = await page.locator(".tab-row > :last-child").boundingBox();
    expect((last?.x ?? 0) + (last?.width ?? 0)).toBeLessThanOrEqual((row?.x ?? 0) + (row?.width ?? 0) + 1);
    const more = page.getByRole("button", { name: /^其余栏目/ });
    await more.focus();
    await page.keyboard.press("Enter");
    await page.getByRole("menuitem").first().waitFor();
    await page.keyboard.press("ArrowDown");
    const chosen = await page.evaluate(() => document.activeElement?.textContent ?? "");
    await page.keyboard.press("Enter");
    const tab = page.getByRole("tab", { name: chosen, exact: true, selected: true });
    await tab.waitFor();
    await expect.poll(() => tab.evaluate((one) => one === document.activeElement)).toBe(true);
    await page.keyboard.press("Home");
    await page.getByRole("tab", { selected: true }).first().waitFor();
    expect(await page.getByRole("tabpanel").count()).toBe(1);
    await onPhone(`/${made["opportunity"]}`, "tabs");
  });
});

describe("a record on paper", () => {
  it("is what one reads without what one clicks, on A4, and who printed it is known", async () => {
    await visit(page, `/${made["account"]}`);
    await page.evaluate(() => {
      window.print = () => void (document.documentElement.dataset["printed"] = "yes");
    });
    const told = page.waitForResponse((answer) => answer.url().endsWith("/v1/auditEntries:print"));
    await page.getByRole("button", { name: "更多" }).click();
    await page.getByRole("menuitem", { name: "打印" }).click();
    expect((await told).ok()).toBe(true);
    await expect
      .poll(() => page.evaluate(() => document.documentElement.dataset["printed"]), PATIENCE)
      .toBe("yes");
    await page.emulateMedia({ media: "print" });
    expect(await page.getByRole("heading", { level: 1, name: CUSTOMER }).isVisible()).toBe(true);
    for (const clicked of [".nav", ".top", ".page-actions", ".tab-row"])
      expect(await page.locator(clicked).first().isVisible(), clicked).toBe(false);
    const paper = (await page.pdf({ preferCSSPageSize: true })).toString("latin1");
    expect(paper).toMatch(/MediaBox \[0 0 59[45][.\d]* 84[12][.\d]*\]/);
    await page.emulateMedia({ media: null });
  });
});

describe("a dictionary", () => {
  it("is a tree in which an entry is found, counted, merged and retired", async () => {
    const entry = (key: string, zh: string, en: string, parent = "") => ({ key, label: { zh, en }, parent });
    made["dictionary"] = await make("dictionaries", {
      key: `goods${stamp}`,
      displayName: `品类${stamp}`,
      entries: [
        entry("metal", "金属", "Metal"),
        entry("steel", "钢材", "Steel", "metal"),
        entry("iron", "生铁", "Iron", "metal"),
        entry("wood", "木材", "Wood"),
      ],
    });
    await api(page, "POST", `/v1/${made["dictionary"]}:publish`, {});
    await visit(page, `/${made["dictionary"]}`);
    const node = (text: string) => page.getByRole("treeitem").filter({ hasText: text });
    await node("钢材").waitFor();
    await node("金属").focus();
    await page.keyboard.press("ArrowLeft");
    await node("钢材").waitFor({ state: "detached" });
    await page
      .getByRole("searchbox", { name: "查找条目" })
      .or(page.getByLabel("查找条目"))
      .first()
      .fill("iron");
    await node("生铁").waitFor();
    expect(await node("木材").count()).toBe(0);
    await page.getByLabel("查找条目").first().fill("");
    await page.getByRole("button", { name: "统计使用" }).last().click();
    await node("木材").getByText("未使用").waitFor(PATIENCE);
    await node("金属").focus();
    await page.keyboard.press("ArrowRight");
    await node("生铁").getByRole("button", { name: /操作/ }).click();
    await page.getByRole("menuitem", { name: "合并条目" }).click();
    const dialog = page.getByRole("dialog");
    await choose(page, field(dialog, "并入条目"), "钢材", "钢");
    await check(page, "dictionary-merge");
    await dialog.getByRole("button", { name: "合并条目" }).click();
    await node("生铁").getByText("已并入“钢材”").waitFor();
    await node("木材").getByRole("button", { name: /操作/ }).click();
    await page.getByRole("menuitem", { name: "停用条目" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "停用条目" }).click();
    await node("木材").getByText("已停用").waitFor();
    await check(page, "dictionary");
    await onPhone(`/${made["dictionary"]}`, "dictionary");
  });
});

describe("a rule of numbers", () => {
  it("shows its numbers while one types, and what is odd in those it gave", async () => {
    await visit(page, "/numberRules/new");
    await choose(page, field(page, "对象"), "建议书", "建议书");
    await field(page, "规则").fill("PR-{yyyy}-{seq:5");
    await page.getByText("规则尚不完整").waitFor();
    await field(page, "规则").fill(`PR${stamp}-{yyyy}-{seq:5}`);
    await page
      .getByRole("status")
      .filter({ hasText: `PR${stamp}-${new Date().getFullYear()}-00001` })
      .waitFor();
    await check(page, "number-rule-new");
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.locator(".record").waitFor();
    await page.locator(".numbers li").nth(9).waitFor();
    made["rule"] = new URL(page.url()).pathname.slice(1);
    await page.getByRole("button", { name: "启用", exact: true }).click();
    await page.locator("main .tag").filter({ hasText: "启用" }).waitFor();
    await page.getByRole("button", { name: "核对编号", exact: true }).first().click();
    await openTab(page, "编号核对");
    await page
      .getByText("没有发现问题")
      .or(page.getByRole("columnheader", { name: "问题" }))
      .first()
      .waitFor(PATIENCE);
    await check(page, "number-rule");
    await onPhone(`/${made["rule"]}?tab=check`, "number-rule");
  });
});

describe("a proposal", () => {
  it("reads as its customer will read it, with what is open and what runs out", async () => {
    const soon = new Date(Date.now() + 2 * 86_400_000).toISOString();
    made["proposal"] = await make("proposals", {
      displayName: `年度标书${stamp}`,
      kind: "TENDER",
      opportunity: made["opportunity"],
      submissionTime: soon,
      sections: [
        { title: "公司简介", body: "我们做了二十年。", done: true },
        { title: "技术方案", body: "分三期实施。" },
      ],
      requirements: [
        { text: "质保两年", answer: "质保三年", verdict: "COMPLIES" },
        { text: "本地服务", answer: "" },
      ],
    });
    await visit(page, `/${made["proposal"]}`);
    await page.getByText("已完成章节 1/2").waitFor();
    await page.getByText("已应答要求 1/2").waitFor();
    await page.locator(".state-path").getByText("递交截止").waitFor();
    await page.getByRole("heading", { name: "2. 技术方案" }).waitFor();
    await check(page, "proposal");
    const [file] = await Promise.all([
      page.waitForEvent("download", PATIENCE),
      page.getByRole("button", { name: "下载 DOCX" }).click(),
    ]);
    expect(file.suggestedFilename()).toMatch(/\.docx$/);
    await onPhone(`/${made["proposal"]}`, "proposal");
  });
});

describe("the grade of a customer", () => {
  it("is tried on one by the rule in force, and explained on the customer's page", async () => {
    made["grading"] = await make("gradingRules", {
      displayName: `评级${stamp}`,
      filter: `displayName = "${CUSTOMER}"`,
      currency: "CNY",
      factors: [{ measure: "FOLLOW_UPS", months: 12, steps: [{ from: "0", points: 30 }] }],
      grades: [
        { level: "A", points: 80 },
        { level: "C", points: 0 },
      ],
    });
    await api(page, "POST", `/v1/${made["grading"]}:activate`, {});
    await visit(page, `/${made["grading"]}?tab=try`);
    await choose(page, page.getByLabel("选择客户"), CUSTOMER, CUSTOMER);
    await page.getByRole("rowheader", { name: "跟进次数" }).waitFor();
    await page.getByRole("status").getByText("30", { exact: true }).waitFor();
    await check(page, "grading-rule");
    await visit(page, `/${made["account"]}?tab=grade`);
    await page.getByRole("rowheader", { name: "跟进次数" }).waitFor();
    await check(page, "account-grade");
    await visit(page, `/${made["account"]}?tab=mail`);
    await check(page, "account-mail");
    await onPhone(`/${made["grading"]}`, "grading");
  });
});

describe("how a month goes", () => {
  it("is seen with its figures and what could be better", async () => {
    made["standard"] = await make("appraisalStandards", {
      displayName: `考核${stamp}`,
      currency: "CNY",
      items: [
        { metric: "VISITS", weight: "40", target: "10" },
        { metric: "CALLS", weight: "60", target: "20" },
      ],
    });
    await api(page, "POST", `/v1/${made["standard"]}:activate`, {});
    await visit(page, "/performance");
    await page.getByRole("rowheader", { name: "拜访" }).waitFor();
    await check(page, "performance");
    await onPhone("/performance", "performance");
    await api(page, "POST", `/v1/${made["standard"]}:retire`, {});
  });
});

describe("a deal that a partner registers", () => {
  it("shows its way, what it meets, and how long it is protected", async () => {
    const registration = await make("dealRegistrations", {
      companyName: CUSTOMER,
      partner: made["account"],
      contactName: "王明",
      phone: "13800138000",
      productLines: ["传感器"],
      region: "310000",
      amount: { currencyCode: "CNY", amount: "5000.00" },
      expectedCloseDate: { year: new Date().getFullYear() + 1, month: 1, day: 15 },
      evidence: ["https://partner.example/minutes"],
    });
    await visit(page, `/${registration}`);
    await page.getByRole("button", { name: "提交报备", exact: true }).click();
    await page.locator(".steps [aria-current=step]").filter({ hasText: "已受理" }).waitFor();
    await settled(page);
    await check(page, "registration-check");
    await page.getByRole("button", { name: "批准", exact: true }).click();
    // At what prices, and for what share.
    const terms = page.getByRole("dialog");
    await field(terms, "价目表").waitFor();
    await check(page, "registration-terms");
    await terms.getByRole("button", { name: "批准", exact: true }).click();
    await page.locator(".steps [aria-current=step]").filter({ hasText: "已批准" }).waitFor();
    await page.locator(".state-path").getByText("保护期至").waitFor();
    await check(page, "registration");
    await onPhone(`/${registration}`, "registration");
  });
});

describe("a call that comes in", () => {
  it("shows the caller with his deals beside whatever one does, and leads to the desk", async () => {
    const number = `+86139${String(Date.now()).slice(-8)}`;
    await make("contacts", {
      displayName: `来电人${stamp}`,
      account: made["account"],
      phones: [{ number, primary: true }],
    });
    const me = String((await api(page, "GET", "/session"))["employee"]);
    const ring = `ring-${stamp}`;
    const told = (event: string) =>
      api(page, "POST", "/v1/calls:report", {
        providerCall: ring,
        event,
        time: new Date().toISOString(),
        fromNumber: number,
        toNumber: "8001",
        employee: me,
      });
    await visit(page, "/accounts");
    await expect
      .poll(
        async () =>
          ((await api(page, "GET", `/v1/calls:lookUp?number=${encodeURIComponent(number)}`))["matches"] ??
            []) as unknown[],
        PATIENCE,
      )
      .toHaveLength(1);
    await told("STARTED");
    const popup = page.getByRole("region", { name: "来电" });
    await popup.getByRole("link", { name: `来电人${stamp}` }).waitFor(PATIENCE);
    await popup.getByRole("link", { name: `记录商机${stamp}` }).waitFor();
    await check(page, "incoming");
    await page.setViewportSize({ width: 390, height: 844 });
    await check(page, "incoming-phone");
    await page.setViewportSize({ width: 1440, height: 900 });
    await page.locator("h1").click();
    await page.keyboard.press("g");
    await page.keyboard.press("p");
    await page.waitForURL(/\/call-desk$/);
    await page
      .getByRole("region", { name: "通话" })
      .getByRole("link", { name: `记录商机${stamp}` })
      .waitFor();
    await check(page, "incoming-desk");
    await told("ENDED");
    await page.getByRole("button", { name: /小结/ }).first().click();
    const dialog = page.getByRole("dialog");
    await choose(page, field(dialog, "结果"), "已沟通");
    await dialog.getByRole("button", { name: /小结/ }).click();
    await dialog.waitFor({ state: "detached" });
    await page.getByRole("textbox", { name: "直接拨号" }).waitFor();
  });
});

it("keeps nobody out", () => expect(barriers).toEqual([]));
