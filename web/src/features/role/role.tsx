import { History } from "@/kit/history";
import { useText } from "@/i18n";
import { useResource } from "@/kit/queries";
import { RecordFrame } from "@/kit/record-frame";
import { Comparison } from "./comparison";
import { Matrix } from "./matrix";

/** A role: what its holders may do, as a table of records and actions. */
export function RolePage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("roles");
  return (
    <RecordFrame
      resource={resource}
      name={name}
      hide={["permissions", "grants"]}
      tabs={(record) => [
        { key: "matrix", label: t("role.matrix"), content: <Matrix key={record.etag} role={record} /> },
        { key: "compare", label: t("role.compare"), content: <Comparison role={record} /> },
        {
          key: "history",
          label: t("history.title"),
          content: <History resource={resource} name={name} />,
        },
      ]}
    />
  );
}
