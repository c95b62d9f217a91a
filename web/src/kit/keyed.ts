import { useQuery } from "@tanstack/react-query";
import { useText } from "@/i18n";
import type { Keyed } from "@/api/catalogue";
import { firstPageQuery, useCatalogue } from "./queries";

export interface KeyedItem {
  /** The record that holds the list. */
  holder: string;
  key: string;
  label: string;
}

const HOLDERS = 50;

/** The items that a keyed field may name, with their labels in the language of the moment. */
export function useKeyed(keyed: Keyed | undefined): KeyedItem[] {
  const { language } = useText();
  const known = useCatalogue().find(keyed?.collection ?? "") !== undefined;
  const page = useQuery({
    ...firstPageQuery(keyed?.collection ?? "", { pageSize: HOLDERS }),
    enabled: keyed !== undefined && known,
    staleTime: 300_000,
  });
  if (!keyed) return [];
  return (page.data?.records ?? []).flatMap((record) => itemsOf(record, keyed, language));
}

export function itemsOf(
  record: Record<string, unknown>,
  keyed: Keyed,
  language: "zh-CN" | "en",
): KeyedItem[] {
  const items = (record[keyed.list] as Record<string, unknown>[] | undefined) ?? [];
  return items.map((item) => {
    const key = String(item[keyed.key] ?? "");
    const own = item[language === "en" ? keyed.label.en : keyed.label.zh];
    return { holder: String(record["name"]), key, label: String(own || item[keyed.label.zh] || key) };
  });
}
