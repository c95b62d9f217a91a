import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, field, visit, openTab } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const SHARED = `撞单共享${stamp}科技有限公司`;
const DISPUTED = `撞单争议${stamp}贸易有限公司`;

let context: BrowserContext;
let page: Page;

async function become(username: string): Promise<void> {
  await context.clearCookies();
  await signIn(page, BASE, username);
}

/** Types the name of a customer of somebody else's and opens what one may ask for. */
async function meet(name: string, action: string) {
  await visit(page, "/accounts/new");
  await field(page, "客户名称").fill(name);
  const advice = page.locator(".advice");
  await advice.getByText("其他部门的客户").or(advice.getByText("确定相同")).first().waitFor();
  await advice.getByRole("button", { name: action }).click();
  return page.getByRole("dialog");
}

/** Opens the case that was just made, in the window that the link opens. */
async function openCase(): Promise<string> {
  const link = page.locator(".advice").getByRole("link", { name: "已提交，查看案件" });
  await link.waitFor();
  return (await link.getAttribute("href")) ?? "";
}

/** Who signs in as the one whom the case waits for. */
async function arbiterOf(path: string): Promise<string> {
  const found = await api(page, "GET", `/v1${path}`);
  await become("admin");
  return String((await api(page, "GET", `/v1/${String(found["waitingFor"])}`))["username"]);
}

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await become("sales1");
  for (const displayName of [SHARED, DISPUTED]) {
    const account = await api(page, "POST", "/v1/accounts", { displayName, kind: "COMPANY" });
    await api(page, "POST", "/v1/interactions", {
      account: account["name"],
      channel: "CALL",
      direction: "OUTBOUND",
      startTime: new Date().toISOString(),
      summary: "第一次电话介绍产品并约定见面时间",
    });
  }
});

afterAll(() => context?.close());

describe("two sides at one customer", () => {
  it("tells while one types, shows nothing of the other side, and lets one ask to share", async () => {
    await become("sales2");
    const dialog = await meet(SHARED, "申请协作");
    expect(await page.locator(".advice").innerText()).not.toContain(SHARED);
    await dialog.getByLabel("说明").fill("我负责他们的另一条产品线");
    await check(page, "collision-ask");
    await dialog.getByRole("button", { name: "申请协作" }).click();
    await visit(page, await openCase());
    await page.locator(".steps [aria-current]").getByText("待对方答复").waitFor();
    await page.getByText("证据只对裁决人开放").waitFor();
    expect(await page.getByRole("button", { name: "答复" }).count()).toBe(0);
    await check(page, "collision-case");
  });

  it("lets the owner answer, and the customer is shared", async () => {
    const path = new URL(page.url()).pathname;
    await become("sales1");
    await visit(page, path);
    await page.getByText("等待您处理").waitFor();
    await page.getByRole("button", { name: "答复", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("同意").click();
    await check(page, "collision-respond");
    await dialog.getByRole("button", { name: "答复" }).click();
    await page.locator(".steps [aria-current]").getByText("已结案").waitFor();
    await become("sales2");
    await visit(page, path);
    await page.locator(".record-side").getByRole("link", { name: SHARED }).waitFor();
  });

  it("takes a dispute to the superior, who sees both sides and decides", async () => {
    const dialog = await meet(DISPUTED, "提出争议");
    await dialog.getByLabel(/您的理由/).fill("客户三月已经和我签过意向书");
    await dialog.getByRole("button", { name: "提出争议" }).click();
    const path = await openCase();
    await visit(page, path);
    await page.locator(".steps [aria-current]").getByText("仲裁中").waitFor();
    await become(await arbiterOf(path));
    await visit(page, path);
    await page.getByText("等待您处理").waitFor();
    await page.locator(".evidence").getByText("第一次电话介绍产品并约定见面时间").waitFor();
    await check(page, "collision-evidence");
    await page.getByRole("button", { name: "裁决", exact: true }).click();
    const verdict = page.getByRole("dialog");
    await choose(page, field(verdict, "裁决"), "转移归属");
    await field(verdict, "理由").fill("意向书在先");
    await check(page, "collision-decide");
    await verdict.getByRole("button", { name: "裁决" }).click();
    await verdict.waitFor({ state: "detached" });
    await page.locator(".steps [aria-current]").getByText("已裁决").waitFor();
    await become("sales2");
    await visit(page, path);
    await page.locator(".record-side").getByRole("link", { name: DISPUTED }).click();
    await page.getByRole("heading", { level: 1, name: DISPUTED }).waitFor();
    await openTab(page, "归属历史");
    await page.locator(".feed").getByText("撞单裁决").waitFor();
  });

  it("keeps nobody out", () => {
    expect(barriers).toEqual([]);
  });
});
