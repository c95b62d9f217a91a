import type { Page } from "playwright-core";

/** Signs in through the client's own page and the provider's, as the demo person of that name. */
export async function signIn(page: Page, base: string, username = "admin"): Promise<void> {
  await page.addInitScript(() =>
    localStorage.setItem("guanxi.language", localStorage.getItem("guanxi.language") ?? "zh-CN"),
  );
  await page.goto(base);
  const signInLink = page.getByRole("link", { name: "登录", exact: true });
  // On a phone the menu is the bar at the foot.
  const home = page.getByRole("navigation", { name: /^(主菜单|手机导航)$/ }).filter({ visible: true });
  await signInLink.or(home).first().waitFor();
  if (await signInLink.isVisible()) {
    await signInLink.click();
    await page.locator(`button[value="${username}"]`).click();
    await home.waitFor();
  }
}
