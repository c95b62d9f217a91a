import i18next from "i18next";
import { initReactI18next, useTranslation } from "react-i18next";
import { context } from "@/api/client";
import type { Text } from "@/api/catalogue";

export const LANGUAGES = ["zh-CN", "en"] as const;
export type Language = (typeof LANGUAGES)[number];

const CHOICE = "guanxi.language";
const catalogues: Record<Language, () => Promise<{ default: Record<string, unknown> }>> = {
  "zh-CN": () => import("./locales/zh-CN.json"),
  en: () => import("./locales/en.json"),
};

export async function startI18n(): Promise<void> {
  await i18next
    .use(initReactI18next)
    .init({ fallbackLng: false, interpolation: { escapeValue: false }, resources: {} });
  context.message = (reason) =>
    i18next.t(`reason.${reason}`, { defaultValue: i18next.t("reason.other", { reason }) });
  const chosen = localStorage.getItem(CHOICE);
  await load(
    LANGUAGES.find((language) => language === chosen) ??
      (navigator.language.startsWith("zh") ? "zh-CN" : "en"),
  );
}

/** Changes every visible text at once; nothing is loaded anew, so what is typed stays. */
export async function switchLanguage(language: Language): Promise<void> {
  localStorage.setItem(CHOICE, language);
  await load(language);
}

/** The language of the account counts until the person picks one on this device. */
export async function followAccount(locale: string | undefined): Promise<void> {
  const language = LANGUAGES.find((known) => known === locale);
  if (language && !localStorage.getItem(CHOICE) && language !== i18next.language) await load(language);
}

async function load(language: Language): Promise<void> {
  const { default: texts } = await catalogues[language]();
  i18next.addResourceBundle(language, "translation", texts, true, true);
  await i18next.changeLanguage(language);
  context.locale = language;
  document.documentElement.lang = language;
}

/** Texts of the catalogue and of the API description in the language of the moment. */
export function useText() {
  const { t, i18n } = useTranslation();
  const language: Language = i18n.language === "en" ? "en" : "zh-CN";
  const label = (text: Text) => (language === "en" ? text.en : text.zh);
  return {
    t,
    language,
    label,
    /** Between the parts of an enumeration. */
    comma: language === "en" ? ", " : "、",
    /** The label inside a sentence: "New opportunity". */
    noun: (text: Text) => (language === "en" ? text.en.charAt(0).toLowerCase() + text.en.slice(1) : text.zh),
    plural: (text: Text) => (language === "en" ? pluralOf(text.en) : text.zh),
  };
}

function pluralOf(noun: string): string {
  if (/(s|x|ch|sh)$/.test(noun)) return `${noun}es`;
  if (/[^aeiou]y$/.test(noun)) return `${noun.slice(0, -1)}ies`;
  return `${noun}s`;
}
