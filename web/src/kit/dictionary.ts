import { useQuery } from "@tanstack/react-query";
import { get, list } from "@/api/client";
import { useText } from "@/i18n";
import { toIso, type DateJson } from "./dates";
import { useCatalogue, useSession } from "./queries";

export interface Entry {
  value: string;
  label: string;
}

/** The choices of a dictionary in the language of the moment; empty where the platform has no such dictionary. */
export function useDictionary(name: string): Entry[] {
  const { language } = useText();
  const entries = useEntries(name);
  const own = useOwnDepartments(entries.some((entry) => entry.departments?.length));
  const today = new Date().toLocaleDateString("sv-SE");
  return entries
    .filter(
      (entry) =>
        !entry.retired &&
        toIso(entry.validFrom) <= today &&
        (entry.validTo === undefined || today <= toIso(entry.validTo)) &&
        (!entry.departments?.length || !own || entry.departments.some((one) => own.includes(one))),
    )
    .map((entry) => named(entry, language));
}

/** Every entry, those that can be chosen no more or only elsewhere too: old records have them, and filters find them. */
export function useDictionaryEntries(name: string): Entry[] {
  const { language, t } = useText();
  return useEntries(name).map((entry) => {
    const { value, label } = named(entry, language);
    return { value, label: entry.retired ? t("dictionary.retiredEntry", { label }) : label };
  });
}

/** What an entry is called, whether it can still be chosen or not; the entry itself where nobody knows it. */
export function useDictionaryLabel(name: string, value: string): string {
  const { language } = useText();
  const entry = useEntries(name).find((one) => one.key === value);
  return entry ? named(entry, language).label : value;
}

function useEntries(name: string): DictionaryEntry[] {
  const known = useCatalogue().find("dictionaries") !== undefined;
  const page = useQuery({
    queryKey: ["list", "dictionaries", "all"],
    queryFn: ({ signal }) => list("dictionaries", { pageSize: 200 }, signal),
    enabled: known && name !== "",
    staleTime: 300_000,
  });
  const dictionary = page.data?.records.find((record) => record["key"] === name);
  return (dictionary?.["entries"] as DictionaryEntry[] | undefined) ?? [];
}

/** The person's department and all above it; nothing while that is not known, and then the service alone decides. */
function useOwnDepartments(wanted: boolean): string[] | undefined {
  const { employee } = useSession();
  return useQuery({
    queryKey: ["record", employee, "departments"],
    queryFn: async ({ signal }) => {
      const found: string[] = [];
      let next = (await get(employee, signal))["department"];
      while (typeof next === "string" && next && !found.includes(next)) {
        found.push(next);
        next = (await get(next, signal))["parent"];
      }
      return found;
    },
    enabled: wanted && employee !== "",
    staleTime: 300_000,
    retry: false,
  }).data;
}

const named = ({ key, label }: DictionaryEntry, language: "zh-CN" | "en"): Entry => ({
  value: key,
  label: (language === "en" ? label?.en : label?.zh) || label?.zh || key,
});

interface DictionaryEntry {
  key: string;
  label?: { zh?: string; en?: string };
  retired?: boolean;
  departments?: string[];
  validFrom?: DateJson;
  validTo?: DateJson;
}
