import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { splitName, type RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { DialButton } from "@/kit/dial-button";
import { Reference } from "@/kit/field-value";
import { post } from "@/kit/got";
import { PlainTable } from "@/kit/plain-table";
import { firstPageQuery, useCatalogue, useReads, useResource, useSession } from "@/kit/queries";
import { SearchField } from "@/kit/search-field";
import { useSettled } from "@/kit/settled";
import { Loaded } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";

type Found = Schema<"insight.SearchDocument"> & RecordJson;

const FILTER = ["accounts", "contacts", "leads", "employees"]
  .map((collection) => `collection = "${collection}"`)
  .join(" OR ");
/** A call and a list know customers; a colleague is but a number. */
const CUSTOMERS = new Set(["accounts", "contacts", "leads"]);
const MIN_CHARACTERS = 2;
const SHOWN = 20;

/** Customers, their people, leads and colleagues by name, initials or a part of the number: one click calls them. */
export function Directory({ list }: { list: string | undefined }) {
  const { t, label } = useText();
  const catalogue = useCatalogue();
  const lists = useResource("callLists");
  const session = useSession();
  const reads = useReads("searchDocuments");
  const [typed, setTyped] = useState("");
  const q = useSettled(typed.trim());
  const found = useQuery({
    ...firstPageQuery("searchDocuments", { q, filter: FILTER, pageSize: SHOWN }),
    enabled: reads && q.length >= MIN_CHARACTERS,
  });
  const [busy, setBusy] = useState("");
  if (!reads) return null;
  const enlist = async (subject: string) => {
    setBusy(subject);
    try {
      const { added } = await post<Schema<"sales.GenerateCallListResponse">>(`/v1/${list}:enlist`, {
        subjects: [subject],
        requestId: crypto.randomUUID(),
      });
      tell(t(added ? "callDesk.enlisted" : "callDesk.notEnlisted"), added ? "good" : "info");
    } catch (error) {
      tell(messageOf(error), "bad");
    } finally {
      setBusy("");
    }
  };
  return (
    <section className="card" aria-label={t("callDesk.directory")}>
      <div className="card-head">
        <h2>{t("callDesk.directory")}</h2>
      </div>
      <div className="card-body stack">
        <SearchField label={t("callDesk.findSomebody")} value={typed} onChange={setTyped} />
        {q.length >= MIN_CHARACTERS && (
          <Loaded query={found} lines={3}>
            {({ records }) => {
              const people = (records as Found[]).flatMap((one) =>
                numbersOf(one).map((number) => ({ one, number, target: one.target ?? "" })),
              );
              if (people.length === 0) return <p className="faint">{t("callDesk.nobody")}</p>;
              return (
                <PlainTable
                  caption={t("callDesk.directory")}
                  rows={people}
                  keyOf={({ target, number }) => `${target} ${number}`}
                  columns={[
                    {
                      key: "who",
                      title: t("callDesk.who"),
                      row: true,
                      cell: ({ target }) => <Reference name={target} />,
                    },
                    {
                      key: "kind",
                      title: t("callDesk.kind"),
                      cell: ({ target }) => {
                        const resource = catalogue.find(splitName(target).collection);
                        return resource ? label(resource.label) : "";
                      },
                    },
                    { key: "number", title: t("callDesk.number"), cell: ({ number }) => number },
                    {
                      key: "verbs",
                      title: t("action.more"),
                      hidden: true,
                      cell: ({ target, number }) => {
                        const customer = CUSTOMERS.has(splitName(target).collection);
                        return (
                          <span className="row">
                            <DialButton number={number} subject={customer ? target : ""} />
                            {list && customer && may(session, lists.permissions.update) && (
                              <button
                                type="button"
                                className="button"
                                disabled={busy === target}
                                onClick={() => void enlist(target)}
                              >
                                {t("callDesk.enlist")}
                              </button>
                            )}
                          </span>
                        );
                      },
                    },
                  ]}
                />
              );
            }}
          </Loaded>
        )}
      </div>
    </section>
  );
}

const numbersOf = ({ sources }: Found) => [
  ...new Set((sources ?? []).filter(({ phones }) => phones).flatMap(({ texts }) => texts ?? [])),
];
