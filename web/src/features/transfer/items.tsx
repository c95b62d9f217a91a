import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { useCollectionName } from "@/kit/all-services";
import { fieldsNamed } from "@/kit/columns";
import { Reference } from "@/kit/field-value";
import { quote } from "@/kit/filter";
import { columnOf, PagedTable, type Column } from "@/kit/plain-table";
import { pagesQuery, useResource, useSession } from "@/kit/queries";
import { Empty } from "@/kit/states";
import { VerbDialog } from "@/kit/verbs";
import type { Transfer } from "./transfer";

const PAGE = 50;
const ANSWERS = ["accept", "decline"];

/** What went to whom; a receiver accepts or declines what is ticked. */
export function Items({ transfer }: { transfer: Transfer }) {
  const { t, label } = useText();
  const client = useQueryClient();
  const session = useSession();
  const resource = useResource("transfers");
  const { fields } = useResource("transferItems");
  const nameOf = useCollectionName();
  const pages = useInfiniteQuery(
    pagesQuery("transferItems", { filter: `transfer = ${quote(transfer.name)}`, pageSize: PAGE }),
  );
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const [asking, setAsking] = useState<string>();
  const answers = resource.verbs.filter(
    (verb) => ANSWERS.includes(verb.name) && may(session, verb.permission),
  );
  const asked = answers.find(({ name }) => name === asking);
  const open = transfer.state === "AWAITING_ACCEPTANCE";
  const isMine = (item: RecordJson) => item["state"] === "MOVED" && item["to"] === session.employee;

  const columns: Column<RecordJson>[] = [
    {
      key: "item",
      title: t("left.record"),
      row: true,
      cell: (item) => (
        <span className="row">
          {open && isMine(item) && <Pick item={String(item["item"])} picked={picked} onPick={setPicked} />}
          <Reference name={String(item["item"])} />
        </span>
      ),
    },
    {
      key: "collection",
      title: t("merge.collection"),
      cell: (item) => nameOf(String(item["collection"])),
    },
    ...fieldsNamed(fields, ["from", "to", "state", "reason"]).map((field) => columnOf(field, label)),
  ];
  return (
    <section className="card card-body">
      {picked.size > 0 && (
        <div className="row">
          {answers.map((verb) => (
            <button key={verb.name} type="button" className="button" onClick={() => setAsking(verb.name)}>
              {label(verb.label)} {picked.size}
            </button>
          ))}
        </div>
      )}
      <PagedTable
        caption={t("transfer.items")}
        pages={pages}
        none={<Empty title={t("transfer.noItems")} text={t("transfer.noItemsText")} />}
        stacked
        columns={columns}
      />
      {asked && (
        <VerbDialog
          record={transfer}
          verb={asked}
          given={{ items: [...picked] }}
          onClose={(done) => {
            setAsking(undefined);
            if (done) setPicked(new Set());
            void client.invalidateQueries({ queryKey: ["list", "transferItems"] });
          }}
        />
      )}
    </section>
  );
}

interface PickProps {
  item: string;
  picked: ReadonlySet<string>;
  onPick: (picked: ReadonlySet<string>) => void;
}

function Pick({ item, picked, onPick }: PickProps) {
  const { t } = useText();
  return (
    <input
      type="checkbox"
      aria-label={t("transfer.pick")}
      checked={picked.has(item)}
      onChange={() => {
        const next = new Set(picked);
        if (!next.delete(item)) next.add(item);
        onPick(next);
      }}
    />
  );
}
