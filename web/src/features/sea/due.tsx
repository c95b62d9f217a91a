import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { useText } from "@/i18n";
import { fieldsNamed } from "@/kit/columns";
import { Countdown } from "@/kit/countdown";
import { formatInstant } from "@/kit/dates";
import { columnOf, PagedTable } from "@/kit/plain-table";
import { pagesQuery, titleOf, useResource } from "@/kit/queries";
import { Empty } from "@/kit/states";
import type { Kind } from "./kinds";

const PAGE = 50;

/** What is mine, in the order in which it goes back to its pool if nothing happens. */
export function Due({ kind }: { kind: Kind }) {
  const { t, language, label } = useText();
  const resource = useResource(kind.collection);
  const pages = useInfiniteQuery(
    pagesQuery(kind.collection, {
      filter: `owner = me AND ${kind.due}:*`,
      orderBy: kind.due,
      pageSize: PAGE,
    }),
  );
  return (
    <section className="card card-body" aria-label={t(`pool.${kind.words}.due`)}>
      <PagedTable
        caption={t(`pool.${kind.words}.due`)}
        pages={pages}
        lines={8}
        none={<Empty title={t(`pool.${kind.words}.noneDue`)} text={t(`pool.${kind.words}.noneDueText`)} />}
        stacked
        columns={[
          {
            key: "customer",
            title: t(`pool.${kind.words}.item`),
            row: true,
            cell: (record) => <Link to={`/${record.name}`}>{titleOf(record, resource, language)}</Link>,
          },
          {
            key: "left",
            title: t("sea.left"),
            cell: (record) => (
              <>
                <Countdown until={String(record[kind.due])} />{" "}
                <span className="faint">{formatInstant(String(record[kind.due]), language)}</span>
              </>
            ),
          },
          ...fieldsNamed(resource.fields, kind.own).map((field) => columnOf(field, label)),
        ]}
      />
    </section>
  );
}
