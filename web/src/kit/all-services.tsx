import { useQuery } from "@tanstack/react-query";
import { Progress } from "antd";
import { useText } from "@/i18n";
import { Reference } from "./field-value";
import { camel } from "./form-model";
import { PlainTable } from "./plain-table";
import { recordQuery, useCatalogue } from "./queries";

const POLL_MS = 1_500;
const UNDER_WAY: Record<string, string> = { RUNNING: "RUN", UNDOING: "UNDO" };

interface Answered {
  name: string;
  state?: string;
  previewTime?: string;
  acknowledgements?: { service?: string; step?: string }[];
}

/** How many services have done the step that is under way; nothing where none is. */
export function ServicesProgress({ record, words }: { record: Answered; words: string }) {
  const { t } = useText();
  const total = new Set(useCatalogue().resources.map(({ area }) => area)).size;
  const counting = record.state === "DRAFT" && Boolean(record.previewTime);
  const step = counting ? "PREVIEW" : UNDER_WAY[record.state ?? ""];
  // The page's own copy of the record, read again and again until all have answered.
  useQuery({ ...recordQuery(record.name), refetchInterval: step ? POLL_MS : false });
  if (!step) return null;
  const count = new Set(
    (record.acknowledgements ?? []).filter((one) => one.step === step).map(({ service }) => service),
  ).size;
  return (
    <section className="card card-body" role="status">
      <p>{t(`progress.${words}.${step}`, { count, total })}</p>
      <Progress percent={Math.floor((count / total) * 99)} status="active" aria-label={t("jobs.progress")} />
    </section>
  );
}

/** What a collection is called, where this person knows it. */
export function useCollectionName() {
  const { plural } = useText();
  const catalogue = useCatalogue();
  return (collection: string) => {
    const resource = catalogue.find(collection);
    return resource ? plural(resource.label) : collection;
  };
}

interface Left {
  name?: string;
  field?: string;
  reason?: string;
}

/** What the services could not do by themselves. */
export function LeftToSort({ left = [] }: { left: Left[] | undefined }) {
  const { t, label } = useText();
  const catalogue = useCatalogue();
  if (left.length === 0) return null;
  const fieldOf = ({ name = "", field = "" }: Left) => {
    const known = catalogue.find(name.split("/")[0] ?? "")?.fields.find((one) => one.name === camel(field));
    return known ? label(known.label) : "—";
  };
  return (
    <section className="card card-body">
      <h2>{t("left.title")}</h2>
      <PlainTable
        caption={t("left.title")}
        rows={left}
        keyOf={(_, index) => index}
        stacked
        columns={[
          {
            key: "record",
            title: t("left.record"),
            row: true,
            cell: ({ name }) => <Reference name={name ?? ""} />,
          },
          { key: "field", title: t("left.field"), cell: fieldOf },
          {
            key: "why",
            title: t("left.why"),
            cell: ({ reason }) => t(`left.reason.${reason}`, { defaultValue: t("left.refused") }),
          },
        ]}
      />
    </section>
  );
}
