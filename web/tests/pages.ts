import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { Locator, Page } from "playwright-core";

export const BASE = process.env["CRM_URL"] ?? "http://127.0.0.1:8080";
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SHOTS = process.env["SHOTS"];
let shots = 0;

/** What `check` has found that keeps people out. */
export const barriers: string[] = [];

/** Opens a page of the client and waits until it stands. */
export async function visit(page: Page, path: string): Promise<void> {
  await page.goto(BASE + path);
  await page.locator("h1").first().waitFor();
  await settled(page);
}

/** Waits until nothing is fetched, nothing is grey, nothing moves, and that for a while. */
export async function settled(page: Page, quietMs = 250): Promise<void> {
  const unrest = await page.evaluate(
    async ({ quietMs: quiet, longestMs }) => {
      const moving = () =>
        document
          .getAnimations()
          .find((one) => one.playState === "running" && one.effect?.getTiming().iterations !== Infinity);
      const why = () => {
        if (document.readyState !== "complete") return "the document is loading";
        const awaited = document.documentElement.dataset["fetching"] ?? "0";
        const asked = performance
          .getEntriesByType("resource")
          .filter((entry) => /\/(v1|session)/.test(entry.name))
          .slice(-6)
          .map((entry) => `${new URL(entry.name).pathname} at ${Math.round(entry.startTime)} ms`);
        if (awaited !== "0") return `${awaited} answers are awaited, the last that came: ${asked.join(", ")}`;
        const grey = document.querySelector(
          ".skeleton, [class*='-leave'], [class*='-enter'], [class*='-appear']",
        );
        if (grey) return `there is ${grey.outerHTML.slice(0, 200)}`;
        const animation = moving();
        return animation
          ? `something moves: ${(animation as CSSAnimation).animationName ?? "a transition"}`
          : "";
      };
      const begun = performance.now();
      let since = begun;
      while (performance.now() - since < quiet) {
        await new Promise((resolve) => setTimeout(resolve, 25));
        const reason = why();
        if (reason) since = performance.now();
        if (performance.now() - begun > longestMs) return reason || "it does so for moments only";
      }
      return "";
    },
    { quietMs, longestMs: 30_000 },
  );
  if (unrest) throw new Error(`${page.url()} does not come to rest: ${unrest}`);
}

/** A picture of the page as it stands goes to SHOTS, where that is set. */
export async function picture(page: Page, name: string): Promise<void> {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${String(++shots).padStart(2, "0")}-${name}.png`) });
}

/** Notes what would keep people out of the page as it stands, and takes its picture. */
export async function check(page: Page, name: string): Promise<void> {
  await settled(page);
  await picture(page, name);
  barriers.push(...(await violations(page)).map((text) => `${name}: ${text}`));
}

export async function violations(on: Page, within = "html"): Promise<string[]> {
  if (!(await on.evaluate(() => "axe" in window))) await on.evaluate(AXE);
  return on.evaluate(async (part) => {
    const axe = (
      window as unknown as { axe: { run: (target: unknown, options: unknown) => Promise<AxeResult> } }
    ).axe;
    const result = await axe.run(part, {
      runOnly: { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] },
    });
    // What axe lets pass: a text that says what a field is, and is not tied to any.
    const loose = [...document.querySelectorAll<HTMLLabelElement>(`${part} label`)]
      .filter((label) => !label.control && label.checkVisibility())
      .map((label) => `label without a field: ${label.outerHTML.slice(0, 120)}`);
    const found = result.violations.map(
      (rule) =>
        `${rule.id}: ${rule.nodes
          .map((node) => node.target.join(" "))
          .slice(0, 3)
          .join(" | ")}`,
    );
    return [...found, ...loose];
  }, within);
}

/** Texts that nobody wrote for people: keys of the catalogue, names of values, holes in sentences. */
export const unwritten = (page: Page, within = "body") =>
  page.evaluate((part) => {
    const walker = document.createTreeWalker(
      document.querySelector(part) ?? document.body,
      NodeFilter.SHOW_TEXT,
    );
    const found: string[] = [];
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const text = node.textContent?.trim() ?? "";
      const raw =
        /^[a-z][a-zA-Z]*(\.[a-zA-Z]+)+$/.test(text) ||
        /^[A-Z]+(_[A-Z]+)+$/.test(text) ||
        /\{\{|\bundefined\b|\bNaN\b|\[object /.test(text);
      // What other stories have written: the name of a file, and what is made to look like a page.
      const written = /\.csv$|<script>/.test(text);
      // Codes are shown as such.
      if (
        raw &&
        !written &&
        node.parentElement?.checkVisibility() &&
        !node.parentElement.closest("code, script, style")
      )
        found.push(text);
    }
    return found;
  }, within);

interface AxeResult {
  violations: { id: string; nodes: { target: string[] }[] }[];
}

/** The field of the form with that label, required or not. */
export const field = (on: Page | Locator, label: string) =>
  on.getByLabel(new RegExp(`^${label.replace(/[()%]/g, "\\$&")}( \\*)?$`)).first();

/** Chooses from a list that opens below the field; what is typed narrows it. */
export async function choose(page: Page, input: Locator, text: string, typed = ""): Promise<void> {
  await input.click();
  if (typed) await input.pressSequentially(typed, { delay: 30 });
  await page.locator(".ant-select-item-option").filter({ hasText: text }).last().click();
}

export async function pickDay(page: Page, input: Locator, day: string): Promise<void> {
  await input.click();
  await input.fill(day);
  await page.keyboard.press("Enter");
}

/** Opens a section of a record, from the menu at the end of the row where it does not fit. */
export async function openTab(page: Page, name: string): Promise<void> {
  const tab = page.getByRole("tab", { name, exact: true });
  const more = page.getByRole("button", { name: /^其余栏目/ });
  await tab.or(more).first().waitFor();
  if (await tab.isVisible()) return tab.click();
  await more.click();
  await page.getByRole("menuitem", { name, exact: true }).click();
  await tab.waitFor();
}

/** Saves the form and waits for the page of the record; its path comes back. */
export async function save(page: Page, label = "保存"): Promise<string> {
  await page.getByRole("button", { name: label, exact: true }).click();
  await page
    .waitForURL((url) => /\/[a-zA-Z]+\/[0-9a-f-]{36}$/.test(url.pathname), { timeout: 15_000 })
    .catch(async () => {
      throw new Error(await page.locator(".summary").innerText({ timeout: 1_000 }));
    });
  await page.locator(".record").waitFor();
  return new URL(page.url()).pathname;
}

/** Presses a verb, fills what its dialog asks for, and waits for the state that follows. */
export async function press(
  page: Page,
  verb: string,
  state: string,
  fill?: (dialog: Locator) => Promise<void>,
): Promise<void> {
  await page.getByRole("button", { name: verb, exact: true }).first().click();
  if (fill) {
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    await fill(dialog);
    await check(page, `dialog-${verb}`);
    await dialog.getByRole("button", { name: verb }).click();
    await dialog.waitFor({ state: "hidden" });
  }
  await page.locator("main .tag").filter({ hasText: state }).first().waitFor({ timeout: 45_000 });
}

/** Through the API, with the cookie of the page's session: what another window or person would do. */
export async function api(
  page: Page,
  method: string,
  path: string,
  body?: Record<string, unknown>,
): Promise<Record<string, unknown>> {
  return page.evaluate(
    async ([verb, address, content]) => {
      const session = (await (await fetch("/session")).json()) as { csrf: string };
      const answer = await fetch(address, {
        method: verb,
        headers: {
          "Content-Type": "application/json",
          "X-CSRF": session.csrf,
          ...(verb === "GET" ? {} : { "Idempotency-Key": crypto.randomUUID() }),
        },
        ...(content ? { body: JSON.stringify(content) } : {}),
      });
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${verb} ${address}: ${text}`);
      return (text ? JSON.parse(text) : {}) as Record<string, unknown>;
    },
    [method, path, body] as const,
  );
}
