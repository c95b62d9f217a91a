import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Resource } from "@/api/catalogue";
import { batchUpdate, list, remove, update, type Json, type RecordJson } from "@/api/client";
import type { ListSpec } from "@/kit/queries";
import { messageOf } from "@/kit/verbs";

export interface Refusal {
  record: RecordJson;
  reason: string;
}

const AT_ONCE = 100;
const PAGE = 200;
const AT_MOST = 10_000;

/** Every record that the list would show, however far one has scrolled. */
export async function everyRecord(collection: string, spec: ListSpec): Promise<RecordJson[]> {
  const found: RecordJson[] = [];
  let pageToken = "";
  do {
    const page = await list(collection, { ...spec, pageSize: PAGE, pageToken });
    found.push(...page.records);
    pageToken = page.nextPageToken;
  } while (pageToken && found.length < AT_MOST);
  return found;
}

/** A batch is one transaction, so where it is refused its records go one by one and say each why not. */
export async function changeAll(resource: Resource, part: RecordJson[], body: Json): Promise<Refusal[]> {
  try {
    await batchUpdate(
      resource.collection,
      part.map((record) => ({ record, body })),
      resource.singular,
    );
    return [];
  } catch (error) {
    if (part.length === 1 && part[0]) return [{ record: part[0], reason: messageOf(error) }];
    return refusals(part, (record) => update(record.name, body, record.etag));
  }
}

export const removeAll = (part: RecordJson[]): Promise<Refusal[]> =>
  refusals(part, (record) => remove(record.name, record.etag));

async function refusals(
  part: RecordJson[],
  work: (record: RecordJson) => Promise<unknown>,
): Promise<Refusal[]> {
  const refused: Refusal[] = [];
  for (const record of part)
    await work(record).catch((error: unknown) => refused.push({ record, reason: messageOf(error) }));
  return refused;
}

/** Work over many records, a hundred at a time, with how far it is and who refused. */
export function useBulk(resource: Resource, records: RecordJson[]) {
  const client = useQueryClient();
  const [busy, setBusy] = useState(false);
  const [share, setShare] = useState(0);
  const [refused, setRefused] = useState<Refusal[]>([]);
  const [ended, setEnded] = useState(false);
  const run = async (work: (part: RecordJson[]) => Promise<Refusal[]>): Promise<Refusal[]> => {
    setBusy(true);
    const all: Refusal[] = [];
    for (let start = 0; start < records.length; start += AT_ONCE) {
      all.push(...(await work(records.slice(start, start + AT_ONCE))));
      setShare(Math.min(1, (start + AT_ONCE) / records.length));
      setRefused([...all]);
    }
    setBusy(false);
    setEnded(true);
    void client.invalidateQueries({ queryKey: ["list", resource.collection] });
    void client.invalidateQueries({ queryKey: ["aggregate", resource.collection] });
    return all;
  };
  return { run, busy, share, refused, ended };
}
