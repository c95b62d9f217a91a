import { useQuery } from "@tanstack/react-query";
import type { Suggestion } from "@/api/catalogue";
import { useText } from "@/i18n";
import { firstPageQuery, titleOf, useCatalogue, useReads, useSession } from "./queries";

const SHOWN = 200;

/** What a list of texts may hold, where the declaration says where to look. */
export function useSuggestions(suggest: Suggestion | undefined): { value: string; label: string }[] {
  const { language, label } = useText();
  const catalogue = useCatalogue();
  const { roleNames } = useSession();
  const collection = typeof suggest === "object" ? suggest.collection : "";
  const reads = useReads(collection);
  const page = useQuery({ ...firstPageQuery(collection, { pageSize: SHOWN }), enabled: reads });
  if (suggest === "permissions")
    return catalogue.permissions.map((value) => ({ value, label: label(catalogue.permissionText(value)) }));
  if (typeof suggest !== "object") return [];
  // What colleagues' roles are called everybody knows; the roles themselves are not for everybody to read.
  if (collection === "roles" && !reads)
    return Object.entries(roleNames).map(([value, name]) => ({ value, label: label(name) }));
  return (page.data?.records ?? []).map((record) => ({
    value: String(record[suggest.value]),
    label: titleOf(record, catalogue.find(collection), language),
  }));
}
