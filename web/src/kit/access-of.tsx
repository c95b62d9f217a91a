import { useInfiniteQuery } from "@tanstack/react-query";
import type { Resource } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { defaultColumns } from "./columns";
import { quote } from "./filter";
import { columnOf, PagedTable } from "./plain-table";
import { pagesQuery, useCatalogue, useResource, useSession } from "./queries";
import { VerbBar } from "./verbs";

/** The sessions and devices of a person. */
export function SessionsOf({ person }: { person: string }) {
  const session = useSession();
  const catalogue = useCatalogue();
  const [sessions, devices] = [catalogue.find("sessions"), catalogue.find("devices")];
  return (
    <div className="stack">
      {sessions && may(session, sessions.permissions.read) && (
        <Owned resource={sessions} person={person} orderBy="seenTime desc" acts={isOpen} />
      )}
      {devices && may(session, devices.permissions.read) && (
        <Owned resource={devices} person={person} orderBy="seenTime desc" acts={() => true} />
      )}
    </div>
  );
}

/** The keys of a person. */
export function KeysOf({ person }: { person: string }) {
  return (
    <Owned
      resource={useResource("apiKeys")}
      person={person}
      orderBy="createTime desc"
      acts={(record) => record["state"] === "ACTIVE"}
    />
  );
}

const isOpen = (record: RecordJson) => record["state"] === "OPEN";

interface OwnedProps {
  resource: Resource;
  person: string;
  orderBy: string;
  /** Whether anything can be done with the record. */
  acts: (record: RecordJson) => boolean;
}

function Owned({ resource, person, orderBy, acts }: OwnedProps) {
  const { t, label, plural } = useText();
  const { session: own } = useSession();
  const pages = useInfiniteQuery(
    pagesQuery(resource.collection, { filter: `owner = ${quote(person)}`, orderBy, pageSize: 20 }),
  );
  const title = plural(resource.label);
  return (
    <section className="card">
      <div className="card-head">
        <h2>{title}</h2>
      </div>
      <div className="card-body">
        <PagedTable
          caption={title}
          pages={pages}
          stacked
          none={<p className="faint">{t("list.none", { what: title.toLowerCase() })}</p>}
          columns={[
            ...defaultColumns(resource).map((field) => columnOf(field, label)),
            {
              key: "verbs",
              title: t("action.more"),
              hidden: true,
              cell: (record) => {
                if (record.name === own) return <span className="tag tag-good">{t("sessions.this")}</span>;
                return acts(record) ? (
                  <span className="row">
                    <VerbBar resource={resource} record={record} second />
                  </span>
                ) : null;
              },
            },
          ]}
        />
      </div>
    </section>
  );
}
