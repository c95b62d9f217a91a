import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrowserContext, Page } from "playwright-core";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, visit } from "./pages.ts";
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

const csv = (lines: string[]) => ({
  name: "clients.csv",
  mimeType: "text/csv",
  buffer: Buffer.from(`\ufeff${lines.join("\r\n")}`),
});

/** The same as a Chinese spreadsheet writes it. */
const fromSpreadsheet = (lines: string[]) => ({
  ...csv([]),
  buffer: execFileSync("iconv", ["-f", "UTF-8", "-t", "GB18030"], { input: lines.join("\r\n") }),
});

const ORGANISATION = [
  ["部门代码", "部门名称", "上级部门代码"],
  [`Z${mark}`, `组织${mark}`, "GX"],
  [`Y${mark}`, `下级${mark}`, `X${mark}`],
];
const rows = (lines: string[][]) => csv(lines.map((line) => line.join(",")));

const found = async (collection: string) =>
  ((await api(page, "GET", `/v1/${collection}?q=${encodeURIComponent(mark)}&pageSize=50`))[collection] ??
    []) as unknown[];

describe("a file of customers", () => {
  it("is mapped and checked, and its bad row comes back in a file", async () => {
    await visit(page, "/import/accounts");
    await check(page, "import-empty");
    await page
      .locator('input[type="file"]')
      .setInputFiles(
        fromSpreadsheet([
          "公司,电话,人数,客户类别",
          `导入一${mark}有限公司,13800138001,12,企业`,
          `导入二${mark}有限公司,13800138002,好多,企业`,
          `导入三${mark}有限公司,13800138003,30,企业`,
        ]),
      );
    await page.getByRole("row").filter({ hasText: "人数" }).waitFor();
    for (const [column, field] of [
      ["公司", "客户名称"],
      ["电话", "电话"],
      ["人数", "员工人数"],
    ] as const) {
      const cell = page.locator(".mapping tr").filter({ has: page.getByRole("rowheader", { name: column }) });
      if (await cell.locator(".ant-select-content-has-value").isVisible()) continue;
      await cell.getByRole("combobox").click();
      await page.keyboard.type(field, { delay: 20 });
      await page
        .locator(".ant-select-dropdown:visible .ant-select-item-option")
        .filter({ hasText: field })
        .first()
        .click();
    }
    await check(page, "import-mapping");
    await page.getByRole("button", { name: "上传并检查" }).click();
    await page.getByText("检查完成，尚未写入任何数据").waitFor();
    await page.getByText("有问题的行").first().waitFor();
    await check(page, "import-checked");
    expect(await found("accounts")).toHaveLength(0);
    const [file] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("link", { name: "下载错误文件" }).click(),
    ]);
    expect(
      await file
        .createReadStream()
        .then((stream) => stream.toArray())
        .then(String),
    ).toContain("好多");
  });

  it("comes in without the bad row, and is taken back", async () => {
    await page.getByRole("button", { name: "仅导入正确的 2 行" }).click();
    await page.getByText("导入完成").waitFor();
    await expect.poll(async () => (await found("accounts")).length).toBe(2);
    await check(page, "import-done");
    await page.getByRole("button", { name: "撤销导入" }).click();
    await page.getByText("已撤销").first().waitFor();
    await expect.poll(async () => (await found("accounts")).length).toBe(0);
  });
});

describe("values that are no choice of their field", () => {
  it("are proposed as what they are likest, and taken up when somebody says so", async () => {
    await visit(page, "/import/accounts");
    await page
      .locator('input[type="file"]')
      .setInputFiles(csv(["客户名称,行业", `近似${mark}有限公司,制造`, `同样${mark}有限公司,制造业`]));
    await page.locator(".mapping .ant-select-content-has-value").nth(1).waitFor();
    await page.getByRole("button", { name: "上传并检查" }).click();
    await page.getByRole("button", { name: "仅导入正确的 1 行" }).waitFor();
    await page
      .locator("tr")
      .filter({ hasText: "制造" })
      .getByText("制造业", { exact: true })
      .first()
      .waitFor();
    await check(page, "import-proposals");
    await page.getByRole("button", { name: "采用并重新检查" }).click();
    await page.getByRole("button", { name: "导入 2 行" }).waitFor();
    expect(await found("accounts")).toHaveLength(0);
  });
});

describe("any other collection", () => {
  it("is offered where a table can hold its records, and only there", async () => {
    for (const [collection, offered] of [
      ["competitors", 1],
      ["merges", 0],
      ["transfers", 0],
    ] as const) {
      await visit(page, `/${collection}`);
      expect(await page.locator(`a[href="/import/${collection}"]`).count(), collection).toBe(offered);
    }
    await visit(page, "/import/merges");
    await page.getByText("记录不存在").waitFor();
  });

  it("comes in as a background job and stands in the tray", async () => {
    await visit(page, "/import/competitors");
    await page.locator('input[type="file"]').setInputFiles(csv(["名称,网站", `对手${mark},www.example.cn`]));
    // Columns that are called like their fields are mapped by themselves.
    await page.locator(".mapping .ant-select-content-has-value").nth(1).waitFor();
    await page.getByRole("button", { name: "上传并检查" }).click();
    await page.getByText("检查完成，尚未写入任何数据").waitFor();
    await page.getByRole("button", { name: /^导入 1 行/ }).click();
    await page.getByText("导入完成").waitFor();
    expect(await found("competitors")).toHaveLength(1);
    await page.getByRole("button", { name: /后台任务/ }).click();
    await page.locator(".jobs li").first().getByText("已完成").waitFor();
    await check(page, "jobs-tray");
    await page.keyboard.press("Escape");
  });

  it("goes out as a file in the background", async () => {
    await visit(page, `/competitors?q=${encodeURIComponent(mark)}`);
    await page.getByRole("button", { name: "导出" }).click();
    await check(page, "export");
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("combobox").first().click();
    await page
      .locator(".ant-select-dropdown:visible .ant-select-item-option")
      .filter({ hasText: "统计分析" })
      .click();
    await dialog.getByLabel(/^用途说明/).fill("竞争对手名单，用于季度分析");
    await dialog.getByRole("button", { name: "申请导出" }).click();
    await page.getByText("已提交导出申请").waitFor();
    await page.getByRole("button", { name: "导出" }).click();
    const ready = page.getByRole("dialog").getByRole("listitem").first().getByRole("link");
    const [file] = await Promise.all([
      page.waitForEvent("download", { timeout: 30_000 }),
      ready.click({ timeout: 30_000 }),
    ]);
    expect(file.suggestedFilename()).toMatch(/\.xlsx$/);
    await page.keyboard.press("Escape");
  });

  it("brings an organisation whole or not at all", async () => {
    await visit(page, "/import/departments");
    const file = page.getByLabel("包含全部部门的 CSV 文件");
    await file.setInputFiles(rows(ORGANISATION));
    await page.locator(".field-error").first().waitFor();
    expect(await page.getByRole("button", { name: "全部导入" }).isDisabled()).toBe(true);
    await check(page, "departments-refused");
    await file.setInputFiles(rows([...ORGANISATION.slice(0, 2), [`Y${mark}`, `下级${mark}`, `Z${mark}`]]));
    await page.locator(".figure").filter({ hasText: "新增" }).getByText("2", { exact: true }).waitFor();
    await check(page, "departments-tried");
    expect(await found("departments")).toHaveLength(0);
    await page.getByRole("button", { name: "全部导入" }).click();
    await page.waitForURL(/\/departments$/);
    await expect.poll(async () => (await found("departments")).length, { timeout: 30_000 }).toBe(2);
  });

  it("was kept out nowhere", () => expect(barriers).toEqual([]));
});
