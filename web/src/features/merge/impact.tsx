import { useQuery } from "@tanstack/react-query";
import { Progress } from "antd";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Reference } from "@/kit/field-value";
import { camel } from "@/kit/form-model";
import { PlainTable } from "@/kit/plain-table";
import { recordQuery, useCatalogue } from "@/kit/queries";
import { Empty } from "@/kit/states";
import type { Merge } from "./merge";

const POLL_MS = 1_500;
/** Which step's answers count in a state. */
const STEP: Record<string, string> = {
  DRAFT: "PREVIEW",
  PREVIEWED: "PREVIEW",
  UNDOING: "UNDO",
  UNDONE: "UNDO",
};

/** How much of what goes to the survivor, how far the services are, and what a person has to sort. */
export function Impact({ merge }: { merge: Merge }) {
  const { t, plural, label } = useText();
  const catalogue = useCatalogue();
  const state = merge.state ?? "";
  const running = ["RUNNING", "UNDOING"].includes(state) || (state === "DRAFT" && merge.previewTime);
  // The page's own copy of the record, read again and again until all have answered.
  useQuery({ ...recordQuery(merge.name), refetchInterval: running ? POLL_MS : false });
  if (!merge.previewTime)
    return (
      <section className="card">
        <Empty title={t("merge.noPreview")} text={t("merge.noPreviewText")} />
      </section>
    );
  const step = STEP[state] ?? "RUN";
  const answered = (merge.acknowledgements ?? []).filter((one) => one.step === step).length;
  const services = new Set(catalogue.resources.map(({ area }) => area)).size;
  const nameOf = (collection: string) => {
    const resource = catalogue.find(collection);
    return resource ? plural(resource.label) : collection;
  };
  const going = [...(merge.losers ?? []), ...(merge.contactPairs ?? []).map(({ loser }) => loser), ""];
  const [counted, moved] = [
    sums((merge.preview ?? []).filter(({ name = "" }) => going.includes(name))),
    sums(merge.moved),
  ];
  const collections = [...new Set([...counted.keys(), ...moved.keys()])];
  const left = merge.left ?? [];

  return (
    <div className="stack">
      {running && (
        <section className="card card-body" role="status">
          <p>{t(`merge.progress.${step}`, { count: answered, total: services })}</p>
          <Progress
            percent={Math.floor((answered / services) * 99)}
            status="active"
            aria-label={t("jobs.progress")}
          />
        </section>
      )}
      {collections.length === 0 ? (
        !running && <p className="faint">{t("merge.nothing")}</p>
      ) : (
        <section className="card card-body">
          <PlainTable
            caption={t("merge.impact")}
            rows={collections}
            keyOf={(collection) => collection}
            columns={[
              { key: "collection", title: t("merge.collection"), row: true, cell: nameOf },
              {
                key: "counted",
                title: t("merge.counted"),
                number: true,
                cell: (collection) => counted.get(collection) ?? 0,
              },
              {
                key: "moved",
                title: t(step === "UNDO" ? "merge.broughtBack" : "merge.moved"),
                number: true,
                cell: (collection) => moved.get(collection) ?? 0,
              },
            ]}
          />
        </section>
      )}
      {left.length > 0 && (
        <section className="card card-body">
          <h2>{t("merge.left")}</h2>
          <PlainTable
            caption={t("merge.left")}
            rows={left}
            keyOf={(_, index) => index}
            columns={[
              {
                key: "record",
                title: t("merge.record"),
                row: true,
                cell: ({ name }) => <Reference name={name ?? ""} />,
              },
              {
                key: "field",
                title: t("merge.field"),
                cell: ({ name = "", field = "" }) => {
                  const found = catalogue
                    .find(name.split("/")[0] ?? "")
                    ?.fields.find((one) => one.name === camel(field));
                  return found ? label(found.label) : "—";
                },
              },
              { key: "why", title: t("merge.why"), cell: ({ reason }) => t(`merge.reason.${reason}`) },
            ]}
          />
        </section>
      )}
    </div>
  );
}

function sums(counts: Schema<"customer.Merge.Count">[] = []): Map<string, number> {
  const found = new Map<string, number>();
  for (const { collection = "", count = 0 } of counts)
    found.set(collection, (found.get(collection) ?? 0) + count);
  return found;
}
