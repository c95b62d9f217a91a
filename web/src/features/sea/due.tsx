import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { useText } from "@/i18n";
import { fieldsNamed } from "@/kit/columns";
import { Countdown } from "@/kit/countdown";
import { formatInstant } from "@/kit/dates";
import { columnOf, PagedTable } from "@/kit/plain-table";
import { pagesQuery, titleOf, useResource } from "@/kit/queries";
import { Empty } from "@/kit/states";

const PAGE = 50;
const SHOWN = ["seaClause", "lastInteractionTime", "level"];

/** My customers in the order in which they go to the public sea if nothing happens. */
export function Due() {
  const { t, language, label } = useText();
  const resource = useResource("accounts");
  const pages = useInfiniteQuery(
    pagesQuery("accounts", { filter: "owner = me AND seaDueTime:*", orderBy: "seaDueTime", pageSize: PAGE }),
  );
  return (
    <section className="card card-body" aria-label={t("sea.due")}>
      <PagedTable
        caption={t("sea.due")}
        pages={pages}
        lines={8}
        none={<Empty title={t("sea.noneDue")} text={t("sea.noneDueText")} />}
        stacked
        columns={[
          {
            key: "customer",
            title: t("sea.customer"),
            row: true,
            cell: (record) => <Link to={`/${record.name}`}>{titleOf(record, resource, language)}</Link>,
          },
          {
            key: "left",
            title: t("sea.left"),
            cell: (record) => (
              <>
                <Countdown until={String(record["seaDueTime"])} />{" "}
                <span className="faint">{formatInstant(String(record["seaDueTime"]), language)}</span>
              </>
            ),
          },
          ...fieldsNamed(resource.fields, SHOWN).map((field) => columnOf(field, label)),
        ]}
      />
    </section>
  );
}
