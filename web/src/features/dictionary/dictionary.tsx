import { History } from "@/kit/history";
import { useText } from "@/i18n";
import { useResource } from "@/kit/queries";
import { RecordFrame } from "@/kit/record-frame";
import { Entries } from "./entries";

/** A dictionary: its entries as a tree, with how often each is used, and what can be done with one. */
export function DictionaryPage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("dictionaries");
  return (
    <RecordFrame
      resource={resource}
      name={name}
      tabs={(record) => [
        { key: "entries", label: t("dictionary.entries"), content: <Entries dictionary={record} /> },
        { key: "history", label: t("history.title"), content: <History resource={resource} name={name} /> },
      ]}
    />
  );
}
