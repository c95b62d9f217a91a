import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { LeftToSort, ServicesProgress, useCollectionName } from "@/kit/all-services";
import { PlainTable } from "@/kit/plain-table";
import { Empty } from "@/kit/states";
import type { Merge } from "./merge";

/** How much of what goes to the survivor, how far the services are, and what a person has to sort. */
export function Impact({ merge }: { merge: Merge }) {
  const { t } = useText();
  const nameOf = useCollectionName();
  if (!merge.previewTime)
    return (
      <section className="card">
        <Empty title={t("merge.noPreview")} text={t("merge.noPreviewText")} />
      </section>
    );
  const back = ["UNDOING", "UNDONE"].includes(merge.state ?? "");
  const going = [...(merge.losers ?? []), ...(merge.contactPairs ?? []).map(({ loser }) => loser), ""];
  const [counted, moved] = [
    sums((merge.preview ?? []).filter(({ name = "" }) => going.includes(name))),
    sums(merge.moved),
  ];
  const collections = [...new Set([...counted.keys(), ...moved.keys()])];

  return (
    <div className="stack">
      <ServicesProgress record={merge} words="merge" />
      {collections.length === 0 ? (
        merge.state !== "DRAFT" && <p className="faint">{t("merge.nothing")}</p>
      ) : (
        <section className="card card-body">
          <PlainTable
            caption={t("merge.impact")}
            rows={collections}
            keyOf={(collection) => collection}
            columns={[
              { key: "collection", title: t("merge.collection"), row: true, cell: nameOf },
              {
                key: "counted",
                title: t("merge.counted"),
                number: true,
                cell: (collection) => counted.get(collection) ?? 0,
              },
              {
                key: "moved",
                title: t(back ? "merge.broughtBack" : "merge.moved"),
                number: true,
                cell: (collection) => moved.get(collection) ?? 0,
              },
            ]}
          />
        </section>
      )}
      <LeftToSort left={merge.left} />
    </div>
  );
}

function sums(counts: Schema<"customer.Merge.Count">[] = []): Map<string, number> {
  const found = new Map<string, number>();
  for (const { collection = "", count = 0 } of counts)
    found.set(collection, (found.get(collection) ?? 0) + count);
  return found;
}
