import { useQuery } from "@tanstack/react-query";
import { list } from "@/api/client";
import { useText } from "@/i18n";
import { useCatalogue } from "./queries";

export interface Entry {
  value: string;
  label: string;
}

/** The choices of a dictionary in the language of the moment; empty where the platform has no such dictionary. */
export function useDictionary(name: string): Entry[] {
  const { language } = useText();
  const known = useCatalogue().find("dictionaries") !== undefined;
  const page = useQuery({
    queryKey: ["list", "dictionaries", "all"],
    queryFn: ({ signal }) => list("dictionaries", { pageSize: 200 }, signal),
    enabled: known && name !== "",
    staleTime: 300_000,
  });
  const dictionary = page.data?.records.find(
    (record) =>
      record["key"] === name || record["displayName"] === name || record.name === `dictionaries/${name}`,
  );
  const entries = (dictionary?.["entries"] as Record<string, unknown>[] | undefined) ?? [];
  return entries.map((entry) => {
    const text = entry["label"] as { zh?: string; en?: string } | string | undefined;
    const value = String(entry["key"] ?? entry["value"] ?? entry["displayName"] ?? "");
    return {
      value,
      label: typeof text === "object" ? ((language === "en" ? text.en : text.zh) ?? value) : (text ?? value),
    };
  });
}
