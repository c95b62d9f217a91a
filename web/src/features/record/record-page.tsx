import { lazy, Suspense } from "react";
import { useParams } from "react-router";
import { useText } from "@/i18n";
import { History } from "@/kit/history";
import { useCatalogue, useResource, useSession } from "@/kit/queries";
import { may } from "@/api/session";
import { lineFields, LineTables } from "@/kit/record-fields";
import { RecordFrame } from "@/kit/record-frame";
import { RelatedList } from "@/kit/related-list";
import { Skeleton } from "@/kit/states";
import { screenOf } from "@/resources";
import { SPECIAL_PAGES } from "@/special-pages";

/** Any record: the page written for its collection, or the one that the declaration gives. */
export function RecordPage() {
  const { collection = "", id = "" } = useParams();
  const special = screenOf(collection).detail;
  const Special = special ? pages[special] : undefined;
  const name = `${collection}/${id}`;
  if (Special)
    return (
      <Suspense fallback={<Skeleton lines={8} />}>
        <Special key={name} name={name} />
      </Suspense>
    );
  return <GenericRecord key={name} collection={collection} name={name} />;
}

const pages = Object.fromEntries(Object.entries(SPECIAL_PAGES).map(([key, load]) => [key, lazy(load)]));

function GenericRecord({ collection, name }: { collection: string; name: string }) {
  const { t, plural } = useText();
  const catalogue = useCatalogue();
  const session = useSession();
  const resource = useResource(collection);
  const related = catalogue
    .referring(collection)
    .filter(
      ({ resource: other, field }) =>
        may(session, other.permissions.read) &&
        other.collection !== "auditEntries" &&
        !["owner", "creator", "collaborators", "department"].includes(field.name),
    );

  return (
    <RecordFrame
      resource={resource}
      name={name}
      tabs={(record) => [
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
          label: plural(other.label),
          content: <RelatedList resource={other} field={field} name={name} />,
        })),
        {
          key: "history",
          label: t("history.title"),
          content: (
            <section className="card">
              <div className="card-body history-body">
                <History resource={resource} name={name} />
              </div>
            </section>
          ),
        },
      ]}
    />
  );
}
