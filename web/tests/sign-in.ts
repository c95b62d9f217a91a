import type { Page } from "playwright-core";

/** Signs in at the provider where the client asks for it. */
export async function signIn(page: Page, base: string): Promise<void> {
  await page.addInitScript(() =>
    localStorage.setItem("guanxi.language", localStorage.getItem("guanxi.language") ?? "zh-CN"),
  );
  await page.goto(base);
  await page.locator("h1").first().waitFor();
}
