import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrowserContext, Page } from "playwright-core";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

/** A public set of 8,800 deals; it lies beside the repository, or where SHARED_DATA says. */
const SET = join(
  process.env["SHARED_DATA"] ?? join(import.meta.dirname, "../../../shared/data"),
  "crm-sales-opportunities",
);
const stamp = Date.now().toString(36);
const NOBODY = `未登记客户${stamp}`;
const FLOW = `公开数据${stamp}`;
const LONG = 240_000;

let context: BrowserContext;
let page: Page;
let flow = "";

const read = (name: string) => readFileSync(join(SET, name), "utf8").trim().split(/\r?\n/);
/** The file as a person would choose it; the columns that name things get the mark of this run, as others run before. */
const file = (name: string, lines: string[]) => ({
  name,
  mimeType: "text/csv",
  buffer: Buffer.from(lines.join("\n")),
});
const marked = (name: string, columns: number[]) => {
  const [head = "", ...lines] = read(name);
  const own = lines.map((line) =>
    line
      .split(",")
      .map((cell, at) => (columns.includes(at) && cell ? `${cell} ${stamp}` : cell))
      .join(","),
  );
  return [head, ...own];
};
const figure = (label: string) => page.locator(".figure").filter({ hasText: label }).locator("strong");

/** Takes a file of other records through the wizard. */
async function bring(collection: string, lines: string[], fields: Record<string, string>): Promise<void> {
  await visit(page, `/import/${collection}`);
  await page.locator('input[type="file"]').setInputFiles(file(`${collection}.csv`, lines));
  const [head = ""] = lines;
  for (const column of head.split(",")) {
    const row = page
      .locator(".mapping tr")
      .filter({ has: page.getByRole("rowheader", { name: column, exact: true }) });
    const wanted = fields[column];
    if (wanted) await choose(page, row.getByRole("combobox"), wanted, wanted);
  }
  await page.getByRole("button", { name: "上传并检查" }).click();
  await page.getByText("检查完成，尚未写入任何数据").waitFor({ timeout: 60_000 });
  await check(page, `past-${collection}-checked`);
  await page.getByRole("button", { name: `导入 ${lines.length - 1} 行` }).click();
  await page.getByText("导入完成").waitFor({ timeout: 60_000 });
}

describe.skipIf(!existsSync(SET))("deals of another system", () => {
  beforeAll(async () => {
    context = await open({ width: 1440, height: 900 });
    page = context.pages()[0] ?? (await context.newPage());
    await signIn(page, BASE);
    await api(page, "POST", "/v1/accounts", { displayName: NOBODY, kind: "COMPANY" });
    const stages = [
      { key: "P", displayName: "Prospecting", probability: "10", forecastCategory: "PIPELINE" },
      { key: "E", displayName: "Engaging", probability: "40", forecastCategory: "BEST_CASE" },
    ];
    flow = String((await api(page, "POST", "/v1/pipelines", { displayName: FLOW, stages }))["name"]);
    await api(page, "POST", `/v1/${flow}:activate`, {});
  });

  afterAll(() => context?.close());

  it(
    "find their customers and products, which come in from files of their own",
    async () => {
      // The parents of some customers stand in the same file; only names and sizes are taken here.
      await bring("accounts", marked("accounts.csv", [0]), { account: "客户名称", employees: "员工人数" });
      await bring("products", marked("products.csv", [0]), { product: "产品名称", sales_price: "标准价" });
    },
    LONG,
  );

  it(
    "are checked, and say what is called otherwise here",
    async () => {
      await visit(page, "/import/opportunities");
      await page.getByRole("link", { name: /^导入历史商机/ }).click();
      await page.getByRole("heading", { level: 1, name: "导入历史商机" }).waitFor();
      const lines = marked("sales_pipeline.csv", [0, 2, 3]);
      await page.locator('input[type="file"]').setInputFiles(file("sales_pipeline.csv", lines));
      for (const [column, field] of [
        ["opportunity_id", "外部编号"],
        ["sales_agent", "销售人员"],
        ["product", "产品"],
        ["account", "客户名称"],
        ["deal_stage", "状态"],
        ["engage_date", "开始日期"],
        ["close_date", "关闭日期"],
        ["close_value", "金额"],
      ] as const) {
        const row = page
          .locator(".mapping tr")
          .filter({ has: page.getByRole("rowheader", { name: column, exact: true }) });
        if (await row.locator(".ant-select-content-has-value").filter({ hasText: field }).isVisible())
          continue;
        await choose(page, row.getByRole("combobox"), field, field);
      }
      await choose(page, page.getByLabel("销售流程"), FLOW);
      await choose(page, page.getByLabel("币种"), "USD", "USD");
      // The progress of the file is known by its words: the stages are called so, the ends in English.
      await check(page, "past-deals-mapping");
      await page.getByRole("button", { name: "检查", exact: true }).click();
      await page.getByText("检查完成，尚未写入任何数据").waitFor({ timeout: 120_000 });
      expect(await figure("总行数").innerText()).toBe("8,800");
      expect(await figure("不能导入").innerText()).toBe("2,683");
      const strange = page
        .getByRole("row")
        .filter({ hasText: `GTXPro ${stamp}` })
        .first();
      expect(await strange.innerText()).toContain("1,480");
      const without = page.getByRole("row").filter({ hasText: "没有客户" }).first();
      expect(await without.innerText()).toContain("1,425");
      await check(page, "past-deals-strange");
      await choose(page, strange.getByRole("combobox"), `GTX Pro ${stamp}`, `GTX Pro ${stamp}`);
      await choose(page, without.getByRole("combobox"), NOBODY, NOBODY);
      await page.getByRole("button", { name: "重新检查" }).click();
      await page.getByRole("button", { name: "导入 8800 行" }).waitFor({ timeout: 120_000 });
      const made = await api(
        page,
        "GET",
        `/v1/opportunities?filter=${encodeURIComponent(`pipeline = "${flow}"`)}`,
      );
      expect(made["opportunities"] ?? []).toEqual([]);
    },
    LONG,
  );

  it(
    "come in once",
    async () => {
      await page.getByRole("button", { name: "导入 8800 行" }).click();
      await page.getByText("导入完成").waitFor({ timeout: 200_000 });
      expect(await figure("新建").innerText()).toBe("8,800");
      await check(page, "past-deals-done");
      await page.getByRole("button", { name: "重新检查" }).click();
      await page.getByText("检查完成，尚未写入任何数据").waitFor({ timeout: 120_000 });
      expect(await figure("已存在").innerText()).toBe("8,800");
    },
    LONG,
  );

  it(
    "add up on the pages of figures to what is known of them",
    async () => {
      await visit(page, `/funnel?pipeline=${encodeURIComponent(flow)}`);
      for (const [stage, count] of [
        ["Prospecting", "500"],
        ["Engaging", "1589"],
      ] as const) {
        const row = page.getByRole("row").filter({ hasText: stage });
        expect((await row.innerText()).replace(/,/g, "")).toContain(count);
      }
      const ends = page.locator("main .figure");
      expect(await ends.filter({ hasText: "赢单" }).innerText()).toMatch(/4,238[\s\S]*\$10,005,534\.00/);
      expect(await ends.filter({ hasText: "输单" }).innerText()).toContain("2,473");
      await check(page, "past-deals-funnel");
    },
    LONG,
  );

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
