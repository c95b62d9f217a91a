import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { GenericRecord } from "@/kit/generic-record";
import { post } from "@/kit/got";
import { PlainTable } from "@/kit/plain-table";
import { useResource, useSession } from "@/kit/queries";
import { Refused } from "@/kit/states";
import { messageOf } from "@/kit/verbs";

type Counted = Schema<"sales.GenerateCallListResponse">;

const COUNTS = ["found", "added", "noNumber", "doNotCall", "duplicates", "recentlyCalled", "left"] as const;

/** A call list, with whom it would take in and whom not, and why. */
export function CallListPage({ name }: { name: string }) {
  const resource = useResource("callLists");
  return (
    <GenericRecord
      resource={{ ...resource, verbs: resource.verbs.filter((verb) => verb.name !== "generate") }}
      name={name}
      aside={(record) => <Generate list={record} />}
    />
  );
}

function Generate({ list }: { list: RecordJson }) {
  const { t } = useText();
  const client = useQueryClient();
  const session = useSession();
  const verb = useResource("callLists").verbs.find(({ name }) => name === "generate");
  const [counted, setCounted] = useState<{ preview: boolean; of: Counted }>();
  const [failure, setFailure] = useState("");
  const [busy, setBusy] = useState(false);
  if (!verb || !may(session, verb.permission) || list["state"] === "FINISHED") return null;
  const run = async (preview: boolean) => {
    setBusy(true);
    setFailure("");
    try {
      setCounted({ preview, of: await post<Counted>(`/v1/${list.name}:generate`, { preview }) });
      if (!preview) void client.invalidateQueries({ queryKey: ["list", "callEntries"] });
    } catch (error) {
      setFailure(messageOf(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("callList.who")}</h2>
      </div>
      <div className="card-body stack">
        <Refused>{failure}</Refused>
        <div className="row">
          <button type="button" className="button" disabled={busy} onClick={() => void run(true)}>
            {t("callList.preview")}
          </button>
          <button type="button" className="button" disabled={busy} onClick={() => void run(false)}>
            {t("callList.generate")}
          </button>
        </div>
        {counted && (
          <div role="status">
            <p className="faint">{t(counted.preview ? "callList.wouldBe" : "callList.was")}</p>
            <PlainTable
              caption={t("callList.who")}
              rows={COUNTS.filter((key) => key === "found" || key === "added" || (counted.of[key] ?? 0) > 0)}
              keyOf={(key) => key}
              columns={[
                { key: "why", title: t("callList.what"), row: true, cell: (key) => t(`callList.${key}`) },
                {
                  key: "count",
                  title: t("callList.count"),
                  number: true,
                  cell: (key) => counted.of[key] ?? 0,
                },
              ]}
            />
          </div>
        )}
      </div>
    </section>
  );
}
