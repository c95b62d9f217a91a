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
  context.setDefaultTimeout(15_000);
  return context;
}
