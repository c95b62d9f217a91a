import { theme as antd, type ThemeConfig } from "antd";
import { useSyncExternalStore } from "react";

export type Theme = "light" | "dark";

const CHOICE = "guanxi.theme";
const watchers = new Set<() => void>();
const system = matchMedia("(prefers-color-scheme: dark)");

const current = (): Theme => {
  const chosen = localStorage.getItem(CHOICE);
  if (chosen === "light" || chosen === "dark") return chosen;
  return system.matches ? "dark" : "light";
};

const apply = () => {
  document.documentElement.dataset["theme"] = current();
  watchers.forEach((watcher) => watcher());
};
system.addEventListener("change", apply);
apply();

export function setTheme(theme: Theme): void {
  localStorage.setItem(CHOICE, theme);
  apply();
}

const FONT =
  'system-ui, -apple-system, "Segoe UI", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif';

const shared: ThemeConfig["token"] = {
  fontFamily: FONT,
  fontSize: 14,
  borderRadius: 8,
  controlHeight: 36,
  wireframe: false,
};

const themes: Record<Theme, ThemeConfig> = {
  light: {
    algorithm: antd.defaultAlgorithm,
    token: {
      ...shared,
      colorPrimary: "#1d4fd7",
      // Lighter, as derived, its white text could not be read under the pointer.
      colorPrimaryHover: "#1741b0",
      colorLink: "#1d4fd7",
      colorText: "#172033",
      colorTextSecondary: "#526077",
      colorTextTertiary: "#5d6b82",
      colorTextDescription: "#5d6b82",
      colorTextPlaceholder: "#6b778c",
      colorBorder: "#cdd5e0",
      colorBorderSecondary: "#e2e7ee",
      colorError: "#c0262d",
      colorSuccess: "#0b7a4b",
      colorWarning: "#a15c00",
    },
  },
  dark: {
    algorithm: antd.darkAlgorithm,
    components: { Tabs: { itemSelectedColor: "#9dbdff", itemHoverColor: "#9dbdff", inkBarColor: "#9dbdff" } },
    token: {
      ...shared,
      colorPrimary: "#5b8cff",
      colorLink: "#8fb0ff",
      colorBgContainer: "#182031",
      colorBgElevated: "#1d2739",
      colorTextPlaceholder: "#8d9ab0",
    },
  },
};

export function useTheme(): { theme: Theme; antd: ThemeConfig } {
  const theme = useSyncExternalStore((watcher) => {
    watchers.add(watcher);
    return () => watchers.delete(watcher);
  }, current);
  return { theme, antd: themes[theme] };
}
