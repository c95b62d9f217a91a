import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { LeftToSort, ServicesProgress, useCollectionName } from "@/kit/all-services";
import { formatInstant } from "@/kit/dates";
import { History } from "@/kit/history";
import { PlainTable } from "@/kit/plain-table";
import { useResource } from "@/kit/queries";
import { lineFields, LineTables } from "@/kit/record-fields";
import { RecordFrame } from "@/kit/record-frame";
import { Empty } from "@/kit/states";
import { Items } from "./items";

export type Transfer = Schema<"customer.Transfer"> & RecordJson;

const PLAN = ["plan", "notes"];

/** A handover: what somebody has, to whom it goes by which rule, how far it is, and who has accepted what. */
export function TransferPage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("transfers");
  return (
    <RecordFrame
      resource={resource}
      name={name}
      hide={["preview", "acknowledgements", "left", "batches"]}
      banner={(record) => <Standing transfer={record as Transfer} />}
      tabs={(record) => {
        const transfer = record as Transfer;
        return [
          { key: "plan", label: t("transfer.plan"), content: <Plan transfer={transfer} /> },
          { key: "impact", label: t("transfer.impact"), content: <Impact transfer={transfer} /> },
          { key: "items", label: t("transfer.items"), content: <Items transfer={transfer} /> },
          { key: "history", label: t("history.title"), content: <History resource={resource} name={name} /> },
        ];
      }}
    />
  );
}

/** Until when receivers answer, and until when it can be taken back. */
function Standing({ transfer }: { transfer: Transfer }) {
  const { t, language } = useText();
  const { state, acceptUntilTime, undoUntilTime } = transfer;
  return (
    <>
      {state === "AWAITING_ACCEPTANCE" && acceptUntilTime && (
        <p className="banner" role="status">
          {t("transfer.acceptUntil", { time: formatInstant(acceptUntilTime, language) })}
        </p>
      )}
      {state === "DONE" && undoUntilTime && (
        <p className="banner" role="status">
          {t("transfer.undoUntil", { time: formatInstant(undoUntilTime, language) })}
        </p>
      )}
    </>
  );
}

function Plan({ transfer }: { transfer: Transfer }) {
  const { t } = useText();
  const resource = useResource("transfers");
  const shown = { ...resource, fields: resource.fields.filter(({ name }) => PLAN.includes(name)) };
  if (lineFields(shown, transfer).length > 0)
    return (
      <div className="stack">
        <LineTables resource={shown} record={transfer} />
      </div>
    );
  return (
    <section className="card">
      <Empty title={t("transfer.noPlan")} text={t("transfer.noPlanText")}>
        <Link className="button" to={`/${transfer.name}/edit`}>
          {t("action.edit")}
        </Link>
      </Empty>
    </section>
  );
}

function Impact({ transfer }: { transfer: Transfer }) {
  const { t } = useText();
  const nameOf = useCollectionName();
  if (!transfer.previewTime)
    return (
      <section className="card">
        <Empty title={t("merge.noPreview")} text={t("transfer.noPreviewText")} />
      </section>
    );
  return (
    <div className="stack">
      <ServicesProgress record={transfer} words="transfer" />
      <section className="card card-body">
        <PlainTable
          caption={t("transfer.impact")}
          rows={transfer.preview ?? []}
          keyOf={({ service, collection }) => `${service} ${collection}`}
          columns={[
            {
              key: "collection",
              title: t("merge.collection"),
              row: true,
              cell: ({ collection }) => nameOf(collection ?? ""),
            },
            { key: "open", title: t("transfer.open"), number: true, cell: ({ open }) => open ?? 0 },
            { key: "closed", title: t("transfer.closed"), number: true, cell: ({ closed }) => closed ?? 0 },
          ]}
        />
      </section>
      <LeftToSort left={transfer.left} />
    </div>
  );
}
