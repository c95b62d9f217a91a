import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, visit, openTab } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const [HEAD, BRANCH] = [`总部${stamp}集团`, `分厂${stamp}公司`];

let context: BrowserContext;
let page: Page;
let head = "";
const people: Record<string, string> = {};

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE, "manager");
  const make = async (collection: string, body: Record<string, unknown>) =>
    String((await api(page, "POST", `/v1/${collection}`, body))["name"]);
  head = await make("accounts", { displayName: HEAD, kind: "COMPANY" });
  const branch = await make("accounts", { displayName: BRANCH, kind: "COMPANY" });
  await make("accountRelations", { from: head, to: branch, kind: "PARENT_OF", share: "80" });
  for (const [name, decisionRole] of [
    ["董事长", "DECIDER"],
    ["厂长", "INFLUENCER"],
    ["采购员", "USER"],
  ])
    people[name ?? ""] = await make("contacts", {
      displayName: `${name}${stamp}`,
      decisionRole,
      affiliations: [{ account: head, title: name, primary: true }],
      ...(people["董事长"] && name === "厂长" ? { reportsTo: people["董事长"] } : {}),
    });
  const credit = await make("creditProfiles", { account: head });
  await api(page, "POST", `/v1/${credit}:grade`, {
    grade: "A",
    limit: { currencyCode: "CNY", amount: "500000.00" },
    termDays: 30,
    scorecard: [{ factor: "回款", weight: "100", score: "88" }],
  });
});

afterAll(() => context?.close());

const card = (name: string) => page.locator(".org-person").filter({ hasText: `${name}${stamp}` });

async function under(person: string, superior: string): Promise<void> {
  await page.getByRole("button", { name: `调整 ${person}${stamp}` }).click();
  await page.getByRole("menuitem", { name: "汇报给…" }).click();
  const dialog = page.getByRole("dialog");
  await choose(page, dialog.getByLabel("汇报对象"), `${superior}${stamp}`, superior);
  await dialog.getByRole("button", { name: "保存" }).click();
  await dialog.waitFor({ state: "detached" });
}

describe("a customer from inside", () => {
  it("draws who reports to whom, and what is missing", async () => {
    await visit(page, `/${head}?tab=orgChart`);
    await card("董事长").waitFor();
    await page.getByText("决策者与影响者覆盖").waitFor();
    await page.locator(".advice").getByText("90 天没有联系：").first().waitFor();
    await page
      .locator(".org li li")
      .filter({ hasText: `厂长${stamp}` })
      .waitFor();
    await check(page, "org-chart");
  });

  it("moves a person by keyboard, and refuses a circle without a change", async () => {
    await under("采购员", "厂长");
    await page
      .locator(".org li li li")
      .filter({ hasText: `采购员${stamp}` })
      .waitFor();
    await under("董事长", "采购员");
    await page.getByText(`董事长${stamp} 的汇报对象没有改变`).waitFor();
    await page
      .locator(".org li li li")
      .filter({ hasText: `采购员${stamp}` })
      .waitFor();
  });

  it("compares the units of the group and shows the credit", async () => {
    await page.locator(".record-side").getByText("额度 ¥500,000.00").waitFor();
    await openTab(page, "集团");
    await page
      .getByRole("region", { name: "集团与上下级单位对比" })
      .getByRole("link", { name: BRANCH })
      .waitFor();
    await check(page, "group");
  });

  it("fits a phone in English", async () => {
    const phone = await open({ width: 390, height: 844 });
    const small = phone.pages()[0] ?? (await phone.newPage());
    await signIn(small, BASE, "manager");
    await small.getByRole("button", { name: "English" }).click();
    await visit(small, `/${head}?tab=orgChart`);
    await small.getByText("Organisation chart").waitFor();
    await check(small, "org-chart-phone");
    expect(await small.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    await phone.close();
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
