import { useQuery } from "@tanstack/react-query";
import { list } from "@/api/client";
import { useText } from "@/i18n";
import { toIso, type DateJson } from "./dates";
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
  const dictionary = page.data?.records.find((record) => record["key"] === name);
  const entries = (dictionary?.["entries"] as DictionaryEntry[] | undefined) ?? [];
  const today = new Date().toLocaleDateString("sv-SE");
  return entries
    .filter(
      (entry) =>
        !entry.retired &&
        toIso(entry.validFrom) <= today &&
        (entry.validTo === undefined || today <= toIso(entry.validTo)),
    )
    .map(({ key, label }) => ({
      value: key,
      label: (language === "en" ? label?.en : label?.zh) || label?.zh || key,
    }));
}

interface DictionaryEntry {
  key: string;
  label?: { zh?: string; en?: string };
  retired?: boolean;
  validFrom?: DateJson;
  validTo?: DateJson;
}
