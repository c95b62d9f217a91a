import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { request, type Page } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { fieldsNamed } from "@/kit/columns";
import { quote } from "@/kit/filter";
import { columnOf, PagedTable } from "@/kit/plain-table";
import { pagesQuery, titleOf, useResource } from "@/kit/queries";
import { Empty } from "@/kit/states";
import { useAmount } from "./amount";
import { Light } from "./standing";
import type { Target } from "./target";

const PAGE = 50;

/** Whose parts add up to it, each with the way further down. */
export function Parts({ target }: { target: Target }) {
  const { t, language, label } = useText();
  const resource = useResource("targets");
  const amount = useAmount(target);
  const pages = useInfiniteQuery(
    pagesQuery("targets", {
      filter: `parent = ${quote(target.name)}`,
      orderBy: "fromDate",
      pageSize: PAGE,
    }),
  );
  return (
    <section className="card card-body">
      <PagedTable
        caption={t("target.plan")}
        pages={pages}
        none={<Empty title={t("target.noParts")} text={t("target.noPartsText")} />}
        stacked
        columns={[
          {
            key: "title",
            title: label(resource.label),
            row: true,
            cell: (part) => <Link to={`/${part.name}`}>{titleOf(part, resource, language)}</Link>,
          },
          ...fieldsNamed(resource.fields, ["subject", "fromDate", "state"]).map((field) =>
            columnOf(field, label),
          ),
          ...(["base", "actual"] as const).map((key) => ({
            key,
            title: t(`target.${key}`),
            number: true,
            cell: (part: Target) => amount.exact(part[key]),
          })),
          {
            key: "share",
            title: t("target.reached"),
            cell: (part: Target) => {
              const percent =
                Number(part.base) > 0 ? (Number(part.actual ?? 0) / Number(part.base)) * 100 : 0;
              return (
                <>
                  <span className="funnel-bar" aria-hidden="true">
                    <span style={{ width: `${Math.max(0, Math.min(100, percent))}%` }} />
                  </span>{" "}
                  {Math.round(percent)} % <Light value={part.light} />
                </>
              );
            },
          },
        ]}
      />
    </section>
  );
}

/** What makes up its actual: every fact that was told. */
export function Achievements({ target }: { target: Target }) {
  const { t, label } = useText();
  const { fields } = useResource("targetFacts");
  const amount = useAmount(target);
  const pages = useInfiniteQuery({
    queryKey: ["list", "targetFacts", "achievements", target.name],
    queryFn: async ({ pageParam, signal }): Promise<Page> => {
      const path = `/v1/${target.name}:achievements?pageSize=${PAGE}&pageToken=${encodeURIComponent(pageParam)}`;
      const found = (await (
        await request(path, { signal })
      ).json()) as Schema<"sales.ListAchievementsResponse">;
      return {
        records: (found.targetFacts ?? []) as Page["records"],
        nextPageToken: found.nextPageToken ?? "",
      };
    },
    initialPageParam: "",
    getNextPageParam: (page) => page.nextPageToken || undefined,
  });
  return (
    <section className="card card-body">
      <PagedTable
        caption={t("target.do")}
        pages={pages}
        none={<Empty title={t("target.noFacts")} text={t("target.noFactsText")} />}
        stacked
        columns={[
          ...fieldsNamed(fields, ["day", "source", "account", "employee"]).map((field) =>
            columnOf(field, label),
          ),
          {
            key: "value",
            title: t("target.value"),
            number: true,
            cell: (fact) => amount.exact(String(fact["value"] ?? "")),
          },
        ]}
      />
    </section>
  );
}
