import { useQuery } from "@tanstack/react-query";
import type { Field, Kind } from "@/api/catalogue";
import { list } from "@/api/client";
import { may } from "@/api/session";
import type { Schema } from "@/api/schema";
import { useCatalogue, useSession } from "./queries";

type CustomField = Schema<"workspace.CustomField">;

const KINDS: Record<string, { kind: Kind; many?: boolean }> = {
  TEXT: { kind: "text" },
  NUMBER: { kind: "decimal" },
  MONEY: { kind: "decimal" },
  DATE: { kind: "date" },
  BOOL: { kind: "boolean" },
  CHOICE: { kind: "choice" },
  MULTI_CHOICE: { kind: "choice", many: true },
  REFERENCE: { kind: "reference" },
};

/** The fields that the administrators added to a collection; their values lie in `custom` by key. */
export function useCustomFields(collection: string): Field[] {
  const declared = useCatalogue().find("customFields");
  const session = useSession();
  const readable = declared !== undefined && may(session, declared.permissions.read);
  const page = useQuery({
    queryKey: ["list", "customFields", "active"],
    queryFn: ({ signal }) => list("customFields", { filter: 'state = "ACTIVE"', pageSize: 200 }, signal),
    enabled: readable,
    staleTime: 300_000,
  });
  const fields = (page.data?.records ?? []) as CustomField[];
  return fields.filter((field) => field.collection === collection).map(fieldOf);
}

function fieldOf(custom: CustomField): Field {
  const { kind, many = false } = KINDS[custom.kind ?? "TEXT"] ?? { kind: "text" as const };
  const name = custom.displayName ?? "";
  return {
    name: custom.key ?? "",
    label: { zh: name, en: custom.englishName || name },
    kind,
    many,
    required: custom.required === true,
    readOnly: false,
    immutable: false,
    searchable: false,
    listed: false,
    quick: custom.required === true,
    multiline: false,
    references: custom.references ? [custom.references] : [],
    dictionary: "",
    choices: (custom.choices ?? []).map(({ key = "", label }) => ({
      value: key,
      label: { zh: label?.zh || key, en: label?.en || label?.zh || key },
    })),
    keyed: undefined,
    suggest: undefined,
    fields: [],
    maxLength: custom.maxLength || undefined,
    help: "",
  };
}
