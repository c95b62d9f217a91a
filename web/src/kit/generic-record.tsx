import type { ReactNode } from "react";
import type { Resource } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { screenOf } from "@/resources";
import { History } from "./history";
import { useCatalogue, useSession } from "./queries";
import { lineFields, LineTables } from "./record-fields";
import { RecordFrame } from "./record-frame";
import type { TabSpec } from "./tabs";
import { RelatedList } from "./related-list";

interface Props {
  resource: Resource;
  name: string;
  /** Only what refers to it in these collections has a tab; else all that does. */
  relates?: string[];
  /** Tabs that stand before the history. */
  more?: (record: RecordJson) => TabSpec[];
  banner?: (record: RecordJson) => ReactNode;
  aside?: (record: RecordJson) => ReactNode;
  /** What stands in the tab of comments in place of the usual. */
  comments?: (record: RecordJson) => ReactNode;
}

/** The record page that a declaration gives: lines, what refers to it, its history. */
export function GenericRecord({ resource, name, relates, more, banner, aside, comments }: Props) {
  const { t, plural, label } = useText();
  const catalogue = useCatalogue();
  const session = useSession();
  const related = catalogue
    .referring(resource.collection)
    .filter(
      ({ resource: other, field }) =>
        may(session, other.permissions.read) &&
        (relates?.includes(other.collection) ?? true) &&
        other.collection !== "auditEntries" &&
        !["owner", "creator", "collaborators", "department"].includes(field.name),
    );

  return (
    <RecordFrame
      resource={resource}
      name={name}
      {...(banner ? { banner } : {})}
      {...(aside ? { aside } : {})}
      {...(comments ? { comments } : {})}
      tabs={(record) =>
        inOrder(screenOf(resource.collection).tabs ?? [], [
          ...(lineFields(resource, record).length > 0
            ? [
                {
                  key: "lines",
                  label: t("record.lines"),
                  content: (
                    <div className="stack">
                      <LineTables resource={resource} record={record} />
                    </div>
                  ),
                },
              ]
            : []),
          ...related.map(({ resource: other, field }) => ({
            key: `${other.collection}.${field.name}`,
            // Two fields of one collection may lead here: then the field tells them apart.
            label:
              related.filter(({ resource }) => resource === other).length > 1
                ? `${plural(other.label)} · ${label(field.label)}`
                : plural(other.label),
            content: <RelatedList resource={other} field={field} name={name} />,
          })),
          ...(more?.(record) ?? []),
          {
            key: "history",
            label: t("history.title"),
            content: <History resource={resource} name={name} />,
          },
        ])
      }
    />
  );
}

/** The tabs that are named first, in that order, then the others in theirs. */
function inOrder(first: string[], tabs: TabSpec[]): TabSpec[] {
  const place = ({ key }: TabSpec) => {
    const at = first.indexOf(key.split(".")[0] ?? "");
    return at < 0 ? first.length : at;
  };
  return tabs.toSorted((one, other) => place(one) - place(other));
}
