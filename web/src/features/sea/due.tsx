import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { useText } from "@/i18n";
import { Countdown } from "@/kit/countdown";
import { formatInstant } from "@/kit/dates";
import { FieldValue } from "@/kit/field-value";
import { pagesQuery, titleOf, useResource } from "@/kit/queries";
import { ScrollBox } from "@/kit/scroll-box";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { MorePages } from "@/kit/more-pages";

const PAGE = 50;

/** My customers in the order in which they go to the public sea if nothing happens. */
export function Due() {
  const { t, language, label } = useText();
  const resource = useResource("accounts");
  const pages = useInfiniteQuery(
    pagesQuery("accounts", { filter: "owner = me AND seaDueTime:*", orderBy: "seaDueTime", pageSize: PAGE }),
  );
  const records = pages.data?.pages.flatMap((page) => page.records) ?? [];
  const fields = ["seaClause", "lastInteractionTime", "level"].flatMap(
    (name) => resource.fields.find((field) => field.name === name) ?? [],
  );
  return (
    <section className="card card-body" aria-label={t("sea.due")}>
      {pages.isError ? (
        <ErrorNote error={pages.error} onRetry={() => void pages.refetch()} />
      ) : pages.isPending ? (
        <Skeleton lines={8} />
      ) : records.length === 0 ? (
        <Empty title={t("sea.noneDue")} text={t("sea.noneDueText")} />
      ) : (
        <ScrollBox label={t("sea.due")} className="stacked">
          <table className="plain">
            <caption className="visually-hidden">{t("sea.due")}</caption>
            <thead>
              <tr>
                <th scope="col">{t("sea.customer")}</th>
                <th scope="col">{t("sea.left")}</th>
                {fields.map((field) => (
                  <th key={field.name} scope="col">
                    {label(field.label)}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {records.map((record) => (
                <tr key={record.name}>
                  <th scope="row">
                    <Link to={`/${record.name}`}>{titleOf(record, resource, language)}</Link>
                  </th>
                  <td data-label={t("sea.left")}>
                    <Countdown until={String(record["seaDueTime"])} />{" "}
                    <span className="faint">{formatInstant(String(record["seaDueTime"]), language)}</span>
                  </td>
                  {fields.map((field) => (
                    <td key={field.name} data-label={label(field.label)}>
                      <FieldValue field={field} value={record[field.name]} />
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </ScrollBox>
      )}
      <MorePages pages={pages} />
    </section>
  );
}
