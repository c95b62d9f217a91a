import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const mark = `待归档${Date.now().toString(36)}`;

let context: BrowserContext;
let theirs: BrowserContext;
let page: Page;
let asker: Page;
let policy = "";
const accounts: string[] = [];

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
  theirs = await open({ width: 390, height: 844 });
  asker = theirs.pages()[0] ?? (await theirs.newPage());
  await signIn(asker, BASE, "manager");
  const { employee } = await api(page, "GET", "/session");
  // Only what this story makes is held.
  const made = await api(page, "POST", "/v1/approvalPolicies", {
    displayName: `归档审批${mark}`,
    action: "customer.accounts.archive",
    condition: `display_name:"${mark}"`,
    steps: [{ label: "管理员", approvers: [{ source: "EMPLOYEE", employee }] }],
  });
  policy = String(made["name"]);
  await api(page, "POST", `/v1/${policy}:activate`, {});
});

afterAll(async () => {
  if (policy) await api(page, "POST", `/v1/${policy}:retire`, {});
  await context?.close();
  await theirs?.close();
});

const asked = async (number: number) => {
  const made = await api(asker, "POST", "/v1/accounts", {
    displayName: `${mark}${number}`,
    kind: "COMPANY",
  });
  accounts.push(String(made["name"]));
  return made;
};
const stateOf = async (name: string) => (await api(page, "GET", `/v1/${name}`))["state"];

describe("the approvals", () => {
  it("are decided several at once, with a reason where that is needed", async () => {
    // Another service knows the policy a moment later than the one that keeps it.
    let held: Record<string, unknown> = {};
    for (let number = 1; !held["pendingApproval"]; number++) {
      const made = await asked(number);
      held = await api(asker, "POST", `/v1/${String(made["name"])}:archive`, {});
      if (number > 30) throw new Error("The policy holds nothing.");
    }
    for (const number of [101, 102]) {
      const made = await asked(number);
      await api(asker, "POST", `/v1/${String(made["name"])}:archive`, {});
    }
    const [third, second, first] = accounts.toReversed();
    await visit(page, "/approvals");
    const inbox = page.getByRole("list", { name: "待我审批" });
    const items = inbox.getByRole("listitem").filter({ hasText: mark });
    await expect
      .poll(
        async () => {
          await page.reload();
          await inbox.or(page.getByText("没有待审批的事项")).first().waitFor();
          return items.count();
        },
        { timeout: 60_000, interval: 1_000 },
      )
      .toBe(3);
    await check(page, "approvals-todo");
    for (const number of [101, 102])
      await items
        .filter({ hasText: `${mark}${number}` })
        .getByRole("checkbox")
        .check();
    await page.getByRole("button", { name: "拒绝 2 项" }).click();
    const dialog = page.getByRole("dialog");
    const reject = dialog.getByRole("button", { name: "拒绝 2 项" });
    expect(await reject.isDisabled()).toBe(true);
    await dialog.getByLabel(/^原因/).fill("客户还在合作");
    await check(page, "approvals-reject");
    await reject.click();
    await page.getByText("已处理 2 项").first().waitFor();
    await items.first().getByRole("checkbox").check();
    await page.getByRole("button", { name: "同意 1 项" }).click();
    await dialog.getByRole("button", { name: "同意 1 项" }).click();
    await page.getByText("已处理 1 项").first().waitFor();
    await expect.poll(() => stateOf(first ?? ""), { timeout: 60_000 }).toBe("ARCHIVED");
    expect(await stateOf(second ?? "")).toBe("ACTIVE");
    expect(await stateOf(third ?? "")).toBe("ACTIVE");
  });

  it("tell who asked what became of it, on a phone", async () => {
    await visit(asker, "/approvals?tab=mine");
    const mine = asker.getByRole("list", { name: "我提交的" }).getByRole("listitem");
    await mine
      .filter({ hasText: `${mark}102` })
      .getByText("已拒绝")
      .waitFor();
    await mine
      .filter({ hasText: `${mark}102` })
      .getByRole("button")
      .click();
    await asker.getByText("客户还在合作").first().waitFor();
    await check(asker, "approvals-phone");
    expect(await asker.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  });

  it("keep nobody out", () => expect(barriers).toEqual([]));
});
