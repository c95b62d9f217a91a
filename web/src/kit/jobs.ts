import { useQuery } from "@tanstack/react-query";
import type { Resource } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { firstPageQuery, useCatalogue, useSession } from "./queries";

export interface Job {
  job: RecordJson;
  resource: Resource;
}

const READ = 8;
const AGAIN_MS = 3_000;
const RUNNING = /^(QUEUED|RUNNING|CHECKING|REVERTING)$/;

export const isRunning = (job: RecordJson) => RUNNING.test(String(job["state"]));

/** The background work of this person, newest first; null where the person may have none. */
export function useJobs(): Job[] | null {
  const bulk = useOwn("bulkJobs");
  const imports = useOwn("imports");
  if (!bulk.resource && !imports.resource) return null;
  return [bulk, imports]
    .flatMap(({ resource, records }) => (resource ? records.map((job) => ({ job, resource })) : []))
    .toSorted((a, b) => String(b.job["createTime"]).localeCompare(String(a.job["createTime"])));
}

function useOwn(collection: string) {
  const session = useSession();
  const declared = useCatalogue().find(collection);
  const resource = declared && may(session, declared.permissions.read) ? declared : undefined;
  const page = useQuery({
    ...firstPageQuery(collection, { filter: "owner = me", orderBy: "createTime desc", pageSize: READ }),
    enabled: resource !== undefined,
    refetchInterval: (query) => (query.state.data?.records.some(isRunning) ? AGAIN_MS : false),
  });
  return { resource, records: page.data?.records ?? [] };
}
