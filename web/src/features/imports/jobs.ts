import type { Catalogue } from "@/api/catalogue";
import { act, create, type Json, type RecordJson } from "@/api/client";
import type { Mapping } from "./mapping";

/** What the person decided before the check. */
export interface Plan {
  file: string;
  mapping: Mapping;
  duplicates: string;
}

export type Phase = "checking" | "checked" | "running" | "done" | "failed" | "reverting" | "reverted";

/** The two ways in: customers have imports of their own, everything else comes in by bulk jobs. */
export interface Way {
  duplicates: { value: string; label: { zh: string; en: string } }[];
  check: (plan: Plan) => Promise<RecordJson>;
  run: (checked: RecordJson, plan: Plan) => Promise<RecordJson>;
  revert: (done: RecordJson) => Promise<RecordJson>;
  phase: (record: RecordJson) => Phase;
}

const KINDS: Record<string, string> = {
  accounts: "ACCOUNTS",
  contacts: "CONTACTS",
  interactions: "INTERACTIONS",
};

export function wayFor(catalogue: Catalogue, collection: string): Way {
  const imports = catalogue.find("imports");
  const kind = KINDS[collection];
  if (imports && kind) {
    const policy = imports.fields.find((field) => field.name === "duplicatePolicy");
    return byImports(kind, policy?.choices ?? []);
  }
  return byBulkJobs(collection);
}

// The server names fields in a mapping as the protos do.
const snake = (field: string) =>
  field.startsWith("custom.") ? field : field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const columns = (mapping: Mapping) =>
  Object.entries(mapping).map(([column, field]) => ({ column, field: snake(field) }));
const failedRows = (record: RecordJson) => Number(record["failed"] ?? 0) > 0;

function byImports(kind: string, duplicates: Way["duplicates"]): Way {
  const phases: Record<string, Phase> = {
    UPLOADED: "checking",
    CHECKING: "checking",
    CHECKED: "checked",
    RUNNING: "running",
    DONE: "done",
    REVERTING: "reverting",
    REVERTED: "reverted",
  };
  return {
    duplicates,
    check: async (plan) => {
      const made = await create("imports", {
        file: plan.file,
        kind,
        duplicatePolicy: plan.duplicates,
        mapping: columns(plan.mapping),
      });
      return act(made.name, "check", {}, made.etag);
    },
    run: (checked) => act(checked.name, "run", failedRows(checked) ? { skipErrors: true } : {}, checked.etag),
    revert: (done) => act(done.name, "revert", {}, done.etag),
    phase: (record) => phases[String(record["state"])] ?? "failed",
  };
}

function byBulkJobs(collection: string): Way {
  const job = (mode: string, plan: Plan, options: Json) =>
    create("bulkJobs", {
      collection,
      mode,
      file: plan.file,
      mapping: columns(plan.mapping),
      options: Object.entries({ duplicates: plan.duplicates, ...options }).map(([key, value]) => ({
        key,
        value,
      })),
    });
  return {
    duplicates: [
      { value: "SKIP", label: { zh: "跳过", en: "Skip" } },
      { value: "UPDATE", label: { zh: "更新", en: "Update" } },
      { value: "CREATE", label: { zh: "新建", en: "Create" } },
    ],
    check: (plan) => job("DRY_RUN", plan, {}),
    run: (checked, plan) => job("IMPORT", plan, failedRows(checked) ? { skipErrors: "true" } : {}),
    revert: (done) => act(done.name, "revert", {}, done.etag),
    phase: (record) => {
      const dry = record["mode"] === "DRY_RUN";
      switch (record["state"]) {
        case "QUEUED":
        case "RUNNING":
          return dry ? "checking" : record["mode"] === "REVERT" ? "reverting" : "running";
        case "DONE":
        case "DONE_WITH_ERRORS":
          return dry ? "checked" : record["mode"] === "REVERT" ? "reverted" : "done";
        case "REVERTED":
          return "reverted";
        default:
          return "failed";
      }
    },
  };
}
