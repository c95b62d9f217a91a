import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { History } from "@/kit/history";
import { useResource } from "@/kit/queries";
import { LineTables } from "@/kit/record-fields";
import { RecordFrame } from "@/kit/record-frame";
import { Actions } from "./actions";
import { Achievements, Parts } from "./parts";
import { Standing } from "./standing";

export type Target = Schema<"sales.Target"> & RecordJson;

const OWN_TABS = ["actions", "reviews", "standings", "versions"];

/** A target as plan, do, check and act: its parts, its measures, how it stands, what was found. */
export function TargetPage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("targets");
  const found = {
    ...resource,
    fields: resource.fields.filter(({ name }) => ["reviews", "versions"].includes(name)),
  };
  return (
    <RecordFrame
      resource={resource}
      name={name}
      hide={OWN_TABS}
      tabs={(record) => {
        const target = record as Target;
        return [
          { key: "check", label: t("target.check"), content: <Standing target={target} /> },
          { key: "plan", label: t("target.plan"), content: <Parts target={target} /> },
          { key: "do", label: t("target.do"), content: <Achievements target={target} /> },
          {
            key: "act",
            label: t("target.act"),
            content: (
              <div className="stack">
                <Actions target={target} />
                <LineTables resource={found} record={record} />
              </div>
            ),
          },
          { key: "history", label: t("history.title"), content: <History resource={resource} name={name} /> },
        ];
      }}
    />
  );
}
