import i18next, { type FormatterModule } from "i18next";
import { useSyncExternalStore } from "react";
import { context } from "@/api/client";
import type { Text } from "@/api/catalogue";
import { numberFormat } from "@/kit/formatters";

export const LANGUAGES = ["zh-CN", "en"] as const;
export type Language = (typeof LANGUAGES)[number];

const CHOICE = "guanxi.language";
const catalogues: Record<Language, () => Promise<{ default: Record<string, unknown> }>> = {
  "zh-CN": () => import("./locales/zh-CN.json"),
  en: () => import("./locales/en.json"),
};

/** A number in a sentence reads as every other one: 12,345. */
const numbers: FormatterModule = {
  type: "formatter",
  init: () => undefined,
  add: () => undefined,
  addCached: () => undefined,
  format: (value: unknown, _format, language) =>
    typeof value === "number"
      ? numberFormat(language ?? i18next.language).format(value)
      : String(value ?? ""),
};

export async function startI18n(): Promise<void> {
  await i18next
    .use(numbers)
    .init({ fallbackLng: false, interpolation: { escapeValue: false, alwaysFormat: true }, resources: {} });
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
export function useText(): Texts {
  return textsOf[useSyncExternalStore(followLanguage, chosenLanguage)];
}

const chosenLanguage = (): Language => (i18next.language === "en" ? "en" : "zh-CN");

function followLanguage(tell: () => void): () => void {
  i18next.on("languageChanged", tell);
  return () => i18next.off("languageChanged", tell);
}

// Every cell of a list asks for these, so there is one object for a language.
const textsOf = { "zh-CN": textsIn("zh-CN"), en: textsIn("en") };
type Texts = ReturnType<typeof textsIn>;

function textsIn(language: Language) {
  const english = language === "en";
  const label = (text: Text) => (english ? text.en : text.zh);
  return {
    t: i18next.getFixedT(language),
    language,
    label,
    /** Between the parts of an enumeration. */
    comma: english ? ", " : "、",
    /** The label inside a sentence: "New opportunity". */
    noun: (text: Text) => (english ? text.en.charAt(0).toLowerCase() + text.en.slice(1) : text.zh),
    plural: (text: Text) => (english ? pluralOf(text.en) : text.zh),
  };
}

function pluralOf(noun: string): string {
  if (/(s|x|ch|sh)$/.test(noun)) return `${noun}es`;
  if (/[^aeiou]y$/.test(noun)) return `${noun.slice(0, -1)}ies`;
  return `${noun}s`;
}
