import { mkdtempSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type BrowserContext } from "playwright-core";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export interface Window {
  width: number;
  height: number;
  locale?: "zh-CN" | "en";
}

/** What is open, for whoever tells why a story failed. */
export const contexts: BrowserContext[] = [];

/** The system's Chromium with a profile of its own. */
export async function open({ width, height, locale = "zh-CN" }: Window): Promise<BrowserContext> {
  const executablePath = execFileSync("which", ["chromium"], { encoding: "utf8" }).trim();
  const context = await chromium.launchPersistentContext(mkdtempSync(join(tmpdir(), "guanxi-browser-")), {
    executablePath,
    args: FLAGS,
    locale,
    timezoneId: "Asia/Shanghai",
    viewport: { width, height },
    ...(width < 768 ? { hasTouch: true, isMobile: true, deviceScaleFactor: 2 } : {}),
  });
  // Whoever runs the stories beside all other tests waits for two cores.
  context.setDefaultTimeout(Number(process.env["STEP_SECONDS"] ?? 15) * 1_000);
  contexts.push(context);
  return context;
}
