import { useQuery } from "@tanstack/react-query";
import { Drawer } from "antd";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { fieldsNamed } from "@/kit/columns";
import { FieldValue } from "@/kit/field-value";
import { recordQuery, useResource } from "@/kit/queries";
import { isBlank } from "@/kit/patch";
import { Loaded } from "@/kit/states";
import { RecordFrame } from "@/kit/record-frame";
import { Difference } from "./difference";

const SHOWN = [
  "time",
  "actor",
  "action",
  "resource",
  "reason",
  "onBehalfOf",
  "origin",
  "address",
  "device",
  "method",
  "request",
  "seq",
  "hash",
];

/** One entry beside the list: who, what, from where, and the record before and after. */
export function EntryDrawer({ name, onClose }: { name: string; onClose: () => void }) {
  const { t } = useText();
  const entry = useQuery(recordQuery(name));
  return (
    <Drawer open size={720} title={t("audit.entry")} onClose={onClose}>
      <Loaded query={entry} lines={8}>
        {(record) => (
          <div className="stack">
            <Circumstances entry={record} />
            <Difference entry={record} />
          </div>
        )}
      </Loaded>
    </Drawer>
  );
}

function Circumstances({ entry }: { entry: RecordJson }) {
  const { label } = useText();
  const { fields } = useResource("auditEntries");
  return (
    <dl className="pairs">
      {fieldsNamed(fields, SHOWN)
        .filter(({ name }) => !isBlank(entry[name]))
        .map((field) => (
          <div key={field.name} className={field.name === "hash" ? "pair-wide" : ""}>
            <dt>{label(field.label)}</dt>
            <dd>
              <FieldValue field={field} value={entry[field.name]} />
            </dd>
          </div>
        ))}
    </dl>
  );
}

/** An entry on a page of its own. */
export function AuditEntryPage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("auditEntries");
  return (
    <RecordFrame
      resource={resource}
      name={name}
      hide={["before", "after", "guarded"]}
      tabs={(record) => [
        {
          key: "difference",
          label: t("audit.difference"),
          content: (
            <section className="card card-body">
              <Difference entry={record} />
            </section>
          ),
        },
      ]}
    />
  );
}
