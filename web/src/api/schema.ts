import type { components } from "./types.gen";

/** A message as the gateway's description declares it: `Schema<"workspace.BulkJob">`. */
export type Schema<Name extends keyof components["schemas"]> = components["schemas"][Name];
